"""The Bayesian history: what it makes of doubtful steps, which task it takes them for, and who may use it."""

import pytest
from teacher_scenes import annotation

from aot.config.teaching import RulesTeacher, ToolsConfig
from aot.errors import ToolError
from aot.records import Finding, MediaRef, Question, Step, ToolCall
from aot.teacher.planner import Calls, Scene
from aot.teacher.rules import RulesPlanner
from aot.teacher.tools.bayes import BayesHistory, SoftLabel, counted_confusions
from aot.teacher.tools.procedure import ProcedureModel
from aot.teacher.tools.registry import make_tools

TEA = ("boil water", "add tea", "pour milk", "stir")
EGG = ("boil water", "add egg", "peel egg", "salt egg")
ROWS = [annotation(f"t{i}", "tea", *TEA) for i in range(6)] + [annotation(f"e{i}", "egg", *EGG) for i in range(6)]
MODEL = ProcedureModel.from_annotations(ROWS)
NEXT = Question(
    id="q", dataset="d", split="test", kind="next_open", text="Which step comes next?", answer="stir",
    answer_type="text", group="c", media=MediaRef(uri="c", end_s=9.0),
)  # fmt: skip
SCENE = Scene(start_s=0.0, end_s=9.0, labels=MODEL.labels, known_labels=MODEL.labels, objects=())


def soft(*pairs: tuple[str, float]) -> list[SoftLabel]:
    return [SoftLabel(label, score) for label, score in pairs]


def test_a_sure_history_is_followed_by_its_task() -> None:
    forecast = BayesHistory(MODEL).forecast(soft(("boil water", 1.0), ("add egg", 1.0)))
    assert (forecast.task, forecast.candidates[0].label) == ("egg", "peel egg") and forecast.task_prob > 0.9
    assert sum(one.prob for one in forecast.candidates) == pytest.approx(1.0)
    assert {one.label for one in forecast.candidates} == set(MODEL.labels)


def test_a_doubtful_step_that_fits_nothing_is_taken_for_the_one_that_fits() -> None:
    """Counts believe the last label; the filter knows that the third step of tea is hardly its first one again."""
    history = soft(("boil water", 0.9), ("add tea", 0.9), ("boil water", 0.4))
    assert BayesHistory(MODEL).forecast(history).candidates[0].label == "stir"
    assert MODEL.forecast([one.label for one in history]).candidates[0].label == "pour milk"


def test_the_scores_decide_which_of_two_tasks_is_believed() -> None:
    history = (("boil water", 1.0), ("add egg", 0.2), ("pour milk", 0.9))
    sure = (("boil water", 1.0), ("add egg", 0.98), ("pour milk", 0.06))
    assert BayesHistory(MODEL).forecast(soft(*history)).task == "tea"
    assert BayesHistory(MODEL).forecast(soft(*sure)).task == "egg"
    assert BayesHistory(MODEL).forecast(soft(*sure), task="tea").task == "tea"


def test_a_counted_confusion_tells_what_a_wrong_label_stands_for() -> None:
    """This recogniser takes every pouring for a boiling."""
    seen = counted_confusions(MODEL.clips, lambda clip: [{"pour milk": "boil water"}.get(x, x) for x in clip.labels])
    history = soft(("boil water", 0.7), ("add tea", 0.7), ("boil water", 0.7))
    assert BayesHistory(MODEL, seen).forecast(history).candidates[0].label == "stir"


def test_a_clip_does_not_tell_its_own_next_step() -> None:
    rows = [annotation("odd", "tea", "boil water", "drop cup"), *ROWS]
    history, model = soft(("boil water", 1.0)), BayesHistory(ProcedureModel.from_annotations(rows))
    probs = [
        {one.label: one.prob for one in model.forecast(history, exclude_uri=uri).candidates}["drop cup"]
        for uri in (None, "odd")
    ]
    assert probs[0] > 0 and probs[1] == 0
    with pytest.raises(ToolError, match="no procedural knowledge"):
        BayesHistory(ProcedureModel.from_annotations(rows[:1])).forecast(history, exclude_uri="odd")


def test_an_empty_history_begins_as_training_clips_do() -> None:
    assert BayesHistory(MODEL).forecast([]).candidates[0].label == "boil water"


@pytest.mark.parametrize(("way", "scores"), [("counts", None), ("bayes", [1.0, 0.4])])
def test_rules_tell_the_tool_how_sure_each_step_is_only_where_it_weighs_that(
    way: str, scores: list[float] | None
) -> None:
    tool = make_tools(RulesTeacher(tools=ToolsConfig.model_validate({"propose_next": way})))["propose_next"]
    events = [("boil water", 1.0), ("add egg", 0.4)]
    findings = tuple(
        Finding(kind="event", label=label, score=score, spans_s=((i, i + 1.0),))
        for i, (label, score) in enumerate(events)
    )
    scene = SCENE if way == "counts" else Scene(**{**vars(SCENE), "weighs_scores": True})
    listed = Step(index=1, call=ToolCall(tool="list_steps"), result={}, findings=findings)
    turn = RulesPlanner().start(NEXT, scene=scene, candidate=0).next((listed,))
    assert isinstance(turn, Calls) and isinstance(call := turn.calls[0], ToolCall)
    assert call.arguments.get("scores") == scores
    assert tool.Arguments.model_validate(call.arguments).history == ("boil water", "add egg")
    assert ("scores" in tool.Arguments.model_fields) == (way == "bayes")
