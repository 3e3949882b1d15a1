"""What arms that call tools learn from kept chains: who says what before which call, and what makes no lesson."""

import json
from pathlib import Path

import pytest

from aot.arms.by_frame import by_frame
from aot.arms.lessons import Material, shared_chains
from aot.arms.tool_use import offered_tools, talk_lesson, tool_lessons
from aot.arms.train import train
from aot.config import ToolArm, VideoRun, parse_arm, parse_config
from aot.errors import ConfigError, GuardStop
from aot.files.run_folder import RunFolder, publish_rows
from aot.rationales.calls import called_steps
from aot.records import Finding, Lesson, MediaRef, Question, Step, ToolCall, Trace

SEEN = (("wash tomato", (0.0, 1.5)), ("mix egg", (1.5, 3.0)))
LOOK_UP = ToolCall(tool="propose_next", arguments={"history": ["wash tomato", "mix egg"]})
LOOKED_UP = {"task": "omelette", "last": "mix egg"}


def question(name: str = "q1", *, shown: bool = True) -> Question:
    media = MediaRef(uri="c.mp4", end_s=8.0) if shown else None
    return Question(
        id=name, dataset="k", split="train", kind="next_open", text="What is the next step?", answer="pour egg",
        answer_type="text", media=media, group="c",
    )  # fmt: skip


def chain(*steps: Step, rationale: str, support: tuple[int, ...] = (1, 2), name: str = "q1") -> Trace:
    return Trace(
        question_id=name, sample_index=0, teacher="rules", answer="pour egg", status="ok", support=support,
        steps=steps, rationale=rationale, config_digest="0",
    )  # fmt: skip


def listed(index: int = 1) -> Step:
    findings = tuple(Finding(kind="event", label=label, spans_s=(span,)) for label, span in SEEN)
    return Step(index=index, call=ToolCall(tool="list_steps"), result={}, findings=findings)


def looked_up(index: int = 2, **more: object) -> Step:
    return Step(index=index, call=LOOK_UP, result=LOOKED_UP).model_copy(update=more)


WHOLE = (
    "Identify: the next step is asked.\nGather: the omelette card has mix egg [2]. wash tomato 0.0s-1.5s [1]. mix egg "
    "1.5s-3.0s [1].\nCombine: pour egg comes after mix egg [1] [2].\nAnswer: pour egg"
)
CALL = '<tool_call>{"name": "propose_next", "arguments": {"history": ["wash tomato", "mix egg"]}}</tool_call>'


def said(lesson: Lesson) -> list[str]:
    """What the student says, turn by turn."""
    assert [turn.role for turn in lesson.turns] == ["assistant", "tool"] * (len(lesson.turns) // 2)
    return [*(turn.text for turn in lesson.turns if turn.role == "assistant"), lesson.rationale]


def test_what_only_the_teachers_tools_saw_is_said_before_the_call_and_the_rest_after_its_result() -> None:
    lesson = talk_lesson(question(), chain(listed(), looked_up(), rationale=WHOLE), ["propose_next"])
    assert said(lesson) == [
        "Identify: the next step is asked.\nGather: wash tomato 0.0s-1.5s. mix egg 1.5s-3.0s.\n" + CALL,
        "Gather: the omelette card has mix egg [1].\nCombine: pour egg comes after mix egg [1].\nAnswer: pour egg",
    ]
    assert lesson.turns[1].text == '{"task": "omelette", "last": "mix egg"}'
    assert (lesson.mode, lesson.with_frames) == ("tools", True)


def test_what_a_call_needs_and_no_sentence_tells_is_told_from_what_the_tools_saw() -> None:
    short = "Gather: mix egg 1.5s-3.0s [1].\nCombine: pour egg comes after mix egg [2].\nAnswer: pour egg"
    first, _ = said(talk_lesson(question(), chain(listed(), looked_up(), rationale=short), ["propose_next"]))
    assert first == "Gather: mix egg 1.5s-3.0s. 0.0s-1.5s wash tomato.\n" + CALL


def test_each_call_is_a_turn_and_citations_count_the_students_own_calls() -> None:
    whole = "First I see mix egg [1]. The order fits [3]. The card says so [4]. So I pour.\nAnswer: pour egg"
    steps = listed(1), looked_up(2, status="failed", result=None, error="no"), looked_up(3), looked_up(4)
    tools, trace = ["propose_next"], chain(*steps, rationale=whole, support=(1, 3, 4))
    first, second, last = said(talk_lesson(question(), trace, tools))
    assert first.startswith("First I see mix egg.") and first.endswith(CALL)
    assert second == "The order fits [1].\n" + CALL
    assert last == "The card says so [2]. So I pour.\nAnswer: pour egg"


def test_a_text_chain_calls_where_its_results_stand_and_says_the_same_words() -> None:
    lines = ("Half is 48/2 = 24 clips.", "Together 48 + 24 = 72 clips.")
    steps, whole = called_steps(lines), "\n".join([*lines, "Answer: 72"])
    lesson = talk_lesson(question(shown=False), chain(*steps, rationale=whole, support=()), ["calculator"])
    first, second, last = said(lesson)
    assert first == 'Half is 48/2 = <tool_call>{"name": "calculator", "arguments": {"expression": "48/2"}}</tool_call>'
    assert (second[:27], last) == ("24 clips.\nTogether 48 + 24 ", "72 clips.\nAnswer: 72")
    words = "".join(text.partition("<tool_call>")[0] for text in (first, second, last))
    assert (words, lesson.turns[1].text, lesson.with_frames) == (whole, '{"value": "24"}', False)


def arm(**more: object) -> ToolArm:
    made = parse_arm({"name": "a", "order": "tool_use", "tools": ["propose_next"], **more})
    assert isinstance(made, ToolArm)
    return made


def material(**chains: Trace) -> Material:
    questions = {name: question(name) for name in chains}
    return Material(questions, {name: {"full": one} for name, one in chains.items()}, chains, len(chains))


WITH = chain(listed(), looked_up(), rationale=WHOLE)
WITHOUT = chain(
    listed(), rationale="Gather: mix egg [1].\nCombine: pour egg [1].\nAnswer: pour egg", support=(1,), name="q2"
)


def test_a_student_may_name_its_frames_where_the_teacher_gave_spans() -> None:
    trace = by_frame(chain(listed(), looked_up(), rationale=WHOLE), (0.2, 1.4, 1.6, 2.9, 3.0))
    gathered = "0.2s wash tomato [1]. 1.4s wash tomato [1]. 1.6s mix egg [1]. 2.9s mix egg [1]."
    assert trace.rationale.split("\n")[1] == f"Gather: {gathered} the omelette card has mix egg [2]."
    first, last = said(talk_lesson(question(), trace, ["propose_next"]))
    listed_steps = ["wash tomato", "wash tomato", "mix egg", "mix egg"]
    assert gathered.replace(" [1]", "") in first and json.dumps(listed_steps) in first
    assert last == said(talk_lesson(question(), chain(listed(), looked_up(), rationale=WHOLE), ["propose_next"]))[-1]


@pytest.mark.parametrize("times_s", [(), (0.2, 1.0), (9.0,)])
def test_a_chain_stays_where_frames_miss_a_step(times_s: tuple[float, ...]) -> None:
    trace = chain(listed(), looked_up(), rationale=WHOLE)
    assert by_frame(trace, times_s) == trace


def test_an_arm_that_names_frames_is_not_trained_on_chains_that_name_none() -> None:
    with pytest.raises(GuardStop, match="names: frames, and none of its 1 chains"):
        shared_chains(material(q1=WITH), arm(names="frames"), seed=0)


def test_a_chain_without_a_call_is_counted_or_learned_as_an_answer_without_calls() -> None:
    refusing = tool_lessons(material(q1=WITH, q2=WITHOUT), arm(), seed=0)
    assert [lesson.question_id for lesson in refusing.lessons] == ["q1"]
    ((item, reason, detail),) = [(row.item, row.reason, row.detail) for row in refusing.refused]
    assert (item, reason, detail) == ("q2", "no_call", "tools called: list_steps")
    learning = tool_lessons(material(q1=WITH, q2=WITHOUT), arm(without_calls="learn"), seed=0)
    assert [(bool(one.turns), one.rationale[-31:]) for one in learning.lessons] == [
        (True, said(learning.lessons[0])[-1][-31:]), (False, "Combine: pour egg.\nAnswer: pour egg"[-31:]),
    ]  # fmt: skip
    assert learning.refused == ()


def test_an_arm_that_would_learn_no_call_ends_the_stage_before_any_arm_is_trained(tmp_path: Path) -> None:
    calls = {"name": "a", "order": "tool_use", "tools": ["find_moments"], "without_calls": "learn"}
    arms = [{"name": "plain", "order": "pre"}, calls]
    config = parse_config({"data": {"dataset": "toy_kitchen"}, "train": {"arms": arms}}, source="test")
    assert isinstance(config, VideoRun)
    run = RunFolder(tmp_path)
    publish_rows(run.questions, [question("q1"), question("q2")])
    publish_rows(run.kept, [WITH, WITHOUT])
    with pytest.raises(GuardStop, match=r"arm a would learn no call.* are list_steps \(2\), propose_next \(1\)"):
        train(run, config, lambda done, of: None)
    assert not run.arm("plain").exists()


def test_tools_are_told_in_the_form_of_function_calls_and_unknown_ones_by_those_that_there_are() -> None:
    (calculator,) = offered_tools(["calculator"])
    assert calculator.function["parameters"]["required"] == ["expression"]
    assert {one.function["name"] for one in offered_tools(["propose_next", "calculator"])} == {
        "propose_next", "calculator",
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"shell is no tool that a student can call; those are: calculator, count_"):
        offered_tools(["shell"])
