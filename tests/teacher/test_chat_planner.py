"""The chat planner on drawn clips, with models that say what a script or an attacker tells them."""

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from chat_scenes import BEFORE, CHOICE, HOSTILE, LIST, WHOLE, Speaks, answer, calls, kit_of, kit_with
from teacher_scenes import annotation, config_of, drawn_view, question

from aot.answers import verifies
from aot.chat.messages import ChatReply, ChatRequest
from aot.chat.outage import got_no_reply
from aot.chat.scripted import ScriptedChat
from aot.config import ChatConfig, PricesConfig, RunConfig
from aot.errors import AotError, ChatError, ConfigError, GuardStop, RunError
from aot.files.run_folder import RunFolder
from aot.generate.solve import Solved, Solver, reordered
from aot.records import Finding, MediaRef, Question, Trace
from aot.teacher.agent import AgentTeacher
from aot.teacher.bench import Budget, Parts
from aot.teacher.chat_planner import MAX_RESULT_CHARS
from aot.teacher.executor import run_candidate
from aot.teacher.parts import Models
from aot.teacher.rules import RulesPlanner
from aot.teacher.tools import Tool, ToolContext
from aot.teacher.tools.base import AnyTool, ToolArguments, ToolResult
from aot.teacher.tools.clipview import ClipView
from aot.teacher.tools.procedure import ProcedureModel
from aot.teacher.tools.registry import TOOLS


@pytest.fixture(scope="module")
def view() -> ClipView:
    return drawn_view("wash tomato", "chop tomato", "mix egg")


def trace_of(view: ClipView, *turns: ChatReply | AotError, asked: Question = BEFORE) -> Trace:
    return run_candidate(asked, view, kit_of(*turns)[0], candidate=0)


def solved_by(kit: Parts, view: ClipView, asked: Question, *, candidates: int = 1, **teacher: Any) -> Solved:
    class Shelf:
        def view(self, media: MediaRef | None) -> ClipView:
            return view

    def open_teacher(run: RunFolder, config: RunConfig, *, writer: str) -> AgentTeacher:
        return AgentTeacher(Shelf(), kit, Models())

    return Solver(open_teacher, RunFolder(Path()), config_of(**teacher), candidates, "0").solve((asked, 0))


def test_a_plan_looks_and_answers_with_its_support(view: ClipView) -> None:
    trace = trace_of(view, LIST, answer("chop tomato", 1))
    assert (trace.status, trace.answer, trace.support) == ("ok", "chop tomato", (1,))
    assert trace.teacher.startswith("chat:speaks:")
    assert trace.rationale.endswith("Answer: chop tomato")
    usage = trace.usage
    assert (usage.chat_calls, usage.prompt_tokens, usage.completion_tokens, usage.reasoning_tokens) == (2, 200, 20, 8)
    assert usage.cost is None


def test_priced_tokens_give_a_cost(view: ClipView) -> None:
    prices = PricesConfig(date="2026-01-31", prompt=10.0, completion=100.0)
    kit = replace(kit_of(LIST, answer("chop tomato", 1))[0], prices=prices)
    assert run_candidate(BEFORE, view, kit, candidate=0).usage.cost == pytest.approx((200 * 10 + 20 * 100) / 1e6)


class _Nothing(ToolArguments):
    """No argument."""


class _Text(ToolResult):
    text: str

    def findings(self, arguments: ToolArguments) -> tuple[Finding, ...]:
        return (Finding(kind="text", how="seen", text=self.text),)


def tool_that(run: Callable[[], str], *, name: str = "read_subtitles") -> AnyTool:
    def looked(_: _Nothing, __: ToolContext) -> _Text:
        return _Text(text=run())

    return Tool(
        name=name, version="1", description="Read.", Arguments=_Nothing, Result=_Text, run=looked, source="annotations"
    )


def test_calls_of_one_turn_run_at_the_same_time_and_keep_their_order(view: ClipView) -> None:
    meet = threading.Barrier(2, timeout=20)  # Breaks, and fails the call, unless both calls are under way at once.

    def first() -> str:
        meet.wait()
        return "a"

    def second() -> str:
        meet.wait()
        return "b"

    tools = {"first": tool_that(first, name="first"), "second": tool_that(second, name="second")}
    kit, _ = kit_of(calls(("second", {}), ("first", {})), answer("chop tomato", 1, 2), tools=tools)
    trace = run_candidate(BEFORE, view, kit, candidate=0)
    assert [(step.index, step.call.tool, step.result["text"]) for step in trace.steps] == [
        (1, "second", "b"), (2, "first", "a"),
    ]  # fmt: skip


BAD_TURNS = {
    "unknown tool": (calls(("open_file", {"path": "/etc/passwd"})), "parse"),
    "broken JSON": (calls(("list_steps", '{"start_s": 0,')), "parse"),
    "no object": (calls(("list_steps", "[1]")), "parse"),
    "not a number": (calls(("list_steps", '{"start_s": NaN, "end_s": 3}')), "parse"),
    "unknown argument": (calls(("list_steps", {**WHOLE, "code": "x"})), "parse"),
    "outside the window": (calls(("list_steps", {"start_s": 0.0, "end_s": 99.0})), "tool"),
    "unknown step": (calls(("find_moments", {**WHOLE, "event": "wash car"})), "tool"),
}
NO_STEP = {
    "plain text": ChatReply(text="It is chop tomato."),
    "answer without support": answer("chop tomato"),
    "answer on a step that is not there": answer("chop tomato", 7),
    "answer beside a call": calls(("list_steps", WHOLE), ("answer", {"answer": "chop tomato", "support": [1]})),
    "answer as broken JSON": calls(("answer", '{"answer": "chop')),
}


@pytest.mark.parametrize(("turn", "boundary"), BAD_TURNS.values(), ids=BAD_TURNS)
def test_a_bad_call_goes_back_once_and_then_fails(view: ClipView, turn: ChatReply, boundary: str) -> None:
    mended = trace_of(view, turn, LIST, answer("chop tomato", 2))
    assert (mended.status, [step.status for step in mended.steps]) == ("ok", ["failed", "ok"])
    failed = trace_of(view, turn, LIST, turn, answer("chop tomato", 2))
    assert (failed.status, failed.answer, failed.error.boundary) == ("failed", "", boundary)
    assert [step.status for step in failed.steps] == ["failed", "ok", "failed"]
    assert failed.usage.chat_calls == 3


@pytest.mark.parametrize("turn", NO_STEP.values(), ids=NO_STEP)
def test_an_unfit_end_is_objected_to_once_and_then_fails(view: ClipView, turn: ChatReply) -> None:
    assert trace_of(view, LIST, turn, answer("chop tomato", 1)).status == "ok"
    failed = trace_of(view, LIST, turn, turn, answer("chop tomato", 1))
    assert (failed.status, failed.error.boundary, len(failed.steps)) == ("failed", "parse", 1)


@pytest.mark.parametrize(
    ("asked", "said", "stored"),
    [
        (CHOICE, "A", "mix egg"),
        (CHOICE, "wash tomato", "wash tomato"),
        (CHOICE, "boil rice", None),
        (question("count", "How often does mix egg happen?"), "2", "2"),
        (question("count", "How often does mix egg happen?"), "some", None),
        (question("present", "Is there a egg in the clip?"), "Yes", "yes"),
        (question("present", "Is there a egg in the clip?"), "perhaps", None),
        (question("when", "When does mix egg happen?"), "4.0s-6.0s", "4.0s-6.0s"),
        (question("when", "When does mix egg happen?"), "late", None),
    ],
)
def test_an_answer_has_the_form_of_its_question(view: ClipView, asked: Question, said: str, stored: str | None) -> None:
    trace = trace_of(view, LIST, answer(said, 1), answer(said, 1), asked=asked)
    assert (trace.status, trace.answer) == (("ok", stored) if stored else ("failed", ""))


def test_plans_stop_at_their_turns_calls_and_time(view: ClipView) -> None:
    endless = [LIST] * 9
    turns = trace_of(view, *endless)
    assert (turns.status, turns.error.boundary, len(turns.steps)) == ("truncated", "guard", 5)
    many = calls(*[("list_steps", WHOLE)] * 7)
    assert (trace_of(view, many).status, trace_of(view, many).steps) == ("truncated", ())
    kit = kit_of(*endless)[0]
    late = run_candidate(BEFORE, view, replace(kit, budget=Budget(6, time_limit_s=0.0, max_turns=5)), candidate=0)
    assert (late.status, late.usage.chat_calls) == ("truncated", 1)


def test_a_chat_error_fails_the_trace_with_its_reason(view: ClipView) -> None:
    trace = trace_of(view, LIST, ChatError("filtered", reason="content_filter"))
    assert (trace.status, trace.error.boundary, trace.error.reason) == ("failed", "chat", "content_filter")
    assert len(trace.steps) == 1


@pytest.mark.parametrize("error", [ConfigError("no key"), GuardStop("too dear"), RunError("disk full")])
def test_what_stops_everybody_is_no_failed_trace(view: ClipView, error: AotError) -> None:
    with pytest.raises(type(error)):
        trace_of(view, error)


def test_candidates_are_other_draws_and_requests_name_the_prompts(view: ClipView) -> None:
    kit, model = kit_of(LIST, answer("chop tomato", 1))
    for candidate in (0, 1):
        run_candidate(BEFORE, view, kit, candidate=candidate)
    first, _, other, _ = model.requests
    assert (first.sample_index, other.sample_index) == (0, 1)
    assert first.sampling.seed != other.sampling.seed
    assert first.prompt_digest == other.prompt_digest
    assert kit.planner.name.endswith(first.prompt_digest)
    assert [tool["function"]["name"] for tool in first.tools] == [*TOOLS, "answer"]
    assert all(f"- {name}: " in first.messages[0].text for name in (*TOOLS, "answer"))


def test_a_training_question_stops_at_its_first_verified_candidate(view: ClipView) -> None:
    def say(request: ChatRequest, turn: int) -> ChatReply:
        right = request.sample_index == 1
        return LIST if turn == 0 else answer("chop tomato" if right else "wash tomato", 1)

    solved = solved_by(kit_with(Speaks(say)), view, BEFORE, candidates=3)
    attempts = [*solved.earlier, solved.trace]
    assert [one.sample_index for one in attempts] == [0, 1]
    assert verifies(attempts[-1], BEFORE)
    assert attempts[-1].usage.chat_calls == 4
    asked = BEFORE.model_copy(update={"split": "test"})
    solved = solved_by(kit_with(Speaks(say)), view, asked, candidates=3)
    assert (solved.earlier, solved.trace.sample_index) == ((), 0)


@pytest.mark.parametrize(("habit", "changes"), [("text", False), ("letter", True)])
def test_a_verified_choice_is_asked_again_in_other_orders(view: ClipView, habit: str, changes: bool) -> None:
    def say(request: ChatRequest, turn: int) -> ChatReply:
        return LIST if turn == 0 else answer("mix egg" if habit == "text" else "A", 1)

    trace = solved_by(kit_with(Speaks(say)), view, CHOICE, shuffle_checks=4).trace
    assert trace.answer == "mix egg"
    assert len(trace.shuffled_answers) == 4
    assert (set(trace.shuffled_answers) != {"mix egg"}) == changes
    assert trace.usage.chat_calls == 2 * 5


def test_a_check_to_which_nobody_answers_leaves_the_row_to_be_asked_again(view: ClipView) -> None:
    def say(request: ChatRequest, turn: int) -> ChatReply:
        if turn == 0 and len(model.requests) > 3:
            raise ChatError("no quota is left", reason="quota")
        return LIST if turn == 0 else answer("mix egg", 1)

    model = Speaks(say)
    trace = solved_by(kit_with(model), view, CHOICE, shuffle_checks=2, faults={"rate": 1.0}).trace
    assert (trace.question_id, trace.sample_index, got_no_reply(trace)) == (CHOICE.id, 0, True)
    assert trace.usage.chat_calls == 4 and not trace.shuffled_answers


@pytest.mark.parametrize(("said", "stored"), [("B", "B"), ("(b)", "B"), ("C. fry fish", "C"), ("fry fish", "C")])
def test_where_only_letters_tell_options_apart_the_answer_is_a_letter_and_the_order_stays(
    view: ClipView, said: str, stored: str
) -> None:
    choices = ("Mix egg", "mix egg", "fry fish")
    by_letter = CHOICE.model_copy(update={"choices": choices, "answer": "mix egg", "answer_index": 1})
    trace = trace_of(view, LIST, answer(said, 1), asked=by_letter)
    assert trace.answer == stored and verifies(trace, by_letter) == (stored == "B")
    assert reordered(by_letter, times=4, seed=0) == [] and len(reordered(CHOICE, times=4, seed=0)) == 4


def test_the_rules_are_asked_in_other_orders_too(view: ClipView) -> None:
    asked = question("next_choice", "What is the next step?", choices=("pour egg", "fry fish"), split="train")
    rows = [annotation(f"{i}", "omelette", "wash tomato", "chop tomato", "mix egg", "pour egg") for i in range(3)]
    kit = replace(kit_of()[0], planner=RulesPlanner(), procedure=ProcedureModel.from_annotations(rows))
    trace = solved_by(kit, view, asked, shuffle_checks=2).trace
    assert trace.shuffled_answers == ("pour egg", "pour egg")


def test_hostile_text_stays_in_data_slots(view: ClipView) -> None:
    asked = question("next_choice", f"What is last? {HOSTILE}", choices=("mix egg", f"fry {HOSTILE}"), split="train")
    tools = {**TOOLS, "read_subtitles": tool_that(lambda: HOSTILE)}
    kit, model = kit_of(calls(("read_subtitles", {})), LIST, answer("A", 2), tools=tools)
    hidden = replace(view, uri=f"{HOSTILE}.mp4")
    trace = run_candidate(asked, hidden, kit, candidate=0)
    assert (trace.status, trace.answer) == ("ok", "mix egg")
    calm, _ = kit_of(tools=tools)
    plain = calm.planner.start(BEFORE, scene=calm.scene(view), candidate=0)
    for request in model.requests:
        system, user, *later = request.messages
        assert system == plain.messages[0]  # Nothing from outside is in the system prompt or among the tools.
        assert request.tools == model.requests[0].tools
        assert user.text.count("<data ") == user.text.count("</data>") == 3
        for told in (one for one in later if one.role == "tool"):
            assert (told.text.count("<data "), told.text.count("</data>")) == (1, 1)
        assert not any(".mp4" in one.text for one in request.messages)


def obey(request: ChatRequest, turn: int) -> ChatReply:
    """Does whatever any message says, the worst case of a model."""
    text = "\n".join(one.text for one in request.messages[1:])
    if "open_file" in text:
        return calls(("open_file", {"path": "/etc/passwd"}))
    return LIST if turn == 0 else answer("chop tomato", 1)


def assert_nothing_done(trace: Trace) -> None:
    assert (trace.status, trace.error.boundary, trace.answer) == ("failed", "parse", "")
    tried = [step for step in trace.steps if step.call.tool == "open_file"]
    assert {step.status for step in tried} == {"failed"}
    assert all(step.result is None and "no tool is called" in step.error for step in tried)


def test_a_model_that_obeys_the_question_can_do_nothing_but_fail(view: ClipView) -> None:
    asked = BEFORE.model_copy(update={"text": f"{BEFORE.text} {HOSTILE}"})
    assert_nothing_done(run_candidate(asked, view, kit_with(Speaks(obey)), candidate=0))


def test_a_model_that_obeys_a_subtitle_can_do_nothing_but_fail(view: ClipView) -> None:
    tools = {"list_steps": tool_that(lambda: HOSTILE, name="list_steps")}
    kit = kit_with(
        Speaks(lambda request, turn: obey(request, turn) if turn else calls(("list_steps", {}))), tools=tools
    )
    assert_nothing_done(run_candidate(BEFORE, view, kit, candidate=0))


def test_a_call_in_plain_text_calls_nothing(view: ClipView) -> None:
    text = '<tool_call>{"name": "list_steps", "arguments": {"start_s": 0, "end_s": 6}}</tool_call>'
    trace = trace_of(view, ChatReply(text=text), ChatReply(text=text))
    assert (trace.status, trace.error.boundary, trace.steps) == ("failed", "parse", ())


def test_a_long_result_is_cut_and_says_so(view: ClipView) -> None:
    tools = {"read_subtitles": tool_that(lambda: "x" * 20_000)}
    kit, model = kit_of(calls(("read_subtitles", {})), answer("chop tomato", 1), tools=tools)
    trace = run_candidate(BEFORE, view, kit, candidate=0)
    told = model.requests[-1].messages[-1].text
    assert MAX_RESULT_CHARS < len(told) < MAX_RESULT_CHARS + 200
    assert f"cut at {MAX_RESULT_CHARS} of" in told
    assert len(trace.steps[0].result["text"]) == 20_000


def test_a_script_file_drives_a_whole_plan(view: ClipView, tmp_path: Path) -> None:
    line = {
        "match": "right before mix egg",
        "replies": [
            {"calls": [{"name": "list_steps", "arguments": WHOLE}]},
            {"calls": [{"name": "answer", "arguments": {"answer": "chop tomato", "support": [1]}}]},
        ],
    }
    (tmp_path / "script.jsonl").write_text(json.dumps(line) + "\n")
    model = ScriptedChat(tmp_path / "script.jsonl", model="m")
    first, second = (run_candidate(BEFORE, view, kit_with(model), candidate=0) for _ in range(2))
    assert (first.status, first.answer) == ("ok", "chop tomato")
    assert second.timeless() == first.timeless()


def test_options_beyond_the_alphabet_are_all_shown(view: ClipView) -> None:
    asked = CHOICE.model_copy(update={"choices": ("mix egg", *(f"step {i}" for i in range(30)))})
    kit, model = kit_of(LIST, answer("mix egg", 1))
    assert run_candidate(asked, view, kit, candidate=0).answer == "mix egg"
    assert all(choice in model.requests[0].messages[1].text for choice in asked.choices)


TOOL_FORM = "{% if tools and not messages %}<tool_call>{% endif %}"
"""What says that calls are read from tags, without the many words of the tools, which no tiny student can hold."""


@pytest.mark.parametrize(("template", "boundary"), [("", "chat"), (TOOL_FORM, "parse")])
def test_a_student_plans_badly_and_its_failure_is_a_row(
    view: ClipView, tmp_path: Path, template: str, boundary: str
) -> None:
    pytest.importorskip("torch", reason="needs the train extra")
    from aot.student.answer import open_model

    folder = Path(shutil.copytree(str(resources.files("aot") / "student" / "tiny" / "video"), tmp_path / "m"))
    path = folder / "chat_template.jinja"
    last = "{% set messages = messages[-1:] %}" if template else ""
    path.write_text(template + last + path.read_text().replace("part['text']", "part['text'][-300:]"))
    student = open_model(ChatConfig(backend="local", model=str(folder)), run=None, writer="0")
    trace = run_candidate(BEFORE, view, kit_with(student), candidate=0)
    assert trace.status == "failed" and trace.error is not None
    assert trace.error.boundary == boundary
    assert trace.usage.chat_calls == (0 if boundary == "chat" else 2), "it was told once that it has to call a tool"
