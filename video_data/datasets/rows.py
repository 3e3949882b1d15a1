"""What every data set yields, in plain frozen dataclasses; the pipeline turns them into records.

Times are seconds from the start of the clip, boxes pixels of the true frame.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

MAX_QUESTION_CHARS = 20_000
"""Of the text of a question, behind both doors."""


@dataclass(frozen=True)
class SegmentRow:
    """One annotated step of a clip."""

    start_s: float
    end_s: float
    label: str


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
    steps_before: int | None = None
    """Of a question about the next of the annotated steps: so many of them, by start, come before the asked one."""


@dataclass(frozen=True)
class RefusedRow:
    """An input row that could not be used, with a countable reason."""

    item: str
    reason: str
    detail: str


class Refused(Protocol):
    """What every record of a refused item tells, `RefusedRow` and others."""

    @property
    def item(self) -> str:
        """Which one it is."""

    @property
    def reason(self) -> str:
        """Why, as a countable word."""

    @property
    def detail(self) -> str:
        """Why, for people; may be empty."""


def refused_words(refused: Sequence[Refused], *, most: int = 5) -> str:
    """Counts by reason, and the first `most` items with their details; empty where nothing was refused.

    >>> refused_words([RefusedRow("q.jsonl:1", "missing_field", "no field `answer`")])
    'refused: missing_field 1; first q.jsonl:1: missing_field (no field `answer`)'
    """
    if not refused:
        return ""
    counts = ", ".join(f"{reason} {count}" for reason, count in Counter(row.reason for row in refused).most_common())
    items = [f"{row.item[:200]}: {row.reason}" + (f" ({row.detail[:300]})" if row.detail else "") for row in refused]
    return f"refused: {counts}; first {'; '.join(items[:most])}"
