"""Part files: JSON lines to which each writer appends in a file of its own, and which readers put together.

Memory holds where rows lie and not the rows, so that a hundred thousand of them cost a few megabytes. What a kill cut
in half is no row. This module knows no folder by name and no record.
"""

import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from aot.errors import SourceError, first_problem
from aot.files.run_folder import append_row, open_append, row_files, whole_lines

_KEY = re.compile(rb'\{"key":"([0-9a-f]{32})"')
_OFFSET_BITS = 48
_claims_lock = threading.Lock()
_claimed: set[Path] = set()
Row = TypeVar("Row", bound=BaseModel)


def writer_name() -> str:
    """Each process, on whatever machine, appends to files of its own."""
    return f"{re.sub(r'[^A-Za-z0-9-]', '-', socket.gethostname())[:40]}-{os.getpid()}"


def part_path(folder: Path, writer: str) -> Path:
    """The file that one writer appends to."""
    return folder / f"part-{writer}.jsonl"


def parts_of(folder: Path) -> list[Path]:
    """The parts of all writers, in one order always."""
    return [path for path in row_files(folder) if path.name.startswith("part-")]


def placed_lines(path: Path, *, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Byte offset and bytes of each whole line from the offset `start` on.

    Raises:
        SourceError: the file is missing.
    """
    for line in whole_lines(path, start=start):
        yield start, line
        start += len(line)


def line_at(path: Path, offset: int) -> bytes:
    """The line that begins at a byte offset."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.readline()


def row_at(path: Path, offset: int, model: type[Row], *, mend: str = "") -> Row:
    """The row whose line begins at a byte offset.

    Raises:
        SourceError: there is none; `mend` is added to what is wrong.
    """
    try:
        return model.model_validate_json(line_at(path, offset))
    except ValidationError as error:
        problem = error.errors()[0]
        if problem["type"] == "earlier_version":  # which says itself what to do
            raise SourceError(f"{path}: {problem['msg']}") from None
        raise SourceError(f"{path}, byte {offset}: {first_problem(error)}{mend}") from None


class Part:
    """The part of one writer, open for appending; every method may be called from many threads."""

    def __init__(self, folder: Path, writer: str) -> None:
        """Takes another name when this process has that one open already, as with two chat models."""
        writers = (writer, *(f"{writer}-m{number}" for number in range(2, 1000)))
        with _claims_lock:
            paths = (part_path(folder, one) for one in writers)
            self.path = next(path for path in paths if path.absolute() not in _claimed)
            _claimed.add(self.path.absolute())
        self._file, self._lock = open_append(self.path), threading.Lock()

    def append(self, row: BaseModel) -> int:
        """Write a row; the byte offset where it lies.

        Raises:
            AotError: the disk refuses it.
        """
        with self._lock:
            offset = self._file.tell()
            append_row(self._file, row)
            return offset

    def close(self) -> None:
        """Close the file, and let another writer of this process take its name."""
        with self._lock:
            if not self._file.closed:
                self._file.close()
                with _claims_lock:
                    _claimed.discard(self.path.absolute())


class KeyedRows(Generic[Row]):
    """The rows in all parts of a folder by key; every method may be called from many threads.

    A key is 32 hex digits and stands first in its line, where the index looks for it. A line that cannot be read is a
    row that is not there. Without a folder rows are remembered in this process only.
    """

    def __init__(self, folder: Path | None, model: type[Row], *, writer: str = "0") -> None:
        """Reads where all rows lie, those of other writers included."""
        self._model, self._remembered = model, dict[str, Row]()
        self._places: dict[bytes, int] = {}
        """Number of the part and offset in one number, to save memory."""
        self._part = Part(folder, writer) if folder else None  # before reading, for it cuts off a half-written line
        if folder is None or self._part is None:
            return
        self._paths = [self._part.path, *(path for path in parts_of(folder) if path != self._part.path)]
        for number, path in enumerate(self._paths):
            for offset, line in placed_lines(path):
                if key := _KEY.match(line):
                    self._places[bytes.fromhex(key[1].decode())] = (number << _OFFSET_BITS) | offset

    def get(self, key: str) -> Row | None:
        """The row of that key, read from its file again; None where there is none."""
        place = self._places.get(bytes.fromhex(key))
        if place is None:
            return self._remembered.get(key)
        try:
            line = line_at(self._paths[place >> _OFFSET_BITS], place & ((1 << _OFFSET_BITS) - 1))
            return self._model.model_validate_json(line) if line.startswith(b'{"key":"' + key.encode()) else None
        except (OSError, ValidationError):
            return None

    def put(self, key: str, row: Row) -> None:
        """Store the row of a key; raises AotError when the disk refuses it."""
        if self._part is None:
            self._remembered[key] = row
        else:
            self._places[bytes.fromhex(key)] = self._part.append(row)

    def close(self) -> None:
        """Close the part of this writer."""
        if self._part is not None:
            self._part.close()
