"""Carries out plans: takes each turn's calls to the tools, keeps each call as a step, and stops at the budget.

A failing tool is a failed step, and the plan goes on from there. Nothing here knows how to plan or how to look, and no
package of video is imported. A budget is checked between calls; a single call is not interrupted.
"""

import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Literal

from pydantic import ValidationError

from aot.chat.spend import cost_of
from aot.display import counted
from aot.errors import AotError, ChatError, ConfigError, GuardStop, MissingPackageError, RunError, ToolError
from aot.files.jsonl import first_mistake
from aot.records import Question, Step, TimeSpan, ToolCall, Trace, TraceError, Usage
from aot.run_records import ChatUsage
from aot.teacher.bench import Hands, Parts
from aot.teacher.planner import BadCall, Calls, FinalAnswer, Transcript
from aot.teacher.tools.base import (
    CACHED,
    CachedResult,
    ToolArguments,
    ToolContext,
    ToolResult,
    cache_key,
    clamp_window,
)
from aot.teacher.tools.clipview import ClipView

MAX_ERROR_CHARS = 300
MAX_AT_ONCE = 8
"""Calls of one turn that run at the same time."""
Spent = Literal["too_many_turns", "too_many_calls", "too_slow"]
"""Which part of a budget was used up."""


@dataclass(frozen=True)
class _Done:
    """One finished call and whether the cache had it."""

    step: Step
    was_cached: bool


class OverBudgetError(Exception):
    """The plan came to no end within what it may cost."""

    def __init__(self, reason: Spent, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def run_candidate(question: Question, clip: ClipView, parts: Parts, *, candidate: int) -> Trace:
    """The trace of one plan; failures of planner and tools are part of it, never exceptions.

    Raises:
        ConfigError, GuardStop, RunError: nobody can go on, such as for want of a valid key or of room on the disk.
    """
    question = question.model_copy(update={"answer": ""})  # Neither planner nor wording may lean on the gold answer.
    plan = parts.planner.start(question, scene=parts.scene(clip), candidate=candidate)
    work = Work(
        question, context_of(parts, clip), parts, name=parts.teacher_name, candidate=candidate, said=plan.transcript
    )
    final: FinalAnswer | None = None
    rationale = ""
    try:
        work.begin_turn()
        while not isinstance(action := plan.next(work.steps), FinalAnswer):
            work.carry_out(action)
            work.begin_turn()
        final = action
        rationale = parts.writer.write(question, work.steps, final, candidate=candidate, transcript=plan.transcript)
    except OverBudgetError as over:
        return work.trace("truncated", error=TraceError(boundary="guard", message=str(over)))
    except (ConfigError, GuardStop, MissingPackageError, RunError):
        raise
    except AotError as error:
        return work.trace("failed", final=final, error=trace_error(error))
    return work.trace("ok", final=final, rationale=rationale)


def context_of(hands: Hands, clip: ClipView | Callable[[], ClipView] | None = None) -> ToolContext:
    """What the tools may use for one question, which shows a clip, perhaps still to be opened, or none."""
    return ToolContext(view=clip, sight=hands.looker, procedure=hands.procedure)


class Work:
    """One plan being carried out, whoever makes it: its steps so far, what it may still cost, and its trace."""

    def __init__(
        self,
        question: Question,
        context: ToolContext,
        hands: Hands,
        *,
        name: str,
        candidate: int = 0,
        said: Transcript | None = None,
        waits: bool = False,
    ) -> None:
        """Begins with no step.

        Args:
            question: what is asked.
            context: of its tools.
            hands: who carries out its calls, within which budget.
            name: of whoever plans.
            candidate: which of its plans for this question this is.
            said: where the turns of the talk are noted.
            waits: whether plans go on turn by turn with others, so that only the time of its own calls is its own.
        """
        self._question, self._hands, self._name, self._candidate = question, hands, name, candidate
        self.context = replace(context, question_id=question.id, question_text=question.text)
        self.said = said or Transcript()
        self._started_s, self._waits = time.perf_counter(), waits
        self._done: list[_Done] = []
        self._turns = 0

    @property
    def steps(self) -> tuple[Step, ...]:
        """One for each call so far."""
        return tuple(one.step for one in self._done)

    def begin_turn(self) -> None:
        """Count a turn of the planner.

        Raises:
            OverBudgetError: there may be no more.
        """
        most = self._hands.budget.max_turns
        if self._turns == most:
            raise OverBudgetError("too_many_turns", f"no answer after {most} turns; raise teacher.max_turns")
        self._turns += 1

    def carry_out(self, action: Calls) -> tuple[Step, ...]:
        """The calls of a turn as finished steps.

        Raises:
            OverBudgetError: there may be no more calls, or they have taken too long already; nothing was called.
        """
        budget, before = self._hands.budget, len(self._done)
        if before + len(action.calls) > budget.max_calls:
            words = f"no answer after {counted(before, 'call')}; raise teacher.max_calls"
            raise OverBudgetError("too_many_calls", words)
        if self._seconds() > budget.time_limit_s:
            words = f"no answer within {budget.time_limit_s:.0f} s; raise teacher.time_limit_s"
            raise OverBudgetError("too_slow", words)
        context = replace(self.context, steps=self.steps)
        if len(action.calls) == 1:  # in this very thread: one call is the rule
            self._done.append(call_tool(action.calls[0], context, self._hands, index=before + 1))
        else:
            self._done += _at_once(action.calls, context, self._hands, first=before + 1)
        return self.steps[before:]

    def trace(
        self, status: str, *, error: TraceError | None = None, final: FinalAnswer | None = None, rationale: str = ""
    ) -> Trace:
        """The trace as it is now."""
        return Trace.model_validate(
            {
                "question_id": self._question.id,
                "sample_index": self._candidate,
                "teacher": self._name,
                "steps": self.steps,
                "turns": tuple(self.said.turns),
                "support": final.support if final else (),
                "answer": final.answer if final else "",
                "rationale": rationale,
                "status": status,
                "error": error,
                "usage": self._usage(),
                "config_digest": self._hands.config_digest,
            }
        )

    def _seconds(self) -> float:
        if self._waits:
            return sum(one.step.duration_s for one in self._done)
        return time.perf_counter() - self._started_s

    def _usage(self) -> Usage:
        hands, looks = self._hands, tuple(self.context.usage)
        thought, looked = self.said, sum(looks, ChatUsage())
        total = thought.usage + looked
        costs = [cost_of(thought.usage, hands.prices)] if thought.calls else []
        costs += [cost_of(looked, hands.vision_prices)] if looks else []
        known_costs = [cost for cost in costs if cost is not None]
        return Usage(
            tool_calls=len(self._done),
            cached_calls=sum(one.was_cached for one in self._done),
            chat_calls=thought.calls + len(looks),
            **total.model_dump(),
            cost=sum(known_costs) if costs and len(known_costs) == len(costs) and thought.is_known else None,
            seconds=self._seconds(),
        )


def _at_once(
    calls: tuple[ToolCall | BadCall, ...], context: ToolContext, hands: Hands, *, first: int
) -> Iterable[_Done]:
    """Several calls of one turn, in their order."""
    with ThreadPoolExecutor(max_workers=min(len(calls), MAX_AT_ONCE)) as pool:
        return pool.map(lambda place, call: call_tool(call, context, hands, index=first + place), count(), calls)


def call_tool(call: ToolCall | BadCall, context: ToolContext, hands: Hands, *, index: int) -> _Done:
    """The call as a finished step, failed if the tool failed or a model wrote what no tool takes."""
    if isinstance(call, BadCall):
        step = _failed(ToolCall(tool=call.tool), call.problem, index=index)
        return _Done(step.model_copy(update={"text": call.written}), was_cached=False)
    started_s = time.perf_counter()
    was_cached, context = False, replace(context, reply_keys=[], index=index)
    try:
        step, was_cached = _called(call, context, hands, index=index)
    except ValidationError as error:
        step = _failed(call, f"bad arguments: {first_mistake(error, whole='the arguments')}", index=index)
    except ToolError as error:
        step = _failed(call, str(error), index=index)
    except _library_errors() as error:
        step = _failed(call, f"{type(error).__name__}: {error}", index=index)
    seen = {"duration_s": round(time.perf_counter() - started_s, 6), "reply_keys": tuple(context.reply_keys)}
    return _Done(step.model_copy(update=seen), was_cached)


def _library_errors() -> tuple[type[Exception], ...]:
    """What libraries behind tools throw at odd input; OpenCV's own only where something has imported it."""
    opencv = sys.modules.get("cv2")
    return (ArithmeticError, LookupError, ValueError, *((opencv.error,) if opencv else ()))


def trace_error(error: AotError) -> TraceError:
    """An error as a row keeps it."""
    reason = error.reason if isinstance(error, ChatError) else ""
    return TraceError(boundary=error.boundary, message=str(error)[:MAX_ERROR_CHARS], reason=reason)


def _called(call: ToolCall, context: ToolContext, hands: Hands, *, index: int) -> tuple[Step, bool]:
    tool = hands.tools.get(call.tool)
    if tool is None:
        raise ToolError(f"no tool is called {call.tool!r}; known: {', '.join(hands.tools)}")
    arguments = tool.Arguments.model_validate(call.arguments)
    span, times_s = _looked_at(arguments, context, max_frames=tool.max_frames)
    step = Step(index=index, call=call, span=span, frame_times_s=times_s)
    key = cache_key(tool, arguments, context) if tool.source in CACHED else ""
    stored = hands.cache.get(key) if key else None
    with suppress(ValidationError):  # A stored result of another shape is computed again.
        if stored is not None:
            finished = _finished(step, arguments, tool.Result.model_validate(stored.result))
            context.reply_keys.extend(stored.reply_keys)
            return finished, True
    step = _finished(step, arguments, tool.run(arguments, context))
    if key and step.result is not None:
        hands.cache.put(key, CachedResult(key=key, result=step.result, reply_keys=tuple(context.reply_keys)))
    return step, False


def _finished(step: Step, arguments: ToolArguments, result: ToolResult) -> Step:
    return step.model_copy(
        update={
            "result": result.model_dump(mode="json"),
            "sought": arguments.sought,
            "findings": result.findings(arguments),
        }
    )


def _looked_at(
    arguments: ToolArguments, context: ToolContext, *, max_frames: int | None
) -> tuple[TimeSpan | None, tuple[float, ...]]:
    """The span a call looks at and the true times of the frames it sees; nothing for tools without a window.

    An edge that a call may leave out is that of the visible window.
    """
    edges = arguments.model_dump(include={"start_s", "end_s"})
    if len(edges) < 2:
        return None, ()
    clip, start_s, end_s = context.clip, edges["start_s"], edges["end_s"]
    span = clamp_window(clip.start_s if start_s is None else start_s, clip.end_s if end_s is None else end_s, clip)
    fps = getattr(arguments, "fps", None)
    positions = [] if max_frames == 0 else clip.positions(span, fps=fps, most=max_frames)
    rounded = TimeSpan(start_s=round(span.start_s, 3), end_s=round(span.end_s, 3))
    return rounded, tuple(round(clip.times_s[position], 3) for position in positions)


def _failed(call: ToolCall, message: str, *, index: int) -> Step:
    return Step(index=index, call=call, status="failed", error=message[:MAX_ERROR_CHARS])
