"""The bytes of a reply as servers send them, made into one JSON body: packed ones unpacked, event streams put together.

It could not stand in `wire`, which knows what a body means and not how it travels. Nothing here grows beyond the limit
that it is given, whatever comes.
"""

import json
import zlib
from contextlib import suppress
from typing import Any

from aot.chat.server.error_bodies import is_error
from aot.chat.server.failures import ErrorInside, Failure, transient

_GZIP = b"\x1f\x8b"
_EVENT_BEGINNINGS = (b"data:", b"event:", b"id:", b":", b"retry:")
REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_text", "reasoning_details", "thoughts")
"""Where servers put thinking."""
_JOINED = ("content", "refusal", *REASONING_FIELDS)
"""Fields of a message whose pieces are put one after the other."""
_MOST_CALLS = 200
_ALIVE = (b"ping", b"heartbeat", b"keepalive", b"keep-alive", b"keep_alive")
"""Events that only keep a connection open."""
_PIECE = 1 << 16


class Body:
    """Takes the bytes of one reply as they come; `whole` is what they mean."""

    def __init__(self, *, limit: int, packed: str = "", is_stream: bool = False, charset: str = "") -> None:
        """`packed` is the content encoding that the server named, `charset` the one of its text."""
        self._limit, self._packed = limit, packed.strip().lower()
        self._raw, self._charset = bytearray(), charset
        self._events = EventStream(limit=limit, charset=charset) if is_stream else None
        self._unpacker: Any = None
        self._begun = False
        self._unpacked = 0

    def feed(self, chunk: bytes) -> None:
        """Take some more bytes; raises Failure when they are too many or cannot be unpacked."""
        if not self._begun:
            self._raw += chunk
            if len(self._raw) < len(_GZIP):
                return
            chunk, self._begun = bytes(self._raw), True
            self._raw.clear()
            self._unpacker = _unpacker(chunk, self._packed)
        if self._unpacker is None:
            self._take(chunk)
            return
        try:
            while chunk:
                piece = self._unpacker.decompress(chunk, _PIECE)
                self._unpacked += len(piece)
                if self._unpacked > 16 * self._limit:  # an event stream is mostly wrapping, and is not kept
                    raise too_large(self._limit)
                self._take(piece)
                chunk = self._unpacker.unconsumed_tail
                if self._unpacker.eof and self._unpacker.unused_data.startswith(_GZIP):  # in several members
                    chunk, self._unpacker = self._unpacker.unused_data, zlib.decompressobj(31)
        except zlib.error:
            raise transient("malformed", "a packed reply that cannot be unpacked", billed=True) from None

    def whole(self) -> bytes | dict[str, Any]:
        """The body: as it came, or put together from events."""
        if self._unpacker is not None and not self._unpacker.eof:
            raise transient("malformed", "a packed reply that was cut off", billed=True)
        return self._events.whole() if self._events is not None else in_utf8(bytes(self._raw), self._charset)

    def _take(self, piece: bytes) -> None:
        if self._events is not None and not self._events.has_begun:
            piece = piece.removeprefix(b"\xef\xbb\xbf").lstrip()
            if piece.startswith((b"{", b"[")):  # one JSON text under the name of a stream
                self._events = None
        if self._events is not None:
            self._events.feed(piece)
            return
        self._raw += piece
        if len(self._raw) > self._limit:
            raise too_large(self._limit)


def too_large(limit: int) -> Failure:
    """The failure of a reply that is larger than it may be."""
    message = f"a reply grew beyond chat.max_reply_mb ({limit / 1e6:g} MB) and was dropped"
    return transient("malformed", message, billed=True)


def unpacked(raw: bytes, *, packed: str, limit: int) -> bytes:
    """The first `limit` bytes of an error's body, unpacked where it is packed; as it is where that cannot be done."""
    try:
        unpacker = _unpacker(raw, packed.strip().lower())
        return raw if unpacker is None else bytes(unpacker.decompress(raw, limit))
    except (zlib.error, Failure):
        return raw


def in_utf8(raw: bytes, charset: str) -> bytes:
    """Text of an old charset that the server named as UTF-8; the same bytes where they are that, or nothing fits."""
    try:
        raw.decode(json.detect_encoding(raw))
    except UnicodeDecodeError:
        with suppress(LookupError, ValueError):
            return raw.decode(charset).encode()
    return raw


def read_json(raw: bytes) -> Any:  # noqa: ANN401 - whatever came
    """The JSON or the event stream in `raw`, with or without a byte-order mark.

    Raises:
        ValueError: it is neither.
    """
    text = raw.decode(json.detect_encoding(raw)).removeprefix("\ufeff")
    start = text[:100].lstrip().encode("utf-8", "replace")
    if start.startswith(_EVENT_BEGINNINGS):
        events = EventStream(limit=len(raw) + 1)
        events.feed(text.encode("utf-8", "replace"))
        return events.whole()
    return json.loads(text, parse_constant=_no_constant, strict=False)  # line breaks inside a text are read


def first_choice(choices: list[Any]) -> Any:  # noqa: ANN401 - whatever came
    """Of several choices the one numbered 0, wherever it stands; else the first."""
    numbered = (one for one in choices if isinstance(one, dict) and one.get("index") in (0, "0"))
    return next(numbered, choices[0])


class EventStream:
    """Puts a reply together from server-sent events, as one body like that of a reply in one piece.

    See https://html.spec.whatwg.org/multipage/server-sent-events.html
    """

    def __init__(self, *, limit: int, charset: str = "") -> None:
        self._limit, self._size, self._charset = limit, 0, charset
        self._line, self._data, self._name = bytearray(), b"", b""
        self._held = 0
        self._done = self._any = False
        self._body: dict[str, Any] = {}
        self._message: dict[str, Any] = {}
        self._choice: dict[str, Any] = {}
        self._calls: dict[Any, dict[str, Any]] = {}
        self._latest: dict[Any, Any] = {}
        """By number: under which key its latest call is held."""

    @property
    def has_begun(self) -> bool:
        """Whether an event came, or the beginning of a line."""
        return self._any or bool(self._line)

    def feed(self, chunk: bytes) -> None:
        """Take some more bytes; raises Failure or ErrorInside as soon as it is clear that no reply will come."""
        self._line += chunk
        if len(self._line) > self._limit:
            raise too_large(self._limit)
        if b"\n" not in chunk and b"\r" not in chunk:
            return
        lines = bytes(self._line).splitlines(keepends=True)
        unended = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        self._line[:] = unended
        for line in lines:
            self._take(line.rstrip(b"\r\n"))

    def whole(self) -> dict[str, Any]:
        """The body; raises Failure when the stream ended before the reply did."""
        self._take(bytes(self._line).rstrip(b"\r\n"))
        self._take(b"")
        if not self._done and not self._choice.get("finish_reason"):
            said = "ended before the reply did" if self._any else "holds no event"
            raise transient("malformed", f"the event stream of a reply {said}", billed=True)
        if self._calls:
            self._message["tool_calls"] = list(self._calls.values())
        return {**self._body, "choices": [{**self._choice, "message": self._message}] if self._any else []}

    def _take(self, line: bytes) -> None:
        """One line of an event: its data is JSON on one line nearly always."""
        field, _, value = line.partition(b":")
        if field == b"event":
            self._name = value.strip().lower()
        if field == b"data":
            self._data += (b"\n" if self._data else b"") + value.removeprefix(b" ")
            self._held += 1
            if len(self._data) > self._limit:
                raise too_large(self._limit)
        if not self._data:
            self._name = self._name if line else b""
            return
        if self._data.strip() == b"[DONE]":
            self._done, self._data, self._held = True, b"", 0
            return
        try:
            event = json.loads(in_utf8(self._data, self._charset), parse_constant=_no_constant, strict=False)
        except (ValueError, RecursionError):
            if line and self._held <= 64:
                return
            if self._name == b"error":
                raise ErrorInside(self._data) from None
            if self._name not in _ALIVE:
                raise transient("malformed", "an event of a reply is no JSON", billed=True) from None
            event = None
        self._data, self._held = b"", 0
        if isinstance(event, dict):
            self._event(event)

    def _event(self, event: dict[str, Any]) -> None:
        choices = event.get("choices")
        failed = event.get("error") or (not choices and self._name == b"error")
        if failed or (choices is None and is_error(event)):
            raise ErrorInside(json.dumps(event).encode())
        self._body |= {name: event[name] for name in ("model", "usage") if event.get(name)}
        first = first_choice(choices) if isinstance(choices, list) and choices else None
        if not isinstance(first, dict) or first.get("index") not in (None, 0, "0"):
            return
        self._any = True
        if first.get("error"):
            raise ErrorInside(json.dumps(first).encode())
        if first.get("finish_reason"):
            self._choice["finish_reason"] = first["finish_reason"]
        logprobs = first.get("logprobs")
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
            held = self._choice.setdefault("logprobs", {"content": []})["content"]
            held += logprobs["content"]
            self._grow(100 * len(logprobs["content"]))
        piece = first.get("delta") or first.get("message")
        if piece is None and isinstance(first.get("text"), str):
            piece = {"content": first["text"]}
        if isinstance(piece, dict):
            self._add(piece if first.get("delta") else self._what_is_new(piece))

    def _what_is_new(self, message: dict[str, Any]) -> dict[str, Any]:
        """Of a message that tells again what was said so far, as some servers send with every event, the rest."""
        held = {name: self._message.get(name) for name in message}
        new = {
            name: value[len(before) :]
            if isinstance(before, str) and isinstance(value, str) and value.startswith(before)
            else value
            for (name, value), before in zip(message.items(), held.values(), strict=True)
        }
        if self._calls:
            new.pop("tool_calls", None)
        return new

    def _add(self, piece: dict[str, Any]) -> None:
        """A piece of the message: texts go behind what is there, calls to the call of the same number."""
        for name, value in piece.items():
            if name == "tool_calls" and isinstance(value, list):
                for number, call in enumerate(value):
                    if isinstance(call, dict):
                        self._add_call(call, call.get("index", number))
            elif name == "function_call" and isinstance(value, dict):
                self._add_call({"function": value}, "function_call")
            elif isinstance(value, str) and name in _JOINED:
                held = self._message.get(name) or ""
                self._message[name] = (
                    [*held, {"type": "text", "text": value}] if isinstance(held, list) else held + value
                )
                self._grow(len(value))
            elif isinstance(value, list) and name in _JOINED:
                held = self._message.get(name)
                self._message[name] = [*(held if isinstance(held, list) else [held] if held else []), *value]
                self._grow(len(json.dumps(value)))

    def _add_call(self, call: dict[str, Any], number: Any) -> None:  # noqa: ANN401 - whatever came
        number = number if isinstance(number, int | str) else 0
        key = self._latest.get(number, number)
        function = call.get("function")
        names = isinstance(function, dict) and function.get("name")
        if (before := self._calls.get(key)) and names and call.get("id") and before["id"] not in (None, call["id"]):
            key = self._latest[number] = (number, len(self._calls))  # another call under the same number
        held = self._calls.setdefault(key, {"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
        if len(self._calls) > _MOST_CALLS:
            raise too_large(self._limit)
        held["id"] = call.get("id") or held["id"]
        for name, value in function.items() if isinstance(function, dict) else ():
            if name == "arguments" and isinstance(value, str) and isinstance(held["function"]["arguments"], str):
                held["function"]["arguments"] += value
                self._grow(len(value))
            elif value and name in ("name", "arguments"):
                held["function"][name] = value

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._limit:
            raise too_large(self._limit)


def _unpacker(start: bytes, packed: str) -> Any:  # noqa: ANN401 - zlib's object has no public type
    """What unpacks a body that begins so; None for one that is not packed."""
    if start.startswith(_GZIP):
        return zlib.decompressobj(31)
    if packed == "deflate" and not start.lstrip().startswith((b'{"', b"data:")):
        return zlib.decompressobj(15 if start[:1] == b"\x78" else -15)
    if packed in ("br", "zstd", "compress"):
        raise transient("malformed", f"a reply packed by {packed}, which was not asked for", billed=True)
    return None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} in a reply")
