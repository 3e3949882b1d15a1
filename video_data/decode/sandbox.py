"""Decoding in child processes: a file that hangs or crashes a decoder costs one child, which is replaced.

A time limit is what a small clip gets. It grows by itself once for each GB of the file, for what reading takes, and
once for each gigapixel (10**9 pixels of all frames together), for what decoding takes. Children live on between
requests, serve one at a time, and die with their parent. A request is one line of JSON; a reply is a length, JSON and
raw frame bytes, checked here before use: nothing a child sends is ever executed.
"""

import atexit
import os
import queue
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aot.errors import VideoError
from video_data.decode.budgets import Budgets
from video_data.decode.facts import ClipFacts, DecodedFrames
from video_data.decode.process import DecoderProcess
from video_data.decode.replies import SampledClip, told_error, told_facts, told_frames, told_sample

MAX_TIME_LIMIT_S = 1e6
"""Eleven days; what waits for a reply counts milliseconds in 31 bits."""


def check_time_limit(time_limit_s: float) -> None:
    """Refuse a time limit that cannot be waited for.

    Raises:
        ValueError: it is not a number above 0 and at most MAX_TIME_LIMIT_S.
    """
    if not 0 < time_limit_s <= MAX_TIME_LIMIT_S:
        raise ValueError(f"time_limit_s must lie above 0 and be at most {MAX_TIME_LIMIT_S:,.0f} s, got {time_limit_s}")


class DecoderPool:
    """Child processes that decode; safe to use from several threads, one request per child at a time."""

    def __init__(self, *, workers: int) -> None:
        if workers < 1:
            raise ValueError(f"a pool needs at least one worker, got {workers}")
        self._closed = False
        self._lock = threading.Lock()
        self._children = [DecoderProcess() for _ in range(workers)]
        self._idle: queue.SimpleQueue[DecoderProcess] = queue.SimpleQueue()
        for child in self._children:
            self._idle.put(child)

    def __enter__(self) -> "DecoderPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the children, busy or not."""
        with self._lock:
            self._closed = True
            for child in self._children:
                child.kill()

    def child_pids(self) -> list[int]:
        """Process ids of the living children."""
        return [child.process.pid for child in self._children]

    def probe(self, path: Path, *, budgets: Budgets, time_limit_s: float, stream: int | None = None) -> ClipFacts:
        """As `decode.probe`, which decodes every frame; a timeout or crash gives a refused verdict.

        Raises:
            ValueError: the time limit cannot be waited for.
        """
        try:
            reply, _ = self._ask("probe", path, budgets=budgets, time_limit_s=time_limit_s, stream=stream)
            return told_facts(reply)
        except VideoError as error:
            return ClipFacts(verdict="refused", reason=error.reason, note=error.message)

    def read_frames(
        self,
        path: Path,
        *,
        times_s: Sequence[float] | None = None,
        indices: Sequence[int] | None = None,
        max_side_px: int | None = None,
        budgets: Budgets,
        time_limit_s: float,
        stream: int | None = None,
    ) -> DecodedFrames:
        """As `decode.read_frames`.

        Raises:
            VideoError: also for a timeout or crash.
        """
        chosen = {"times_s": _floats(times_s), "indices": None if indices is None else [int(i) for i in indices]}
        reply, data = self._ask(
            "read", path, budgets=budgets, time_limit_s=time_limit_s, stream=stream, max_side_px=max_side_px, **chosen
        )
        return told_frames(reply, data)

    def sample_clip(
        self,
        path: Path,
        *,
        fps: float,
        max_frames: int,
        max_side_px: int | None,
        budgets: Budgets,
        time_limit_s: float,
        stream: int | None = None,
    ) -> SampledClip:
        """Frames of the whole clip at `fps` (see `decode.sample_frames`), with checksums.

        Raises:
            VideoError: the file is refused, or decoding timed out or crashed.
        """
        reply, data = self._ask(
            "sample",
            path,
            budgets=budgets,
            time_limit_s=time_limit_s,
            stream=stream,
            max_side_px=max_side_px,
            fps=fps,
            max_frames=max_frames,
        )
        return told_sample(reply, data)

    def _ask(
        self, verb: str, path: Path, *, budgets: Budgets, time_limit_s: float, stream: int | None, **arguments: object
    ) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        check_time_limit(time_limit_s)
        limit_s = time_limit_s * (1 + _size_gb(path))
        request = {"verb": verb, "path": os.fsencode(path).hex(), "budgets": asdict(budgets), "stream": stream}
        child = self._idle.get()
        try:
            if child.process.poll() is not None:  # it was killed while it was idle, which is not this file's fault
                child = self._replaced(child)
            ask = {**request, **arguments}
            reply, data = child.ask(ask, limit_s=limit_s, max_gigapixels=budgets.max_gigapixels)
        except BaseException:
            child = self._replaced(child)
            raise
        finally:
            self._idle.put(child)
        if "error" in reply:
            raise told_error(reply)
        return reply, data

    def _replaced(self, child: DecoderProcess) -> DecoderProcess:
        with self._lock:
            if not self._closed:
                child.discard()
                fresh = DecoderProcess()
                self._children[self._children.index(child)] = fresh
                return fresh
        return child


def probe_safely(
    path: Path, *, budgets: Budgets | None = None, time_limit_s: float = 30.0, stream: int | None = None
) -> ClipFacts:
    """As `decode.probe`, in a shared child process.

    Raises:
        ValueError: the time limit cannot be waited for.
    """
    return _shared_pool().probe(path, budgets=budgets or Budgets(), time_limit_s=time_limit_s, stream=stream)


def read_frames_safely(
    path: Path,
    *,
    times_s: Sequence[float] | None = None,
    indices: Sequence[int] | None = None,
    max_side_px: int | None = None,
    budgets: Budgets | None = None,
    time_limit_s: float = 30.0,
    stream: int | None = None,
) -> DecodedFrames:
    """As `decode.read_frames`, in a shared child process under a time limit.

    Raises:
        VideoError: also for a timeout or crash.
    """
    return _shared_pool().read_frames(
        path,
        times_s=times_s,
        indices=indices,
        max_side_px=max_side_px,
        budgets=budgets or Budgets(),
        time_limit_s=time_limit_s,
        stream=stream,
    )


def sample_safely(
    path: Path,
    *,
    fps: float,
    max_frames: int,
    max_side_px: int | None,
    budgets: Budgets | None = None,
    time_limit_s: float = 30.0,
    stream: int | None = None,
) -> SampledClip:
    """As `decode.sample_frames`, in a shared child process under a time limit, with checksums.

    Raises:
        VideoError: also for a timeout or crash.
    """
    return _shared_pool().sample_clip(
        path,
        fps=fps,
        max_frames=max_frames,
        max_side_px=max_side_px,
        budgets=budgets or Budgets(),
        time_limit_s=time_limit_s,
        stream=stream,
    )


def _size_gb(path: Path) -> float:
    try:
        return path.stat().st_size / 1e9
    except (OSError, ValueError):
        return 0.0


_shared: dict[int, DecoderPool] = {}
"""The pool of this process by its id, so that a fork never talks through its parent's pipes."""


def _shared_pool() -> DecoderPool:
    pool = _shared.get(os.getpid())
    if pool is None:
        pool = _shared[os.getpid()] = DecoderPool(workers=1)
        atexit.register(pool.close)
    return pool


def _floats(values: Sequence[float] | None) -> list[float] | None:
    return None if values is None else [float(value) for value in values]
