"""A training outlives what clusters do to it: fewer processes, lost ranks, full disks; all lives learn the same."""

import json
import resource
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from check_resume import Setup, check
from lives import Fault, Lives, break_loss
from safetensors.torch import load_file
from student_kit import first_gradient, read_lines
from text_kit import save_text_base, text_config, text_run

from aot.config import RunConfig
from aot.errors import CheckpointError, GuardStop
from aot.files.run_folder import RunFolder
from aot.student.train.arm import make_trainer, train_arm
from aot.student.train.checkpoints import MANIFEST, check_folder, newest_intact, read_manifest
from aot.student.train.guards import StopFlag
from aot.student.train.optimizer_state import FILE
from aot.student.train.processes.ranks import lost_ranks
from aot.student.train.session import open_session
from aot.student.train.trainer import TwoTermTrainer

pytestmark = pytest.mark.timeout(600)  # many processes take turns on a busy machine
STEPS, BROKEN = 6, 5
"""Steps of each training here, and the one whose loss is no number."""
PUBLISHED = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text_base(tmp_path_factory.mktemp("survival") / "base")


def config_of(base: Path, **train: Any) -> RunConfig:
    """Twelve questions a step, which one to four processes can share, and dropout."""
    lora = {"rank": 4, "alpha": 8, "dropout": 0.2}
    batch = {"questions_per_step": 12, "questions_per_device": 3, "save_steps": 2, "max_steps": STEPS}
    return text_config(base, **{**batch, "lora": lora, "learning_rate": 0.002, **train})


def break_losses(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """The loss of these steps is no number."""
    compute = TwoTermTrainer.compute_loss

    def compute_loss(self: TwoTermTrainer, *arguments: Any, **more: Any) -> Any:
        total = compute(self, *arguments, **more)
        return break_loss(self, total) if self.state.global_step + 1 in steps else total

    monkeypatch.setattr(TwoTermTrainer, "compute_loss", compute_loss)


@pytest.fixture(scope="module")
def alone(base: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """What one process makes of the training that all others are compared with; one of its steps is broken."""
    config = config_of(base)
    run = text_run(tmp_path_factory.mktemp("alone") / "run", config)
    with pytest.MonkeyPatch.context() as patch:
        break_losses(patch, BROKEN)
        train_arm(run, config, config.train.arms[0])
    return run


def assert_same_training(run: RunFolder, other: RunFolder) -> None:
    one, two = (read_lines(each.arm("all") / "metrics.jsonl") for each in (run, other))
    assert [row["step"] for row in one] == [row["step"] for row in two]
    for a, b in zip(one, two, strict=True):
        assert {k: v for k, v in a.items() if "tokens" in k} == {k: v for k, v in b.items() if "tokens" in k}
        for key in ("loss", "label_loss", "rationale_loss", "lr"):
            assert a[key] == pytest.approx(b[key], abs=1e-5), (key, a, b)
    weights, others = (load_file(each.arm("all") / PUBLISHED) for each in (run, other))
    for name, value in weights.items():
        torch.testing.assert_close(value, others[name], rtol=1e-3, atol=1e-4, msg=name)


def seen(run: RunFolder) -> dict[int, list[str]]:
    """Question ids of each step, over all processes of all lives; of a step that was begun twice, those of the last."""
    steps: dict[int, dict[str, list[str]]] = {}
    for path in run.root.glob("seen-*.jsonl"):
        for line in path.read_text().splitlines():
            step, ids, _ = json.loads(line)
            steps.setdefault(step, {})[path.name] = ids
    return {step: sorted(one for ids in by_rank.values() for one in ids) for step, by_rank in steps.items()}


def test_four_then_two_then_one_then_three_processes_take_the_same_steps(
    lives: Lives, alone: RunFolder, base: Path, tmp_path: Path
) -> None:
    config = config_of(base)
    run = text_run(tmp_path / "run", config)
    for procs, step in ((4, 2), (2, 3), (1, 4)):
        life = lives.live(run.root, "all", procs=procs, faults=(Fault(step, "SIGTERM", rank=procs // 2),))
        assert set(life.codes) == {4}, life.log
        assert f"stopped training at step {step} of {STEPS}; it was saved" in life.log
    slurm = {"SLURM_RESTART_COUNT": "3", "SLURM_JOB_ID": "77"}
    life = lives.live(run.root, "all", procs=3, faults=(Fault(BROKEN, "nan", rank=1),), env=slurm)
    assert set(life.codes) == {0}, life.log
    assert f"resumed from step 4 of {STEPS} (restart 3 of job 77)" in life.log
    assert "3 processes go on with what 1 wrote" in life.log
    assert_same_training(run, alone)
    schedule = open_session(run, config, config.train.arms[0]).schedule()
    items = [schedule[i].question_id for i in range(12 * STEPS)]
    assert seen(run) == {step: sorted(items[12 * (step - 1) : 12 * step]) for step in range(1, STEPS + 1)}
    assert read_lines(run.arm("all") / "skipped.jsonl")[0]["step"] == BROKEN
    before = (run.root / "seen-0.jsonl").read_text()
    requeued = lives.live(run.root, "all", procs=2)
    assert requeued.codes == (0, 0) and "is trained already" in requeued.log
    assert (run.root / "seen-0.jsonl").read_text() == before


def test_a_rank_that_dies_or_hangs_is_named_and_the_requeued_job_goes_on(
    lives: Lives, alone: RunFolder, base: Path, tmp_path: Path
) -> None:
    config = config_of(base, exchange_timeout_s=8)
    run = text_run(tmp_path / "run", config)
    for rank, step, act in ((1, 3, "SIGKILL"), (0, 4, "SIGSTOP")):
        (run.arm("all") / "failure.json").unlink(missing_ok=True)
        life = lives.live(run.root, "all", procs=2, faults=(Fault(step, act, rank=rank),))
        assert (life.codes[rank], life.codes[1 - rank]) == (-signal.SIGKILL, 4), life.log
        message = json.loads((run.arm("all") / "failure.json").read_text())["message"]
        assert f"rank {rank} (" in message, message
        assert f"ended or stands still at step {step} with the questions s" in message, message
        assert lost_ranks(run.arm("all"), processes=2, ended=True).startswith(f"rank {rank} (")
    life = lives.live(run.root, "all", procs=2, faults=(Fault(BROKEN, "nan", rank=0),))
    assert set(life.codes) == {0} and f"resumed from step 2 of {STEPS}" in life.log, life.log
    assert not list((run.arm("all") / "ranks").iterdir())
    assert_same_training(run, alone)


def test_accumulation_and_processes_change_no_gradient(
    lives: Lives, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = []
    for cut in (8, 1):
        config = config_of(base, questions_per_step=8, questions_per_device=cut)
        session = open_session(text_run(tmp_path / str(cut), config), config, config.train.arms[0])
        trainer = make_trainer(session, stop=StopFlag(), on_step=lambda row: None)
        gradients.append(first_gradient(trainer, monkeypatch))
    config = config_of(base, questions_per_step=8, questions_per_device=4, max_steps=1, max_grad_norm=1e9)
    run = text_run(tmp_path / "two", config)
    life = lives.live(run.root, "all", procs=2, faults=(Fault(1, "gradient"),))
    assert set(life.codes) == {0}, life.log
    gradients.append(load_file(run.root / "gradient.safetensors"))
    assert any(value.abs().max() > 1e-3 for value in gradients[0].values())
    for other in gradients[1:]:
        assert other.keys() == gradients[0].keys()
        for name, value in gradients[0].items():
            torch.testing.assert_close(other[name], value, rtol=0, atol=1e-5, msg=name)


@pytest.mark.slow
def test_sharded_optimisers_go_on_in_any_number_of_processes(
    lives: Lives, alone: RunFolder, base: Path, tmp_path: Path
) -> None:
    for stage, numbers in ((2, (2, 1, 3)), (3, (2, 3))):
        config = config_of(base, zero_stage=stage)
        run = text_run(tmp_path / str(stage), config)
        root = run.arm("all") / "checkpoints"
        for step, procs in enumerate(numbers[:-1], start=2):
            life = lives.live(run.root, "all", procs=procs, faults=(Fault(step, "SIGTERM"),), env={"ALWAYS": "1"})
            assert set(life.codes) == {4}, life.log
        if stage == 2:
            assert_damage_is_passed_by(root / "checkpoint-3")
            (root / "checkpoint-3" / FILE).write_bytes((root / "checkpoint-3" / FILE).read_bytes()[:-2])
        fault = Fault(BROKEN, "nan", rank=1)
        life = lives.live(run.root, "all", procs=numbers[-1], faults=(fault,), env={"ALWAYS": "1"})
        assert set(life.codes) == {0}, life.log
        assert life.log.count(f"resumed from step 2 of {STEPS}") == numbers[-1]
        assert ("skipped checkpoint checkpoint-3" in life.log) == (stage == 2)
        assert_same_training(run, alone)
        assert read_lines(run.arm("all") / "skipped.jsonl")[0]["step"] == BROKEN


def assert_damage_is_passed_by(folder: Path) -> None:
    """With each file of the newest checkpoint cut short or deleted in turn, the one before it is taken."""
    names = [entry.name for entry in check_folder(folder).files] + [MANIFEST]
    assert {FILE, "scheduler.pt", "rng_state.pth", "trainer_state.json", PUBLISHED} <= set(names)
    for name in names:
        path = folder / name
        intact = path.read_bytes()
        for damaged in (None, intact[:-2]):
            path.unlink() if damaged is None else path.write_bytes(damaged)
            taken = newest_intact(folder.parent)
            assert taken and taken.step == 2, name
            path.write_bytes(intact)


@pytest.mark.slow
def test_term_and_kill_9_at_random_steps_end_with_the_same_weights(
    lives: Lives, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = text_run(tmp_path / "run", config_of(base, max_steps=4))
    assert not check(lives, run.root, "all", tmp_path / "out", [Setup(1, 0), Setup(2, 2)], kills=1, seed=0)
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[1:3] for row in rows] == [["-", "0"], ["TERM", "1"], ["kill -9", "1"]] * 2


def test_dropout_inside_the_attention_of_a_base_keeps_the_number_of_processes(base: Path, tmp_path: Path) -> None:
    config = config_of(base, max_steps=3)
    run = text_run(tmp_path / "run", config)

    def stop(done: int, total: int) -> None:
        signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(GuardStop):
        attention = torch.nn.functional.scaled_dot_product_attention

        def dropping(*arguments: Any, **more: Any) -> torch.Tensor:
            more["dropout_p"] = 0.1 if torch.is_grad_enabled() else 0.0  # not while the base is tried
            return attention(*arguments, **more)

        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", dropping)
        train_arm(run, config, config.train.arms[0], progress=stop)
    folder = run.arm("all") / "checkpoints" / "checkpoint-2"
    assert not read_manifest(folder).any_processes
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text().replace('"world_size": 1', '"world_size": 2'))
    with pytest.raises(CheckpointError, match="written by 2 processes, now there are 1, and its random numbers"):
        train_arm(run, config, config.train.arms[0])


def test_three_broken_steps_in_a_row_end_a_training_and_name_the_questions(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(base)
    run = text_run(tmp_path / "run", config)
    break_losses(monkeypatch, 1, 3, 4, 5)
    with pytest.raises(GuardStop, match=r"step 5: .* not finite .*3rd step in a row.*: s\d+, ") as stopped:
        train_arm(run, config, config.train.arms[0])
    assert stopped.value.exit_code == 4
    rows = read_lines(run.arm("all") / "skipped.jsonl")
    assert [row["step"] for row in rows] == [1, 3, 4, 5]
    assert len(rows[0]["question_ids"]) == 12 and "label nan" in rows[0]["why"]
    assert [row["step"] for row in read_lines(run.arm("all") / "metrics.jsonl")] == [2]


def test_a_skipped_step_changes_nothing_but_the_schedule(alone: RunFolder) -> None:
    rows = read_lines(alone.arm("all") / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 6]
    assert rows[-1]["lr"] == pytest.approx(0.002 / 5)
    assert json.loads((alone.arm("all") / "training.json").read_text())["skipped_steps"] == 1


def test_a_full_disk_while_saving_ends_with_a_sentence_and_the_older_checkpoint(base: Path, tmp_path: Path) -> None:
    config = config_of(base, lora={"rank": 64, "alpha": 8}, save_steps=1, max_steps=3)
    run = text_run(tmp_path / "run", config)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(done: int, total: int) -> None:
        if done == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))

    try:
        with pytest.raises(
            GuardStop, match=r"no_space: .*the checkpoint of step 1 is untouched.*Free space"
        ) as stopped:
            train_arm(run, config, config.train.arms[0], progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert stopped.value.exit_code == 4
    root = run.arm("all") / "checkpoints"
    assert sorted(path.name for path in root.iterdir()) == ["SAVED", "checkpoint-1"]
    train_arm(run, config, config.train.arms[0])
    assert [row["step"] for row in read_lines(run.arm("all") / "metrics.jsonl")] == [1, 2, 3]


def test_a_stop_file_stops_what_runs_and_not_what_begins_later(base: Path, tmp_path: Path) -> None:
    config = config_of(base, max_steps=3)
    run = text_run(tmp_path / "run", config)

    def put(done: int, total: int) -> None:
        run.stop.touch()

    with pytest.raises(GuardStop, match=r"the file .*STOP stopped training at step 2 of 3; it was saved"):
        train_arm(run, config, config.train.arms[0], progress=put)
    train_arm(run, config, config.train.arms[0])


def test_the_clock_stops_a_training_before_its_time_is_over(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(base, max_steps=3)
    run = text_run(tmp_path / "run", config)
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 5))
    with pytest.raises(GuardStop, match="the clock: the time of this job is over stopped training at step 1 of 3"):
        train_arm(run, config, config.train.arms[0])
    monkeypatch.delenv("SLURM_JOB_END_TIME")
    train_arm(run, config, config.train.arms[0])
