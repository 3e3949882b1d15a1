"""The fields of a line in the plain data set's files, checked one by one; knows no folder and no other line."""

import difflib
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from video_data.datasets.rows import SegmentRow
from video_data.datasets.strict_jsonl import RowProblem, without_nulls


class _Fields(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, str_strip_whitespace=True)


class QuestionFields(_Fields):
    """One line of the questions file."""

    id: str = Field(min_length=1)
    video: str = Field(min_length=1)
    question: str = Field(min_length=1)
    answer: str | int
    kind: str = Field(min_length=1)
    start_s: float = Field(default=0.0, ge=0)
    end_s: float | None = None
    """None means the end of the clip."""
    choices: list[str] = []
    group: str = ""
    """Empty means the clip."""
    split: str = Field(default="test", min_length=1)


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
_SPAN = re.compile(r"\d+(\.\d+)?s-\d+(\.\d+)?s")
_INTEGER = re.compile(r"[+-]?\d+")
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


def answer_type_of(answer: str, choices: list[str]) -> str:
    """How an answer is compared: choice, yes_no, integer, span, or text.

    >>> [answer_type_of(answer, []) for answer in ("yes", "3", "2.4s-5.1s", "fry egg")]
    ['yes_no', 'integer', 'span', 'text']
    """
    if choices:
        return "choice"
    if answer.lower() in ("yes", "no"):
        return "yes_no"
    if _INTEGER.fullmatch(answer):
        return "integer"
    return "span" if _SPAN.fullmatch(answer) else "text"


def check_choices(answer: str, choices: list[str]) -> None:
    """Refuse choices that no answer could be picked from.

    Raises:
        RowProblem: a lone, empty or repeated choice, or an answer that is none of them.
    """
    if not choices:
        return
    if len(choices) < 2 or "" in choices or len(set(choices)) < len(choices):
        raise RowProblem("bad_choices", "choices must be at least two different, non-empty texts")
    if answer not in choices:
        raise RowProblem(
            "bad_choices", f"the answer {answer!r} is none of the choices; write the text of the right one"
        )


def segments_of(fields: AnnotationFields) -> tuple[SegmentRow, ...]:
    """The segments by start time; they may overlap.

    Raises:
        RowProblem: a segment is empty or ends after the clip.
    """
    for segment in fields.segments:
        if segment.end_s <= segment.start_s or segment.end_s > fields.duration_s + 0.5:
            raise RowProblem(
                "bad_window",
                f"segment {segment.start_s:g}-{segment.end_s:g} s is empty or ends after {fields.duration_s:g} s",
            )
    rows = [SegmentRow(segment.start_s, segment.end_s, segment.label) for segment in fields.segments]
    return tuple(sorted(rows, key=lambda row: (row.start_s, row.end_s, row.label)))
