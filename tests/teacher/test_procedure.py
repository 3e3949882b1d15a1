"""Procedural knowledge: what the counts say, and what they must not know."""

import pytest
from teacher_scenes import annotation

from aot.errors import ToolError
from aot.teacher.tools.procedure import ProcedureModel

TEA = ("boil water", "add tea", "pour milk")
EGG = ("boil water", "add egg", "peel egg")
ROWS = [annotation(f"t{i}", "tea", *TEA) for i in range(4)] + [annotation(f"e{i}", "egg", *EGG) for i in range(4)]


def best(model: ProcedureModel, *history: str, exclude_uri: str | None = None) -> str:
    return model.forecast(history, exclude_uri=exclude_uri).candidates[0].label


def test_history_decides_the_task_and_the_next_step() -> None:
    model = ProcedureModel.from_annotations(ROWS)
    forecast = model.forecast(("boil water", "add egg"))
    assert forecast.task == "egg"
    assert forecast.task_prob > 0.9
    assert forecast.candidates[0].label == "peel egg"
    assert sum(candidate.prob for candidate in forecast.candidates) == pytest.approx(1.0)


def test_steps_done_are_not_proposed_again() -> None:
    model = ProcedureModel.from_annotations(ROWS)
    assert best(model, "add tea", "boil water") == "pour milk"


def test_a_step_waits_for_the_one_that_always_came_before() -> None:
    rows = [annotation(f"a{i}", "pie", "mix", "cut", "bake") for i in range(2)]
    rows += [annotation(f"b{i}", "pie", "cut", "mix", "bake") for i in range(2)]
    assert best(ProcedureModel.from_annotations(rows), "cut") == "mix"


def test_one_label_of_two_tasks_is_two_steps() -> None:
    rows = [annotation(f"s{i}", "soup", "chop leek", "stir", "pour soup") for i in range(9)]
    rows += [annotation(f"p{i}", "pie", "mix dough", "bake") for i in range(4)]
    rows += [annotation("p4", "pie", "mix dough", "bake", "stir", "spread icing")]  # a step that few pies have
    model = ProcedureModel.from_annotations(rows)
    assert best(model, "mix dough", "bake", "stir") == "spread icing"
    assert best(model, "chop leek", "stir") == "pour soup"


def test_a_stray_step_does_not_mislead() -> None:
    model = ProcedureModel.from_annotations(ROWS)
    assert best(model, "boil water", "add tea", "walk dog") == "pour milk"


def test_a_clip_never_tells_about_itself() -> None:
    rows = [*ROWS, annotation("odd", "tea", "boil water", "add salt")]
    model = ProcedureModel.from_annotations(rows)
    assert "add salt" in {c.label for c in model.forecast(("boil water",)).candidates}
    without = model.forecast(("boil water",), exclude_uri="odd")
    assert "add salt" not in {c.label for c in without.candidates if c.prob > 0}
    assert without == ProcedureModel.from_annotations(ROWS).forecast(("boil water",))


def test_only_training_clips_count() -> None:
    model = ProcedureModel.from_annotations([annotation("x", "tea", *TEA, split="test")])
    with pytest.raises(ToolError, match="no procedural knowledge"):
        model.forecast(("boil water",))


def test_model_survives_json() -> None:
    model = ProcedureModel.from_annotations(ROWS)
    again = ProcedureModel.model_validate_json(model.model_dump_json())
    assert again.forecast(("boil water",)) == model.forecast(("boil water",))
