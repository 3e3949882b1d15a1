"""LeRobot's text head asks our own server, in another process, and gets what a student in this process says."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("aot.serving.server")
pytest.importorskip("uvicorn")

from aot import load_student
from aot.serving.lerobot import RemoteStudent, SubtaskError, SubtaskWriter

STEPS = ("wash rice", "chop onion", "fry egg")
FRAMES = np.random.default_rng(0).integers(0, 256, (6, 96, 96, 3), dtype=np.uint8)


def test_our_server_says_what_the_student_says_in_this_process(
    video_export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AOT_API_KEY", "sesame")
    command = [sys.executable, "-m", "aot", "serve", str(video_export), "--port", "0", "--key-env", "AOT_API_KEY"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert child.stdout is not None
        address = next(filter(None, (re.search(r"http://[\d.]+:\d+/v1", line) for line in child.stdout)))[0]
        remote = RemoteStudent(address, timeout_s=120)
        times_s = [i / 2 for i in range(6)]
        there = remote.ask("What is the next step?", frames=list(FRAMES), times_s=times_s, choices=STEPS)
        with load_student(video_export) as student:
            here = student.ask("What is the next step?", frames=list(FRAMES), times_s=times_s, choices=STEPS)
        assert there.answer == here.answer and there.confidence == pytest.approx(here.confidence, abs=1e-5)
        writer = SubtaskWriter(remote, subtasks=STEPS)
        writer.observe({"observation.images.front": FRAMES[0], "timestamp": 0.0})
        assert writer.generate_text({"observation.images.front": FRAMES[1], "timestamp": 0.5}) in STEPS
        monkeypatch.setenv("AOT_API_KEY", "wrong")
        with pytest.raises(SubtaskError) as told:
            writer.generate_text({"observation.images.front": FRAMES[2], "timestamp": 1.0})
        assert told.value.reason == "refused" and "wrong" in str(told.value)
    finally:
        os.kill(child.pid, signal.SIGTERM)
        child.communicate(timeout=120)
