"""Replies of chat models on disk, so that a killed run pays for no reply twice. Failures are never stored.

Each writer appends to its own JSON-lines part. Memory holds only where each reply lies, so that a hundred thousand of
them cost a few megabytes; a line that cannot be read is a reply that is asked for again.
"""

import threading
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from aot.chat.client import ChatModel
from aot.chat.messages import ChatReply, ChatRequest
from aot.chat.spend import claim_part, release_part
from aot.files.run_folder import append_row, open_append
from aot.records import Record

_BEFORE_KEY, _KEY_LENGTH = b'{"key":"', 32
_OFFSET_BITS = 48


class CachedReply(Record):
    """One stored reply; `key` stands first in its line, where the index looks for it."""

    key: str
    reply: ChatReply


class ReplyCache:
    """Replies by key; every method may be called from many threads."""

    def __init__(self, folder: Path, *, writer: str) -> None:
        """Reads where all replies lie, those of other writers included."""
        own = claim_part(folder, writer)
        self._file = open_append(own)  # before reading, for it cuts off a half-written last line
        self._paths = [own, *(path for path in sorted(folder.glob("part-*.jsonl")) if path != own)]
        self._where: dict[bytes, int] = {}
        self._lock = threading.Lock()
        for number, path in enumerate(self._paths):
            self._index(number, path)

    def __len__(self) -> int:
        return len(self._where)

    def get(self, key: str) -> ChatReply | None:
        """The stored reply, or None."""
        where = self._where.get(bytes.fromhex(key))
        if where is None:
            return None
        with self._paths[where >> _OFFSET_BITS].open("rb") as file:
            file.seek(where & ((1 << _OFFSET_BITS) - 1))
            line = file.readline()
        try:
            row = CachedReply.model_validate_json(line)
        except ValidationError:
            return None
        return row.reply if row.key == key else None

    def put(self, key: str, reply: ChatReply) -> None:
        """Store a reply; raises RunError when the disk refuses it."""
        with self._lock:
            offset = self._file.tell()
            append_row(self._file, CachedReply(key=key, reply=reply))
            self._where[bytes.fromhex(key)] = offset

    def close(self) -> None:
        """Close the file of this writer."""
        with self._lock:
            if not self._file.closed:
                self._file.close()
                release_part(self._paths[0])

    def _index(self, number: int, path: Path) -> None:
        offset, begin = 0, len(_BEFORE_KEY)
        with path.open("rb") as file:
            for line in file:
                if line.startswith(_BEFORE_KEY) and line.endswith(b"\n"):
                    with suppress(ValueError):
                        key = bytes.fromhex(line[begin : begin + _KEY_LENGTH].decode())
                        self._where[key] = (number << _OFFSET_BITS) | offset
                offset += len(line)


class CachedChat:
    """A chat model that asks another one only for what it has not said yet."""

    def __init__(self, inner: ChatModel, cache: ReplyCache, *, base_url: str) -> None:
        self._inner, self._cache, self._base_url = inner, cache, base_url
        self._asking: dict[str, Future[ChatReply]] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The model's name."""
        return self._inner.name

    def reply(self, request: ChatRequest) -> ChatReply:
        """The stored reply or a new one; equal requests at the same time are one call."""
        key = request.digest(model=self.name, base_url=self._base_url)
        with self._lock:
            other, mine = self._asking.get(key), Future[ChatReply]()
            if other is None:
                self._asking[key] = mine
        if other is not None:
            return other.result()
        try:
            stored = self._cache.get(key)
            if stored is None:
                stored = self._inner.reply(request)
                self._cache.put(key, stored)
            reply = stored.model_copy(update={"key": key})
            mine.set_result(reply)
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._asking[key]
        return reply

    def close(self) -> None:
        """Close the model and the cache."""
        self._inner.close()
        self._cache.close()
