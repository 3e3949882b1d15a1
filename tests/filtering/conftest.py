"""One healthy trace that tests change, and what single filters say of it."""

from collections.abc import Callable

import pytest
from fixtures.steps import tool_step

from aot.config import FilterConfig
from aot.filtering.subject import Filter, Subject
from aot.records import MediaRef, Question, Step, TimeSpan, ToolCall, Trace, Verdict

WINDOW = TimeSpan(start_s=0.0, end_s=9.6)
RATIONALE = """Identify: the question asks for the step after 9.6s.
Gather: 0.2s-2.4s chop onion [1]. 2.4s-5.1s fry onion [1].
Combine: this is omelette, where add egg comes after fry onion [2].
Answer: add egg"""


@pytest.fixture
def question() -> Question:
    return Question(
        id="q1", dataset="d", split="train", kind="next_choice", text="What is the next step?",
        choices=("add egg", "boil rice"), answer="add egg", answer_type="choice",
        media=MediaRef(uri="a.mp4", end_s=9.6), group="a",
    )  # fmt: skip


@pytest.fixture
def trace() -> Trace:
    segments = [
        {"start_s": 0.21, "end_s": 2.4, "label": "chop onion", "score": 0.9},
        {"start_s": 2.4, "end_s": 5.13, "label": "fry onion", "score": 0.8},
    ]
    listing = ToolCall(tool="list_steps", arguments={"start_s": 0.0, "end_s": 9.6})
    candidates = [{"label": "add egg", "prob": 0.7}, {"label": "wash fish", "prob": 0.3}]
    proposal = {"task": "omelette", "task_prob": 0.9, "last": "fry onion", "candidates": candidates}
    steps = (
        tool_step(1, "list_steps", listing.arguments, {"steps": segments}, span=WINDOW),
        tool_step(2, "propose_next", {"history": ["chop onion"]}, proposal),
        Step(index=3, call=listing, status="failed", error="no frames"),
    )
    return Trace(
        question_id="q1", sample_index=0, teacher="rules", steps=steps, support=(1, 2), rationale=RATIONALE,
        answer="add egg", status="ok", config_digest="x",
    )  # fmt: skip


@pytest.fixture
def says(question: Question, trace: Trace) -> Callable[..., Verdict]:
    """The verdict of a filter on the healthy trace after text replacements in its rationale and changed fields."""

    def verdict(one: Filter, *replaced: tuple[str, str], **changed: object) -> Verdict:
        rationale = trace.rationale
        for old, new in replaced:
            assert old in rationale
            rationale = rationale.replace(old, new)
        altered = trace.model_copy(update={"rationale": rationale, **changed})
        return one(Subject(altered, question, FilterConfig()))

    return verdict
