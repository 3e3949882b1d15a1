"""Jobs of the train stage that run alone: one by one, side by side, killed; and what is refused."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from settings_recorder import unless_given

from aot import cli
from aot.config import RunConfig, load_config
from aot.errors import ConfigError, GuardStop, RunError
from aot.files import pieces
from aot.files.lease import hold
from aot.files.run_folder import CHECKPOINTS, RunFolder, stage_done
from aot.pipeline import run_stages
from aot.pipeline.commands.jobs import jobs_lines, list_jobs
from aot.pipeline.commands.status import status_lines

ROOT = Path(__file__).parents[2]
CONFIG = """
data: {dataset: toy_math, math: {train: 40, test: 4, test_ood: 4}}
teacher: {planner: procedural}
student: {base: tiny-text, max_tokens: 512, max_answer_tokens: 8, max_rationale_tokens: 16}
train:
  max_steps: 8
  questions_per_step: 4
  questions_per_device: 4
  save_steps: 2
  adaptive: {labelled: 4}
  own_chains: {rounds: 1, samples: 1}
  arms:
    - {name: pre, order: pre}
    - {name: adaptive, order: adaptive}
    - {name: self, order: pre, chains: self, chain_share: 0.5}
evaluate: {splits: [test]}
"""
EARLIER = ("prepare", "generate", "filter")


def config_of(folder: Path, *overrides: str) -> RunConfig:
    settings = (*unless_given((f"run.dir={folder / 'run'}",), overrides), *overrides)
    return load_config(folder / "config.yaml", overrides=settings)


def done(folder: Path, *overrides: str, stages: tuple[str, ...] = ("train",), job: str | None = None) -> RunFolder:
    """Do stages, or one job, in this process."""
    config = config_of(folder, *overrides)
    run, code = run_stages(config, config_path=folder / "config.yaml", command=["aot"], stages=stages, job=job)
    assert code == 0
    return run


def started(folder: Path, job: str) -> subprocess.Popen[str]:
    """A job in a process of its own."""
    command = [sys.executable, "-m", "aot", "train", str(folder / "config.yaml"), f"run.dir={folder / 'run'}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, "--job", job], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def papers(run: RunFolder) -> list[bytes]:
    return [path.read_bytes() for path in (run.config, run.run_json, run.log)]


def published(run: RunFolder) -> dict[str, bytes]:
    """Everything of all students and helpers but checkpoints: weights, metrics, lessons, answers, markers, seals."""
    paths = sorted(path for path in run.arm("").rglob("*") if path.is_file() and CHECKPOINTS not in path.parts)
    return {path.relative_to(run.root).as_posix(): path.read_bytes() for path in paths}


def states(folder: Path) -> dict[str, str]:
    return {job.name: job.state for job in list_jobs(config_of(folder), folder / "config.yaml")}


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filtered")
    (folder / "config.yaml").write_text(CONFIG)
    done(folder, stages=EARLIER)
    return folder


@pytest.fixture
def folder(filtered: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filtered, tmp_path / "work"))


@pytest.fixture(scope="module")
def by_the_stage(filtered: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the plain train stage publishes."""
    return published(done(Path(shutil.copytree(filtered, tmp_path_factory.mktemp("plain") / "work"))))


@pytest.mark.slow
def test_jobs_one_by_one_publish_what_the_train_stage_does_and_the_stage_then_finds_all_done(
    folder: Path, by_the_stage: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    run = RunFolder(folder / "run")
    before = papers(run)
    for name in states(folder):
        assert states(folder)[name] == "ready"
        done(folder, job=name)
    assert papers(run) == before and not stage_done(run, "train")
    assert published(run) == by_the_stage
    written = {path: path.stat().st_mtime_ns for path in run.arm("").rglob("*") if path.is_file()}
    with caplog.at_level("INFO"):
        done(folder, job="pre:train")
        assert "job pre:train: finished before; nothing to do" in caplog.text
        done(folder)
    assert stage_done(run, "train")
    assert {path: path.stat().st_mtime_ns for path in run.arm("").rglob("*") if path.is_file()} == written


@pytest.mark.slow
def test_jobs_side_by_side_and_a_kill_give_the_same_students(folder: Path, by_the_stage: dict[str, bytes]) -> None:
    run = RunFolder(folder / "run")
    before = papers(run)
    for name in ("pre:lessons", "self/round0:lessons"):
        done(folder, job=name)
    first, second = started(folder, "pre:train"), started(folder, "self/round0:train")
    while not (run.arm("self/round0") / CHECKPOINTS / "SAVED").exists():
        assert second.poll() is None, second.stderr
        time.sleep(0.001)  # so that what is waited for has this core
    second.send_signal(signal.SIGKILL)
    second.wait()
    assert first.wait() == 0, first.stderr
    assert states(folder)["self/round0:train"] == "stopped" and states(folder)["pre:train"] == "done"
    with pytest.raises(RunError, match="reads what other jobs make") as caught:
        done(folder, job="self/round0:sample")
    assert any("--job self/round0:train" in line for line in caught.value.lines)
    again = started(folder, "self/round0:train")
    assert again.wait() == 0, again.stderr
    assert "resumed from step" in (run.jobs / "self/round0/train.log").read_text()
    assert papers(run) == before
    done(folder)
    assert published(run) == by_the_stage


def test_a_job_is_done_once_at_a_time_and_not_beside_the_whole_stage(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "WAIT_S", 0.0)
    run = RunFolder(folder / "run")
    lease = run.jobs / "pre" / "lessons.lease"
    with hold(lease, root=run.root, command=["aot", "train", "--job", "pre:lessons"]):
        for job in ("pre:lessons", None):
            with pytest.raises(RunError, match=r"in use by `aot train --job pre:lessons` \(pid"):
                done(folder, job=job)
        done(folder, job="self/round0:lessons")
        assert "  jobs: 1 of " in "\n".join(status_lines(run.root))
    with (
        hold(run.lease, root=run.root, command=["aot", "run", "x.yaml"]),
        pytest.raises(RunError, match=r"in use by `aot run x.yaml`"),
    ):
        done(folder, job="pre:lessons")
    assert states(folder)["pre:lessons"] == "ready"


def test_the_list_begins_with_who_works_on_the_whole_run(folder: Path) -> None:
    run, command = RunFolder(folder / "run"), ["aot", "run", "x.yaml"]
    with hold(run.lease, root=run.root, command=command):
        first = jobs_lines(config_of(folder), folder / "config.yaml")[0]
    assert first.startswith("no job can begin before this has ended: `aot run x.yaml` (pid")
    assert not jobs_lines(config_of(folder), folder / "config.yaml")[0].startswith("no job")


def test_a_job_needs_a_filtered_run_of_the_same_settings_and_a_name_that_there_is(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no job 'pre:teach'"):
        done(folder, job="pre:teach")
    with pytest.raises(RunError, match=r"other settings .seed: 0 there, 5 now"):
        done(folder, "seed=5", job="pre:lessons")
    with pytest.raises(RunError, match=r"run `aot prepare .*config\.yaml` first, with the same settings"):
        done(folder, f"run.dir={tmp_path / 'empty'}", job="pre:lessons")
    assert not (tmp_path / "empty").exists()
    with pytest.raises(RunError, match="run them first, with the same settings:"):
        done(folder, job="pre:train")


def test_the_list_is_refused_with_other_settings_like_its_jobs_but_not_before_a_stage_left_a_file(
    folder: Path, tmp_path: Path
) -> None:
    path, refused = folder / "config.yaml", r"other settings .train\.max_steps: 8 there, 9 now.*for every job"
    with pytest.raises(RunError, match=refused):
        list_jobs(config_of(folder, "train.max_steps=9"), path)
    with pytest.raises(RunError, match=refused):
        done(folder, "train.max_steps=9", job="pre:lessons")
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(folder / "run" / "config.yaml", new)
    assert list_jobs(config_of(folder, "train.max_steps=9", f"run.dir={new}"), path)


def test_a_job_stops_at_the_gate_that_stops_the_stage_and_notes_nothing(folder: Path) -> None:
    before = papers(run := RunFolder(folder / "run"))
    with pytest.raises(GuardStop, match=r"filter\.min_kept is 5000"):
        done(folder, "filter.min_kept=5000", job="pre:lessons")
    assert papers(run) == before and not run.jobs.exists()


def test_a_job_prints_no_summary_of_a_report_that_was_there_before(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(folder / "run")
    run.report.write_text("<html></html>")
    run.metrics.write_text("[]")
    cli.runs.train_command(folder / "config.yaml", [f"run.dir={run.root}"], job="pre:lessons")
    assert states(folder)["pre:lessons"] == "done" and capsys.readouterr().out == ""


def test_damaged_files_of_one_arm_stop_its_own_jobs_only(folder: Path) -> None:
    run = done(folder, job="self/round0:lessons")
    (run.arm("self/round0") / "lessons.jsonl").write_text("{}\n")
    done(folder, job="pre:lessons")
    with pytest.raises(RunError, match=r"round0/lessons\.jsonl holds 1 line"):
        done(folder, job="self/round0:train")
    (run.arm("self/round0") / "lessons.seal").write_text("{")
    (run.arm("pre") / "lessons.jsonl").unlink()
    assert done(folder, job="pre:lessons").arm("pre").exists()
    with pytest.raises(RunError, match=r"lessons\.seal is no seal"):
        done(folder, job="self/round0:train")


def test_the_list_of_jobs_says_what_each_needs_and_makes_before_there_is_a_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    lines = jobs_lines(config_of(tmp_path), tmp_path / "config.yaml")
    assert any(line.split() == ["pre:train", "waits,", "8", "steps", "needs", "pre:lessons"] for line in lines)
    assert "  reads student/pre/lessons.jsonl; makes student/pre/DONE" in lines
    assert not (tmp_path / "run").exists()
