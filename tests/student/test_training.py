"""Training one arm: the loss falls, the gradient does not depend on how a batch is cut, and guards stop bad runs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from student_kit import (
    assert_same_gradients,
    first_gradient,
    make_run,
    read_lines,
    run_config,
    trainer_of,
    write_lessons,
)

from aot.errors import CheckpointError, ConfigError, GuardStop
from aot.files.run_folder import publish_rows, read_rows
from aot.records import Trace, Verdict
from aot.student.model.loading import load_student
from aot.student.model.lora import add_lora, default_pattern
from aot.student.train.arm import train_arm
from aot.student.train.guards import GradientCheck
from aot.student.train.session import open_session

FAMILIES = ("idefics3", "llava")


@pytest.mark.parametrize("family", FAMILIES)
def test_training_lowers_both_terms_and_publishes_an_adapter(
    family: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    config = run_config(bases[family], max_steps=20, save_steps=20, learning_rate=0.005)
    run = make_run(tmp_path / "run", config)
    train_arm(run, config, config.train.arms[1])
    rows = read_lines(run.arm("distilled") / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 21))
    assert rows[-1]["label_loss"] < 0.8 * rows[0]["label_loss"]
    assert rows[-1]["rationale_loss"] < 0.8 * rows[0]["rationale_loss"]
    student = load_student(str(bases[family]), adapter=run.arm("distilled"), config=config.student)
    assert not any(parameter.requires_grad for parameter in student.model.parameters())


def test_a_question_that_leaks_into_another_split_is_not_trained_on(bases: dict[str, Path], tmp_path: Path) -> None:
    config = run_config(bases["idefics3"])
    run = make_run(tmp_path / "run", config)
    verdicts = [("q3", "leakage", False), ("q4", "leakage", True), ("q5", "length", False)]
    publish_rows(run.verdicts, [
        Verdict(question_id=name, sample_index=0, filter=one, keep=keep, reason="x") for name, one, keep in verdicts
    ])  # fmt: skip
    write_lessons(run, config)
    session = open_session(run, config, config.train.arms[1])
    assert {f"q{i}" for i in range(10)} - {example.question_id for example in session.data.examples} == {"q3"}


def test_an_arm_that_is_to_learn_rationales_and_has_none_is_not_trained(bases: dict[str, Path], tmp_path: Path) -> None:
    config = run_config(bases["idefics3"], max_steps=2)
    run = make_run(tmp_path / "run", config)
    publish_rows(run.kept, [])
    write_lessons(run, config)
    with pytest.raises(GuardStop, match=r"arm distilled is to learn rationales, but none of its 10 examples has one"):
        train_arm(run, config, config.train.arms[1])
    assert not (run.arm("distilled") / "training.json").exists()


def test_rationales_that_are_all_too_long_are_as_good_as_none(bases: dict[str, Path], tmp_path: Path) -> None:
    config = run_config(bases["idefics3"], max_steps=2)
    run = make_run(tmp_path / "run", config)
    examples = open_session(run, config, config.train.arms[1]).data.examples
    longest = max(example.rows[0].num_tokens for example in examples)
    short = config.model_copy(update={"student": config.student.model_copy(update={"max_tokens": longest})})
    with pytest.raises(GuardStop, match=r"'row_too_long': 9.*student.max_tokens"):
        train_arm(run, short, config.train.arms[1])


def test_an_arm_whose_steps_come_to_none_of_its_rationales_is_not_trained(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    config = run_config(bases["idefics3"], max_steps=1, questions_per_step=2, questions_per_device=2)
    run = make_run(tmp_path / "run", config)
    session = open_session(run, config, config.train.arms[1])
    seen = {example.question_id for example in session.seen()}
    assert len(seen) == 2
    publish_rows(run.kept, [trace for trace in read_rows(run.kept, Trace) if trace.question_id not in seen])
    write_lessons(run, config)
    with pytest.raises(GuardStop, match=r"its 1 steps come to none of its \d rationales; raise train.max_steps"):
        train_arm(run, config, config.train.arms[1])


def test_the_record_of_an_arm_counts_what_its_steps_came_to(bases: dict[str, Path], tmp_path: Path) -> None:
    config = run_config(bases["idefics3"], max_steps=1)
    run = make_run(tmp_path / "run", config)
    for arm in config.train.arms:
        train_arm(run, config, arm)
    answers, rationales = (json.loads((run.arm(arm.name) / "training.json").read_text()) for arm in config.train.arms)
    assert (answers["questions_seen"], answers["rationales_seen"], answers["questions"]) == (4, 0, 10)
    assert rationales["questions_seen"] == 4 and rationales["rationales_seen"] in (3, 4)
    row = read_lines(run.arm("distilled") / "metrics.jsonl")[0]
    assert row["rationale_tokens"] > 0


def test_answer_only_arm_computes_no_rationale_rows(bases: dict[str, Path], tmp_path: Path) -> None:
    config = run_config(bases["idefics3"], max_steps=2)
    run = make_run(tmp_path / "run", config)
    train_arm(run, config, config.train.arms[0])
    rows = read_lines(run.arm("answer_only") / "metrics.jsonl")
    assert {row["rationale_tokens"] for row in rows} == {0}
    assert rows[0]["loss"] == rows[0]["label_loss"]


def test_finished_arm_is_left_alone(bases: dict[str, Path], tmp_path: Path) -> None:
    config = run_config(bases["idefics3"], max_steps=2)
    run = make_run(tmp_path / "run", config)
    train_arm(run, config, config.train.arms[0])
    before = {path: path.stat().st_mtime_ns for path in run.arm("answer_only").rglob("*")}
    train_arm(run, config, config.train.arms[0])
    assert {path: path.stat().st_mtime_ns for path in run.arm("answer_only").rglob("*")} == before
    other = run_config(bases["idefics3"], max_steps=3)
    with pytest.raises(CheckpointError, match=r"another run\.dir"):
        train_arm(run, other, config.train.arms[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_rows_give_the_gradient_of_separate_rows(
    family: str, bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_config(bases[family])
    packed = first_gradient(trainer_of(tmp_path / "a", config)[1], monkeypatch)
    monkeypatch.setattr("aot.student.train.session.PACKABLE", frozenset())
    apart = first_gradient(trainer_of(tmp_path / "b", config)[1], monkeypatch)
    assert_same_gradients(packed, apart)


def test_one_batch_of_eight_and_eight_of_one_give_the_same_gradient(
    bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = []
    for per_device in (8, 3, 1):
        config = run_config(bases["idefics3"], questions_per_step=8, questions_per_device=per_device)
        gradients.append(first_gradient(trainer_of(tmp_path / str(per_device), config)[1], monkeypatch))
    assert_same_gradients(gradients[0], gradients[1])
    assert_same_gradients(gradients[0], gradients[2])


def test_losses_that_are_not_finite_stop_before_any_step_and_name_the_questions(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    session, trainer = trainer_of(tmp_path / "run", run_config(bases["idefics3"], save_steps=6))
    with torch.no_grad():
        session.student.model.get_input_embeddings().weight[:] = float("nan")
    with pytest.raises(GuardStop, match=r"step 3: .* not finite .*Questions in the batch: q\d"):
        trainer.train()
    assert all(torch.isfinite(p).all() for p in session.adapted.model.parameters() if p.requires_grad)
    assert not list(Path(trainer.args.output_dir).glob("checkpoint-*"))


def test_batch_without_frames_gets_a_dummy_clip_that_changes_nothing(bases: dict[str, Path], tmp_path: Path) -> None:
    session, trainer = trainer_of(tmp_path / "run", run_config(bases["idefics3"], vision_cache="off"), arm=0)
    collator, renderer = trainer.data_collator, session.student.renderer
    examples = list(session.data.examples[:2])
    blind = [_without_frames(example, renderer.image_token_id) for example in examples]
    batch = collator(blind)  # type: ignore[operator]
    assert batch["input_ids"].shape[0] == 3
    assert batch["pixel_values"].shape[1] == 1
    assert (batch["labels"][2] == -100).all()
    assert collator(examples)["input_ids"].shape[0] == 2  # type: ignore[operator]


def _without_frames(example: Any, image_id: int) -> Any:
    from dataclasses import replace

    (row,) = example.rows
    ids = tuple(i for i in row.prompt_ids if i != image_id)
    return replace(example, frames=None, rows=(replace(row, prompt_ids=ids),))


def test_lora_touches_the_language_model_only(bases: dict[str, Path]) -> None:
    for family in FAMILIES:
        config = run_config(bases[family])
        student = load_student(str(bases[family]), config=config.student)
        adapted = add_lora(student.model, config.train.lora)
        assert adapted.matched and all(".layers." in name and "vision" not in name for name in adapted.matched)
        trainable = [name for name, p in adapted.model.named_parameters() if p.requires_grad]
        assert len(trainable) == 2 * len(adapted.matched)


def test_pattern_that_also_hits_the_vision_tower_is_refused(bases: dict[str, Path]) -> None:
    config = run_config(bases["idefics3"], lora={"rank": 2, "alpha": 2, "target_pattern": ".*q_proj"})
    student = load_student(str(bases["idefics3"]), config=config.student)
    with pytest.raises(ConfigError, match="outside the language model"):
        add_lora(student.model, config.train.lora)
    nothing = config.train.lora.model_copy(update={"target_pattern": "q_proj"})
    with pytest.raises(ConfigError, match="matches no linear layer"):
        add_lora(student.model, nothing)
    named = config.train.lora.model_copy(update={"target_pattern": r"model\.vision_model\..*q_proj"})
    assert add_lora(student.model, named).trains_vision
    assert default_pattern(student.model).startswith("^")


def test_dead_parameter_is_found_in_the_first_step() -> None:
    model = torch.nn.ModuleDict({"lora_B": torch.nn.Linear(2, 2, bias=False), "unused": torch.nn.Linear(2, 2)})
    check = GradientCheck(model)
    model["lora_B"](torch.ones(1, 2)).sum().backward()
    with pytest.raises(GuardStop, match=r"unused\.weight is trainable but got no gradient"):
        check.finish()


def test_processes_must_share_the_step_evenly() -> None:
    from aot.student.train.arguments import plan_batch

    train = run_config(Path("x"), questions_per_step=12, questions_per_device=5).train
    plan = plan_batch(train, processes=2)
    assert (plan.per_device, plan.accumulation) == (3, 2)
    with pytest.raises(ConfigError, match="multiple of 5"):
        plan_batch(train, processes=5)
