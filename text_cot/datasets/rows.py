"""Reads the rows of a file that strangers wrote: JSON lines, a JSON list, a folder of JSON files, CSV or Parquet.

A bad row becomes a refused row with its place, its neighbours stay. Knows no data set: columns are judged elsewhere.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aot.errors import MissingPackageError, SourceError, install_command
from aot.files.jsonl import MAX_LINE_BYTES, JsonLine, RefusedRow, RowProblem, parse_object, read_json_lines
from aot.files.tables import read_table

READ = ".jsonl, .json, .csv, .parquet, or a folder of .json files"


@dataclass(frozen=True)
class TextRow:
    """One row: its place for messages, such as `train.jsonl:3`, its name within the file, and its fields."""

    place: str
    name: str
    """The line or row number, counted from 1, or the key or file name of the row; part of the question's id."""
    fields: dict[str, Any]


def read_rows(path: Path) -> Iterator[TextRow | RefusedRow]:
    """Good and refused rows of `path` in their order.

    Raises:
        SourceError: the file is missing, unreadable, of an unknown kind, or broken as a whole.
    """
    if path.is_dir():
        return _folder(path)
    readers = {".jsonl": _lines, ".json": _json, ".csv": _csv, ".parquet": _parquet}
    if path.suffix.lower() not in readers:
        raise SourceError(f"{path} is of no kind that can be read; give one of {READ}")
    if not path.is_file():
        raise SourceError(f"there is no file {path}; check data.files in the config, and download the data set first")
    try:
        path.open("rb").close()
    except OSError as error:
        raise SourceError(f"the file {path} cannot be read: {error}; check its rights") from None
    return readers[path.suffix.lower()](path)


def _lines(path: Path) -> Iterator[TextRow | RefusedRow]:
    for line in read_json_lines(path):
        if isinstance(line, JsonLine):
            yield TextRow(line.place, line.place.rpartition(":")[2], line.fields)
        else:
            yield line


def _folder(path: Path) -> Iterator[TextRow | RefusedRow]:
    """One object a file, as MATH comes in its original form."""
    files = sorted(path.rglob("*.json"))
    if not files:
        raise SourceError(f"the folder {path} holds no .json file; give one of {READ}")
    for file in files:
        place = file.relative_to(path).as_posix()
        try:
            with file.open("rb") as opened:
                content = opened.read(MAX_LINE_BYTES + 1)
            if len(content) > MAX_LINE_BYTES:
                raise RowProblem("line_too_long", f"a row may have {MAX_LINE_BYTES} bytes")
            yield TextRow(place, place.removesuffix(".json"), parse_object(content.removeprefix(b"\xef\xbb\xbf")))
        except RowProblem as problem:
            yield problem.row(place)
        except OSError as error:
            yield RefusedRow(place, "unreadable", str(error))


class _NotANumber:
    """Stands where a file has NaN, infinity or a number of thousands of digits."""


class _Doubled(dict[str, Any]):
    """An object in which a key stands twice; the first one counts."""

    key = ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key in fields:
            fields = _Doubled(fields)
            fields.key = key
        else:
            fields[key] = value
    return fields


def _json(path: Path) -> Iterator[TextRow | RefusedRow]:
    """A list of objects, or an object of objects by id; a file of JSON lines under this name is read as that."""
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")  # bad bytes refuse only their own row
    try:
        whole = json.loads(
            text, object_pairs_hook=_object, parse_constant=lambda _: _NotANumber(),
            parse_int=lambda number: int(number) if len(number) < 100 else _NotANumber(),
            parse_float=lambda number: float(number) if math.isfinite(float(number)) else _NotANumber(),
        )  # fmt: skip
    except RecursionError:
        raise SourceError(f"{path} is nested too deeply; it should be a list of objects") from None
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            yield from _lines(path)
            return
        raise SourceError(
            f"{path} is not JSON: {error.msg} at line {error.lineno}; mend it or save it as JSON lines"
        ) from None
    if isinstance(whole, _Doubled):
        yield RefusedRow(f"{path.name}:{whole.key}"[:200], "duplicate_id", "the id stands twice; the first counts")
    if isinstance(whole, dict) and all(isinstance(row, dict) for row in whole.values()):
        named = list(whole.items())
    elif isinstance(whole, list):
        named = [(str(number), row) for number, row in enumerate(whole, 1)]
    else:
        raise SourceError(f"{path} must be a list of objects, got {type(whole).__name__}")
    for name, row in named:
        place = f"{path.name}:{name}"
        if not isinstance(row, dict):
            yield RefusedRow(place, "broken_json", f"a row must be an object, got {type(row).__name__}")
        elif isinstance(row, _Doubled):
            yield RefusedRow(place, "duplicate_key", f"the key {row.key!r} stands twice")
        elif bad := [column for column, value in row.items() if isinstance(value, _NotANumber)]:
            yield RefusedRow(place, "not_a_number", f"the value of {bad[0]!r} is not a usable number")
        else:
            yield TextRow(place, name, row)


def _csv(path: Path) -> Iterator[TextRow | RefusedRow]:
    """Rows of texts. Not through `datasets`, whose guesses turn 007, 1.0 and None into something else."""
    columns, lines = read_table(path)
    for line in lines:
        if isinstance(line, RefusedRow):
            yield line
            continue
        place, cells = line
        if len(cells) != len(columns):
            yield RefusedRow(place, "broken_csv", f"the row has {len(cells)} cells, the header {len(columns)}")
        else:
            yield TextRow(place, place.rpartition(":")[2], dict(zip(columns, cells, strict=True)))


def _parquet(path: Path) -> Iterator[TextRow | RefusedRow]:
    """By pyarrow, which `datasets` reads with too: here nothing is copied into a cache first."""
    try:
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise MissingPackageError(
            f"reading .parquet needs the package pyarrow; {install_command('text')}, or give JSON lines"
        ) from None
    try:
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        if twice := [name for name in names if names.count(name) > 1]:
            raise SourceError(f"{path} names the column {twice[0]!r} twice; rename or delete one")
        rows = (row for batch in file.iter_batches(batch_size=1024) for row in batch.to_pylist())
        for number, row in enumerate(rows, 1):
            yield TextRow(f"{path.name}:{number}", str(number), row)
    except (OSError, ValueError) as error:  # the errors of pyarrow are these
        raise SourceError(f"{path} cannot be read as Parquet: {error}") from None
