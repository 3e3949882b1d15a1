"""The executor and the rule planner: plans, failures, budgets, cache."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from teacher_scenes import CARD, annotation, drawn_view, question

from aot.errors import ParseError
from aot.files.parts import KeyedRows
from aot.rationales.cards import ABOUT_CARDS
from aot.records import Question, Step, ToolCall, Trace
from aot.teacher.bench import Budget, Parts
from aot.teacher.executor import run_candidate
from aot.teacher.planner import Calls, Scene, Transcript, named_in
from aot.teacher.rules import ROUTES, RulesPlanner
from aot.teacher.tools.base import CachedResult
from aot.teacher.tools.clipview import ClipView
from aot.teacher.tools.pixels.matcher import Looker
from aot.teacher.tools.procedure import ProcedureModel
from aot.teacher.tools.registry import TOOLS

STORY = ("wash tomato", "chop tomato", "mix egg", "wash tomato")
QUESTIONS = [
    (question("before", "Which step comes right before mix egg?"), "chop tomato"),
    (question("after", "Which step comes right after chop tomato?"), "mix egg"),
    (question("count", "How often does wash tomato happen?"), "2"),
    (question("count", "How often does fry fish happen?"), "0"),
    (question("present", "Is there a egg in the clip?"), "yes"),
    (question("present", "Is there a fish in the clip?"), "no"),
    (question("next_open", "Which step comes next?"), "pour egg"),
    (question("next_choice", "What is the next step?", choices=("mix egg", "pour egg")), "pour egg"),
]


class AlwaysCalls:
    """A planner that never comes to an end."""

    name = "always"

    def __init__(self, call: ToolCall) -> None:
        self.call = call

    transcript = Transcript()

    def start(self, question: Question, *, scene: Scene, candidate: int) -> "AlwaysCalls":
        return self

    def next(self, steps: tuple[Step, ...]) -> Calls:
        return Calls((self.call,))


@pytest.fixture(scope="module")
def view() -> ClipView:
    return drawn_view(*STORY)


@pytest.fixture
def kit() -> Parts:
    rows = [annotation(f"{i}", "omelette", "wash tomato", "chop tomato", "mix egg", "pour egg") for i in range(3)]
    return Parts(
        planner=RulesPlanner(), tools=TOOLS, looker=Looker(CARD), procedure=ProcedureModel.from_annotations(rows),
        cache=KeyedRows(None, CachedResult), budget=Budget(max_calls=6, time_limit_s=60.0), seed=0, config_digest="d",
    )  # fmt: skip


@pytest.mark.parametrize(("asked", "answer"), QUESTIONS, ids=[f"{q.kind}-{a}" for q, a in QUESTIONS])
@pytest.mark.parametrize("candidate", range(6))
def test_every_plan_of_every_kind_answers_a_clear_clip(
    view: ClipView, kit: Parts, asked: Question, answer: str, candidate: int
) -> None:
    trace = run_candidate(asked, view, kit, candidate=candidate)
    assert (trace.status, trace.answer) == ("ok", answer)
    assert set(trace.support) <= {step.index for step in trace.steps}
    assert trace.rationale.endswith(f"Answer: {answer}")


def test_when_gives_a_span_that_a_tool_returned(view: ClipView, kit: Parts) -> None:
    answers = {
        run_candidate(question("when", "When does mix egg happen?"), view, kit, candidate=i).answer for i in range(3)
    }
    assert all(abs(float(answer.split("s")[0]) - 4.0) < 0.5 for answer in answers)


def test_steps_tell_what_was_looked_at(view: ClipView, kit: Parts) -> None:
    step = run_candidate(QUESTIONS[6][0], view, kit, candidate=0).steps[0]
    assert (step.span.start_s, step.span.end_s) == (0.0, 8.0)
    assert len(step.frame_times_s) == len(view.times_s)


def test_candidates_of_one_kind_are_different_plans(view: ClipView, kit: Parts) -> None:
    asked_kinds = {q.kind: q for q, _ in QUESTIONS} | {"when": question("when", "When does mix egg happen?")}
    assert set(asked_kinds) == {kind for kind in ROUTES if not kind.startswith(ABOUT_CARDS)}
    for kind, asked in asked_kinds.items():
        plans = {str([s.call for s in run_candidate(asked, view, kit, candidate=i).steps]) for i in range(3)}
        assert len(plans) == 3, kind


@pytest.mark.parametrize(
    ("asked", "boundary"),
    [
        (question("why", "Why does she smile?"), "parse"),
        (question("count", "How often is the pancake flipped?"), "parse"),
        (question("when", "When does bake fish happen, I mean fry fish?"), "tool"),
        (question("before", "Which step comes right before wash onion?"), "tool"),
    ],
)
def test_what_cannot_be_answered_is_an_honest_failure(
    view: ClipView, kit: Parts, asked: Question, boundary: str
) -> None:
    trace = run_candidate(asked, view, kit, candidate=0)
    assert (trace.status, trace.answer, trace.rationale) == ("failed", "", "")
    assert trace.error.boundary == boundary


def test_without_annotations_the_next_step_fails_honestly(view: ClipView, kit: Parts) -> None:
    trace = run_candidate(QUESTIONS[6][0], view, replace(kit, procedure=None), candidate=0)
    assert trace.status == "failed"
    assert "no procedural knowledge" in trace.error.message
    assert [step.status for step in trace.steps] == ["ok", "failed"] * 2 or trace.steps[-1].status == "failed"


@pytest.mark.parametrize(
    "call",
    [
        ToolCall(tool="read_mind", arguments={}),
        ToolCall(tool="list_steps", arguments={"start_s": 0.0, "end_s": 99.0}),
        ToolCall(tool="list_steps", arguments={"start_s": 0.0, "until": 3.0}),
        ToolCall(tool="find_moments", arguments={"event": "", "start_s": 0.0, "end_s": 3.0}),
    ],
)
def test_bad_calls_become_failed_steps_and_stop_at_the_budget(view: ClipView, kit: Parts, call: ToolCall) -> None:
    trace = run_candidate(QUESTIONS[0][0], view, replace(kit, planner=AlwaysCalls(call)), candidate=0)
    assert (trace.status, trace.error.boundary) == ("truncated", "guard")
    assert [step.status for step in trace.steps] == ["failed"] * 6
    assert all(step.error for step in trace.steps)


def test_a_second_run_comes_from_the_cache_and_is_the_same(view: ClipView, kit: Parts, tmp_path: Path) -> None:
    def run() -> Trace:
        with closing(KeyedRows(tmp_path, CachedResult)) as cache:
            return run_candidate(QUESTIONS[0][0], view, replace(kit, cache=cache), candidate=0)

    first = run()
    with (tmp_path / "part-9.jsonl").open("wb") as file:
        file.write(b'{"key": "x", \xff}\n{"half')
    second = run()
    assert first.usage.cached_calls == 0
    assert second.usage.cached_calls == len(second.steps) == 2
    assert second.timeless() == first.timeless()


def test_failures_and_counted_knowledge_are_not_cached(view: ClipView, kit: Parts, tmp_path: Path) -> None:
    with closing(KeyedRows(tmp_path, CachedResult)) as cache:
        run_candidate(QUESTIONS[6][0], view, replace(kit, cache=cache, procedure=None), candidate=0)
    lines = (tmp_path / "part-0.jsonl").read_text().splitlines()
    assert lines
    assert not [line for line in lines if "candidates" in line or "no procedural" in line]


def test_the_gold_answer_changes_nothing(view: ClipView, kit: Parts) -> None:
    asked = QUESTIONS[0][0]
    other = asked.model_copy(update={"answer": "bake dough"})
    assert (
        run_candidate(asked, view, kit, candidate=0).timeless()
        == run_candidate(other, view, kit, candidate=0).timeless()
    )


def test_the_longest_known_name_is_taken() -> None:
    assert (
        named_in("When does fry onion rings happen?", ("fry onion", "fry onion rings"), what="step")
        == "fry onion rings"
    )
    with pytest.raises(ParseError, match="no known step"):
        named_in("refry onions", ("fry onion",), what="step")
