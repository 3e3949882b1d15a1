"""The page of `aot compare --html`: two sides in tables, and with frames the questions that only one answered right."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aot.answer_records import Flip, RunComparison
from aot.files.run_folder import publish
from aot.reporting.load import RunData
from aot.reporting.pivot import word_table
from aot.reporting.report import MAX_PICTURE_BYTES, render
from aot.reporting.sections import open_tables
from aot.reporting.sections.errors import window_frames
from aot.reporting.thumbs import ReadFrames, ThumbBook

Rows = Sequence[tuple[str, ...]]
"""A table of words, its heads in the first row."""


def write_flips(
    out: Path, comparison: RunComparison, data: RunData, *, sides: tuple[str, str], tables: Sequence[Rows],
    frames: ReadFrames,
) -> None:  # fmt: skip
    """Write the comparison as one file of HTML that loads nothing.

    Args:
        out: the file; an earlier one is replaced.
        comparison: what is shown.
        data: the first run, whose clips the frames are of.
        sides: what A and B are, in words.
        tables: those of accuracies and of costs.
        frames: reads frames of a clip; may raise KeyError for an unknown one.

    Raises:
        ConfigError: jinja2 or pillow is not installed.
        RunError: the file cannot be written.
    """
    book, result = ThumbBook(frames, MAX_PICTURE_BYTES), comparison.result
    lost, won = result.groups[0].right_to_wrong, result.groups[0].wrong_to_right
    lists = [
        (f"Right in A, wrong in B: {lost}", _cards(result.right_to_wrong, data, book), lost),
        (f"Wrong in A, right in B: {won}", _cards(result.wrong_to_right, data, book), won),
    ]
    blocks = [block for rows in tables for block in open_tables(word_table("", rows[0], rows[1:]))]
    page = render("flips.html.j2", sides=sides, comparison=comparison, blocks=blocks, lists=lists, thumbs=book.thumbs)
    publish(out, page)


def _cards(flips: Sequence[Flip], data: RunData, book: ThumbBook) -> list[dict[str, Any]]:
    return [
        {"flip": flip, "frames": [(thumb, ()) for thumb in window_frames(data, data.questions[flip.question_id], book)]}
        for flip in flips
    ]
