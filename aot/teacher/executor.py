"""Carries out one plan: asks the planner, calls the tools, keeps each call as a step, and stops at the budget.

A failing tool is a failed step, and the planner goes on from there. Nothing here knows how to plan or how to look. A
budget is checked between calls; a single call is not interrupted.
"""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count

import cv2
from pydantic import ValidationError

from aot.chat.spend import cost_of
from aot.display import counted
from aot.errors import AotError, ChatError, ConfigError, GuardStop, MissingPackageError, RunError, ToolError
from aot.files.jsonl import first_mistake
from aot.records import Question, Step, TimeSpan, ToolCall, Trace, TraceError, Usage
from aot.run_records import ChatUsage
from aot.teacher.parts import Parts
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


@dataclass(frozen=True)
class _Done:
    """One finished call and whether the cache had it."""

    step: Step
    was_cached: bool


def run_candidate(question: Question, clip: ClipView, parts: Parts, *, candidate: int) -> Trace:
    """The trace of one plan; failures of planner and tools are part of it, never exceptions.

    Raises:
        ConfigError, GuardStop, RunError: nobody can go on, such as for want of a valid key or of room on the disk.
    """
    question = question.model_copy(update={"answer": ""})  # Neither planner nor wording may lean on the gold answer.
    work = _Work(question, clip, parts, candidate)
    final: FinalAnswer | None = None
    rationale = ""
    try:
        while not isinstance(action := work.turn(), FinalAnswer):
            if len(action.calls) == 1:  # in this very thread: one call is the rule
                work.done.append(call_tool(action.calls[0], work.context, parts, index=len(work.done) + 1))
            else:
                work.done += _at_once(action.calls, work.context, parts, first=len(work.done) + 1)
        final = action
        rationale = parts.writer.write(question, work.steps, final, candidate=candidate, transcript=work.transcript)
    except _OverBudgetError as over:
        return work.trace("truncated", error=TraceError(boundary="guard", message=str(over)))
    except (ConfigError, GuardStop, MissingPackageError, RunError):
        raise
    except AotError as error:
        return work.trace("failed", final=final, error=trace_error(error))
    return work.trace("ok", final=final, rationale=rationale)


class _OverBudgetError(Exception):
    """The plan came to no end within what it may cost."""


class _Work:
    """One plan being carried out."""

    def __init__(self, question: Question, clip: ClipView, parts: Parts, candidate: int) -> None:
        self._question, self._parts, self._candidate = question, parts, candidate
        self._plan = parts.planner.start(question, scene=parts.scene(clip), candidate=candidate)
        self.context = ToolContext(clip=clip, looker=parts.looker, procedure=parts.procedure)
        self._started_s = time.perf_counter()
        self.done: list[_Done] = []
        """The calls so far."""
        self._turns = 0

    @property
    def transcript(self) -> Transcript:
        """What the plan's model said; the writer of the rationale goes on in it."""
        return self._plan.transcript

    @property
    def steps(self) -> tuple[Step, ...]:
        """One for each call so far."""
        return tuple(one.step for one in self.done)

    def turn(self) -> Calls | FinalAnswer:
        """The next calls of the plan, or its answer; raises _OverBudgetError where there may be none."""
        budget = self._parts.budget
        if self._turns == budget.max_turns:
            raise _OverBudgetError(f"no answer after {budget.max_turns} turns; raise teacher.max_turns")
        self._turns += 1
        action = self._plan.next(self.steps)
        if isinstance(action, FinalAnswer):
            return action
        if len(self.done) + len(action.calls) > budget.max_calls:
            raise _OverBudgetError(f"no answer after {counted(len(self.done), 'call')}; raise teacher.max_calls")
        if time.perf_counter() - self._started_s > budget.time_limit_s:
            raise _OverBudgetError(f"no answer within {budget.time_limit_s:.0f} s; raise teacher.time_limit_s")
        return action

    def trace(
        self, status: str, *, error: TraceError | None = None, final: FinalAnswer | None = None, rationale: str = ""
    ) -> Trace:
        """The trace as it is now."""
        parts = self._parts
        return Trace.model_validate(
            {
                "question_id": self._question.id,
                "sample_index": self._candidate,
                "teacher": parts.teacher_name,
                "steps": self.steps,
                "turns": tuple(self.transcript.turns),
                "support": final.support if final else (),
                "answer": final.answer if final else "",
                "rationale": rationale,
                "status": status,
                "error": error,
                "usage": self._usage(),
                "config_digest": parts.config_digest,
            }
        )

    def _usage(self) -> Usage:
        parts, looks = self._parts, tuple(self.context.usage)
        thought, looked = self.transcript, sum(looks, ChatUsage())
        total = thought.usage + looked
        costs = [cost_of(thought.usage, parts.prices)] if thought.calls else []
        costs += [cost_of(looked, parts.vision_prices)] if looks else []
        known_costs = [cost for cost in costs if cost is not None]
        return Usage(
            tool_calls=len(self.done),
            cached_calls=sum(one.was_cached for one in self.done),
            chat_calls=thought.calls + len(looks),
            **total.model_dump(),
            cost=sum(known_costs) if costs and len(known_costs) == len(costs) and thought.is_known else None,
            seconds=time.perf_counter() - self._started_s,
        )


def _at_once(
    calls: tuple[ToolCall | BadCall, ...], context: ToolContext, parts: Parts, *, first: int
) -> Iterable[_Done]:
    """Several calls of one turn, in their order."""
    with ThreadPoolExecutor(max_workers=min(len(calls), MAX_AT_ONCE)) as pool:
        return pool.map(lambda place, call: call_tool(call, context, parts, index=first + place), count(), calls)


def call_tool(call: ToolCall | BadCall, context: ToolContext, parts: Parts, *, index: int) -> _Done:
    """The call as a finished step, failed if the tool failed or a model wrote what no tool takes."""
    if isinstance(call, BadCall):
        step = _failed(ToolCall(tool=call.tool), call.problem, index=index)
        return _Done(step.model_copy(update={"text": call.written}), was_cached=False)
    started_s = time.perf_counter()
    was_cached, context = False, replace(context, reply_keys=[])
    try:
        step, was_cached = _called(call, context, parts, index=index)
    except ValidationError as error:
        step = _failed(call, f"bad arguments: {first_mistake(error, whole='the arguments')}", index=index)
    except ToolError as error:
        step = _failed(call, str(error), index=index)
    except (cv2.error, ArithmeticError, LookupError, ValueError) as error:
        step = _failed(call, f"{type(error).__name__}: {error}", index=index)
    seen = {"duration_s": round(time.perf_counter() - started_s, 6), "reply_keys": tuple(context.reply_keys)}
    return _Done(step.model_copy(update=seen), was_cached)


def trace_error(error: AotError) -> TraceError:
    """An error as a row keeps it."""
    reason = error.reason if isinstance(error, ChatError) else ""
    return TraceError(boundary=error.boundary, message=str(error)[:MAX_ERROR_CHARS], reason=reason)


def _called(call: ToolCall, context: ToolContext, parts: Parts, *, index: int) -> tuple[Step, bool]:
    tool = parts.tools.get(call.tool)
    if tool is None:
        raise ToolError(f"no tool is called {call.tool!r}; known: {', '.join(parts.tools)}")
    arguments = tool.Arguments.model_validate(call.arguments)
    span, times_s = _looked_at(arguments, context.clip, max_frames=tool.max_frames)
    step = Step(index=index, call=call, span=span, frame_times_s=times_s)
    key = cache_key(tool, arguments, context)
    stored = parts.cache.get(key) if tool.source in CACHED else None
    with suppress(ValidationError):  # A stored result of another shape is computed again.
        if stored is not None:
            finished = _finished(step, arguments, tool.Result.model_validate(stored.result))
            context.reply_keys.extend(stored.reply_keys)
            return finished, True
    step = _finished(step, arguments, tool.run(arguments, context))
    if tool.source in CACHED and step.result is not None:
        parts.cache.put(key, CachedResult(key=key, result=step.result, reply_keys=tuple(context.reply_keys)))
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
    arguments: ToolArguments, clip: ClipView, *, max_frames: int | None
) -> tuple[TimeSpan | None, tuple[float, ...]]:
    """The span a call looks at and the true times of the frames it sees; nothing for tools without a window.

    An edge that a call may leave out is that of the visible window.
    """
    edges = arguments.model_dump(include={"start_s", "end_s"})
    if len(edges) < 2:
        return None, ()
    start_s, end_s = edges["start_s"], edges["end_s"]
    span = clamp_window(clip.start_s if start_s is None else start_s, clip.end_s if end_s is None else end_s, clip)
    fps = getattr(arguments, "fps", None)
    positions = [] if max_frames == 0 else clip.positions(span, fps=fps, most=max_frames)
    rounded = TimeSpan(start_s=round(span.start_s, 3), end_s=round(span.end_s, 3))
    return rounded, tuple(round(clip.times_s[position], 3) for position in positions)


def _failed(call: ToolCall, message: str, *, index: int) -> Step:
    return Step(index=index, call=call, status="failed", error=message[:MAX_ERROR_CHARS])
