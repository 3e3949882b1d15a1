"""A training that is spread over processes by FSDP2, ZeRO-1, or ZeRO-3 in CPU memory is the one of a single process."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lives import Lives
from safetensors.torch import load_file
from student_kit import make_run, read_lines, run_config

from aot.errors import CheckpointError
from aot.files.run_folder import RunFolder
from aot.student.model.loading import load_student
from aot.student.train.arm import train_arm

BATCH: dict[str, Any] = {
    "questions_per_step": 8, "questions_per_device": 2, "learning_rate": 0.002, "max_steps": 2, "save_steps": 1,
    "lora": {"rank": 3, "alpha": 6},
}  # fmt: skip
"""Two micro-batches for each process, and adapters whose rows two processes cannot share evenly."""
EXACT = 1e-5


def trained(root: Path, base: Path, lives: Lives | None = None, **spread: Any) -> RunFolder:
    """A trained run: in this process, or in two."""
    config = run_config(base, **BATCH, **spread)
    run = make_run(root, config)
    if lives:
        life = lives.live(run.root, "distilled", procs=2)
        assert life.codes == (0, 0), life.log
    else:
        train_arm(run, config, config.train.arms[1])
    return run


@pytest.fixture(scope="module")
def alone(bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return trained(tmp_path_factory.mktemp("alone") / "run", bases["idefics3"])


def assert_same_training(one: RunFolder, other: RunFolder) -> None:
    rows = [read_lines(run.arm("distilled") / "metrics.jsonl") for run in (one, other)]
    assert len(rows[0]) == len(rows[1]) == 2
    for a, b in zip(*rows, strict=True):
        assert {key: b[key] for key in a} == pytest.approx(a, rel=EXACT)
    tensors = [load_file(run.arm("distilled") / "adapter_model.safetensors") for run in (one, other)]
    assert tensors[0].keys() == tensors[1].keys()
    for name, tensor in tensors[0].items():
        torch.testing.assert_close(tensors[1][name], tensor, rtol=EXACT, atol=EXACT)


@pytest.mark.slow
@pytest.mark.parametrize(
    "spread", [{"zero_stage": 1}, {"zero_stage": 3, "offload": "cpu"}], ids=["zero1", "zero3_offload"]
)
def test_two_processes_of_zero_give_the_losses_and_the_student_of_one(
    spread: dict[str, Any], alone: RunFolder, bases: dict[str, Path], lives: Lives, tmp_path: Path
) -> None:
    assert_same_training(alone, trained(tmp_path / "run", bases["idefics3"], lives, procs=2, **spread))


@pytest.mark.slow
def test_two_processes_of_fsdp2_give_the_student_of_one_and_resume_to_the_same_bytes(
    alone: RunFolder, bases: dict[str, Path], lives: Lives, tmp_path: Path
) -> None:
    spread = {"procs": 2, "sharding": "fsdp2"}
    run = trained(tmp_path / "run", bases["idefics3"], lives, **spread)
    assert_same_training(alone, run)
    folder = run.arm("distilled")
    facts = json.loads((folder / "training.json").read_text())
    assert (facts["processes"], facts["zero_stage"], facts["sharding"]) == (2, 0, "fsdp2")
    config = run_config(bases["idefics3"], **BATCH, **spread)
    load_student(str(bases["idefics3"]), adapter=folder, config=config.student)  # in one process

    whole = (folder / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(folder / "checkpoints" / "checkpoint-2")
    for name in ("DONE", "adapter_model.safetensors"):
        (folder / name).unlink()
    plain = run_config(bases["idefics3"], **BATCH)
    with pytest.raises(CheckpointError, match=r"written with train\.sharding: fsdp2, now it is zero"):
        train_arm(run, plain, plain.train.arms[1])
    train_arm(run, config, config.train.arms[1])  # by torchrun now
    assert (folder / "adapter_model.safetensors").read_bytes() == whole
    assert "resumed from step 1 of 2" in (folder / "processes.log").read_text()
