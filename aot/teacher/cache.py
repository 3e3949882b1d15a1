"""Tool results on disk, so that a killed run pays for no look twice.

Each worker appends to its own JSON-lines file and reads all files once, at start. A line that cannot be read is
skipped: the result is simply computed again. Failures are never stored. All threads of a worker share one cache.
"""

import hashlib
import json
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pydantic import ValidationError

from aot.records import JsonDict, Record
from aot.runs import append_row, open_append
from aot.teacher.tools.clipview import ClipView


class CachedResult(Record):
    """One stored result."""

    key: str
    result: JsonDict


class ResultCache:
    """Results by key, for many threads at once; give no folder to remember within this process only."""

    def __init__(self, folder: Path | None = None, *, writer: str = "0") -> None:
        self._results: dict[str, CachedResult] = {}
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        if folder is not None:
            for path in sorted(folder.glob("part-*.jsonl")):
                self._read(path)
            self._file = open_append(folder / f"part-{writer}.jsonl")

    def get(self, key: str) -> CachedResult | None:
        """The stored result, or None."""
        with self._lock:
            return self._results.get(key)

    def put(self, row: CachedResult) -> None:
        """Store a result; raises RunError when the disk refuses it."""
        with self._lock:
            self._results[row.key] = row
            if self._file is not None:
                append_row(self._file, row)

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

    def _read(self, path: Path) -> None:
        for line in path.read_bytes().splitlines():
            try:
                row = CachedResult.model_validate_json(line)
            except ValidationError:
                continue
            self._results[row.key] = row


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
