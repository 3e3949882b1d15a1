"""Tool results on disk, so that a killed run pays for no look twice.

Each worker appends to its own part and reads where all results lie once, at start. A line that cannot be read is a
result that is computed again. Failures are never stored. All threads of a worker share one cache.
"""

import hashlib
import json
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import Field

from aot.files.parts import KeyedRows
from aot.records import JsonDict, Record
from aot.teacher.tools.clipview import ClipView


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
        self._stored = None if folder is None else KeyedRows(folder, CachedResult, writer=writer)
        self._remembered: dict[str, CachedResult] = {}

    def get(self, key: str) -> CachedResult | None:
        """The stored result, or None."""
        return self._remembered.get(key) if self._stored is None else self._stored.get(key)

    def put(self, row: CachedResult) -> None:
        """Store a result; raises RunError when the disk refuses it."""
        if self._stored is None:
            self._remembered[row.key] = row
        else:
            self._stored.put(row.key, row)

    def close(self) -> None:
        """Close the file of this writer."""
        if self._stored is not None:
            self._stored.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
