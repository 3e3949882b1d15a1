"""One plan of a student: what each reply asks for, what the tools gave, and what was odd about it, countable.

A reply with calls is a turn of the plan, one without is its end. What a student writes is data: a call is checked
against the tool's schema before anything runs. A turn with a call that no tool takes goes back once with the problem as
its result; a second one ends the plan. Nothing here knows tokens or batches.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from aot.answers import parse_answer
from aot.chat.messages import WrittenCall
from aot.config import FilterConfig
from aot.display import storable
from aot.filtering.evidence import unproven_claims
from aot.filtering.subject import Subject
from aot.rationales.named import NAMED_CALCULATOR_NAME, values_of, with_values
from aot.rationales.notation import CITATION
from aot.records import Question, Step, ToolCall, Trace, TraceError, Turn
from aot.student.rows.prompts import MAX_RESULT_CHARS, OPENED, RESULT_OPENED, read_calls, result_text
from aot.teacher.chat_planner import read_call
from aot.teacher.executor import OverBudgetError, Spent, Work
from aot.teacher.planner import BadCall, Calls, FinalAnswer
from aot.teacher.tools.base import AnyTool

Reason = (
    Spent
    | Literal[
        "never_called", "answered_before_looking", "unknown_tool", "bad_arguments", "malformed_call", "tool_failed",
        "found_nothing", "result_cut", "wrote_result", "quoted_unseen", "not_an_option",
        "second_bad_call", "cut_off", "no_room", "unreadable_result",
    ]
)  # fmt: skip
"""What may be odd about a plan; what is spent, and the last four, end it without an answer.

`wrote_result`: a result in its own words, as if a tool had given it. `quoted_unseen`: a step or a finding that no tool
gave. `answered_before_looking`: an answer while no tool had given anything yet. `result_cut`: a result was longer than
MAX_RESULT_CHARS. `not_an_option`: its answer was none of those offered, so the likeliest of them was taken.
`cut_off`: a reply came to no end within its tokens; `no_room`: nor the talk within the context."""
MAX_KEPT_CHARS = 20_000
"""Of a result in a stored trace; a card of a megabyte would be stored for each question that it is looked up for."""
_NUMBER = re.compile(r"\s*[$€£]?\s*(-?\d[\d.,:/]*)")
_ANSWER = re.compile(r"\bAnswer\s*:")
_NO_CALL = "no call that can be read: write JSON with `name` and `arguments` between <tool_call> and </tool_call>"


@dataclass
class StudentPlan:
    """The plan of one question, turn by turn."""

    question: Question
    tools: Mapping[str, AnyTool]
    work: Work
    reasons: dict[Reason, None] = field(default_factory=dict)
    """In the order in which they came."""
    texts: list[str] = field(default_factory=list)
    """What it said in each turn, without the calls."""
    answer: str | None = None
    _ended: TraceError | None = None
    _had_mercy: bool = False
    """Whether a call that no tool takes has gone back already."""
    _words: dict[int, str] = field(default_factory=dict)
    """What was said before a step, by its index."""

    def note(self, *reasons: Reason) -> None:
        """Count what is odd, once each."""
        self.reasons |= dict.fromkeys(reasons)

    def begin_turn(self) -> bool:
        """Whether another turn may come; else the plan has ended."""
        try:
            self.work.begin_turn()
        except OverBudgetError as over:
            self._over(over)
            return False
        return True

    def hear(self, text: str, *, answer: str | None, is_whole: bool) -> list[str] | None:
        """What the tools gave to the calls of a reply, one text for each; None where the plan has ended.

        Args:
            text: of the reply.
            answer: what it answers, if it holds no call.
            is_whole: whether it came to its end.
        """
        said, written = read_calls(storable(text))
        valued = self.valued(said)
        self.texts.append(_linked(valued) if written else valued)
        self.work.said.turns.append(Turn(role="assistant", purpose="solve", text=said, calls=_stored(written)))
        if RESULT_OPENED in said:
            self.note("wrote_result")
        if not is_whole:
            self.fail("cut_off", "a reply came to no end; raise student.max_rationale_tokens", boundary="guard")
            return None
        calls = [read_call(call, self.tools, others=()) for call in written]
        if OPENED in said:
            calls.append(BadCall("", said[said.index(OPENED) :][:MAX_KEPT_CHARS], _NO_CALL))
        if not calls:
            self._end(answer)
            return None
        if _ANSWER.search(said) and not self._has_result:
            self.note("answered_before_looking")
        return self._carry_out(calls)

    def valued(self, text: str) -> str:
        """What it said with numbers in place of their names, where its calculator takes names."""
        if NAMED_CALCULATOR_NAME not in self.tools:
            return text
        return with_values(text, values_of(self.question.text, self.work.steps))

    def fail(self, reason: Reason, message: str, *, boundary: str = "parse") -> None:
        """End the plan without an answer."""
        self.note(reason)
        self._ended = TraceError(boundary=boundary, message=message[:MAX_RESULT_CHARS], reason=reason)

    @property
    def is_outside(self) -> bool:
        """Whether it ended with an answer that is none of the options of its question; not to know is none."""
        if not self.answer or not self.question.choices:
            return False
        return parse_answer(self.answer, self.question).reason == "not_an_option"

    def take_option(self, option: str) -> None:
        """Answer with one of the options instead."""
        self.note("not_an_option")
        self.answer = option

    def trace(self) -> Trace:
        """All of it as a row; to be asked for when the plan has ended."""
        rationale = "".join(self.texts).rstrip()
        ok = [step.index for step in self.work.steps if step.status == "ok"]
        cited = dict.fromkeys(int(mark[1]) for mark in CITATION.finditer(rationale))
        final = FinalAnswer(self.answer or "", tuple(index for index in cited if index in ok))
        status = "ok" if self._ended is None else "truncated" if self._ended.boundary == "guard" else "failed"
        trace = self.work.trace(status, error=self._ended, final=final, rationale=rationale)
        trace = trace.model_copy(update={"steps": tuple(map(self._with_words, trace.steps))})
        if any(index not in ok for index in cited) or self._is_unproven(trace):
            self.note("quoted_unseen")
        steps = tuple(_bounded(step) for step in trace.steps)
        return trace.model_copy(update={"reasons": tuple(self.reasons), "steps": steps})

    @property
    def _has_result(self) -> bool:
        return any(step.status == "ok" for step in self.work.steps)

    def _carry_out(self, calls: Sequence[ToolCall | BadCall]) -> list[str] | None:
        try:
            steps = self.work.carry_out(Calls(tuple(calls)))
        except OverBudgetError as over:
            self._over(over)
            return None
        self._words[steps[0].index] = self.texts[-1]
        texts = []
        for call, step in zip(calls, steps, strict=True):
            text, was_cut = result_text(step)
            self.note(*_oddities(call, step, tools=self.tools, was_cut=was_cut))
            self.work.said.turns.append(Turn(role="tool", purpose="solve", text=storable(text), step=step.index))
            texts.append(text)
        bad = [step for call, step in zip(calls, steps, strict=True) if isinstance(call, BadCall)]
        if bad and self._had_mercy:
            self.fail("second_bad_call", f"step {bad[0].index} failed: {bad[0].error}")
            return None
        self._had_mercy |= bool(bad)
        return texts

    def _end(self, answer: str | None) -> None:
        self.answer = answer
        if not self.work.steps:
            self.note("never_called")
        elif not self._has_result:
            self.note("answered_before_looking")

    def _over(self, over: OverBudgetError) -> None:
        self.fail(over.reason, str(over), boundary="guard")

    def _with_words(self, step: Step) -> Step:
        """A step with what was said before it in its turn, as the steps of a text chain have it."""
        return step.model_copy(update={"text": step.text or self._words.get(step.index, "")})

    def _is_unproven(self, trace: Trace) -> bool:
        """Whether a claim lacks evidence in the steps that it cites, or another value stands where a result belongs."""
        if trace.support and unproven_claims(Subject(trace, self.question, FilterConfig())):
            return True
        by_index = {step.index: step for step in trace.steps}
        for before, result, after in zip(trace.turns, trace.turns[1:], trace.turns[2:], strict=False):
            is_worked_out = result.step in by_index and before.text.rstrip().endswith("=")
            if is_worked_out and _contradicts(by_index[result.step or 0], after.text):
                return True
        return False


def _oddities(call: ToolCall | BadCall, step: Step, *, tools: Mapping[str, AnyTool], was_cut: bool) -> Iterator[Reason]:
    if isinstance(call, BadCall):
        yield "malformed_call" if not call.tool else "bad_arguments" if call.tool in tools else "unknown_tool"
    elif step.status == "failed":
        yield "tool_failed"
    elif not step.findings:
        yield "found_nothing"
    if was_cut:
        yield "result_cut"


def _contradicts(step: Step, after: str) -> bool:
    """Whether the number that follows a result is another one than the result.

    A fraction may be followed by digits that are about it.
    """
    values = [one.text for one in step.findings if one.how == "answered"]
    number = _NUMBER.match(after)
    if not values or number is None:
        return False
    about = (step.result or {}).get("about", "")
    return number[1].replace(",", "").rstrip(".") not in {value.replace(",", "") for value in (*values, str(about))}


def _bounded(step: Step) -> Step:
    """A step whose result, if it is very long, is kept as its beginning; its findings go with it."""
    text = json.dumps(step.result, ensure_ascii=False) if step.result is not None else ""
    if len(text) <= MAX_KEPT_CHARS:
        return step
    return step.model_copy(
        update={"result": {"beginning": text[:MAX_KEPT_CHARS], "characters": len(text)}, "findings": ()}
    )


def _linked(text: str) -> str:
    """What was said before a call, parted from what comes after it where a sentence ends."""
    return f"{text}\n" if text and text[-1] in ".!?" else text


def _stored(written: Sequence[WrittenCall]) -> tuple[WrittenCall, ...]:
    return tuple(
        one.model_copy(update={"name": storable(one.name), "arguments": storable(one.arguments[:MAX_KEPT_CHARS])})
        for one in written
    )
