"""Reads predictions that anybody's model made, in the forms that people have: JSON, JSON lines, CSV or Parquet.

An object of answers by id, rows with an id and a prediction, the result files of NExT-QA, our own Prediction rows, or
those of `aot predict`. An answer among options is the place of one, counted from 0, its letter, or its text. A row that
cannot be used becomes a refused row; its neighbours stay. Nothing here knows what is right.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Literal

from pydantic import ValidationError

from aot.answer_records import AnswerRow
from aot.answers import find_answer, parse_answer
from aot.errors import SourceError, first_problem
from aot.files.jsonl import RefusedRow, RowProblem
from aot.records import Prediction, Question
from text_cot.datasets.rows import TextRow, read_rows
from video_data.datasets.official import read_json

IDS = ("question_id", "id", "qid", "q_uid", "uid", "sample_id")
VIDEOS = ("video", "video_id", "vid", "video_name")
SAYS = (
    "prediction", "pred", "predicted", "predicted_answer", "pred_answer", "response", "output", "raw_text", "answer",
)  # fmt: skip
"""Columns that may hold what was predicted, the first one that is there; `answer` beside another one is the gold."""
_FINISHED = ("finish_reason", "stop_reason")
"""Columns that may tell how a reply ended, in the words of servers and harnesses."""
_CUT_WORDS = {"length", "max_tokens", "max_new_tokens", "max_output_tokens", "model_length", "truncated"}
_END_WORDS = {"stop", "end_turn", "eos", "eos_token", "stop_sequence", "stop_str", "completed", "complete", "finished"}
_WRAPPERS = ("predictions", "results", "data")
_OWN = {"question_id", "arm", "mode", "raw_text", "answer"}
_SERVED = {"question_id", "abstained", "mode", "raw_text", "answer"}
FINE = f'an object {{"id": answer}}, or rows with an id ({", ".join(IDS)}) and a prediction ({", ".join(SAYS[:-1])})'


@dataclass(frozen=True)
class Said:
    """What a model said to one question, as a file tells it."""

    place: str
    names: tuple[str, ...]
    """Ids that may be meant, the likeliest first."""
    value: Any
    gold: Any = None
    """The right answer as this file tells it, if it does."""
    finish_reason: Literal["", "stop", "length"] = ""
    """How the reply ended, as this file tells it, if it does."""
    ours: Prediction | None = None
    """The row, where it is one of our own."""


def read_predictions(path: Path) -> tuple[list[Said], list[RefusedRow]]:
    """The predictions in a file, and what of it cannot be used; an id that stands twice is there twice.

    Raises:
        SourceError: the file is missing, of an unknown kind, or broken as a whole.
    """
    said: list[Said] = []
    refused: list[RefusedRow] = []
    if not path.is_file():
        raise SourceError(f"there is no file {path}; give one of {FINE}")
    for row in _rows(path):
        if isinstance(row, RefusedRow):
            refused.append(row)
            continue
        try:
            said.append(_said(*row))
        except RowProblem as problem:
            refused.append(problem.row(row[0]))
    return said, refused


def _rows(path: Path) -> Iterator[tuple[str, str, Any] | RefusedRow]:
    """Place, id where it is a key, and value of each row."""
    if path.suffix.lower() != ".json":
        yield from _lines(path)
        return
    try:
        value, twice = read_json(path)
    except SourceError as error:
        if "Extra data" not in str(error):
            raise SourceError(f"{error}; predictions are {FINE}") from None
        yield from _lines(path)  # JSON lines under this name
        return
    if isinstance(value, dict) and len(value) == 1 and isinstance(value.get(key := next(iter(value))), dict | list):
        value = value[key] if key in _WRAPPERS else value
    if not isinstance(value, dict | list):
        raise SourceError(f"{path} holds no predictions; they are {FINE}")
    for name, row in value.items() if isinstance(value, dict) else ():
        yield f"{path.name}:{name}"[:200], name, row
        for _ in range(twice.count(name)):  # the first counts; the others are told
            yield f"{path.name}:{name}"[:200], name, row
    for number, row in enumerate(value if isinstance(value, list) else (), start=1):
        yield f"{path.name}[{number}]", "", row


def _lines(path: Path) -> Iterator[tuple[str, str, Any] | RefusedRow]:
    return ((line.place, "", line.fields) if isinstance(line, TextRow) else line for line in read_rows(path))


def _said(place: str, key: str, row: Any) -> Said:  # noqa: ANN401 - any JSON value
    """One row.

    Raises:
        RowProblem: it has no id or no prediction.
    """
    if any("\ud800" <= char <= "\udfff" for text in (key, *_texts(row)) for char in text):
        raise RowProblem("not_utf8", "the row holds a byte that is not UTF-8, or half a character")
    if key and not isinstance(row, dict):
        return Said(place, (key,), row)
    if not isinstance(row, dict):
        raise RowProblem("no_prediction", f"a row must be an object, got {type(row).__name__}; predictions are {FINE}")
    if row.keys() >= _OWN:
        return _ours(place, row)
    if row.keys() >= _SERVED:
        return _served(place, row)
    fields = {str(name).strip().casefold(): value for name, value in row.items()}
    if len(fields) < len(row):
        raise RowProblem("duplicate_key", f"two of its keys differ only in case or spaces: {', '.join(row)}"[:200])
    names = (key,) if key else _names(fields)
    column = next((name for name in SAYS if name in fields), None)
    if not names or column is None:
        what = "no_prediction" if names else "no_id"
        raise RowProblem(what, f"the row has {', '.join(map(repr, fields))[:200]}; predictions are {FINE}")
    return Said(place, names, fields[column], None if column == "answer" else fields.get("answer"), _finish(fields))


def _finish(fields: Mapping[str, Any]) -> Literal["", "stop", "length"]:
    words = {str(fields[column]).strip().casefold() for column in _FINISHED if column in fields}
    return "length" if words & _CUT_WORDS else "stop" if words & _END_WORDS else ""


def _names(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Ids that a row may mean; one that counts within its clip is joined to it, as NExT-QA's own files do."""
    ids = [_name(fields[column]) for column in IDS if column in fields]
    videos = [_name(fields[column]) for column in VIDEOS if column in fields]
    return tuple(name for name in (*(f"{video}_{one}" for video in videos for one in ids), *ids) if name)


def _name(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _served(place: str, row: Mapping[str, Any]) -> Said:
    """A row of `aot predict`; all of its modes are one predictor, which chooses by itself how to answer."""
    try:
        answer = AnswerRow.model_validate(row)
    except ValidationError as error:
        raise RowProblem("bad_value", first_problem(error)) from None
    ours = Prediction(
        question_id=answer.question_id,
        arm=answer.model or "student",
        mode="none",
        raw_text=answer.raw_text,
        answer=None if answer.abstained else answer.answer,
        choice_probs=answer.choice_probs,
        prompt_tokens=answer.usage.prompt_tokens,
        completion_tokens=answer.usage.completion_tokens,
        latency_s=answer.seconds.total,
        error=answer.detail if answer.abstained == "failed" else "",
        finish_reason="length" if answer.abstained == "cut_off" else "stop",
    )
    return Said(place, (ours.question_id,), ours.answer, ours=ours)


def _ours(place: str, row: Mapping[str, Any]) -> Said:
    try:
        ours = Prediction.model_validate(row)
    except ValidationError as error:
        raise RowProblem("bad_value", first_problem(error)) from None
    return Said(place, (ours.question_id,), ours.answer, ours=ours)


def _texts(row: Any) -> list[str]:  # noqa: ANN401 - any JSON value
    values = (*row, *row.values()) if isinstance(row, dict) else (row,)
    return [value for value in values if isinstance(value, str)]


def answer_of(question: Question, value: Any, *, as_places: bool) -> str | None:  # noqa: ANN401 - any JSON value
    """What a prediction says, in words that the grader reads; None where it says nothing."""
    if question.choices and (as_places or not isinstance(value, str)):
        place = place_in(value)
        return (
            ascii_uppercase[place]
            if place is not None and place < min(len(ascii_uppercase), len(question.choices))
            else None
        )
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    if isinstance(value, list) and len(value) == 2 and all(isinstance(time_s, int | float) for time_s in value):
        return f"{value[0]}s-{value[1]}s"
    if not isinstance(value, str) or not value.strip():
        return None
    if question.answer_type != "text" and parse_answer(value, question).value is not None:
        return value
    return find_answer(value).answer or value


def are_places(values: Iterable[Any]) -> bool:
    """Whether all predictions of a file among options are places of options, which count from 0."""
    given = [value for value in values if value not in (None, "")]
    return bool(given) and all(place_in(value) is not None for value in given)


def place_in(value: Any) -> int | None:  # noqa: ANN401 - any JSON value
    """The place that a value is, counted from 0; None if it is none."""
    if isinstance(value, str):
        return int(float(value)) if re.fullmatch(r"\d{1,3}(\.0)?", value.strip(), re.ASCII) else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if is_number and 0 <= value < 1000 and value == int(value) else None
