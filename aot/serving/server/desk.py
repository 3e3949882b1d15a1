"""The desk: one thread at the model, to which every request goes; those that wait together are answered together.

A desk is a `ChatModel`, so that a cascade can be made over it. Replies that are streamed take turns, token by token,
with the batch. Continuous batching of transformers is not used: its manager takes token ids of text models only, wants
paged attention on an accelerator, and knows no images and no log-probabilities of alternatives.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from aot.chat.messages import ChatReply, ChatRequest
from aot.errors import ChatError
from aot.served_records import Answer
from aot.serving.server.errors import ApiError
from aot.serving.server.limits import Limits
from aot.serving.server.metrics import Metrics
from aot.serving.student import Ask, ServedStudent

log = logging.getLogger(__name__)


class Batching(Protocol):
    """A chat model that answers several requests at once, and piece by piece; `student.answer.engine.Engine` is one."""

    name: str

    def replies(self, requests: Sequence[ChatRequest]) -> list[ChatReply | ChatError]:
        """The replies to several requests, or what went wrong with each."""
        ...

    def stream(self, request: ChatRequest) -> Iterator[Any]:
        """The pieces of one reply."""
        ...

    def close(self) -> None:
        """Let go of the model."""
        ...


@dataclass
class _Job:
    """Something that waits for the model."""

    work: Any
    """A ChatRequest, asks, or a function."""
    future: Future[Any] = field(default_factory=Future)
    on_piece: Callable[[Any], None] | None = None
    """Of a streamed reply: hears every piece."""
    entered_s: float = field(default_factory=time.monotonic)
    pieces: Iterator[Any] | None = None


class Desk:
    """One model and the thread that works with it; requests come from any thread."""

    def __init__(self, model: Batching, *, student: ServedStudent | None, limits: Limits, metrics: Metrics) -> None:
        self.name, self._model, self._student = model.name, model, student
        self._limits, self._metrics = limits, metrics
        self._waiting: deque[_Job] = deque()
        self._streams: list[_Job] = []
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="aot-desk", daemon=True)
        self._thread.start()

    def reply(self, request: ChatRequest) -> ChatReply:
        """The reply to one request, once its turn has come.

        Raises:
            ChatError: as for `Engine.reply`.
            ApiError: too many wait.
        """
        reply: ChatReply = self.submit(request).result()
        return reply

    def submit(self, request: ChatRequest) -> "Future[ChatReply]":
        """The reply to come; cancel it where nobody waits for it any more."""
        return self._enter(_Job(request)).future

    def stream(self, request: ChatRequest, on_piece: Callable[[Any], None]) -> "Future[None]":
        """Have the pieces of a reply handed to `on_piece`, in the desk's thread; cancelled, no more are written."""
        return self._enter(_Job(request, on_piece=on_piece)).future

    def ask(self, asks: Sequence[Ask]) -> "Future[list[Answer]]":
        """The student's answers to come, in the order of `asks`."""
        return self._enter(_Job(tuple(asks))).future

    def run(self, function: Callable[[], Any]) -> "Future[Any]":
        """What `function` gives, called in the desk's thread: for other work with the same model."""
        return self._enter(_Job(function)).future

    def close(self) -> None:
        """Finish what waits, then let go of the model."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()
        self._model.close()

    def _enter(self, job: _Job) -> _Job:
        with self._change:
            if self._closed:
                raise ApiError(503, "the server is stopping")
            if len(self._waiting) >= self._limits.max_queue:
                raise ApiError(429, f"{len(self._waiting)} requests wait already; try again soon", code="queue_full")
            self._waiting.append(job)
            self._metrics.queue.set(len(self._waiting))
            self._change.notify()
        return job

    def _work(self) -> None:
        while True:
            with self._change:
                while not self._waiting and not self._streams and not self._closed:
                    self._change.wait()
                if self._closed and not self._waiting and not self._streams:
                    return
                jobs = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._limits.max_batch))]
                self._metrics.queue.set(len(self._waiting))
            now_s = time.monotonic()
            for job in jobs:
                self._metrics.waited.observe(now_s - job.entered_s)
            self._answer([job for job in jobs if job.future.set_running_or_notify_cancel()])
            for job in list(self._streams):
                self._step(job)

    def _answer(self, jobs: Sequence[_Job]) -> None:
        requests = [job for job in jobs if isinstance(job.work, ChatRequest) and job.on_piece is None]
        asks = [job for job in jobs if isinstance(job.work, tuple)]
        self._streams += [job for job in jobs if job.on_piece is not None]
        if requests:
            self._metrics.batch.observe(len(requests))
            self._settle(requests, lambda: self._model.replies([job.work for job in requests]))
        if asks:
            self._settle(asks, lambda: self._asked([job.work for job in asks]))
        for job in jobs:
            if callable(job.work):
                self._settle([job], lambda job=job: [job.work()])  # type: ignore[misc]

    def _asked(self, groups: Sequence[tuple[Ask, ...]]) -> list[list[Answer]]:
        assert self._student is not None
        answers = iter(self._student.ask_many([one for group in groups for one in group]))
        return [[next(answers) for _ in group] for group in groups]

    def _settle(self, jobs: Sequence[_Job], make: Callable[[], Sequence[Any]]) -> None:
        """Give each job its result or its error; what goes wrong for all is told to all."""
        try:
            results = make()
        except Exception as error:  # noqa: BLE001 - the thread must live on; each of them gets the error
            results = [error] * len(jobs)
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, BaseException):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)

    def _step(self, job: _Job) -> None:
        """Write one more piece of a streamed reply."""
        assert job.on_piece is not None
        try:
            if job.pieces is None:
                job.pieces = self._model.stream(job.work)
            piece = next(job.pieces, None)
            if piece is not None:
                job.on_piece(piece)
                return
            job.future.set_result(None)
        except CancelledError:  # `on_piece` says that nobody listens
            job.future.set_exception(CancelledError())
        except Exception as error:  # noqa: BLE001 - one stream's failure ends that stream only
            job.future.set_exception(error)
        self._streams.remove(job)
        if isinstance(job.pieces, Iterator) and hasattr(job.pieces, "close"):
            job.pieces.close()
