"""Several processes give what one gives: plain data parallel, ZeRO-2 and ZeRO-3, on a CPU with gloo."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lives import Lives
from safetensors.torch import load_file
from student_kit import make_run, read_lines, run_config

from aot.config import load_saved
from aot.errors import GuardStop, SourceError
from aot.files.lease import hold
from aot.files.run_folder import RunFolder, publish_rows
from aot.student.model.loading import load_student
from aot.student.train.arm import train_arm
from aot.student.train.processes.launch import Call, Place, command, launch
from aot.student.train.processes.zero import ZERO

REPOSITORY = Path(__file__).parents[2]


def train_rows(run: RunFolder, config: Any) -> list[dict[str, Any]]:
    train_arm(run, config, config.train.arms[1])
    return read_lines(run.arm("distilled") / "metrics.jsonl")


@pytest.mark.parametrize("name", ZERO)
def test_shipped_json_is_what_is_used(name: str) -> None:
    shipped = json.loads((REPOSITORY / "configs" / "deepspeed" / f"{name}.json").read_text())
    assert shipped == ZERO[name]


def test_every_shipped_json_is_used() -> None:
    assert {path.stem for path in (REPOSITORY / "configs" / "deepspeed").glob("*.json")} == set(ZERO)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 2, 3])
def test_two_processes_follow_one_process_step_by_step(
    stage: int, bases: dict[str, Path], lives: Lives, tmp_path: Path
) -> None:
    batch = {"questions_per_step": 8, "questions_per_device": 2, "learning_rate": 0.002}
    alone = run_config(bases["idefics3"], **batch)
    # Which ones share out the looking at frames, too.
    features = {"vision_cache": {0: "memory", 2: "off", 3: "disk"}[stage]}
    both = run_config(bases["idefics3"], **batch, **features, procs=2, zero_stage=stage)
    runs = [make_run(tmp_path / "alone", alone), make_run(tmp_path / "both", both)]
    one = train_rows(runs[0], alone)
    if stage == 3:  # the others are started by torchrun
        life = lives.live(runs[1].root, "distilled", procs=2)
        assert life.codes == (0, 0), life.log
        two = read_lines(runs[1].arm("distilled") / "metrics.jsonl")
    else:
        two = train_rows(runs[1], both)
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


MIXED_RUN: dict[str, Any] = {"max_steps": 3, "questions_per_step": 2, "procs": 2, "vision_cache": "off"}
"""With features that were made before, nobody would call the tower."""
MIXED = """
import os
from dataclasses import replace
from pathlib import Path
from aot.student.train import arm
make_collator, rank, folder = arm._collator, os.environ["RANK"], Path(__file__).parent
def blind(example, image_id):
    rows = (replace(row, prompt_ids=tuple(i for i in row.prompt_ids if i != image_id)) for row in example.rows)
    return replace(example, frames=None, rows=tuple(rows))
def collator_of(session):
    collator, image_id = make_collator(session), session.student.renderer.image_token_id
    if "NO_DUMMY" in os.environ:
        collator = replace(collator, dummy_size_hw=None)
    def collate(examples):
        (folder / f"batch-of-{rank}").touch()
        return collator(examples if rank == "0" else [blind(example, image_id) for example in examples])
    return collate
arm._collator = collator_of
"""


def mixed_ends_well(lives: Lives, run: RunFolder, *, limit_s: float, **env: str) -> bool:
    """Whether two processes, of which one is given frames and the other text only, take all steps in that time."""
    program = run.root / "mixed.py"
    program.write_text(MIXED)
    life = lives.live(run.root, "distilled", procs=2, program=program, limit_s=limit_s, env=env)
    assert all((run.root / f"batch-of-{rank}").exists() for rank in (0, 1)), life.log
    return life.codes == (0, 0)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_zero_3_does_not_hang_when_one_process_has_no_frames(
    bases: dict[str, Path], lives: Lives, tmp_path: Path
) -> None:
    config = run_config(bases["idefics3"], **MIXED_RUN, zero_stage=3)
    runs = {dummy: make_run(tmp_path / dummy, config) for dummy in ("dummy", "none")}
    began_s = time.monotonic()
    assert mixed_ends_well(lives, runs["dummy"], limit_s=200)
    rows = read_lines(runs["dummy"].arm("distilled") / "metrics.jsonl")
    assert len(rows) == 3 and all(row["label_tokens"] > 0 for row in rows)
    # The control: without the dummy frame one process waits for the other for ever, or gloo tells them that they do
    # not talk about the same weights.
    took_s = time.monotonic() - began_s
    assert not mixed_ends_well(lives, runs["none"], limit_s=max(5, 2 * took_s), NO_DUMMY="1")
    assert not read_lines(runs["none"].arm("distilled") / "metrics.jsonl")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_fsdp2_does_not_hang_when_one_process_has_no_frames(
    bases: dict[str, Path], lives: Lives, tmp_path: Path
) -> None:
    # No control: fully_shard gathers the tower with the root of the model, whether it is called or not.
    config = run_config(bases["idefics3"], **MIXED_RUN, sharding="fsdp2")
    run = make_run(tmp_path / "run", config)
    assert mixed_ends_well(lives, run, limit_s=200)
    assert len(read_lines(run.arm("distilled") / "metrics.jsonl")) == 3


@pytest.mark.slow
def test_several_processes_stop_on_a_signal_and_resume(bases: dict[str, Path], tmp_path: Path) -> None:
    config = run_config(bases["idefics3"], max_steps=30, save_steps=10, procs=2)
    run = make_run(tmp_path / "run", config)

    def progress(done: int, total: int) -> None:
        if 1 <= done < total and not (run.root / "sent").exists():
            (run.root / "sent").touch()
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        train_arm(run, config, config.train.arms[1], progress=progress)
    except (GuardStop, KeyboardInterrupt) as stopped:
        assert "SIGTERM" in str(stopped) or "signal" in str(stopped)
    assert [row["step"] for row in train_rows(run, config)] == list(range(1, 31))


@pytest.mark.slow
def test_error_of_a_process_is_told_as_our_error(bases: dict[str, Path], tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", run_config(bases["idefics3"], procs=2))
    config = run_config(bases["idefics3"], procs=2, exchange_timeout_s=77)
    publish_rows(run.questions, [])
    with pytest.raises(SourceError, match="no question of the train split"):
        train_arm(run, config, config.train.arms[1])
    assert load_saved(run.arm("distilled") / "processes.yaml") == config  # what is given later reaches the processes


ONE_FAILS = """
import os, signal, sys, time
from aot.errors import SourceError
from aot.interrupts import Interrupted
from aot.student.train.processes import worker
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
    monkeypatch.setattr("aot.student.train.processes.launch.command", lambda *_, **__: arguments)
    with pytest.raises(SourceError, match="the disk of the second process is empty"):
        launch(run, config, config.train.arms[1])


def test_processes_of_a_training_work_under_the_lease_of_who_started_them(tmp_path: Path) -> None:
    run, arm = RunFolder(tmp_path), run_config(tmp_path).train.arms[0]
    call = Call(arm=arm.name, id="a", lease_id="")
    alone = partial(command, run, arm, procs=2, place=Place.of(1, 0, None), call=call)
    assert alone(lease=None)[-3:] == ["aot.student.train.processes.worker", str(tmp_path), arm.name]
    with hold(run.lease, root=run.root, command=["aot", "train"]) as lease:
        assert alone(lease=lease)[-3:] == [arm.name, str(lease.path), lease.id]


def test_worker_without_arguments_says_how_to_call_it() -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "aot.student.train.processes.worker"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert "RUN_DIR ARM" in done.stderr
