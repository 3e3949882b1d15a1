"""The fields of a line in the plain data set's files, checked one by one; knows no folder and no other line.

The kind of a question says how its answer is compared: an answer that does not fit it is refused, because as free text
it would be graded wrong in silence. Whether a number or a yes can be read is for the grader to say, above this package.
"""

import difflib
import re
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aot.files.jsonl import RowProblem, empty_words, without_nulls
from video_data.datasets.rows import SegmentRow, in_time_order


class _Fields(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, str_strip_whitespace=True)


class QuestionFields(_Fields):
    """One line of the questions file."""

    id: str = Field(min_length=1)
    video: str = Field(min_length=1)
    question: str = Field(min_length=1)
    answer: str | int | float
    kind: str = Field(min_length=1)
    start_s: float = Field(default=0.0, ge=0)
    end_s: float | None = None
    """None means the end of the clip."""
    choices: list[str] = []
    group: str = ""
    """Empty means the clip."""
    split: str = Field(default="test", min_length=1)


class AskFields(_Fields):
    """One line of a file of questions that are only asked; what a grader needs besides is let stand, and not read."""

    id: str = Field(min_length=1)
    question: str = Field(min_length=1)
    choices: list[str] = []
    clip: str = ""
    """Path of the clip inside the folder; empty where the question is about none."""
    video: str = ""
    """The same, as the plain data set names it."""
    start_s: float | None = Field(default=None, ge=0)
    end_s: float | None = None
    kind: str = ""
    mode: Literal["direct", "reason", "explain", "adaptive", "tools", "decide"] | None = None
    answer: str | int | float = ""
    answer_type: str = ""
    rationale: str = ""
    reading: str = ""
    group: str = ""
    split: str = ""


class SegmentFields(_Fields):
    """One step of an annotated clip."""

    start_s: float = Field(ge=0)
    end_s: float
    label: str = Field(min_length=1)


class AnnotationFields(_Fields):
    """One line of the annotations file."""

    video: str = Field(min_length=1)
    task: str = Field(min_length=1)
    duration_s: float = Field(gt=0)
    segments: list[SegmentFields]
    split: str = Field(default="test", min_length=1)


_REASONS = {"missing": "missing_field", "extra_forbidden": "unknown_field", "finite_number": "not_a_number"}
TYPES: dict[str, str] = {
    "next_choice": "choice", "next_open": "text", "before": "text", "after": "text", "count": "integer", "when": "span",
    "present": "yes_no",
}  # fmt: skip
"""How the answer of each known kind is compared, where the question has no choices."""
_SPAN = re.compile(r"\d+(\.\d+)?s-\d+(\.\d+)?s", re.ASCII)
_MOMENT = r"(?:\d+:)?\d+:[0-5]\d(?:[.,]\d+)?|\d+(?:[.,]\d+)?"
_UNIT = r"ms|msecs?|milliseconds?|s|secs?|seconds?"
_WRITTEN_SPAN = re.compile(
    rf"(?:from|between)?\s*[\[(]?\s*({_MOMENT})\s*({_UNIT})?\s*(?:[-‐‑‒–—−]+>?|to|until|and)\s*"
    rf"({_MOMENT})\s*({_UNIT})?\s*[\])]?\.?",
    re.ASCII | re.IGNORECASE,
)
_MAX_SPAN_CHARS = 60  # longer ones are sentences, and no pattern is tried on them
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
Model = TypeVar("Model", bound=_Fields)


def checked_fields(model: type[Model], fields: dict[str, Any]) -> Model:
    """`fields` as a `model`; what is null counts as left out.

    Raises:
        RowProblem: a field is missing, unknown or of the wrong kind; the detail names it.
    """
    try:
        return model.model_validate(without_nulls(fields))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in problem["loc"])
        reason = _REASONS.get(problem["type"], "bad_value")
        if reason == "unknown_field":
            near = difflib.get_close_matches(name, model.model_fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(model.model_fields)}"
            raise RowProblem(reason, f"there is no field {name!r}{hint}") from None
        raise RowProblem(reason, f"field {name!r}: {problem['msg']}") from None


def typed_answer(kind: str, answer: str, choices: list[str]) -> tuple[str, str]:
    """An answer as it is stored, and how it is compared: choice, yes_no, integer, span, or text.

    A kind that is a word of one's own leaves it to the answer. A span of time may be written in many ways.

    >>> [typed_answer("mine", answer, []) for answer in ("yes", "3", "0,5 s - 1,5 s", "fry egg")]
    [('yes', 'yes_no'), ('3', 'integer'), ('0.5s-1.5s', 'span'), ('fry egg', 'text')]

    Raises:
        RowProblem: kind and answer do not fit.
    """
    if slips := {name for name in TYPES if _folded(name) == _folded(kind)} - {kind}:
        raise RowProblem("bad_value", f"field 'kind': did you mean {slips.pop()!r}, got {kind!r}?")
    if bool(choices) != (kind == "next_choice") and kind in ("next_choice", "next_open"):
        advice = "needs choices; give some, or write next_open" if not choices else "has no choices; write next_choice"
        raise RowProblem("bad_choices", f"kind {kind} {advice}")
    if choices:
        return answer, "choice"
    guessed = _type_of(answer)
    answer_type = TYPES.get(kind, guessed)
    if (answer_type, guessed) == ("text", "span"):
        wanted = f"kind {kind} wants the label of a step"
        raise RowProblem("bad_answer", f"{wanted}, got the span {answer!r}; write kind when")
    return (_span(answer), "span") if answer_type == "span" else (answer, answer_type)


def _folded(kind: str) -> str:
    return re.sub(r"[\s_-]+", "_", kind.casefold())


def _type_of(answer: str) -> str:
    if answer.lower() in ("yes", "no"):
        return "yes_no"
    if _INTEGER.fullmatch(answer):
        return "integer"
    written = _written_span(answer)
    return "span" if written and written[4] else "text"  # without a unit `2-3` may be a score


def _written_span(answer: str) -> re.Match[str] | None:
    return _WRITTEN_SPAN.fullmatch(answer) if len(answer) <= _MAX_SPAN_CHARS else None


def _span(answer: str) -> str:
    """A span of time as it is stored, such as 2.4s-5.1s.

    >>> [_span(one) for one in ("2.4s-5.1s", "0.5s–1.5s", "0,5 to 1,5 s", "0:30-1:05.5", "[500-900 ms]")]
    ['2.4s-5.1s', '0.5s-1.5s', '0.5s-1.5s', '30s-65.5s', '0.5s-0.9s']
    """
    written = _written_span(answer)
    unit = written and (written[4] or written[2])
    times_s = [_seconds(written[1], written[2] or unit), _seconds(written[3], unit)] if written else [None]
    if not written or None in times_s or (":" in written[1]) != (":" in written[3]):
        raise RowProblem("bad_answer", f"a span must be written in seconds like 2.4s-5.1s, got {answer[:80]!r}")
    start_s, end_s = (time_s for time_s in times_s if time_s is not None)
    if end_s <= start_s:
        raise RowProblem("bad_answer", f"the span {answer!r} {empty_words(start_s, end_s)}")
    return answer if _SPAN.fullmatch(answer) else f"{_short(start_s)}s-{_short(end_s)}s"


def _seconds(moment: str, unit: str | None) -> float | None:
    """Seconds of a moment such as 2.5 or 1:02.5; None for milliseconds that are not whole."""
    if unit and unit.lower().startswith("m"):
        return int(moment) / 1000 if moment.isdecimal() else None
    *whole, seconds = moment.replace(",", ".").split(":")
    return float(seconds) + sum(60**place * int(part) for place, part in enumerate(reversed(whole), start=1))


def _short(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".")


def segments_of(fields: AnnotationFields) -> tuple[SegmentRow, ...]:
    """The segments by start time; they may overlap.

    Raises:
        RowProblem: a segment is empty or ends after the clip.
    """
    for segment in fields.segments:
        if segment.end_s <= segment.start_s or segment.end_s > fields.duration_s + 0.5:
            span = f"segment {segment.start_s:g}-{segment.end_s:g} s"
            raise RowProblem("bad_window", f"{span} is empty or ends after {fields.duration_s:g} s")
    return in_time_order(SegmentRow(one.start_s, one.end_s, one.label) for one in fields.segments)
