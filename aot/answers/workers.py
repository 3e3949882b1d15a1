"""Asks math-verify and the reasoning-gym scorers in a process of their own, one second for each comparison.

The deadline is kept by waiting on a socket, so that it holds from any thread; a worker that misses it is killed and
replaced. This process imports neither package. It knows no answer type.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

DEADLINE_S = 0.9
"""For one comparison, once the worker runs: with all that stands around it, an answer costs no more than a second."""
START_LIMIT_S = 180.0
"""For starting a worker: importing sympy takes seconds, much longer from a cold disk."""
_RENEWAL_LIMIT_S = 5.0
_MAX_REPLY_BYTES = 1 << 16

_LEAST_S = 0.02
"""Less time than this is no time: nothing is asked any more."""
_until: ContextVar[float] = ContextVar("until", default=float("inf"))

WorkerKind = Literal["expressions", "scores"]
MISSING: dict[WorkerKind, str] = {"expressions": "no_math_verify", "scores": "no_reasoning_gym"}
"""The reason where the package that compares is not installed."""


@dataclass(frozen=True)
class Reply:
    """What a worker found."""

    value: float
    """1 or 0 for expressions that are equal or not; the score of a scorer."""
    reason: str = ""
    """Why nothing was found, countable: `deadline`, `worker_died`, `not_understood`, `no_math_verify`."""


def ask_worker(kind: WorkerKind, request: Mapping[str, Any]) -> Reply:
    """The worker's reply within DEADLINE_S; safe from any thread, and the first call starts the worker."""
    return _WORKERS[kind].ask(request)


@contextmanager
def one_deadline() -> Iterator[None]:
    """All questions asked inside share one DEADLINE_S, however many they are; the outermost such block counts."""
    token = _until.set(min(_until.get(), time.monotonic() + DEADLINE_S))
    try:
        yield
    finally:
        _until.reset(token)


def stop_workers() -> None:
    """End the workers; the next question starts them again."""
    for worker in _WORKERS.values():
        worker.stop()


class _Worker:
    """One child process and the socket to it; asks one question at a time."""

    def __init__(self, kind: WorkerKind) -> None:
        self.kind = kind
        self.process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._lock = threading.Lock()
        self._missing = False
        self._renewed = True
        self._count = 0

    def ask(self, request: Mapping[str, Any]) -> Reply:
        with self._lock:
            if self._missing:
                return Reply(0.0, MISSING[self.kind])
            asked_s = time.monotonic()
            reason = "" if self._usable() else self._start()
            if reason:
                return Reply(0.0, reason)
            _until.set(_until.get() + time.monotonic() - asked_s)  # starting a worker costs the answer nothing
            left_s = min(DEADLINE_S, _until.get() - time.monotonic())
            if left_s < _LEAST_S:
                return Reply(0.0, "deadline")
            self._count += 1
            try:
                return self._answer(self._count, request, left_s)
            except TimeoutError:
                self._renew()
                return Reply(0.0, "deadline")
            except (OSError, EOFError, ValueError):
                self._kill()
                return Reply(0.0, "worker_died")

    def stop(self) -> None:
        with self._lock:
            self._kill()

    def _answer(self, number: int, request: Mapping[str, Any], limit_s: float) -> Reply:
        assert self._socket
        until = time.monotonic() + limit_s
        self._socket.settimeout(limit_s)
        self._socket.sendall(json.dumps({"id": number, **request}).encode() + b"\n")
        reply = self._line(until)
        while reply.get("id") != number:
            if "id" not in reply:  # the worker was replaced while it computed: out of memory or processor time
                return Reply(0.0, "worker_died")
            reply = self._line(until)  # that one answered a question that was interrupted
        return Reply(float(reply.get("value", 0.0)), str(reply.get("reason", "")))

    def _line(self, until: float) -> dict[str, Any]:
        assert self._socket
        while b"\n" not in self._buffer:
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._socket.settimeout(left_s)
            data = self._socket.recv(4096)
            if not data or len(self._buffer) > _MAX_REPLY_BYTES:
                raise EOFError
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        reply = json.loads(line)
        if not isinstance(reply, dict):
            raise ValueError("a worker tells objects only")
        return reply

    def _usable(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            return False
        if not self._renewed:
            self._renewed = self._ready(_RENEWAL_LIMIT_S) == ""
        return self._renewed

    def _start(self) -> str:
        """Start the child and wait until it is ready; the reason if it is not."""
        self._kill()
        ours, theirs = socket.socketpair()
        program = str(Path(__file__).with_name("worker.py"))
        # -I: no folder of ours and no variable of the caller's decides what the child imports
        self.process = subprocess.Popen(
            [sys.executable, "-I", program, self.kind],
            stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.DEVNULL, cwd="/", env=_environment(),
            start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self._socket, self._buffer, self._renewed = ours, b"", True
        return self._ready(START_LIMIT_S)

    def _ready(self, limit_s: float) -> str:
        until = time.monotonic() + limit_s
        try:
            while True:  # a reply that came just after its deadline may still lie before the greeting
                reply = self._line(until)
                if reply.get("ready"):
                    return ""
                if reply.get("missing"):
                    self._missing = True
                    self._kill()
                    return MISSING[self.kind]
        except (OSError, EOFError, ValueError):
            self._kill()
            return "worker_not_started"

    def _renew(self) -> None:
        """Have the keeper replace the worker that computes; it is warm, so that the next question hardly waits."""
        assert self.process
        with suppress(OSError):
            self.process.send_signal(signal.SIGUSR1)
        self._renewed = False

    def _kill(self) -> None:
        if self.process:
            with suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self._socket:
            self._socket.close()
        self.process = self._socket = None


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


_WORKERS: dict[WorkerKind, _Worker] = {kind: _Worker(kind) for kind in MISSING}


def _forget_workers() -> None:
    """After a fork: the workers are the parent's, and so are its locks and sockets."""
    for kind, worker in list(_WORKERS.items()):
        if worker._socket:
            worker._socket.close()
        _WORKERS[kind] = _Worker(kind)


atexit.register(stop_workers)
os.register_at_fork(after_in_child=_forget_workers)
