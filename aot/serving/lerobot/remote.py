"""A student behind HTTP, for a robot's environment: the standard library and numpy, no torch and no client package.

It speaks OpenAI's chat completions, so any such server will do; ours is told the time of each frame and adds its own
facts in the object `aot` of a reply, which are read where they stand. Frames travel as PNG, which loses nothing: a
server sees what a student in this process would see. No redirect is followed.
"""

import base64
import http.client
import json
import os
import struct
import zlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from aot.answer_records import Answer
from aot.errors import ConfigError
from aot.records import JsonDict
from aot.run_records import ChatUsage
from aot.serving.lerobot.frames import SubtaskError

MAX_REPLY_BYTES = 4 << 20


class RemoteStudent:
    """Asks a server the way `ServedStudent.ask` asks a student in this process; one connection for each question."""

    def __init__(
        self,
        url: str,
        *,
        model: str = "",
        key_env: str = "AOT_API_KEY",
        timeout_s: float = 10.0,
        max_tokens: int = 256,
    ) -> None:
        """Look at the address; nothing is sent yet.

        Args:
            url: such as `http://127.0.0.1:8000`; a trailing `/v1` is fine.
            model: as the server names it; the server's only one if not given.
            key_env: the environment variable that holds the key, where the server wants one.
            timeout_s: of each step of a request; the sequencer above decides whether to ask again.
            max_tokens: of a reply.

        Raises:
            ConfigError: the address is none.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{url!r} is no address of a server; http://127.0.0.1:8000 would be one")
        try:
            port = parts.port
        except ValueError:
            raise ConfigError(f"{url!r} has no usable port; http://127.0.0.1:8000 would be fine") from None
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, port
        path = parts.path.rstrip("/")
        self._path = path if path.endswith("/v1") else path + "/v1"
        self._model, self._key_env, self._timeout_s, self._max_tokens = model, key_env, timeout_s, max_tokens

    def ask(
        self,
        question: str,
        *,
        frames: Sequence[np.ndarray] = (),
        times_s: Sequence[float] = (),
        choices: Sequence[str] = (),
    ) -> Answer:
        """The server's answer; of closed choices one of them.

        Raises:
            SubtaskError: no answer came, or none that can be read; `reason` says which.
        """
        content: list[JsonDict] = [
            {"type": "image_url", "image_url": {"url": data_url(frame)}, "time_s": float(time_s)}
            for frame, time_s in zip(frames, times_s, strict=True)
        ]
        body: JsonDict = {
            "model": self._model or self._first_model(),
            "messages": [{"role": "user", "content": [*content, {"type": "text", "text": question}]}],
            "max_tokens": self._max_tokens,
            "temperature": 0,
        }
        if choices:
            schema = {"name": "choice", "schema": {"type": "string", "enum": list(choices)}}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return self._answer(self._sent("/chat/completions", body), tuple(choices), tuple(map(float, times_s)))

    def _first_model(self) -> str:
        """What the server calls its model, or its first one; asked once."""
        rows = self._sent("/models").get("data")
        name = _first(rows).get("id")
        if not isinstance(name, str) or not name:
            raise SubtaskError("the server names no model; give model=NAME", "malformed")
        self._model = name
        return name

    def _sent(self, route: str, body: JsonDict | None = None) -> JsonDict:
        """The reply to one request: a POST where there is a body."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := os.environ.get(self._key_env):
            headers["Authorization"] = f"Bearer {key}"
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=self._timeout_s)
        where = f"{self._host}:{connection.port}{self._path}{route}"
        try:
            data = json.dumps(body).encode() if body is not None else None
            connection.request("POST" if data else "GET", self._path + route, body=data, headers=headers)
            reply = connection.getresponse()
            raw = reply.read(MAX_REPLY_BYTES + 1)
        except TimeoutError:
            raise SubtaskError(
                f"{where} did not answer within {self._timeout_s:g} s; raise timeout_s, or lower its load", "deadline"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise SubtaskError(f"{where} cannot be reached: {error or type(error).__name__}", "connection") from None
        finally:
            connection.close()
        if reply.status not in (200, 202):  # 202: a person has to look first, as the body says
            raise SubtaskError(f"{where} answered {reply.status}: {_error_text(raw)}", "refused")
        try:
            if len(raw) > MAX_REPLY_BYTES:
                raise ValueError(f"more than {MAX_REPLY_BYTES:,} bytes")
            value = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise SubtaskError(f"{where} sent no JSON that can be read: {error}", "malformed") from None
        if not isinstance(value, dict):
            raise SubtaskError(f"{where} sent {type(value).__name__}, and no object", "malformed")
        return value

    def _answer(self, reply: JsonDict, choices: tuple[str, ...], times_s: tuple[float, ...]) -> Answer:
        choice = _first(reply.get("choices"))
        message = _object(choice.get("message"))
        text = message.get("content")
        ours = _object(reply.get("aot"))
        reason = str(ours.get("abstained") or "")
        if not reason and (not isinstance(text, str) or not text.strip()):
            finish = choice.get("finish_reason")
            raise SubtaskError(f"the reply holds no text (finish_reason {finish!r})", "empty")
        if reason:
            raise SubtaskError(str(ours.get("detail") or "the server's student abstained"), reason)
        if choice.get("finish_reason") == "length":
            raise SubtaskError(f"the reply was cut off after {self._max_tokens} tokens; raise max_tokens", "cut_off")
        answer = str(ours.get("answer") or _unquoted(str(text)))
        usage = _object(reply.get("usage"))
        confidence = ours.get("confidence")
        return Answer(
            answer=answer,
            choices=choices,
            confidence=float(confidence) if isinstance(confidence, int | float) else None,
            raw_text=str(text),
            mode="decide" if choices else "direct",
            frame_times_s=times_s,
            usage=ChatUsage(
                prompt_tokens=_count(usage, "prompt"),
                completion_tokens=_count(usage, "completion"),
            ),
            model=str(reply.get("model") or self._model),
        )


def data_url(frame_HWC: np.ndarray) -> str:
    """A frame, uint8 (height, width, 3), as the address of a PNG image that holds it."""
    return "data:image/png;base64," + base64.b64encode(png(frame_HWC)).decode()


def png(frame_HWC: np.ndarray) -> bytes:
    r"""A frame, uint8 (height, width, 3), as a PNG file (RFC 2083): eight bits a channel, no filter.

    >>> png(np.zeros((1, 2, 3), dtype=np.uint8))[:4]
    b'\x89PNG'
    """
    height, width, _ = frame_HWC.shape
    rows = np.zeros((height, 1 + 3 * width), dtype=np.uint8)  # each row begins with its filter, 0
    rows[:, 1:] = frame_HWC.reshape(height, 3 * width)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    # Level 1: a robot sends many small pictures, and time counts more than bytes.
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _first(value: object) -> dict[str, Any]:
    return _object(value[0]) if isinstance(value, list) and value else {}


def _count(usage: dict[str, Any], kind: str) -> int:
    value = usage.get(f"{kind}_tokens")
    return value if isinstance(value, int) and value >= 0 else 0


def _unquoted(text: str) -> str:
    """A reply that is one JSON string is that string: so servers that follow the schema write a choice."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, str) else text


def _error_text(raw: bytes) -> str:
    """What an error body says, shortened, on one line."""
    try:
        error = _object(json.loads(raw)).get("error")
    except (ValueError, RecursionError):
        error = None
    message = _object(error).get("message") if isinstance(error, dict) else error
    text = str(message) if message else raw[:200].decode("utf-8", "replace")
    return "".join(one if one.isprintable() else " " for one in text)[:300]
