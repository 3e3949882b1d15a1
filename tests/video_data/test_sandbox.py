import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from processes import runs

from aot.errors import VideoError
from video_data.decode.budgets import Budgets, Sampling
from video_data.decode.clip import probe, read_frames
from video_data.decode.sandbox import DecoderPool, frames_of, shared_pool

BUDGETS = Budgets()


def pids(pool: DecoderPool) -> list[int]:
    return [child.process.pid for child in pool._children]


def test_a_child_tells_what_this_process_would(clip: Path) -> None:
    assert shared_pool().probe(clip) == probe(clip)
    far, near = (
        shared_pool().read_frames(clip, times_s=[1.0], max_side_px=48),
        read_frames(clip, times_s=[1.0], max_side_px=48),
    )
    assert np.array_equal(far.frames_THWC, near.frames_THWC)
    assert (far.times_s, far.indices, far.backend, far.note) == (near.times_s, near.indices, near.backend, near.note)


def test_a_refusal_crosses_the_pipe_with_its_reason(pool: DecoderPool, tmp_path: Path) -> None:
    with pytest.raises(VideoError) as caught:
        pool.read_frames(tmp_path / "absent.mp4", budgets=BUDGETS, time_limit_s=20)
    assert caught.value.reason == "missing"
    assert pool.probe(tmp_path / "absent.mp4", budgets=BUDGETS, time_limit_s=20).reason == "missing"


def test_what_a_decoder_cannot_sample_is_a_refusal(pool: DecoderPool, clip: Path) -> None:
    with pytest.raises(VideoError, match="must be above 0") as caught:
        pool.sample_clip(clip, Sampling(-1.0, 9, 96, time_limit_s=20, budgets=BUDGETS))
    assert caught.value.reason == "corrupt"


@pytest.mark.parametrize("end", ["timeout", "crashed"])
def test_a_stuck_or_crashed_child_is_replaced_and_the_next_file_is_read(clip: Path, end: str) -> None:
    with DecoderPool(workers=1) as pool:
        pool.probe(clip, budgets=BUDGETS, time_limit_s=20)
        (child,) = pids(pool)
        os.kill(child, signal.SIGSTOP)
        killer = threading.Timer(0.1, os.kill, (child, signal.SIGKILL))
        if end == "crashed":
            killer.start()
        with pytest.raises(VideoError) as caught:
            pool.read_frames(clip, budgets=BUDGETS, time_limit_s=0.3 if end == "timeout" else 60)
        killer.cancel()
        assert caught.value.reason == end
        assert child not in pids(pool)
        facts = pool.probe(clip, budgets=BUDGETS, time_limit_s=20)
        assert (facts.verdict, facts.note) == ("complete", "")


def test_a_real_file_that_takes_too_long_is_told_as_a_timeout_of_the_limit_at_hand(clip: Path) -> None:
    facts = shared_pool().probe(clip, time_limit_s=1e-6)
    assert (facts.reason, "longer than 1e-06 s" in facts.note) == ("timeout", True)
    assert "frames.time_limit_s" in facts.note
    assert shared_pool().probe(clip, time_limit_s=1e6).verdict == "complete"


def test_the_time_limit_grows_with_the_pixels_and_bytes_of_a_clip(clip: Path) -> None:
    with DecoderPool(workers=1) as pool:
        pool.probe(clip, budgets=BUDGETS, time_limit_s=20)
        (child,) = pool._children
        grown = 20 * (1 + clip.stat().st_size / 1e9) * (1 + 24 * 96 * 72 / 1e9)
        assert child.limit_s == pytest.approx(grown, rel=1e-9)


@pytest.mark.parametrize("time_limit_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_limit_that_cannot_be_waited_for_is_an_error(clip: Path, time_limit_s: float) -> None:
    with pytest.raises(ValueError, match="time_limit_s must lie above 0"):
        shared_pool().probe(clip, time_limit_s=time_limit_s)


def test_a_child_that_was_killed_while_idle_costs_no_file(clip: Path) -> None:
    with DecoderPool(workers=1) as pool:
        pool.probe(clip, budgets=BUDGETS, time_limit_s=20)
        (child,) = pids(pool)
        os.kill(child, signal.SIGKILL)
        while runs(child):
            os.sched_yield()
        facts = pool.probe(clip, budgets=BUDGETS, time_limit_s=20)
        assert (facts.verdict, facts.note) == ("complete", "")


@pytest.mark.parametrize("busy", [False, True])
def test_children_die_with_a_killed_parent(clip: Path, busy: bool) -> None:
    work = "pool.probe(Path(sys.argv[1]), budgets=Budgets(), time_limit_s=100)"
    script = (
        "import sys; from pathlib import Path; from video_data.decode.sandbox import *; pool = DecoderPool(workers=1)\n"
        "print(*(child.process.pid for child in pool._children), flush=True)\n"
        f"while True: {work if busy else 'sys.stdin.read()'}"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(clip)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    deadline_s = time.monotonic() + 30
    while runs(child) and time.monotonic() < deadline_s:
        os.sched_yield()
    assert not runs(child)


def test_a_closed_pool_leaves_no_children() -> None:
    with DecoderPool(workers=2) as pool:
        closed = pids(pool)
    assert not any(runs(pid) for pid in closed)


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"shape": [1, 2, 2], "frames": {"times_s": [0], "indices": [0]}},
        {"shape": [2, 1, 2, 3], "frames": {"times_s": [0.0], "indices": [0]}},
        {"shape": "x", "frames": None},
    ],
)
def test_a_malformed_reply_is_told_as_a_crash(reply: dict[str, object]) -> None:
    with pytest.raises(VideoError) as caught:
        frames_of(reply, np.zeros(12, np.uint8))
    assert caught.value.reason == "crashed"
