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
from pydantic import TypeAdapter, ValidationError

from aot.errors import VIDEO_REASONS, VideoError
from video_data.decode.budgets import Budgets
from video_data.decode.facts import ClipFacts, DecodedFrames
from video_data.decode.process import DecoderProcess, malformed

MAX_TIME_LIMIT_S = 1e6
"""Eleven days; what waits for a reply counts milliseconds in 31 bits."""
TIME_LIMIT_S = 30.0
_BUDGETS = Budgets()
_FACTS, _FRAMES = TypeAdapter(ClipFacts), TypeAdapter(DecodedFrames)


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

    def probe(
        self, path: Path, *, budgets: Budgets = _BUDGETS, time_limit_s: float = TIME_LIMIT_S, stream: int | None = None
    ) -> ClipFacts:
        """As `clip.probe`, which decodes every frame; a timeout or crash gives a refused verdict.

        Raises:
            ValueError: the time limit cannot be waited for.
        """
        try:
            reply, _ = self._ask("probe", path, budgets=budgets, time_limit_s=time_limit_s, stream=stream)
            return _FACTS.validate_python(reply.get("facts"))
        except VideoError as error:
            problem = error
        except ValidationError:
            problem = malformed()
        return ClipFacts(verdict="refused", reason=problem.reason, note=problem.message)

    def read_frames(
        self,
        path: Path,
        *,
        times_s: Sequence[float] | None = None,
        max_side_px: int | None = None,
        budgets: Budgets = _BUDGETS,
        time_limit_s: float = TIME_LIMIT_S,
        stream: int | None = None,
    ) -> DecodedFrames:
        """As `clip.read_frames`.

        Raises:
            VideoError: also for a timeout or crash.
        """
        reply, data = self._ask(
            "read", path, budgets=budgets, time_limit_s=time_limit_s, stream=stream, max_side_px=max_side_px,
            times_s=None if times_s is None else [float(time_s) for time_s in times_s],
        )  # fmt: skip
        return frames_of(reply, data)

    def sample_clip(
        self,
        path: Path,
        *,
        fps: float,
        max_frames: int,
        max_side_px: int | None,
        budgets: Budgets = _BUDGETS,
        time_limit_s: float = TIME_LIMIT_S,
        stream: int | None = None,
    ) -> DecodedFrames:
        """As `clip.sample_frames`, with the digest of the file and checksums of the frames.

        Raises:
            VideoError: the file is refused, or decoding timed out or crashed.
        """
        reply, data = self._ask(
            "sample", path, budgets=budgets, time_limit_s=time_limit_s, stream=stream, max_side_px=max_side_px,
            fps=fps, max_frames=max_frames,
        )  # fmt: skip
        frames = frames_of(reply, data)
        if len(frames.frames_crc32) != len(frames.times_s):
            raise malformed()
        return frames

    def _ask(
        self, verb: str, path: Path, *, budgets: Budgets, time_limit_s: float, **arguments: object
    ) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        check_time_limit(time_limit_s)
        try:
            size_gb = path.stat().st_size / 1e9
        except (OSError, ValueError):
            size_gb = 0.0  # the child tells what is wrong with the path
        # A path may hold bytes that are no UTF-8, which JSON cannot carry; as hex digits it arrives as it is.
        request = {"verb": verb, "path": os.fsencode(path).hex(), "budgets": asdict(budgets), "arguments": arguments}
        child = self._idle.get()
        try:
            if child.process.poll() is not None:  # it was killed while it was idle, which is not this file's fault
                child = self._replaced(child)
            limit_s = time_limit_s * (1 + size_gb)
            reply, data = child.ask(request, limit_s=limit_s, max_gigapixels=budgets.max_gigapixels)
        except BaseException:
            child = self._replaced(child)  # half a reply may still lie in its pipe
            raise
        finally:
            self._idle.put(child)
        if "error" in reply:
            raise _error_of(reply)
        return reply, data

    def _replaced(self, child: DecoderProcess) -> DecoderProcess:
        with self._lock:
            if self._closed:
                return child
            child.discard()
            fresh = DecoderProcess()
            self._children[self._children.index(child)] = fresh
            return fresh


_shared: dict[int, DecoderPool] = {}
"""The pool of this process by its id, so that a fork never talks through its parent's pipes."""


def shared_pool() -> DecoderPool:
    """The one-child pool of this process, for single clips; started when it is first asked for."""
    pool = _shared.get(os.getpid())
    if pool is None:
        pool = _shared[os.getpid()] = DecoderPool(workers=1)
        atexit.register(pool.close)
    return pool


# What a child answered, as plain values: no field of a reply is trusted, since a hostile clip may have taken it over


def _error_of(reply: dict[str, Any]) -> VideoError:
    """The error that a reply reports."""
    reason, message = reply.get("error"), str(reply.get("message", ""))[:500]
    if reason in VIDEO_REASONS:
        return VideoError(reason, message)
    return malformed()


def frames_of(reply: dict[str, Any], data: NDArray[np.uint8]) -> DecodedFrames:
    """Decoded frames from a reply; `crashed` where it makes no sense."""
    try:
        pictures = data.reshape(reply["shape"])
        frames = _FRAMES.validate_python({**reply["frames"], "frames_THWC": pictures})
    except (KeyError, TypeError, ValueError):
        raise malformed() from None
    fits = pictures.ndim == 4 and pictures.shape[3] == 3 and len(pictures) == len(frames.times_s)
    if not fits or frames.verdict == "refused":
        raise malformed()
    return frames
