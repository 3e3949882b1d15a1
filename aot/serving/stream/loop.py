"""A student that watches: frames are handed in at the camera's rate, and the freshest answer is there at any moment.

    with StudentStream(student, question="What is the next step?", choices=STEPS, stale_s=2.0) as stream:
        stream.warm_up()
        stream.observe(frame, time_s)      # in the camera's thread; never waits for the model
        answer = stream.answer()           # in the control loop; returns at once

One thread of its own asks the student about the newest state again and again. Where there is nothing to be said the
answer abstains with a reason instead of guessing: `stale`, `deadline`, `uncertain`, `out_of_domain` or `failed`.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import numpy as np

from aot.answer_records import AbstainReason, Answer
from aot.errors import RunError, SourceError
from aot.served_records import AskMode
from aot.serving.stream.reader import StreamReader
from aot.serving.stream.ring import REFUSALS, FrameOutcome, FrameRing, HeldFrame, PickedFrames
from aot.serving.student import ServedStudent

log = logging.getLogger(__name__)
JOIN_S = 30.0
"""So long `close` waits for an answer that is being made."""


@dataclass(frozen=True)
class StreamCounts:
    """What happened since a stream was opened."""

    frames: dict[FrameOutcome, int]
    """What became of frames, by outcome; those with none are left out."""
    held_frames: int
    """In memory now."""
    answers: int
    """Made, failed ones included."""
    failed: int
    dropped: int
    """Answers that were finished after their episode had ended, and never given."""
    frames_seen: int
    """By the vision tower: every frame once, as long as it is kept."""
    tokens_read: int
    restarts: int
    """How often other frames were picked, and prompts read anew."""


@dataclass(frozen=True)
class _Finished:
    answer: Answer
    newest: HeldFrame
    ready_s: float


class StudentStream:
    """An exported student on a stream of frames; `observe`, `answer` and `reset` may be called from any thread."""

    def __init__(
        self,
        student: ServedStudent,
        *,
        question: str,
        choices: Sequence[str] = (),
        kind: str = "",
        mode: AskMode | None = None,
        deadline_s: float | None = None,
        stale_s: float = 2.0,
        min_confidence: float | Literal["calibrated"] | None = "calibrated",
        min_interval_s: float = 0.0,
        window_s: float | None = None,
        near_duplicate: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts the thread that asks.

        Args:
            student: who answers; others may ask it too, and take turns with the stream.
            question: what is asked again and again.
            choices: its answers, if they are a closed set.
            kind: of the question, which its calibration goes by; empty: the general one.
            mode: `decide`, `direct`, `reason` or `explain`; None decides where there are choices, else answers as the
                student was taught first.
            deadline_s: an answer that is ready so long after its newest frame was taken comes too late, and is
                withheld; None sets no limit.
            stale_s: an answer about a picture that was last seen so long ago is withheld.
            min_confidence: with a lower calibrated probability it is withheld; None gives every answer. `calibrated`
                takes the threshold of the student's calibration for decided answers that promises the least share of
                wrong ones, and withholds nothing where there is none.
            min_interval_s: between the beginnings of two answers, to leave time to others.
            window_s: at most the last so many seconds are shown, and at least about three quarters of them; None shows
                each episode from its beginning.
            near_duplicate: a frame in which no part of the picture differs from the newest one by more than so many
                levels of 255 says that the scene still looks like this, and is not read; 0 reads every frame.
            clock: seconds that never run backwards; the times of frames are read from it.

        Raises:
            SourceError: the student takes no frames, or cannot be asked this; the message says why.
        """
        rule = student.contract.frames
        if rule is None:
            raise SourceError(f"{student.contract.name} is shown no frames; a stream needs a student that sees")
        limit = None if min_confidence == "calibrated" else min_confidence
        _check_numbers(
            deadline_s=deadline_s, stale_s=stale_s, min_confidence=limit, min_interval_s=min_interval_s,
            window_s=window_s, near_duplicate=near_duplicate,
        )  # fmt: skip
        self._ring = FrameRing(rule, window_s=window_s, near_duplicate=near_duplicate)
        self._reader = StreamReader(
            student, question=question, choices=choices, kind=kind, mode=mode, max_features=2 * self._ring.capacity
        )
        if limit is not None and self._reader.mode != "decide":
            raise SourceError("min_confidence needs choices and mode decide: written answers have no probability")
        calibration = student.contract.calibration
        if min_confidence == "calibrated" and calibration and self._reader.mode == "decide":
            row = calibration.strictest("decide")
            limit = row.threshold if row else None
        self.min_confidence = limit
        """Answers with a lower calibrated probability are withheld; None: every answer is given."""
        self._deadline_s, self._stale_s = deadline_s, stale_s
        self._min_interval_s, self._clock = min_interval_s, clock
        self._changed = threading.Condition(threading.Lock())
        self._episode, self._closed, self._ended = 0, False, ""
        self._finished: _Finished | None = None
        self._tried = 0
        """Number of the newest frame of the last prompt."""
        self._begun_s = -math.inf
        self._num_answers = self._num_failed = self._num_dropped = 0
        self._name = student.contract.name
        self._thread = threading.Thread(target=self._work, name=f"stream of {self._name}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def appends(self) -> bool:
        """Whether new frames are read on behind those before; else every prompt is read whole. Tried at first use."""
        return self._reader.appends

    @property
    def counts(self) -> StreamCounts:
        """What happened so far."""
        read = self._reader.counts
        with self._changed:
            return StreamCounts(
                dict(self._ring.counts), self._ring.num_held, self._num_answers, self._num_failed, self._num_dropped,
                read.frames_seen, read.tokens_read, read.restarts,
            )  # fmt: skip

    def warm_up(self, frame: np.ndarray | None = None) -> float:
        """Seconds that a first answer took, which later ones need not: it is asked about a grey picture, or `frame`.

        Waits for the model. No answer of it is ever given.

        Raises:
            SourceError: the student cannot be asked about such a picture.
            RunError: the stream or the student was closed.
        """
        self._check_open()
        started_s = time.perf_counter()
        self._reader.warm_up(frame)
        return time.perf_counter() - started_s

    def observe(self, frame: np.ndarray, time_s: float | None = None) -> FrameOutcome:
        """What became of a frame; copies what it needs and never waits for the model.

        A frame that cannot be used is refused and counted; only a call after `close` raises.

        Args:
            frame: uint8 (height, width, 3), RGB; all of an episode have one size.
            time_s: when it was taken, in seconds of the stream's clock; None: now.

        Raises:
            RunError: the stream was closed.
        """
        with self._changed:
            self._check_open()
            now_s = self._clock()
            outcome = self._ring.offer(frame, now_s if time_s is None else time_s, now_s=now_s)
            if outcome == "taken":
                self._changed.notify_all()
            return outcome

    def answer(self, *, deadline_s: float | None = None) -> Answer:
        """The freshest answer that is finished, with its age; at once.

        Args:
            deadline_s: wait at most so long for an answer about what has been observed by now; where none is finished
                in time the answer abstains with the reason `deadline`.

        Raises:
            RunError: the stream was closed.
        """
        with self._changed:
            self._check_open()
            if deadline_s is not None:
                _check_numbers(deadline_s=deadline_s)
                newest, episode = self._ring.newest, self._episode
                number = newest.number if newest else 0
                settled = self._changed.wait_for(lambda: self._is_settled(episode, number), timeout=deadline_s)
                self._check_open()
                if not settled and self._ring.newest is not None:
                    words = f"no answer about what was seen by then was finished within {deadline_s:g} s"
                    return self._abstained("deadline", words)
            return self._answer_now()

    def reset(self) -> None:
        """Begin a new episode: no frame and no answer of the one before is used again, one in the making included."""
        with self._changed:
            self._check_open()
            self._episode += 1
            self._ring.clear()
            self._finished = None
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread, after the answer that it is making; the student stays open."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(JOIN_S)

    def _check_open(self) -> None:
        if self._closed:
            raise RunError("the stream was closed; open a new one")

    def _is_settled(self, episode: int, number: int) -> bool:
        if self._closed or self._ended or self._reader.outside or self._episode != episode:
            return True
        return self._finished is not None and self._finished.newest.number >= number

    def _answer_now(self) -> Answer:
        if self._reader.outside:
            return self._abstained(self._reader.reason, self._reader.outside)
        if self._ended:
            return self._abstained("failed", f"the thread of the stream has ended ({self._ended}); open a new stream")
        newest, now_s = self._ring.newest, self._clock()
        if newest is None:
            return self._abstained("stale", "no frame has come in this episode" + self._refused())
        done = self._finished
        if done is None:
            if now_s - newest.seen_until_s > self._stale_s:
                return self._abstained("stale", self._why_stale(newest, now_s))
            return self._abstained("deadline", "no answer is finished yet in this episode")
        age_s = max(0.0, now_s - done.newest.seen_until_s)
        late_s = done.ready_s - done.newest.time_s
        if age_s > self._stale_s:
            return self._abstained("stale", self._why_stale(done.newest, now_s), age_s=age_s)
        if self._deadline_s is not None and late_s > self._deadline_s:
            words = f"the answer was ready {late_s:.2f} s after its newest frame, {self._deadline_s:g} s are allowed"
            return self._abstained("deadline", words, age_s=age_s)
        made = done.answer.model_copy(update={"age_s": age_s})
        confidence = made.confidence
        if not made.abstained and self.min_confidence is not None and (confidence or 0.0) < self.min_confidence:
            words = f"{made.answer!r} has a probability of {confidence or 0.0:.3f}, {self.min_confidence:g} is needed"
            made = made.model_copy(update={"answer": "", "abstained": "uncertain", "detail": words})
        return made

    def _why_stale(self, seen: HeldFrame, now_s: float) -> str:
        """In a sentence, why there is no newer picture than one that was seen too long ago."""
        age_s, came_s, newest = now_s - seen.seen_until_s, self._ring.last_came_s, self._ring.newest
        words = f"the newest picture that an answer is about is {age_s:.2f} s old, {self._stale_s:g} s are allowed: "
        if newest is not None and newest is not seen and now_s - newest.seen_until_s <= self._stale_s:
            return words + "the student is too slow for this limit"
        if refused := self._refused():
            return words + refused.removeprefix("; ")
        if came_s is None or now_s - came_s > self._stale_s:
            return words + "no frame came since; or the times of frames are not read from the clock of the stream"
        if self._ring.last_outcome == "identical":
            return words + "the source sends the same picture again and again, as a frozen camera does"
        return words + "frames come with old times; read them from the clock of the stream"

    def _refused(self) -> str:
        outcome = self._ring.last_outcome
        return f"; the last frame was refused: {outcome}" if outcome in REFUSALS else ""

    def _abstained(self, reason: AbstainReason, detail: str, *, age_s: float | None = None) -> Answer:
        return self._reader.abstained(reason, detail).model_copy(update={"age_s": age_s})

    def _work(self) -> None:
        """Ask about the newest state, again and again."""
        try:
            while (job := self._next_job()) is not None:
                episode, shown = job
                try:
                    answer = self._reader.answer(shown)
                except Exception as error:  # noqa: BLE001 - one answer fails, the stream goes on
                    words = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                    answer = self._reader.abstained("failed", words)
                self._put(answer, episode, shown)
        except BaseException as error:  # nobody else would hear of it
            log.error("the thread of a stream of %s has ended", self._name, exc_info=error)
            self._ended = f"{type(error).__name__}: {error}"
        finally:
            with self._changed:
                self._ended = self._ended or "it was closed"
                self._changed.notify_all()

    def _next_job(self) -> tuple[int, PickedFrames] | None:
        """The episode, and what is shown of it, once there is something new; None where the stream was closed."""
        with self._changed:
            while not self._closed:
                newest, wait_s = self._ring.newest, None
                if newest is not None and newest.number != self._tried and not self._reader.outside:
                    wait_s = self._begun_s + self._min_interval_s - self._clock()
                    shown = self._ring.shown() if wait_s <= 0 else None
                    if shown is not None:
                        self._tried, self._begun_s = newest.number, self._clock()
                        return self._episode, shown
                self._changed.wait(wait_s)
        return None

    def _put(self, answer: Answer, episode: int, shown: PickedFrames) -> None:
        with self._changed:
            self._num_answers += 1
            self._num_failed += answer.abstained == "failed"
            if episode == self._episode:
                self._finished = _Finished(answer, shown.frames[-1], self._clock())
            else:
                self._num_dropped += 1
            self._changed.notify_all()


def _check_numbers(**numbers: float | None) -> None:
    for name, value in numbers.items():
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise SourceError(f"{name} must be a number of at least 0, got {value!r}")
