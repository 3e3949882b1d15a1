"""JSON and JSON lines without surprises: those that this project wrote, and those of strangers.

Python's own reader takes NaN, turns `1e999` into infinity, and answers nesting without end with a RecursionError. In a
file of ours such a thing is one ValueError. In a file of strangers it makes one refused row with its number, its
neighbours stay, and repeated keys and text that is no UTF-8 are refused, too. This module knows no record or folder.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import ValidationError

from aot.errors import SourceError

MAX_LINE_BYTES = 1_000_000
MAX_QUESTION_CHARS = 20_000
"""Of the text of a question, behind both doors."""
_MOST_DIGITS = 300
"""Of a whole number: more of them fit into no arithmetic with floats."""


def parse_json(text: str | bytes, *, keys: Literal["last", "unique"] = "last") -> Any:  # noqa: ANN401 - any JSON
    """The value that `text` holds.

    >>> parse_json('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}

    Args:
        text: the JSON.
        keys: which value counts of a key that stands twice; `unique` refuses it.

    Raises:
        ValueError: it is no JSON, nested too deeply, or holds a number that nothing can be computed with.
    """
    pairs = _unique if keys == "unique" else None
    try:
        return json.loads(
            text, object_pairs_hook=pairs, parse_constant=_own_constant, parse_float=_own_float, parse_int=_own_int
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except RowProblem as problem:
        raise ValueError(problem.detail) from None


def read_json(path: Path) -> Any:  # noqa: ANN401
    """The value in a file.

    Raises:
        OSError: it cannot be read.
        ValueError: as for `parse_json`.
    """
    return parse_json(path.read_bytes())


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


class Splits:
    """Which split each clip, group and text is in, so that nothing leaks from one split into another."""

    def __init__(self) -> None:
        self._splits: dict[str, str] = {}

    def claim(self, names: Mapping[str, str], split: str) -> None:
        """Put the keys of `names` into `split`; their values say what they are.

        Raises:
            RowProblem: `two_splits` where one is in another already; then none of them is claimed.
        """
        for key, what in names.items():
            other = self._splits.get(key, split)
            if other != split:
                raise RowProblem("two_splits", f"{what} is in split {other!r} already, not {split!r}")
        self._splits.update(dict.fromkeys(names, split))


def check_choices(answer: str, choices: Sequence[str]) -> None:
    """Refuse choices that no answer could be picked from.

    Raises:
        RowProblem: a lone, empty or repeated choice, or an answer that is none of them.
    """
    if len(choices) < 2 or "" in choices or len(set(choices)) < len(choices):
        raise RowProblem("bad_choices", "choices must be at least two different, non-empty texts")
    if answer not in choices:
        advice = "write the text of the right one"
        raise RowProblem("bad_choices", f"the answer {answer!r} is none of the choices; {advice}")


def read_json_lines(path: Path) -> Iterator[JsonLine | RefusedRow]:
    """Good lines and refused rows in the order of the file; blank lines are left out.

    Raises:
        SourceError: the file is missing or unreadable.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise SourceError(f"there is no file {path}; check its path") from None
    except IsADirectoryError:
        raise SourceError(f"{path} is a folder; name a file in it, of one JSON object a line") from None
    except (OSError, ValueError):
        raise SourceError(f"the file {path} cannot be read; check its rights") from None
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
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_constant, parse_float=_finite)
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


def first_mistake(error: ValidationError, *, whole: str) -> str:
    """What is first wrong with a value, and in which part of it; `whole` names the value itself."""
    mistake = error.errors(include_url=False, include_input=False)[0]
    return f"{mistake['msg']} at {'.'.join(map(str, mistake['loc']))[:100] or whole}"


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
        raise RowProblem("duplicate_key", f"the key {twice[:100]!r} stands twice")
    return fields


def _constant(name: str) -> float:
    raise RowProblem("not_a_number", f"{name} is not a usable number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise RowProblem("not_a_number", f"{text[:20]} is too large")
    return value


def _own_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _own_float(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _own_int(text: str) -> int:
    if len(text.lstrip("-")) > _MOST_DIGITS:
        raise ValueError(f"the number {text[:20]}... has {len(text)} digits")
    return int(text)
