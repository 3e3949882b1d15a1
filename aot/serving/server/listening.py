"""The port of a server, and its life: opened before a model is loaded, and ended by a signal once all is answered."""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from aot.chat.server.keys import Secret, is_loopback
from aot.errors import ConfigError
from aot.serving.server.app import build_app
from aot.serving.server.border import Border
from aot.serving.server.errors import ApiError
from aot.serving.server.limits import Limits
from aot.serving.server.served import Served

log = logging.getLogger(__name__)
SIGNALS = (signal.SIGINT, signal.SIGTERM)
_BACKLOG = 1024
_LINGER_S = 5.0
"""How long the rest of a refused body is read away, so that its client sees the refusal instead of a broken pipe."""


def open_port(host: str, port: int, *, key: Secret | None) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        ConfigError: the port is taken or the address is none; or others could reach it, and there is no key.
    """
    if key is None and not is_loopback(host):
        raise ConfigError(
            f"--host {host} lets other machines in and no key is asked for; put a key into an environment variable and "
            "name it with --key-env, or listen on 127.0.0.1"
        )
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # Listening at once, because two sockets of one address can both be bound, but only one can listen.
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            words = f"port {port} on {host} is taken by another program; stop it, or give another one with --port"
        else:
            words = f"cannot listen on {host}:{port} ({error.strerror or error}); give another --host or --port"
        raise ConfigError(words) from None
    except (OverflowError, UnicodeError):
        raise ConfigError(f"--host {host!r} and --port {port} are no address; try 127.0.0.1 and 8000") from None


def is_address_of(listener: socket.socket, url: str) -> bool:
    """Whether a URL leads to this listening socket, so that a server which asks it asks itself."""
    bound, port = ipaddress.ip_address(listener.getsockname()[0]), listener.getsockname()[1]
    try:
        parts = urlsplit(url)
        if not parts.hostname or (parts.port or (443 if parts.scheme == "https" else 80)) != port:
            return False
        rows = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError):  # whoever asks it will say what is wrong with it
        return False
    there = {str(row[4][0]).partition("%")[0] for row in rows}
    return any(_is_here(one) if bound.is_unspecified else ipaddress.ip_address(one) == bound for one in there)


def _is_here(address: str) -> bool:
    """Whether an address is one of this machine: a socket can be bound to no other."""
    try:
        socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET).close()
    except OSError:
        return False
    return True


def read_key(name: str | None, environment: Mapping[str, str] = os.environ) -> Secret | None:
    """The key in an environment variable; None where no name was given.

    Raises:
        ConfigError: the variable is not set, or no header can carry what it holds.
    """
    if name is None:
        return None
    value = environment.get(name, "").strip()
    if not value:
        raise ConfigError(f"--key-env names {name}, and this environment variable is not set; set it, or leave it out")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigError(f"the key in {name} holds characters that no request header can carry")
    return Secret(value)


def serve(served: Served, listener: socket.socket, *, key: Secret | None = None) -> None:
    """Answer on `listener` until a signal; what was taken is finished then, up to limits.drain_s."""
    server_of(served, key=key).run(sockets=[listener])


def server_of(served: Served, *, key: Secret | None = None) -> uvicorn.Server:
    """The server of what is served, to be run with sockets; its `should_exit` ends it."""
    limits = served.limits
    app: Any = Border(build_app(served), limits=limits, metrics=served.metrics, key=key)  # type: ignore[arg-type]
    config = uvicorn.Config(
        app,
        http=_protocol(limits),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=int(limits.idle_s),
        timeout_graceful_shutdown=int(limits.drain_s),
    )
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # whatever it says is said here, without tracebacks
    return _Server(config, served)


def ending_quietly(config: uvicorn.Config) -> uvicorn.Server:
    """A server of an application that drains nothing, which ends with a signal, quietly and with exit code 0."""
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    return _Server(config, None)


class _Server(uvicorn.Server):
    """Uvicorn's server, which ends well at the first signal and at once at the second, whichever they are."""

    def __init__(self, config: uvicorn.Config, served: Served | None) -> None:
        super().__init__(config)
        self._served = served

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, or end at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
        if self._served is not None:
            self._served.draining = True
        if self.force_exit:
            # Not by unwinding: a thread may be deep in the model, and nobody waits for it any more.
            os._exit(4)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals here, and do not raise them again at the end: a clean end has exit code 0."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _protocol(limits: Limits) -> type[asyncio.Protocol]:
    """Uvicorn's protocol with an end for clients that never finish a head, or a body that was refused."""

    class TimedProtocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:  # noqa: ANN401
            super().connection_made(transport)
            # asyncio does this for sockets that were opened with a protocol number only. Without it the body of an
            # answer waits for the client to acknowledge its head: 40 ms.
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def _watch(self) -> None:
            """Time whatever the client has begun and not finished; idle connections are timed by uvicorn."""
            state = self.conn.their_state
            begun = self.cycle is None or bool(self.conn.trailing_data[0])
            refused = self.cycle is not None and self.cycle.response_complete and state is h11.SEND_BODY
            if not ((state is h11.IDLE and begun) or refused) or self.transport.is_closing():
                self._stop()
            elif self._timer is None:
                limit_s = _LINGER_S if refused else limits.header_s
                self._timer = self.loop.call_later(limit_s, self._too_slow)

        def _stop(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _too_slow(self) -> None:
            if not self.transport.is_closing():
                if self.conn.their_state is h11.IDLE and self.conn.our_state is h11.IDLE:
                    self.transport.write(_slow_head())
                self.transport.close()

    return TimedProtocol


def _slow_head() -> bytes:
    body = ApiError(408, "the head of a request did not come in time").response().body
    head = f"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return f"{head}connection: close\r\n\r\n".encode() + bytes(body)
