"""The page of `aot compare --html`: two sides in tables, and with frames the questions that only one answered right."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aot.answer_records import Flip, RunComparison
from aot.files.run_folder import RunFolder, publish, read_rows
from aot.records import ClipAnnotation, Question
from aot.reporting.load import rows_or_none
from aot.reporting.pivot import word_table
from aot.reporting.report import MAX_PICTURE_BYTES, render
from aot.reporting.sections import open_tables
from aot.reporting.sections.errors import window_frames
from aot.reporting.thumbs import ReadFrames, ThumbBook

Rows = Sequence[tuple[str, ...]]
"""A table of words, its heads in the first row."""


def write_flips(
    out: Path, comparison: RunComparison, run: RunFolder, *, sides: tuple[str, str], tables: Sequence[Rows],
    frames: ReadFrames,
) -> None:  # fmt: skip
    """Write the comparison as one file of HTML that loads nothing.

    Args:
        out: the file; an earlier one is replaced.
        comparison: what is shown.
        run: the first one, whose clips the frames are of.
        sides: what A and B are, in words.
        tables: those of accuracies and of costs.
        frames: reads frames of a clip; may raise KeyError for an unknown one.

    Raises:
        ConfigError: jinja2 or pillow is not installed.
        RunError: the file cannot be written.
    """
    book, result = ThumbBook(frames, MAX_PICTURE_BYTES), comparison.result
    lost, won = result.groups[0].right_to_wrong, result.groups[0].wrong_to_right
    questions = {row.id: row for row in read_rows(run.questions, Question)}
    annotations = {row.uri: row for row in rows_or_none(run.annotations, ClipAnnotation)}
    lists = [
        (f"{heading}: {count}", [_card(flip, questions[flip.question_id], annotations, book) for flip in flips], count)
        for heading, flips, count in (
            ("Right in A, wrong in B", result.right_to_wrong, lost),
            ("Wrong in A, right in B", result.wrong_to_right, won),
        )
    ]
    blocks = [block for rows in tables for block in open_tables(word_table("", rows[0], rows[1:]))]
    title = " against ".join(sides)
    page = render(
        "flips.html.j2", title=title, sides=sides, comparison=comparison, blocks=blocks, lists=lists, thumbs=book.thumbs
    )
    publish(out, page)


def _card(flip: Flip, question: Question, annotations: Mapping[str, ClipAnnotation], book: ThumbBook) -> dict[str, Any]:
    return {"flip": flip, "frames": [(thumb, ()) for thumb in window_frames(annotations, question, book)]}
