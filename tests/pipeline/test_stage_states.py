"""Where a run is and what stopped it: the stage states of run.json, and what `aot status` makes of them."""

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import aot.pipeline.progress as progress_module
from aot import pipeline
from aot.config import RunConfig, parse_config
from aot.errors import GuardStop, RunError, SourceError
from aot.files.opening import open_run
from aot.files.run_folder import (
    RunFolder,
    publish,
    publish_json,
    publish_rows,
    read_run_json,
    set_stage,
    start_stage,
)
from aot.pipeline.commands.status import refusal_lines, run_status, status_lines
from aot.pipeline.progress import StageProgress
from aot.records import Refusal

ROOT = Path(__file__).parents[2]
FULL = [
    OSError(errno.ENOSPC, "No space left on device", "/data/x"),
    OSError(errno.EFBIG, "File too large"),
    RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 1182720 vs 1182612"),
    ValueError("Error while serializing: I/O error: No space left on device (os error 28)"),
]


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    raw = {"data": {"dataset": "toy_kitchen"}, "run": {"dir": str(tmp_path / "run")}}
    return parse_config(raw, source="test")


@pytest.fixture
def run(config: RunConfig) -> RunFolder:
    return open_run(config, config_path=Path("x.yaml"), command=["aot"])


def prepare_with(monkeypatch: pytest.MonkeyPatch, config: RunConfig, work: Callable[[RunFolder], None]) -> None:
    """Run the prepare stage with `work` in place of what it does."""
    monkeypatch.setattr(
        pipeline, "stage_function", lambda stage, config, source=None: lambda run, config, progress: work(run)
    )
    pipeline.run_stages(config, config_path=Path("x.yaml"), command=["aot"], stages=("prepare",))


def raising(error: BaseException) -> Callable[[RunFolder], None]:
    def work(run: RunFolder) -> None:
        raise error

    return work


@pytest.mark.parametrize("error", FULL, ids=str)
def test_a_full_disk_is_a_stop_that_can_be_resumed(
    monkeypatch: pytest.MonkeyPatch, config: RunConfig, run: RunFolder, error: Exception
) -> None:
    with pytest.raises(GuardStop, match="free space"):
        prepare_with(monkeypatch, config, raising(error))
    assert read_run_json(run)["stages"]["prepare"]["state"] == "stopped"


def test_another_error_of_the_disk_says_what_to_do(monkeypatch: pytest.MonkeyPatch, config: RunConfig) -> None:
    with pytest.raises(RunError, match=r"/data/x: Permission denied; .*run\.dir="):
        prepare_with(monkeypatch, config, raising(PermissionError(errno.EACCES, "Permission denied", "/data/x")))


def test_a_note_that_fails_does_not_cover_the_first_error(monkeypatch: pytest.MonkeyPatch, config: RunConfig) -> None:
    def work(run: RunFolder) -> None:
        run.run_json.unlink()
        run.run_json.mkdir()
        raise SourceError("the first error")

    with pytest.raises(SourceError, match="the first error"):
        prepare_with(monkeypatch, config, work)


def test_a_finished_run_in_a_folder_that_cannot_be_written_has_nothing_to_do(
    monkeypatch: pytest.MonkeyPatch, config: RunConfig, run: RunFolder
) -> None:
    for name in ("questions", "annotations", "refusals"):
        publish(getattr(run, name), b"")
    publish(run.frames / "index.jsonl", b"")
    set_stage(run, "prepare", "done")
    before = run.run_json.read_bytes()
    monkeypatch.setattr(pipeline.os, "access", lambda path, mode: False)
    monkeypatch.setattr(pipeline, "open_run", raising(RunError("cannot write run.json")))
    prepare_with(monkeypatch, config, raising(AssertionError("done again")))
    assert run.run_json.read_bytes() == before
    with pytest.raises(RunError, match="seed: 0 there, 5 now"):
        prepare_with(monkeypatch, config.model_copy(update={"seed": 5}), raising(AssertionError("done again")))


def test_ctrl_c_is_no_failure(monkeypatch: pytest.MonkeyPatch, config: RunConfig, run: RunFolder) -> None:
    with pytest.raises(KeyboardInterrupt):
        prepare_with(monkeypatch, config, raising(KeyboardInterrupt()))
    line = status_lines(run.root)[0]
    assert "stopped by Ctrl-C" in line and "failed" not in line


def test_a_really_full_disk_stops_a_stage_with_exit_code_4_and_no_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aot", "prepare", "configs/video/toy_kitchen_tiny.yaml", f"run.dir={tmp_path / 'run'}"]
        + ["--limit", "2"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 4 and "free space" in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_a_run_without_stages_waits_for_all_of_them(run: RunFolder) -> None:
    publish_json(run.run_json, {"command": []})
    assert all("waiting" in line for line in status_lines(run.root))


def test_the_states_are_told_as_a_record(run: RunFolder) -> None:
    start_stage(run, "prepare")
    set_stage(run, "prepare", "running", done=5, total=9, left_s=3.0)
    told = run_status(run.root)
    first, second = told.stages[:2]
    assert (first.stage, first.state, first.done, first.total) == ("prepare", "running", 5, 9)
    assert (second.state, second.shards, told.jobs, told.held_by) == ("waiting", (), (), None)


def test_a_silent_stage_may_have_been_killed(run: RunFolder) -> None:
    start_stage(run, "prepare")
    set_stage(run, "prepare", "running", done=5, total=9, left_s=3.0)
    assert "about 3 s left" in status_lines(run.root)[0]
    an_hour_ago_s = time.time() - 3600
    set_stage(run, "prepare", "running", updated_s=an_hour_ago_s)
    publish(run.log, "started\n")
    assert "killed" not in status_lines(run.root)[0]
    os.utime(run.log, (an_hour_ago_s, an_hour_ago_s))
    assert "no news for 60 min" in status_lines(run.root)[0]


def test_one_refused_input_is_told_as_one(run: RunFolder) -> None:
    publish_rows(run.refusals, [Refusal(item="a.mp4", boundary="decode", reason="empty")])
    assert refusal_lines(run)[0].startswith("1 input was refused (listed in ")
    publish_rows(run.refusals, 2 * [Refusal(item="a.mp4", boundary="decode", reason="empty")])
    assert refusal_lines(run)[0].startswith("2 inputs were refused")


def test_an_hour_of_a_stage_is_a_small_log_with_a_line_each_minute(
    monkeypatch: pytest.MonkeyPatch, run: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    start_stage(run, "train")
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress_module, "set_stage", lambda *stage, **counts: None)
    caplog.set_level("INFO")
    written_s = []
    progress = StageProgress(run, "train")
    for step in range(3600):
        now[0] = float(step)
        before = len(caplog.messages)
        progress(step, 3600)
        written_s += [now[0]] * (len(caplog.messages) - before)
    gaps_s = [later - earlier for earlier, later in zip([0.0, *written_s], [*written_s, 3600.0], strict=True)]
    assert max(gaps_s) <= 60 and sum(len(line) + 1 for line in caplog.messages) < 200_000
    assert "about" in caplog.messages[-1] and "s left" in caplog.messages[-1]


def test_status_tells_stage_counts_time_left_and_the_last_error(run: RunFolder) -> None:
    start_stage(run, "prepare")
    set_stage(run, "prepare", "running", done=5, total=9, left_s=30.0)
    start_stage(run, "generate")
    set_stage(run, "generate", "failed", error="no room on the disk")
    lines = status_lines(run.root)
    assert lines[0].split()[:3] == ["prepare", "running", "5/9"] and "about 30 s left" in lines[0]
    assert "failed" in lines[1] and "last error: no room on the disk" in lines[1]


def test_time_left_counts_this_attempt_only(run: RunFolder) -> None:
    progress = StageProgress(run, "train")
    assert progress._left_s(900, 1000, now=50.0) is None
    assert progress._left_s(910, 1000, now=60.0) == pytest.approx(90.0)


def test_time_left_follows_recent_steps_when_a_machine_gets_busy(run: RunFolder) -> None:
    progress = StageProgress(run, "train")
    for step in range(1001):  # ten a second
        left_s = progress._left_s(step, 2000, now=step / 10)
    assert left_s == pytest.approx(100.0)
    for step in range(13):  # then one in five seconds
        left_s = progress._left_s(1000 + step, 2000, now=100.0 + 5 * step)
    assert left_s == pytest.approx(5 * 988, rel=0.1)
    for step in range(100_000):
        progress._left_s(1012 + step, 200_000, now=160.0 + step / 1000)
    assert len(progress.recent) <= 602


def test_time_left_of_steps_slower_than_the_window_is_told_too(run: RunFolder) -> None:
    progress = StageProgress(run, "train")
    assert [progress._left_s(step, 10, now=300.0 * step) for step in range(3)] == [None, 2700.0, 2400.0]
    assert progress._left_s(2, 10, now=700.0) == 8 * 400.0  # the third step is slow


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_early_prepare_reaches_the_whole_group_and_gives_no_traceback(
    tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "aot", "prepare", "configs/video/toy_kitchen_tiny.yaml"]
    for moment in range(8):
        child = subprocess.Popen(
            [*command, f"run.dir={tmp_path / str(moment)}"], cwd=ROOT, stderr=subprocess.PIPE, text=True,
            start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        assert child.stderr is not None and child.stderr.readline() == "prepare: starting\n"
        threading.Event().wait(0.12 * moment)  # from the first imports to the first clips
        os.killpg(child.pid, number)
        _, told = child.communicate()
        # An interrupted import may leave the interpreter with a code of its own.
        assert child.returncode in (4, -signal.SIGINT), told
        assert "Traceback" not in told and "Error" not in told and "stopped by a signal" in told
        assert not (tmp_path / str(moment) / "lease.json").exists()
