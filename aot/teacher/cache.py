"""Tool results on disk, so that a killed run pays for no look twice.

Each worker appends to its own JSON-lines file and reads all files once, at start. A line that cannot be read is
skipped: the result is simply computed again. Failures are never stored. All threads of a worker share one cache.
"""

import hashlib
import json
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pydantic import Field, ValidationError
from pydantic_core import from_json

from aot.files.run_folder import append_row, open_append
from aot.records import JsonDict, Record
from aot.teacher.tools.clipview import ClipView

_MOST_PARTS = 1 << 16


class CachedResult(Record):
    """One stored result."""

    key: str
    result: JsonDict
    reply_keys: tuple[str, ...] = Field(default=(), exclude_if=lambda keys: not keys)
    """Of the chat replies that it rests on."""


class ResultCache:
    """Results by key, for many threads at once; give no folder to remember within this process only.

    With a folder, only places are kept in memory: results are read again when they are asked for.
    """

    def __init__(self, folder: Path | None = None, *, writer: str = "0") -> None:
        self._results: dict[str, CachedResult] = {}
        self._places: dict[str, int] = {}
        """Offset times `_MOST_PARTS`, plus the number of the part."""
        self._parts: list[Path] = []
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        if folder is not None:
            mine = folder / f"part-{writer}.jsonl"
            self._file = open_append(mine)
            self._parts = [mine, *sorted(path for path in folder.glob("part-*.jsonl") if path != mine)][:_MOST_PARTS]
            for number, path in enumerate(self._parts):
                self._read(path, number)

    def get(self, key: str) -> CachedResult | None:
        """The stored result, or None."""
        with self._lock:
            place = self._places.get(key)
            if place is None:
                return self._results.get(key)
        offset, number = divmod(place, _MOST_PARTS)
        try:
            with self._parts[number].open("rb") as file:
                file.seek(offset)
                row = CachedResult.model_validate_json(file.readline())
        except (OSError, ValidationError):
            return None
        return row if row.key == key else None

    def put(self, row: CachedResult) -> None:
        """Store a result; raises RunError when the disk refuses it."""
        with self._lock:
            if self._file is None:
                self._results[row.key] = row
                return
            offset = self._file.tell()
            append_row(self._file, row)
            self._places[row.key] = offset * _MOST_PARTS

    def close(self) -> None:
        """Close the file of this writer."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, path: Path, number: int) -> None:
        offset = 0
        with path.open("rb") as file:
            for line in file:
                with suppress(ValueError, KeyError, TypeError):
                    self._places[str(from_json(line)["key"])] = offset * _MOST_PARTS + number
                offset += len(line)


def cache_key(*, clip: ClipView, tool: str, version: str, arguments: JsonDict, sight: str) -> str:
    """A digest of everything that a result depends on: clip, visible frames, tool, arguments, and what it sees with."""
    parts = [
        clip.sha256,
        f"{clip.frames_THWC.shape[1:3]} {clip.indices[0]}-{clip.indices[-1]} {clip.start_s:.3f}-{clip.end_s:.3f}",
        hashlib.sha256(repr(clip.times_s).encode()).hexdigest()[:16],
        tool,
        version,
        json.dumps(arguments, sort_keys=True, ensure_ascii=False),
        sight,
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
