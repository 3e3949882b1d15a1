"""Reads JSON lines that strangers wrote: a bad line becomes a refused row with its number, its neighbours stay.

Stricter than `json`: no NaN or infinity, no repeated keys, no text that cannot be written as UTF-8 again, no bottomless
nesting, one object a line.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from video_data.datasets.rows import RefusedRow
from video_data.errors import VideoError

MAX_LINE_BYTES = 1_000_000


@dataclass(frozen=True)
class JsonLine:
    """One good line: its place for messages, such as `questions.jsonl:3`, and its object."""

    place: str
    fields: dict[str, Any]


class RowProblem(Exception):
    """Why one row cannot be used: a countable reason, and a detail for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

    def row(self, place: str) -> RefusedRow:
        """The refused row of the line at `place`."""
        return RefusedRow(item=place, reason=self.reason, detail=self.detail)


def read_json_lines(path: Path) -> Iterator[JsonLine | RefusedRow]:
    """Good lines and refused rows in the order of the file; blank lines are left out.

    Raises:
        VideoError: the file is missing or unreadable.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise VideoError("missing", f"there is no file {path}; check the path in the config") from None
    except (OSError, ValueError):
        raise VideoError("unreadable", f"the file {path} cannot be read; check its rights") from None
    with file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            place = f"{path.name}:{number}"
            try:
                if len(line) > MAX_LINE_BYTES:
                    while not line.endswith(b"\n") and (line := file.readline(MAX_LINE_BYTES)):
                        continue
                    raise RowProblem("line_too_long", f"a line may have {MAX_LINE_BYTES} bytes, line break included")
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if line.strip():
                    yield JsonLine(place, parse_object(line))
            except RowProblem as problem:
                yield problem.row(place)


def parse_object(line: bytes) -> dict[str, Any]:
    """The JSON object on one line.

    Raises:
        RowProblem: it is not exactly one clean object.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise RowProblem("not_utf8", "the line is not UTF-8; save the file as UTF-8") from None
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise RowProblem("broken_json", "the line is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise RowProblem("broken_json", f"{error.msg} at column {error.colno}") from None
    except ValueError:
        raise RowProblem("not_a_number", "a number has too many digits") from None
    if not isinstance(value, dict):
        raise RowProblem("broken_json", f"a line must be one JSON object, got {type(value).__name__}")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RowProblem(
            "bad_text", "a text holds half a character (a lone surrogate) that cannot be written"
        ) from None
    return value


def empty_words(start: float, end: float) -> str:
    """What is wrong with a stretch that does not end after its start."""
    return "is empty" if start == end else "ends before it starts"


def without_nulls(value: Any, *, depth: int = 16) -> Any:  # noqa: ANN401 - any JSON value
    """A JSON value in which a key, or an item of a list, that holds `null` is left out: tables write absent so.

    No data set nests deeper than `depth`; what does is handed on as it is.

    >>> without_nulls({"group": None, "segments": [{"label": "fry", "note": None}, None]})
    {'segments': [{'label': 'fry'}]}
    """
    if depth and isinstance(value, dict):
        return {key: without_nulls(inner, depth=depth - 1) for key, inner in value.items() if inner is not None}
    if depth and isinstance(value, list):
        return [without_nulls(inner, depth=depth - 1) for inner in value if inner is not None]
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RowProblem("duplicate_key", f"the key {twice!r} stands twice")
    return fields


def _no_constant(name: str) -> float:
    raise RowProblem("not_a_number", f"{name} is not a usable number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise RowProblem("not_a_number", f"{text[:20]} is too large")
    return value
