"""The border of a server: what every request passes before a route sees it, and every answer on its way out.

Key, size and speed of a body, number of open requests, time that a client may take to read; figures and one line in the
log. Knows no route's meaning.
"""

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aot.chat.server.keys import Secret
from aot.serving.server.errors import ApiError, api_error
from aot.serving.server.limits import Limits
from aot.serving.server.metrics import Metrics

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

access = logging.getLogger("aot.access")
_OPEN_PATHS = ("/health",)
"""That need no key, so that whoever balances the load can look."""
_LOGGED_PATH = 200


class Border:
    """An ASGI application around another one."""

    def __init__(self, app: Asgi, *, limits: Limits, metrics: Metrics, key: Secret | None) -> None:
        self._app, self._limits, self._metrics, self._key = app, limits, metrics, key
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the beginning and end of the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s, passage = time.monotonic(), _Passage(send, limit_s=self._limits.send_s)
        self._open += 1
        self._metrics.open.set(self._open)
        try:
            self._let_in(scope)
            await self._app(scope, await self._with_body(scope, receive), passage.send)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            await self._refuse(error, passage)
        finally:
            self._open -= 1
            self._metrics.open.set(self._open)
            self._count(scope, passage.status, time.monotonic() - began_s)

    def _let_in(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        if self._key is not None and scope["path"] not in _OPEN_PATHS:
            kind, _, given = headers.get(b"authorization", b"").partition(b" ")
            same = hmac.compare_digest(given.strip(), self._key.reveal().encode())
            if kind.lower() != b"bearer" or not same:
                raise ApiError(401, "the key is missing or wrong; send Authorization: Bearer KEY",
                               code="invalid_api_key")  # fmt: skip
        if self._open > self._limits.max_open:
            raise ApiError(429, f"{self._open} requests are open; try again soon", code="too_many_requests")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._limits.max_body_bytes:
            raise self._too_large()

    async def _with_body(self, scope: Scope, receive: Receive) -> Receive:
        """A way to receive the whole body, read here within its limits, and then whether the client has left."""
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return receive
        pieces: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(self._limits.body_s):
                body = await self._read(receive)
        except TimeoutError:
            words = f"the body did not come within {self._limits.body_s:g} s"
            raise ApiError(408, words, code="slow_body") from None
        pieces.append({"type": "http.request", "body": body, "more_body": False})

        async def received() -> dict[str, Any]:
            return pieces.pop() if pieces else await receive()

        return received

    async def _read(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ApiError(400, "the client left before its body was whole")
            body += message.get("body", b"")
            if len(body) > self._limits.max_body_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return bytes(body)

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body is larger than {self._limits.max_body_mb:g} MB", code="body_too_large")

    async def _refuse(self, error: Exception, passage: "_Passage") -> None:
        if passage.whole:  # starlette answers a mistake of ours, and raises it again
            return
        if passage.status:
            access.warning("a reply was broken off (%s)", type(error).__name__)
            raise error  # so that uvicorn closes the connection: the reply cannot be whole any more
        refusal = api_error(error)
        body = json.dumps(refusal.body()).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
        if refusal.status == 408:
            headers["connection"] = "close"
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await passage.send({"type": "http.response.start", "status": refusal.status, "headers": encoded})
        await passage.send({"type": "http.response.body", "body": body})

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.latency.labels(route).observe(seconds)
        client = scope.get("client") or ("-", 0)
        path = str(scope["path"])[:_LOGGED_PATH]
        access.info("%s %s %s %d %.3f s", client[0], scope["method"], path, status, seconds)


class _Passage:
    """The way out of one request: notes its status, and gives up on a client that does not read."""

    def __init__(self, send: Send, *, limit_s: float) -> None:
        self._send, self._limit_s = send, limit_s
        self.status, self.whole = 0, False

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message of ASGI.

        Raises:
            TimeoutError: the client left it unread for too long.
        """
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
        async with asyncio.timeout(self._limit_s):
            await self._send(message)
        self.whole = message["type"] == "http.response.body" and not message.get("more_body", False)
