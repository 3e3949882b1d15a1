"""The desk: one thread at the model, to which every request goes; those that wait together are answered together.

A desk is a `ChatModel`, so that a cascade can be made over it. Streamed replies stand in the batches of the others, and
decisions are made between two tokens of a batch. Continuous batching of transformers is not used: its manager takes
token ids of text models only, wants paged attention on an accelerator, and knows no images and no log-probabilities.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from aot.answer_records import Answer
from aot.chat.messages import ChatReply, ChatRequest
from aot.errors import ChatError
from aot.serving.server.errors import ApiError
from aot.serving.server.limits import Limits
from aot.serving.server.metrics import Metrics
from aot.serving.student import Ask, ServedStudent

log = logging.getLogger(__name__)
MOST_BATCHES = 4
"""Written side by side, step by step, so that nobody waits for the end of somebody else's long reply."""
_GATHER_SHARE, _GATHER_S, _GAP_SHARE, _GAP_S = 0.25, 0.25, 0.05, (0.005, 0.02)
"""Clients that were answered together ask again one after the other. The next batch waits for them as long as they keep
coming: for a share of the time that the last one took, and no longer than a gap between two of them; both bounded."""
_JOIN_TIMES, _JOIN_S, _FORGET = 2.0, (0.1, 2.0), 0.9
"""New requests wait for a running batch to end, but for so many times as long as batches took of late at most, and
within these seconds; then they are written beside it. What a batch took is forgotten by this factor with each later."""


class Batching(Protocol):
    """A model that writes several replies together; `student.answer.engine.Engine` is one."""

    name: str

    def writing(self, requests: Sequence[ChatRequest], *, shown: Collection[int]) -> Iterator[Any]:
        """How the replies come along, step by step (see Engine.writing)."""
        ...

    def close(self) -> None:
        """Let go of the model."""
        ...


@dataclass
class _Job:
    """Something that waits for the model."""

    work: ChatRequest | tuple[Ask, ...] | Callable[[], Any]
    future: Future[Any] = field(default_factory=Future)
    on_text: Callable[[str], None] | None = None
    """Of a streamed reply: hears all of its text so far, after each step that made it longer."""
    gone: bool = False
    """Whether nobody waits for it any more."""
    entered_s: float = field(default_factory=time.monotonic)


@dataclass
class _Batch:
    """Requests that are written together."""

    running: Iterator[Any]
    jobs: dict[int, _Job]
    """Those still written, by number."""
    size: int
    began_s: float = field(default_factory=time.monotonic)


class Ticket:
    """A place at the desk: the result to come, and a way to leave."""

    def __init__(self, job: _Job) -> None:
        self._job, self.future = job, job.future

    def leave(self) -> None:
        """Nobody waits any more: what has not begun is not begun, and a batch that nobody waits for ends."""
        self._job.gone = True
        self.future.cancel()


class Desk:
    """One model and the thread that works with it; requests come from any thread."""

    def __init__(self, model: Batching, *, student: ServedStudent | None, limits: Limits, metrics: Metrics) -> None:
        self.name, self._model, self._student = model.name, model, student
        self._limits, self._metrics = limits, metrics
        self._waiting: deque[_Job] = deque()
        self._batches: list[_Batch] = []
        self._last_s, self._usual_s, self._expected, self._ended_s = 0.0, 0.0, 0, 0.0
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
        reply: ChatReply = self.submit(request).future.result()
        return reply

    def submit(self, request: ChatRequest, *, on_text: Callable[[str], None] | None = None) -> Ticket:
        """The place of a request whose reply will come; `on_text` hears its text so far, in the desk's thread.

        Raises:
            ApiError: too many wait, or the desk is closing.
        """
        return self._enter(_Job(request, on_text=on_text))

    def ask(self, asks: Sequence[Ask]) -> Ticket:
        """The place of questions to the student, whose answers will come in their order; raises like `submit`."""
        return self._enter(_Job(tuple(asks)))

    def run(self, function: Callable[[], Any]) -> Ticket:
        """The place of other work with the same model: called in the desk's thread; raises like `submit`."""
        return self._enter(_Job(function))

    def close(self) -> None:
        """Finish what waits, then let go of the model."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()
        self._model.close()

    def _enter(self, job: _Job) -> Ticket:
        with self._change:
            if self._closed:
                raise ApiError(503, "the server is stopping")
            if len(self._waiting) >= self._limits.max_queue:
                raise ApiError(429, f"{len(self._waiting)} requests wait already; try again soon", code="queue_full")
            self._waiting.append(job)
            self._metrics.queue.set(len(self._waiting))
            self._change.notify()
        return Ticket(job)

    def _work(self) -> None:
        while True:
            with self._change:
                while not self._waiting and not self._batches:
                    if self._closed:
                        return
                    self._change.wait()
                self._gather()
                jobs = self._taken()
            self._begin(jobs)
            for batch in list(self._batches):
                self._step(batch)

    def _gather(self) -> None:
        """Wait a moment for those who were answered together a moment ago."""
        until_s = self._ended_s + min(_GATHER_SHARE * self._last_s, _GATHER_S)
        gap_s = min(max(_GAP_S[0], _GAP_SHARE * self._last_s), _GAP_S[1])
        while not self._batches and not self._closed and len(self._waiting) < self._expected:
            number, left_s = len(self._waiting), min(gap_s, until_s - time.monotonic())
            if left_s <= 0 or not self._change.wait(left_s) or len(self._waiting) == number:
                break
        if not self._batches:
            self._expected = 0

    def _taken(self) -> list[_Job]:
        """Those whose turn it is now, taken from the queue: all decisions, and requests where a batch may begin."""
        now_s = time.monotonic()
        shortest_s, longest_s = _JOIN_S
        patience_s = min(max(_JOIN_TIMES * self._usual_s, shortest_s), longest_s)
        open_rows = sum(len(batch.jobs) for batch in self._batches)
        room = 0 if len(self._batches) >= MOST_BATCHES else self._limits.max_batch - open_rows
        if self._batches and not any(now_s - job.entered_s >= patience_s for job in self._waiting):
            room = 0
        jobs, kept = [], deque[_Job]()
        for job in self._waiting:
            if isinstance(job.work, ChatRequest) and room <= 0:
                kept.append(job)
                continue
            room -= isinstance(job.work, ChatRequest)
            if job.future.set_running_or_notify_cancel():
                self._metrics.waited.observe(now_s - job.entered_s)
                jobs.append(job)
        self._waiting = kept
        self._metrics.queue.set(len(kept))
        return jobs

    def _begin(self, jobs: Sequence[_Job]) -> None:
        asks = [job for job in jobs if isinstance(job.work, tuple)]
        if asks:
            self._settle(asks, lambda: self._answers([job.work for job in asks]))
        for job in jobs:
            if callable(job.work):
                self._settle([job], lambda job=job: [job.work()])  # type: ignore[misc]
        writing = [job for job in jobs if isinstance(job.work, ChatRequest)]
        if writing:
            self._metrics.batch.observe(len(writing))
            shown = [i for i, job in enumerate(writing) if job.on_text is not None]
            requests = [job.work for job in writing if isinstance(job.work, ChatRequest)]
            running = self._model.writing(requests, shown=shown)
            self._batches.append(_Batch(running, dict(enumerate(writing)), len(writing)))

    def _answers(self, groups: Sequence[Any]) -> list[list[Answer]]:
        assert self._student is not None
        answers = iter(self._student.unreviewed([one for group in groups for one in group]))
        return [[next(answers) for _ in group] for group in groups]

    def _settle(self, jobs: Sequence[_Job], make: Callable[[], Sequence[Any]]) -> None:
        """Give each job its result or its error; what goes wrong for all is told to all."""
        try:
            results = make()
        except Exception as error:  # noqa: BLE001 - the thread must live on; each of them gets the error
            results = [error] * len(jobs)
        for job, result in zip(jobs, results, strict=True):
            _hand_over(job, result)

    def _step(self, batch: _Batch) -> None:
        """One more token of each reply of a batch."""
        try:
            progress = next(batch.running)
            for i, text in progress.texts.items():
                job = batch.jobs[i]
                if job.on_text is not None and not job.gone:
                    job.on_text(text)
            for i, result in progress.ended.items():
                _hand_over(batch.jobs.pop(i), result)
        except Exception as error:  # noqa: BLE001 - a batch may fail, the thread must live on
            for job in batch.jobs.values():
                _hand_over(job, error)
            batch.jobs.clear()
        if batch.jobs and not all(job.gone for job in batch.jobs.values()):
            return
        batch.running.close()  # type: ignore[attr-defined]
        self._batches.remove(batch)
        self._ended_s = time.monotonic()
        self._last_s = self._ended_s - batch.began_s
        with self._change:  # or those who wait and those who come back would go on in batches apart
            self._expected = min(batch.size + len(self._waiting), self._limits.max_batch)
        self._usual_s = max(self._last_s, _FORGET * self._usual_s)


def _hand_over(job: _Job, result: Any) -> None:  # noqa: ANN401 - a reply, answers or an error
    if job.gone:
        return
    if isinstance(result, BaseException):
        if not isinstance(result, ChatError | ApiError):
            log.error("the model failed on a request", exc_info=result)
        job.future.set_exception(result)
    else:
        job.future.set_result(result)
