"""What every video data set offers, in plain frozen dataclasses; the pipeline turns them into records.

Times are seconds from the start of the clip, boxes pixels of the true frame.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from aot.files.jsonl import RefusedRow, RowProblem

_Line = TypeVar("_Line")


@dataclass(frozen=True)
class SegmentRow:
    """One annotated step of a clip."""

    start_s: float
    end_s: float
    label: str


def in_time_order(segments: Iterable[SegmentRow]) -> tuple[SegmentRow, ...]:
    """`segments` by start; official files and people do not always sort them."""
    return tuple(sorted(segments, key=lambda one: (one.start_s, one.end_s, one.label)))


@dataclass(frozen=True)
class BoxRow:
    """Where an object is at one moment."""

    time_s: float
    label: str
    box_xyxy: tuple[float, float, float, float]


@dataclass(frozen=True)
class AnnotationRow:
    """What happens in one clip."""

    uri: str
    split: str
    task: str
    duration_s: float
    segments: tuple[SegmentRow, ...]
    boxes: tuple[BoxRow, ...] = ()


@dataclass(frozen=True)
class QuestionRow:
    """One question about a window of one clip."""

    id: str
    split: str
    kind: str
    text: str
    choices: tuple[str, ...]
    answer: str
    answer_type: str
    uri: str
    start_s: float
    end_s: float | None
    group: str
    ends_loosely: bool = False
    """The data's authors let windows run past the end of a clip; there they are cut, not refused."""
    answer_index: int | None = None
    """Place of the right option, counted from 0, in a benchmark, where two options may have the same text."""
    tags: tuple[tuple[str, str], ...] = ()
    """What an arm may leave out, or results are grouped by."""
    steps_before: int | None = None
    """Of a question about the next of the annotated steps: so many of them, by start, come before the asked one."""


@dataclass(frozen=True)
class CardRow:
    """One card of a recipe book."""

    name: str
    steps: tuple[str, ...]
    questions: tuple[str, ...] = ()
    """Ids of the questions beside which it lies; empty for a card that lies beside all others."""


@dataclass(frozen=True)
class VideoData:
    """What a data set offers before anything is decoded."""

    questions: tuple[QuestionRow, ...]
    annotations: tuple[AnnotationRow, ...]
    """Of every annotated clip; where its file is missing, the uri is the official id."""
    clips: tuple[tuple[str, Path], ...]
    """Uri and file of each clip that a usable row names and that is there."""
    refused: tuple[RefusedRow, ...] = ()
    notes: tuple[str, ...] = ()
    """What a user should know, such as how many clips are there."""
    cards: tuple[CardRow, ...] = ()
    """Of the recipe book that comes with it."""


def good_lines(lines: Iterable[_Line | RefusedRow], refused: list[RefusedRow]) -> Iterator[_Line]:
    """The lines of a file that could be read; the others are added to `refused`."""
    for line in lines:
        if isinstance(line, RefusedRow):
            refused.append(line)
        else:
            yield line


@contextmanager
def set_aside(item: str, refused: list[RefusedRow]) -> Iterator[None]:
    """Add `item` to `refused` where the block finds a problem with it; its neighbours go on."""
    try:
        yield
    except RowProblem as problem:
        refused.append(problem.row(item))
