"""The check of a GPU, as far as a CPU goes: its parts on a small random model, its arithmetic, and what it says."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.append(str(SCRIPTS))

import check_gpu  # noqa: E402
import gpu_model  # noqa: E402
import gpu_parts  # noqa: E402

TINY = gpu_model.Shape(True, 3, (56, 84), 2, 2, 1, 2, 4, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("gpu")
    gpu_parts.build(made, TINY, {})
    return made


@pytest.fixture(scope="module")
def ours(folder: Path) -> dict[str, Any]:
    return gpu_parts.ours(folder, TINY, {})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_machine_without_a_gpu_is_told_so_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def here(command: list[str], *, limit_s: float) -> tuple[int, str, str]:  # no process of its own, which takes long
        return 0, json.dumps(gpu_parts.PARTS[command[2]](Path(command[3]), TINY, json.loads(command[5]))), ""

    monkeypatch.setattr(check_gpu, "_run", here)
    monkeypatch.setattr(sys, "argv", ["check_gpu.py", "--out", str(tmp_path / "out"), "--work", str(tmp_path)])
    assert check_gpu.main() == 2 and not list(tmp_path.iterdir())
    (line,) = capsys.readouterr().err.splitlines()
    assert "sees no GPU" in line and "--cpu" in line


def test_a_part_that_takes_too_long_is_ended_and_others_give_code_output_and_errors() -> None:
    assert check_gpu._run([sys.executable, "-c", "while True: pass"], limit_s=0.5)[0] is None
    code, out, err = check_gpu._run([sys.executable, "-c", "import sys; print(1); sys.exit('no')"], limit_s=60.0)
    assert (code, out, err) == (1, "1\n", "no\n")


def test_our_trainer_and_the_plain_one_take_the_same_rows(folder: Path, ours: dict[str, Any]) -> None:
    plain = gpu_parts.plain(folder, TINY, {})
    assert ours["n"] == plain["n"] == 2 and ours["step_tokens"] == plain["step_tokens"] > 0
    assert len(ours["losses"]) == len(plain["losses"]) == TINY.max_steps
    assert ours["losses"][-1] < ours["losses"][0]


@pytest.mark.timeout(600)
def test_a_training_that_was_stopped_by_term_goes_on_with_the_same_losses(folder: Path, ours: dict[str, Any]) -> None:
    stopped = gpu_parts.resume(folder, TINY, {})
    wrong: list[str] = []
    check_gpu._same_losses("resume", ours, stopped, wrong, True, steps=TINY.max_steps)
    assert not wrong and 1 <= stopped["stopped_at"] < TINY.max_steps and stopped["tokens"] == ours["tokens"]


def test_operations_are_those_that_torch_counts() -> None:
    frozen, trained = torch.nn.Linear(8, 16, bias=False), torch.nn.Linear(16, 4, bias=False)
    frozen.requires_grad_(False)
    model = torch.nn.Sequential(frozen, torch.nn.ReLU(), trained, torch.nn.Linear(4, 4, bias=False))
    operations = gpu_model.Operations(model)
    with operations.counted(), FlopCounterMode(display=False) as counter:
        model(torch.randn(5, 8)).sum().backward()
    assert operations.total == counter.get_total_flops() > 0


def test_products_that_are_done_again_in_backward_count_once() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    totals = []
    for again in (False, True):
        operations, given = gpu_model.Operations(model), torch.randn(3, 8, requires_grad=True)
        with operations.counted():
            made = torch.utils.checkpoint.checkpoint(model, given, use_reentrant=False) if again else model(given)
            made.sum().backward()
        totals.append(operations.total)
    assert totals[0] == totals[1] == 2 * 3 * 2 * 8 * 8 * 3


def test_the_share_of_the_peak_is_told_with_the_goal_and_a_missed_loss_is_wrong() -> None:
    step = {"state": "done", "step_s": 0.5, "fastest_s": 0.4, "slowest_s": 0.6, "n": 8, "tokens_per_s": 100.0,
            "memory_gib": 50.0, "settings": {}, "operations": 0.25e15, "losses": [12.0, 9.0]}  # fmt: skip
    results: dict[str, Any] = {
        "look": {"state": "done", "matmul_per_s": 0.8e15}, "ours": step, "plain": {**step, "step_s": 1.0},
        "flash": {**step, "losses": [13.0, 9.0]}, "trl": {"state": "skipped", "why": "trl is not installed"},
    }  # fmt: skip
    rows, wrong = check_gpu._table(results, peak=989e12, on_cpu=False)
    table = {row[0]: row[1:] for row in rows}
    assert table["MFU"][0] == "50.6% (goal 45%: reached)" and "62.5% of a product" in table["MFU"][1]
    assert table["one step, transformers' Trainer"][1] == "ours is 2.00 times as fast"
    assert table["one step, TRL's SFTTrainer"] == ("not measured", "skipped: trl is not installed")
    assert len(wrong) == 1 and wrong[0].startswith("loss of the first step, flash")


def test_the_peak_is_that_of_the_named_device() -> None:
    names = {"NVIDIA H200": 989e12, "NVIDIA H100 PCIe": 756e12, "NVIDIA H100 80GB HBM3": 989e12, "NVIDIA L40S": 362e12}
    assert {name: gpu_model.peak_of(name) for name in names} == names
    assert gpu_model.peak_of("something new") == 0.0
