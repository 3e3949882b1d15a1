"""Options of a training: schedules, epochs, early stopping, kernels that may change no loss, dtypes, trackers."""

import hashlib
import importlib.util
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from student_kit import assert_same_gradients, first_gradient, read_lines, run_config, trainer_of
from text_kit import save_text_base, text_config, text_run

from aot.config import parse_config
from aot.errors import CheckpointError, ConfigError, GuardStop, SourceError
from aot.files.run_folder import RunFolder, read_rows
from aot.records import Question
from aot.student.model.loading import load_model, pick_dtype
from aot.student.model.lora import add_lora
from aot.student.train import options
from aot.student.train.arguments import rate_of
from aot.student.train.arm import make_trainer, train_arm
from aot.student.train.guards import GradientCheck, StopFlag
from aot.student.train.held_out import Look
from aot.student.train.session import Session, open_session

STILL = 1e-12
"""A learning rate at which nothing is learned, so that no look is better than the first."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text_base(tmp_path_factory.mktemp("base"))


def with_student(config: Any, **student: Any) -> Any:
    return config.model_copy(update={"student": config.student.model_copy(update=student)})


def trained(root: Path, base: Path, **settings: Any) -> RunFolder:
    config = text_config(base, **settings)
    run = text_run(root, config)
    train_arm(run, config, config.train.arms[0])
    return run


def arm_facts(run: RunFolder) -> dict[str, Any]:
    return json.loads((run.arm("all") / "training.json").read_text())


def adapter_digest(folder: Path) -> str:
    return hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()


def opened(root: Path, config: Any) -> Session:
    return open_session(text_run(root, config), config, config.train.arms[0])


# Schedules and epochs


@pytest.mark.parametrize("scheduler", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0, 1, 3, 9])
def test_every_schedule_learns_in_each_step_and_never_more_than_the_rate(scheduler: Any, warmup: int) -> None:
    rates = [rate_of(done, warmup=warmup, total=8, scheduler=scheduler) for done in range(8)]
    assert all(0 < rate <= 1 for rate in rates)
    up, down = rates[:warmup], rates[warmup:]
    assert up == sorted(up) and down == sorted(down, reverse=True)
    if down:
        assert down[0] == 1 and rate_of(8, warmup=warmup, total=8, scheduler=scheduler) == (scheduler == "constant")


def test_epochs_make_the_steps_and_a_schedule_runs_over_them(base: Path, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", base, arm={"order": "pre"}, epochs=0.5, scheduler="cosine", save_steps=9)
    rows = read_lines(run.arm("all") / "metrics.jsonl")
    facts = arm_facts(run)
    assert facts["lessons"] == 60 and facts["max_steps"] == len(rows) == 4  # 30 of 60 lessons, 8 a step
    rates = [rate_of(done, warmup=1, total=4, scheduler="cosine") for done in range(4)]
    assert [row["lr"] for row in rows] == pytest.approx([0.01 * rate for rate in rates])


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"epochs": 2, "max_steps": 3}, r"train\.max_steps is read by runs without train\.epochs"),
        ({"epochs": 0}, r"train\.epochs: must be more than 0"),
        ({"epochs": 1, "arms": [{"name": "a", "order": "adaptive"}]}, "and no such arm of order: adaptive only"),
        ({"zero_stage": 2, "sharding": "fsdp2"}, r"train\.zero_stage is read by runs with train\.sharding: zero only"),
        ({"sharding": "zero2"}, "must be 'zero' or 'fsdp2', got 'zero2'"),
        ({"zero_stage": 2, "offload": "cpu"}, r"train\.offload is read by runs with train\.zero_stage: 3 only"),
        ({"zero_stage": 3, "compile": True}, r"train\.compile is read by runs with train\.zero_stage: 0, 1 or 2 only"),
        ({"early_stop": {"share": 1}}, r"train\.early_stop\.share: must be less than 1"),
        ({"trackers": ["tensorflow"]}, r"train\.trackers\.0: must be 'tensorboard', 'wandb', 'trackio' or 'mlflow'"),
        ({"scheduler": "exponential"}, "must be 'linear', 'cosine' or 'constant'"),
    ],
)
def test_settings_that_contradict_each_other_are_errors_that_say_what_would_do(train: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({"data": {"dataset": "toy_kitchen"}, "train": train}, source="run.yaml")


def test_fsdp2_needs_several_processes(base: Path, tmp_path: Path) -> None:
    config = text_config(base, sharding="fsdp2")
    with pytest.raises(ConfigError, match=r"fsdp2 spreads .*, and there is one; use train\.procs=2 or more"):
        train_arm(text_run(tmp_path / "run", config), config, config.train.arms[0])


# Early stopping


def test_training_ends_when_no_look_is_better_and_the_best_student_is_published(base: Path, tmp_path: Path) -> None:
    settings = {"arm": {"order": "pre"}, "max_steps": 9, "save_steps": 1, "keep_checkpoints": 1, "learning_rate": STILL}
    run = trained(tmp_path / "run", base, **settings, early_stop={"share": 0.3, "every": 2, "patience": 2})
    looks = list(read_rows(run.arm("all") / "held_out.jsonl", Look))
    assert [(look.step, look.best) for look in looks] == [(2, True), (4, False), (6, False)]
    assert len(read_lines(run.arm("all") / "metrics.jsonl")) == 6
    facts = arm_facts(run)
    assert (facts["published_step"], facts["last_step"], facts["held_out"]) == (2, 6, 20)
    assert adapter_digest(run.arm("all")) == adapter_digest(run.arm("all") / "checkpoints" / "checkpoint-2")
    stored = load_file(run.arm("all") / "adapter_model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float32}

    before = adapter_digest(run.arm("all"))
    for name in ("DONE", "adapter_model.safetensors", "manifest.json"):  # as if killed just before it was published
        (run.arm("all") / name).unlink()
    config = text_config(base, **settings, early_stop={"share": 0.3, "every": 2, "patience": 2})
    train_arm(run, config, config.train.arms[0])
    assert adapter_digest(run.arm("all")) == before and len(read_lines(run.arm("all") / "metrics.jsonl")) == 6

    for name in ("DONE", "checkpoints/checkpoint-2/adapter_model.safetensors"):
        (run.arm("all") / name).unlink()
    with pytest.raises(CheckpointError, match="checkpoint of step 2, which is to be published, is not intact"):
        train_arm(run, config, config.train.arms[0])


def test_a_student_that_gets_better_takes_all_its_steps_also_when_resumed(base: Path, tmp_path: Path) -> None:
    settings = {"arm": {"order": "pre"}, "max_steps": 6, "save_steps": 3, "learning_rate": 0.005}
    early = {"early_stop": {"share": 0.3, "every": 3, "patience": 1}}
    run = trained(tmp_path / "run", base, **settings, **early)
    looks = list(read_rows(run.arm("all") / "held_out.jsonl", Look))
    assert [(look.step, look.best) for look in looks] == [(3, True), (6, True)]
    assert looks[1].loss < looks[0].loss and looks[1].loss == looks[1].label_loss + looks[1].rationale_loss
    assert arm_facts(run)["published_step"] == 6
    again = RunFolder(tmp_path / "again")
    shutil.copytree(run.root, again.root)
    (again.arm("all") / "DONE").unlink()
    shutil.rmtree(again.arm("all") / "checkpoints" / "checkpoint-6")
    config = text_config(base, **settings, **early)
    train_arm(again, config, config.train.arms[0])
    assert adapter_digest(again.arm("all")) == adapter_digest(run.arm("all"))
    assert list(read_rows(again.arm("all") / "held_out.jsonl", Look)) == looks


def test_held_out_groups_are_those_of_every_arm_and_no_lesson_of_theirs_is_learned(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    config = run_config(bases["idefics3"], early_stop={"share": 0.3})
    sessions = [trainer_of(tmp_path / str(arm), config, arm=arm)[0] for arm in (0, 1)]
    groups = {q.id: q.group for q in read_rows(RunFolder(tmp_path / "0").questions, Question)}
    for session in sessions:
        held_out = {groups[one.question_id] for one in session.held_out}
        learned = {groups[one.question_id] for one in session.data.examples}
        assert len(held_out) == 1 and len(learned) == 3 and not held_out & learned
        assert learned == {groups[one.question_id] for one in session.seen()}
    assert len({one.question_id for session in sessions for one in session.held_out}) == len(sessions[0].held_out)


def test_a_share_that_leaves_nothing_to_learn_is_refused(base: Path, tmp_path: Path) -> None:
    config = text_config(base, early_stop={"share": 0.99})
    with pytest.raises(SourceError, match=r"share=0\.99 holds 12 of 12 groups .* out, and with them 60 of 60 examples"):
        opened(tmp_path / "run", config)


# Kernels


def test_eager_attention_pads_and_gives_the_gradient_of_sdpa(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = text_config(base)
    plain = first_gradient(make(opened(tmp_path / "a", config)), monkeypatch)
    session = opened(tmp_path / "b", with_student(config, attention="eager"))
    eager = first_gradient(make(session), monkeypatch)
    assert session.student.model.config._attn_implementation == "eager"
    assert_same_gradients(plain, eager)
    assert "student.attention: eager keeps the loss of the first lessons" in caplog.text
    facts = json.loads((session.folder / "training.json").read_text())
    assert (facts["attention"], facts["packing"]) == ("eager", "padded (attention eager takes no mask of our own)")


def make(session: Session) -> Any:
    return make_trainer(session, stop=StopFlag(), on_step=lambda row: None)


def test_a_kernel_that_changes_the_loss_or_fails_is_refused_by_name(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(tmp_path / "run", text_config(base, compile=True))
    layers = options.decoder_layers(session.student.model)

    def double(model: Any) -> None:
        layers[0].register_forward_hook(lambda module, args, output: output * 1.5)

    monkeypatch.setattr(options, "_compile_layers", double)
    with pytest.raises(ConfigError, match=r"train\.compile: true changes the loss of the first lessons from \d"):
        make(session)
    monkeypatch.setattr(options, "_compile_layers", lambda model: model.no_such_part)
    with pytest.raises(ConfigError, match=r"train\.compile: true fails on the first lessons \(AttributeError"):
        make(session)


def test_compiled_layers_give_the_gradient_of_plain_ones_and_keep_their_names(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "COMPILER", "eager")  # traced as ever; kernels take a minute
    plain = first_gradient(make(opened(tmp_path / "a", text_config(base))), monkeypatch)
    compiled = first_gradient(make(opened(tmp_path / "b", text_config(base, compile=True))), monkeypatch)
    assert_same_gradients(plain, compiled)


@pytest.mark.parametrize(
    ("student", "train", "message"),
    [
        ({"attention": "flash_attention_2"}, {}, r"student\.attention: flash_attention_2 needs the package flash-attn"),
        ({}, {"liger": True}, r"train\.liger: true needs the package liger-kernel, .* pip install liger-kernel"),
        ({}, {"trackers": ("mlflow",)}, r"train\.trackers: mlflow needs the package mlflow, which is not installed"),
        ({}, {"zero_stage": 2}, r"train\.zero_stage: 2 needs the package deepspeed, .* pip install -e .*\[deepspeed\]"),
    ],
)
def test_options_without_their_package_are_refused_before_any_work(
    student: Any, train: Any, message: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    absent = ("flash_attn", "liger_kernel", "mlflow", "deepspeed")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else there(name))
    config = with_student(text_config(base, **train), **student)
    with pytest.raises(ConfigError, match=message) as caught:
        train_arm(RunFolder(tmp_path / "nothing"), config, config.train.arms[0])
    assert caught.value.exit_code == 2


def test_gpu_kernels_on_a_cpu_are_refused(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())  # all packages are installed
    config = text_config(base, liger=True)
    with pytest.raises(ConfigError, match=r"train\.liger: true is for GPUs, and student\.device is cpu"):
        options.require_options(config.student, config.train)
    session = opened(tmp_path / "run", with_student(config, device="auto"))
    with pytest.raises(ConfigError, match=r"train\.liger: true is for GPUs, and torch sees none here"):
        make(session)


# Memory: types of weights, checkpointed activations, a frozen tower


def test_weights_are_float32_on_a_cpu_and_adapters_of_a_bfloat16_base_too(base: Path) -> None:
    config = text_config(base)
    assert config.student.dtype == "auto" and pick_dtype(config.student) == torch.float32
    model = load_model(str(base), dtype=torch.bfloat16)
    adapted = add_lora(model, config.train.lora).model
    assert {p.dtype for p in adapted.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in adapted.parameters() if not p.requires_grad} == {torch.bfloat16}


def test_checkpointed_activations_give_adapters_the_same_gradient(
    bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = first_gradient(trainer_of(tmp_path / "a", run_config(bases["idefics3"]))[1], monkeypatch)
    config = run_config(bases["idefics3"], gradient_checkpointing=True)
    session, trainer = trainer_of(tmp_path / "b", config)
    calls: list[int] = []
    layer = options.decoder_layers(session.student.model)[0].self_attn
    layer.register_forward_hook(lambda *_: calls.append(1))
    assert_same_gradients(plain, first_gradient(trainer, monkeypatch))
    assert len(calls) == 2  # once forward, once more on the way back


def test_a_frozen_vision_tower_keeps_no_activations(
    bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pattern, is_kept in ((None, False), (r"model\.(text_model|vision_model)\..*q_proj", True)):
        lora = {"rank": 2, "alpha": 2, **({"target_pattern": pattern} if pattern else {})}
        session, trainer = trainer_of(
            tmp_path / str(is_kept), run_config(bases["idefics3"], lora=lora, vision_cache="off")
        )
        outputs: list[torch.Tensor] = []
        tower = session.student.model.model.vision_model
        tower.register_forward_hook(lambda module, args, output, kept=outputs: kept.append(output[0]))
        first_gradient(trainer, monkeypatch)
        assert outputs and all((one.grad_fn is not None) == is_kept for one in outputs)


def test_parts_of_gradients_are_judged_as_whole_ones() -> None:
    model = torch.nn.ModuleDict({"lora_B": torch.nn.Linear(2, 2, bias=False), "other": torch.nn.Linear(2, 2)})
    for name, p in model.named_parameters():
        p.grad = torch.zeros_like(p) if "lora_B" in name else torch.ones_like(p)
    for elsewhere in (1.0, 0.0):
        check = GradientCheck(model)
        check.see_parts(model, reduced=lambda counts, more=elsewhere: counts + torch.tensor([0.0, more, 0.0, 0.0]))
        if elsewhere:
            check.finish()
        else:
            with pytest.raises(GuardStop, match=r"lora_B\.weight got a gradient of zeros only"):
                check.finish()
    model["other"].bias.grad = None
    check = GradientCheck(model)
    check.see_parts(model, reduced=lambda counts: counts + torch.tensor([0.0, 1.0, 0.0]))
    with pytest.raises(GuardStop, match=r"other\.bias is trainable but got no gradient"):
        check.finish()


# Trackers


def test_tensorboard_gets_the_losses_of_each_step(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = trained(tmp_path / "run", base, max_steps=2, trackers=["tensorboard"])
    rows = read_lines(run.arm("all") / "metrics.jsonl")
    events = EventAccumulator(str(run.arm("all") / "trackers" / "tensorboard"))
    events.Reload()
    for key in ("loss", "label_loss", "rationale_loss", "grad_norm"):
        assert [one.value for one in events.Scalars(f"train/{key}")] == pytest.approx([row[key] for row in rows])


def test_trackers_write_into_the_folder_of_the_arm_and_leave_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    before = dict(os.environ)
    with options.tracking(("wandb", "tensorboard"), tmp_path / "trackers"):
        assert os.environ["WANDB_MODE"] == "offline" and os.environ["WANDB_PROJECT"] == "mine"
        assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(tmp_path / "trackers" / "tensorboard")
    assert dict(os.environ) == before
