"""One decoding process and the pipes to it: ask, wait no longer than the limit, kill.

A request is one line of JSON; a reply is two lengths, JSON, and raw bytes. Nothing that comes back is executed.
"""

import fcntl
import json
import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aot.errors import VideoError
from video_data.decode.facts import MAX_OUTPUT_BYTES

START_LIMIT_S = 60.0
MAX_HEADER_BYTES = 256_000_000
PIPE_BYTES = 1 << 20


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
        assert self.process.stdout is not None
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):  # a larger pipe is only faster
                fcntl.fcntl(self.process.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
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
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({**request, "limit_s": limit_s}).encode() + b"\n")
            self.process.stdin.flush()
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
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(OSError):  # unsent bytes that a dead process will never read
                pipe.close()

    def _read(self, count: int, *, deadline_s: float) -> NDArray[np.uint8]:
        assert self.process.stdout is not None
        handle = self.process.stdout.fileno()
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
