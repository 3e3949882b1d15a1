"""Replies of chat models on disk, so that a killed run pays for no reply twice. Failures are never stored.

A line that cannot be read is a reply that is asked for again.
"""

import threading
from concurrent.futures import Future

from aot.chat.client import ChatModel
from aot.chat.messages import ChatReply, ChatRequest
from aot.files.parts import KeyedRows
from aot.records import Record


class CachedReply(Record):
    """One stored reply; its key stands first in the line (aot.files.parts)."""

    key: str
    reply: ChatReply


class CachedChat:
    """A chat model that asks another one only for what it has not said yet."""

    def __init__(self, inner: ChatModel, cache: KeyedRows[CachedReply], *, base_url: str) -> None:
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
                stored = CachedReply(key=key, reply=self._inner.reply(request))
                self._cache.put(key, stored)
            reply = stored.reply.model_copy(update={"key": key})
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
