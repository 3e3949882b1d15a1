"""Several processes give what one gives: plain data parallel, ZeRO-2 and ZeRO-3, on a CPU with gloo."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from student_kit import make_run, read_lines, run_config

from aot.errors import GuardStop, SourceError
from aot.files.lease import hold
from aot.files.run_folder import RunFolder, publish_rows, read_rows
from aot.records import Question
from aot.student.model.loading import load_student
from aot.student.train.arm import train_arm
from aot.student.train.launch import command, launch
from aot.student.train.zero import ZERO

REPOSITORY = Path(__file__).parents[2]


def train_rows(run: RunFolder, config: Any) -> list[dict[str, Any]]:
    train_arm(run, config, config.train.arms[1])
    return read_lines(run.arm("distilled") / "metrics.jsonl")


@pytest.mark.parametrize("stage", [2, 3])
def test_shipped_json_is_what_is_used(stage: int) -> None:
    shipped = json.loads((REPOSITORY / "configs" / "deepspeed" / f"zero{stage}.json").read_text())
    assert shipped == ZERO[stage]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 2, 3])
def test_two_processes_follow_one_process_step_by_step(stage: int, bases: dict[str, Path], tmp_path: Path) -> None:
    batch = {"questions_per_step": 8, "questions_per_device": 2, "learning_rate": 0.002}
    alone = run_config(bases["idefics3"], **batch)
    both = run_config(bases["idefics3"], **batch, procs=2, zero_stage=stage)
    runs = [make_run(tmp_path / "alone", alone), make_run(tmp_path / "both", both)]
    one, two = train_rows(runs[0], alone), train_rows(runs[1], both)
    for a, b in zip(one, two, strict=True):
        assert {k: v for k, v in a.items() if "tokens" in k} == {k: v for k, v in b.items() if "tokens" in k}
        for key in ("loss", "label_loss", "rationale_loss", "grad_norm", "lr"):
            assert b[key] == pytest.approx(a[key], rel=2e-3, abs=1e-6), (a, b)
    tensors = [load_file(run.arm("distilled") / "adapter_model.safetensors") for run in runs]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(tensors[0][key].shape == tensors[1][key].shape for key in tensors[0])
    load_student(str(bases["idefics3"]), adapter=runs[1].arm("distilled"), config=both.student)
    facts = json.loads((runs[1].arm("distilled") / "training.json").read_text())
    assert (facts["processes"], facts["zero_stage"]) == (2, stage)
    assert facts["parameters"] == json.loads((runs[0].arm("distilled") / "training.json").read_text())["parameters"]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_zero_3_does_not_hang_when_one_process_has_no_frames(bases: dict[str, Path], tmp_path: Path) -> None:
    config = run_config(bases["idefics3"], max_steps=3, questions_per_step=2, procs=2, zero_stage=3)
    run = make_run(tmp_path / "run", config)
    questions = list(read_rows(run.questions, Question))
    half = [q.model_copy(update={"media": None}) if i % 2 else q for i, q in enumerate(questions)]
    publish_rows(run.questions, half)
    assert len(train_rows(run, config)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_several_processes_stop_on_a_signal_and_resume(
    number: signal.Signals, bases: dict[str, Path], tmp_path: Path
) -> None:
    config = run_config(bases["idefics3"], max_steps=30, save_steps=10, procs=2)
    run = make_run(tmp_path / "run", config)

    def progress(done: int, total: int) -> None:
        if 1 <= done < total and not (run.root / "sent").exists():
            (run.root / "sent").touch()
            os.kill(os.getpid(), number)

    try:
        train_arm(run, config, config.train.arms[1], progress=progress)
    except (GuardStop, KeyboardInterrupt) as stopped:
        assert number.name in str(stopped) or "signal" in str(stopped)
    assert [row["step"] for row in train_rows(run, config)] == list(range(1, 31))


@pytest.mark.slow
def test_error_of_a_process_is_told_as_our_error(bases: dict[str, Path], tmp_path: Path) -> None:
    config = run_config(bases["idefics3"], procs=2)
    run = make_run(tmp_path / "run", config)
    publish_rows(run.questions, [])
    with pytest.raises(SourceError, match="no question of the train split"):
        train_arm(run, config, config.train.arms[1])


ONE_FAILS = """
import os, signal, sys, time
from aot.errors import SourceError
from aot.interrupts import Interrupted
from aot.student.train import worker
def fail_or_wait(run, name):
    if os.environ["RANK"] == "0":
        time.sleep(60)
    raise SourceError("the disk of the second process is empty")
worker._train = fail_or_wait
def stop(number, frame):
    raise Interrupted(signal.Signals(number).name)
signal.signal(signal.SIGTERM, stop)
sys.exit(worker.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_reason_of_the_process_that_failed_first_is_told_whichever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_config(tmp_path, procs=2)
    run = RunFolder(tmp_path / "run")
    (tmp_path / "one_fails.py").write_text(ONE_FAILS)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [*torchrun, str(tmp_path / "one_fails.py"), str(run.root), "distilled"]
    monkeypatch.setattr("aot.student.train.launch.command", lambda *_, **__: arguments)
    with pytest.raises(SourceError, match="the disk of the second process is empty"):
        launch(run, config, config.train.arms[1])


def test_processes_of_a_training_work_under_the_lease_of_who_started_them(tmp_path: Path) -> None:
    run, arm = RunFolder(tmp_path), run_config(tmp_path).train.arms[0]
    assert command(run, arm, procs=2)[-3:] == ["aot.student.train.worker", str(tmp_path), arm.name]
    with hold(run.lease, root=run.root, command=["aot", "train"]) as lease:
        assert command(run, arm, procs=2)[-3:] == [arm.name, str(lease.path), lease.id]


def test_worker_without_arguments_says_how_to_call_it() -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "aot.student.train.worker"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert "RUN_DIR ARM" in done.stderr
