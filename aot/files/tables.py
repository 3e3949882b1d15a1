"""Reads CSV that strangers wrote: a bad row becomes a refused row with its first line, its neighbours stay.

A quote that is never closed makes one record of all lines after it. Such a record is refused at its first line, and
reading goes on with the next one. Bytes that are not UTF-8 are kept (`surrogateescape`, PEP 383): who reads the rows
refuses those that hold one. Knows no column.
"""

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from aot.errors import SourceError
from aot.files.jsonl import MAX_LINE_BYTES, RefusedRow

CsvLine = tuple[str, list[str]] | RefusedRow
"""Place, such as `train.csv:3`, and cells of a row; or why there are none."""


def read_table(path: Path) -> tuple[list[str], Iterator[CsvLine]]:
    """The header of a CSV file, empty if the file is, and its rows; whether these fit the header is not looked at.

    Raises:
        SourceError: the file is missing or unreadable, or its header is broken or names a column twice.
    """
    lines = read_lines(path, has_header=True)
    first = next(lines, (path.name, []))
    if isinstance(first, RefusedRow):
        raise SourceError(f"{path}: the line of column names is broken ({first.detail}); mend it")
    names = first[1]
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise SourceError(f"{path} names the column {twice[0]!r} twice; which one counts? Rename or delete one")
    return names, lines


def read_lines(path: Path, *, has_header: bool = False) -> Iterator[CsvLine]:
    """Every record of a CSV file that is not blank, the header among them.

    Raises:
        SourceError: the file is missing or unreadable.
    """
    csv.field_size_limit(MAX_LINE_BYTES)
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield from _records(file, path.name, has_header=has_header)
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> SourceError:
    """What to tell of a file that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return SourceError(f"there is no file {path}; see docs/annotated_data.md for what is read")
    return SourceError(f"{path} cannot be read ({error.strerror or error}); give the official file")


def _records(file: Iterable[str], name: str, *, has_header: bool) -> Iterator[CsvLine]:
    lines = _Lines(file)
    reader = csv.reader(lines, strict=True)
    width = 0
    while True:
        place = f"{name}:{lines.begin_record()}"
        try:
            cells = next(reader)
            wrong = f"it has {len(cells)} fields, the header {width}" if width and len(cells) != width else ""
        except StopIteration:
            return
        except csv.Error as error:
            cells, wrong = [], str(error)
        if wrong and (more := lines.keep_first()):
            detail = f"{wrong}, {more} lines on; look for a quote that is never closed; read on from the next line"
            yield RefusedRow(place, "broken_csv", detail)
        elif wrong and not cells:
            yield RefusedRow(place, "broken_csv", f"{wrong}; look for a quote that is not closed, or not doubled")
        elif cells:
            width = width or (len(cells) if has_header else 0)
            yield place, cells


class _Lines:
    """The lines of a file, of which those after the first one of a record can be put back."""

    def __init__(self, file: Iterable[str]) -> None:
        self._file = iter(file)
        self._back: deque[str] = deque()
        self._taken: list[str] = []
        self._number = 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else next(self._file)
        self._taken.append(line)
        return line

    def begin_record(self) -> int:
        """Forget the lines that were taken; the number of the next one."""
        self._number += len(self._taken)
        self._taken = []
        return self._number

    def keep_first(self) -> int:
        """How many lines were taken after the first one; they come again."""
        more = self._taken[1:]
        del self._taken[1:]
        self._back.extendleft(reversed(more))
        return len(more)
