"""Decoding in child processes: a file that hangs or crashes a decoder costs one child, which is replaced.

A time limit is what a small clip gets. It grows by itself once for each GB of the file, for what reading takes, and
once for each gigapixel (10**9 pixels of all frames together), for what decoding takes. Children live on between
requests, serve one at a time, and die with their parent. A request is one line of JSON; a reply is two lengths, JSON
and raw frame bytes, checked here before use: nothing a child sends is ever executed.
"""

import atexit
import fcntl
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from aot.errors import VIDEO_REASONS, VideoError
from video_data.decode.budgets import Budgets, Sampling
from video_data.decode.facts import MAX_OUTPUT_BYTES, ClipFacts, DecodedFrames

START_LIMIT_S = 60.0
MAX_HEADER_BYTES = 256_000_000
PIPE_BYTES = 1 << 20
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


def malformed() -> VideoError:
    """The error for a reply that makes no sense."""
    return VideoError("crashed", "the decoder process sent a malformed reply")


class DecoderProcess:
    """One child process and the pipes to it."""

    def __init__(self) -> None:
        root = str(Path(__file__).resolve().parents[2])
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "LANG") if name in os.environ}
        # Few variables: keys of the environment are no business of a decoder. -B: the child may write no file.
        self.process = subprocess.Popen(
            [sys.executable, "-B", "-m", "video_data.decode.sandbox_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what decoders print may hold addresses
            env={**kept, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        assert self.process.stdin and self.process.stdout
        self._requests, self._replies = self.process.stdin, self.process.stdout
        with suppress(OSError, AttributeError):  # a larger pipe is only faster; not every system has it
            fcntl.fcntl(self._replies, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.fresh = True
        self.limit_s = START_LIMIT_S
        """Seconds that the last request was allowed."""

    def ask(
        self, request: dict[str, Any], *, limit_s: float, max_gigapixels: float
    ) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        """The reply's JSON and its bytes.

        Start-up of a fresh child is not counted against the limit. A child that says how many gigapixels it is about to
        decode gets the limit once more for each of them.
        """
        if self.fresh:
            self._read(1, deadline_s=time.monotonic() + START_LIMIT_S)
            self.fresh = False
        try:
            self._requests.write(json.dumps({**request, "limit_s": limit_s}).encode() + b"\n")
            self._requests.flush()
        except OSError:
            raise VideoError("crashed", "the decoder process ended") from None
        self.limit_s = limit_s
        deadline_s = time.monotonic() + limit_s
        reply, data = self._reply(deadline_s=deadline_s)
        if "gigapixels" in reply:
            gigapixels = reply["gigapixels"]
            if not isinstance(gigapixels, (int, float)) or not 0 <= gigapixels <= max_gigapixels:
                raise malformed()
            self.limit_s += gigapixels * limit_s
            reply, data = self._reply(deadline_s=deadline_s + gigapixels * limit_s)
        return reply, data

    def _reply(self, *, deadline_s: float) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        sizes = self._read(16, deadline_s=deadline_s)
        num_json, num_bytes = (int.from_bytes(sizes[i : i + 8].tobytes(), "little") for i in (0, 8))
        if num_json > MAX_HEADER_BYTES or num_bytes > MAX_OUTPUT_BYTES:  # before room is made for them
            raise malformed()
        try:
            reply = json.loads(self._read(num_json, deadline_s=deadline_s).tobytes())
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict):
            raise malformed()
        return reply, self._read(num_bytes, deadline_s=deadline_s)

    def kill(self) -> None:
        """End the process, busy or not; a thread that waits for its reply gets `crashed`."""
        self.process.kill()
        self.process.wait()

    def discard(self) -> None:
        """End the process and close its pipes; only for the thread that is using it."""
        self.kill()
        for pipe in (self._requests, self._replies):
            with suppress(OSError):  # unsent bytes that a dead process will never read
                pipe.close()

    def _read(self, count: int, *, deadline_s: float) -> NDArray[np.uint8]:
        handle = self._replies.fileno()
        data = np.empty(count, np.uint8)
        view = data.data
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        while len(view):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not poll.poll(max(1, left_s * 1000)):  # 0 ms would not wait at all
                raise VideoError(
                    "timeout",
                    f"decoding took longer than {self.limit_s:.3g} s; "
                    "allow more with frames.time_limit_s, or shrink or cut the clip",
                )
            num_read = os.readv(handle, [view])  # straight into the array: frames are not copied
            if num_read == 0:
                raise VideoError("crashed", "the decoder process crashed on this file")
            view = view[num_read:]
        return data


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

    def sample_clip(self, path: Path, sampling: Sampling) -> DecodedFrames:
        """As `clip.sample_frames`, with the digest of the file and checksums of the frames.

        Raises:
            VideoError: the file is refused, or decoding timed out or crashed.
        """
        reply, data = self._ask(
            "sample", path, budgets=sampling.budgets, time_limit_s=sampling.time_limit_s, stream=sampling.stream,
            fps=sampling.fps, max_frames=sampling.max_stored_frames, max_side_px=sampling.max_side_px,
        )  # fmt: skip
        frames = frames_of(reply, data)
        if not frames.sha256 or len(frames.frames_crc32) != len(frames.times_s):
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
            reason, message = reply["error"], str(reply.get("message", ""))[:500]
            raise VideoError(reason, message) if reason in VIDEO_REASONS else malformed()
        return reply, data

    def _replaced(self, child: DecoderProcess) -> DecoderProcess:
        with self._lock:
            if self._closed:
                return child
            child.discard()
            fresh = DecoderProcess()
            self._children[self._children.index(child)] = fresh
            return fresh


def shared_pool() -> DecoderPool:
    """The one-child pool of this process, for single clips; started when it is first asked for."""
    return _pool_of(os.getpid())  # by its id: a fork never talks through its parent's pipes


@cache
def _pool_of(process_id: int) -> DecoderPool:
    pool = DecoderPool(workers=1)
    atexit.register(pool.close)
    return pool


def frames_of(reply: dict[str, Any], data: NDArray[np.uint8]) -> DecodedFrames:
    """Decoded frames from a reply; `crashed` where it makes no sense: a hostile clip may have taken the child over."""
    try:
        pictures = data.reshape(reply["shape"])
        frames = _FRAMES.validate_python({**reply["frames"], "frames_THWC": pictures})
    except (KeyError, TypeError, ValueError):
        raise malformed() from None
    fits = pictures.ndim == 4 and pictures.shape[3] == 3 and len(pictures) == len(frames.times_s)
    if not fits or frames.verdict == "refused":
        raise malformed()
    return frames
