"""A real chat-completions server on a local socket that misbehaves on demand, for tests and measurements.

Its replies are computed from the request by a function. What goes wrong is named in the prompt, as in
`[[fault:500 once]]` or `[[fault:truncated_json always]]`, or told by a function of the prompt. It counts every call by
prompt. As a program it serves a fixed latency and a number of slots: `python fault_server.py --slots 16`.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Literal, Self

Body = dict[str, Any]
FAULTS = (
    "429", "429_after", "429_date", "quota", "500", "503", "reset", "stall", "truncated_json", "html", "no_choices",
    "length", "filter", "filter_400", "400", "too_long", "401", "404_model", "endless", "endless_500", "drip",
    "empty", "no_usage", "unknown_tool", "broken_call", "wrong_shape", "nan", "deep", "surrogate", "not_utf8", "gzip",
    "echo_key", "echo_key_400", "echo_key_500", "no_schema", "no_max_tokens", "redirect", "not_object",
)  # fmt: skip
_MARK = re.compile(r"\[\[fault:(\w+)(?: (once|always))?\]\]")


@dataclass(frozen=True)
class Raw:
    """A response as it goes out."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def user_text(body: Body) -> str:
    """All text of the last user message of a request."""
    content = next((m["content"] for m in reversed(body["messages"]) if m["role"] == "user"), "")
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def marked_fault(prompt: str) -> str | None:
    """The fault that a prompt asks for, such as `500 once`; None for none."""
    found = _MARK.search(prompt)
    return f"{found[1]} {found[2] or 'always'}" if found else None


def spread_faults(kinds: tuple[str, ...], *, share: float, seed: int = 0) -> Callable[[str], str | None]:
    """A plan that gives each kind, such as `500 once`, to about `share` of all prompts, by a hash of the prompt."""

    def plan(prompt: str) -> str | None:
        number = int.from_bytes(hashlib.sha256(f"{seed}:{prompt}".encode()).digest()[:6], "big") / 2**48
        place = int(number / share)
        return kinds[place] if place < len(kinds) else None

    return plan


def echo(body: Body) -> str:
    """The default reply: tells the prompt again."""
    return f"You said: {user_text(body)[:200]}"


class FaultServer:
    """Serves on a free port of this machine while its `with` block runs."""

    def __init__(
        self,
        answer: Callable[[Body], str | Body] = echo,
        *,
        faults: Callable[[str], str | None] = marked_fault,
        latency_s: float = 0.0,
        slots: int | None = None,
        over: Literal["queue", "reject"] = "queue",
        retry_after: str | None = None,
        key: str | None = None,
        port: int = 0,
        quirk: "Callable[[Body, Body], Raw | None] | None" = None,
    ) -> None:
        """`answer` gives the reply text, or a whole message as a dict; `slots` and `over` say what too many get.

        `once` faults happen on the first call with that prompt only. Without `key` any key is good. A `quirk` gets
        the request and the good reply, and may send something else.
        """
        self._answer, self._faults, self._latency_s = answer, faults, latency_s
        self._slots, self._over, self._retry_after, self._key, self._port = slots, over, retry_after, key, port
        self._quirk = quirk
        self._busy = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready, self._stop = threading.Event(), asyncio.Event()
        self.calls: Counter[str] = Counter()
        """Calls by prompt."""
        self.replies: Counter[str] = Counter()
        """Good replies sent, by prompt."""
        self.bodies: list[Body] = []
        """The requests; only the latest thousand."""
        self.keys: set[str] = set()
        """Every authorization header that came."""
        self.rejected = 0
        self.most_at_once = 0

    @property
    def url(self) -> str:
        """What goes into chat.base_url."""
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def serve(self) -> None:
        """Serve until stopped."""
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._connection, "127.0.0.1", self._port, limit=2**26, backlog=1024)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its reply; whether the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = head.split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)}
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        if lines[0].startswith("GET /v1/models"):
            return await _send(writer, 200, {"object": "list", "data": [{"id": "m", "object": "model"}]})
        if not lines[0].startswith("POST /v1/chat/completions"):
            return await _send(writer, 404, {"detail": "Not Found"})
        body = json.loads(raw)
        key = headers.get("authorization", "")
        self.keys.add(key)
        if self._key is not None and key != f"Bearer {self._key}":
            return await _send(writer, 401, _error(f"Incorrect API key provided: {key}", "invalid_api_key"))
        prompt = user_text(body)
        self.calls[prompt] += 1
        self.bodies = [*self.bodies[-999:], body]
        if not await self._take_slot():
            self.rejected += 1
            more = {"Retry-After": self._retry_after} if self._retry_after else {}
            return await _send(writer, 429, _error("too many requests", "rate_limit"), **more)
        try:
            self.most_at_once = max(self.most_at_once, self._busy)
            await asyncio.sleep(self._latency_s)
        finally:
            self._free_slot()  # before the reply goes out, so that whoever reads it may ask again at once
        fault, _, when = (self._faults(prompt) or "none always").partition(" ")
        if when == "once" and self.calls[prompt] > 1:
            fault = "none"
        good = self._good(body, prompt, fault)
        if self._quirk is not None and (raw := self._quirk(body, good)) is not None:
            return await _send_raw(writer, raw.status, raw.body, headers=raw.headers)
        return await _misbehave(writer, fault, body, key, good)

    def _good(self, body: Body, prompt: str, fault: str) -> Body:
        said = self._answer(body)
        message = {"role": "assistant", "content": said} if isinstance(said, str) else {"role": "assistant", **said}
        if fault in ("none", "no_usage"):
            self.replies[prompt] += 1
        words = len(str(message.get("content") or "").split())
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": words}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if "tool_calls" in message else "stop"}
        if body.get("logprobs"):
            tokens = [{"token": one, "logprob": -0.5, "top_logprobs": []} for one in json.dumps(message).split()]
            choice["logprobs"] = {"content": tokens}
        return {
            "id": "c", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice],
            "usage": {**usage, "total_tokens": sum(usage.values())},
        }  # fmt: skip

    async def _take_slot(self) -> bool:
        if self._slots is not None and self._busy >= self._slots:
            if self._over == "reject":
                return False
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queue.append(waiting)
            await waiting  # whoever is ready hands its slot on
            return True
        self._busy += 1
        return True

    def _free_slot(self) -> None:
        while self._queue:
            waiting = self._queue.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return
        self._busy -= 1


def _error(message: str, code: str) -> Body:
    return {"error": {"message": message, "type": code, "code": code, "param": None}}


REFUSALS: dict[str, tuple[int, Body, dict[str, str]]] = {
    "429": (429, _error("slow down", "rate_limit_exceeded"), {}),
    "429_after": (429, _error("slow down", "rate_limit_exceeded"), {"Retry-After": "1"}),
    "quota": (429, _error("You exceeded your current quota", "insufficient_quota"), {}),
    "500": (500, _error("internal", "server_error"), {}),
    "503": (503, _error("loading", "unavailable"), {}),
    "filter_400": (400, _error("The response was filtered", "content_filter"), {}),
    "400": (400, _error("cannot do that", "invalid_request_error"), {}),
    "too_long": (400, _error("This model's maximum context length is 8 tokens", "context_length_exceeded"), {}),
    "401": (401, _error("bad key", "invalid_api_key"), {}),
    "404_model": (404, _error("The model `m` does not exist", "model_not_found"), {}),
    "redirect": (302, {}, {"Location": "http://127.0.0.1:9/elsewhere"}),
}


async def _misbehave(writer: asyncio.StreamWriter, fault: str, body: Body, key: str, good: Body) -> bool:
    """Send the good reply with `fault` done to it."""
    choice = good["choices"][0]
    if fault in REFUSALS:
        status, refusal, headers = REFUSALS[fault]
        return await _send(writer, status, refusal, **headers)
    if fault == "429_date":
        when = formatdate(time.time() + 2, usegmt=True)
        return await _send(writer, 429, _error("slow down", "rate_limit_exceeded"), **{"Retry-After": when})
    if fault.startswith("echo_key_"):
        return await _send(writer, int(fault[-3:]), _error(f"you sent {key}", "echo"))
    if fault == "no_schema" and "response_format" in body:
        return await _send(writer, 400, _error("response_format json_schema is not supported", "invalid_request_error"))
    if fault == "no_max_tokens" and "max_tokens" in body:
        said = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
        return await _send(writer, 400, _error(said, "unsupported_parameter"))
    if fault == "reset":
        writer.transport.abort()
        return False
    if fault in ("stall", "drip", "endless", "endless_500"):
        return await _never_end(writer, fault)
    if fault in RAW:
        return await _send_raw(writer, 200, RAW[fault])
    if fault == "truncated_json":
        return await _send_raw(writer, 200, json.dumps(good).encode()[:-25])
    if fault == "gzip":
        return await _send_raw(writer, 200, base64.b64decode("H4sIAAAAAAAAA6uuBQBDv6ajAgAAAA=="), encoding="gzip")
    if fault == "no_usage":
        del good["usage"]
    elif fault == "length":
        choice["finish_reason"] = "length"
    elif fault == "filter":
        choice |= {"finish_reason": "content_filter", "message": {"role": "assistant", "content": None}}
    elif fault == "empty":
        choice["message"] = {"role": "assistant", "content": "", "reasoning_content": "I think and think"}
    elif fault == "surrogate":
        choice["message"]["content"] = "half \ud83d an emoji"
    elif fault == "echo_key":
        choice["message"]["content"] = f"you sent {key}"
    elif fault in ("unknown_tool", "broken_call"):
        name, arguments = ("teleport", "{}") if fault == "unknown_tool" else ("caption", '{"start_s": 1, ')
        call = {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}
        choice |= {"finish_reason": "tool_calls", "message": {"role": "assistant", "tool_calls": [call]}}
    return await _send(writer, 200, good)


RAW = {
    "html": b"<html><body>Bad gateway, yet 200</body></html>",
    "no_choices": b'{"id": "c", "object": "chat.completion", "model": "m", "choices": []}',
    "wrong_shape": b'{"choices": [{"message": {"content": {"no": ["text"]}}, "finish_reason": 7}], "usage": "much"}',
    "nan": b'{"choices": [{"message": {"content": "a"}, "logprobs": NaN, "finish_reason": "stop"}]}',
    "deep": b'{"choices": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "not_utf8": b'{"choices": [{"message": {"content": "\xff\xfe"}, "finish_reason": "stop"}]}',
    "not_object": b'"just a string"',
}


async def _never_end(writer: asyncio.StreamWriter, fault: str) -> bool:
    status = "500 Oops" if fault == "endless_500" else "200 OK"
    writer.write(f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{{".encode())
    while True:
        await writer.drain()
        if fault == "stall":
            await asyncio.sleep(3600)
        if fault == "drip":
            await asyncio.sleep(0.05)
        writer.write(b" " if fault == "drip" else b" " * 65536)


async def _send(writer: asyncio.StreamWriter, status: int, body: Body, **headers: str) -> bool:
    return await _send_raw(writer, status, json.dumps(body).encode(), headers=headers)


async def _send_raw(
    writer: asyncio.StreamWriter, status: int, raw: bytes, *, headers: dict[str, str] | None = None, encoding: str = ""
) -> bool:
    more = {**(headers or {}), **({"Content-Encoding": encoding} if encoding else {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in more.items())
    kind = "" if "Content-Type" in more else "Content-Type: application/json\r\n"
    head = f"HTTP/1.1 {status} X\r\n{kind}Content-Length: {len(raw)}\r\n{lines}\r\n"
    writer.write(head.encode() + raw)
    await writer.drain()
    return True


def main() -> None:
    """Serve until killed; prints the address first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.25)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--over", choices=["queue", "reject"], default="queue")
    parser.add_argument("--retry-after", default=None)
    given = parser.parse_args()
    server = FaultServer(
        latency_s=given.latency, slots=given.slots, over=given.over, retry_after=given.retry_after, port=given.port
    )

    async def run() -> None:
        serving = asyncio.create_task(server.serve())
        await asyncio.to_thread(server._ready.wait)
        print(server.url, flush=True)
        await serving

    asyncio.run(run())


if __name__ == "__main__":
    main()
