"""Carries out one plan: asks the planner, calls the tools, keeps each call as a step, and stops at the budget.

A failing tool is a failed step, and the planner goes on from there. Nothing here knows how to plan or how to look. A
budget is checked between calls; a single call is not interrupted.
"""

import time
import zlib
from dataclasses import dataclass

import cv2
from pydantic import ValidationError

from aot.errors import AotError, ToolError
from aot.records import JsonDict, Question, Step, TimeSpan, ToolCall, Trace, TraceError, Usage
from aot.teacher.cache import CachedResult, cache_key
from aot.teacher.kit import TeacherKit
from aot.teacher.planner import FinalAnswer
from aot.teacher.tools.base import CACHED, ToolArguments, ToolContext, clamp_window, sight_of
from aot.teacher.tools.clipview import ClipView
from aot.teacher.verbalise import verbalise

MAX_ERROR_CHARS = 300


@dataclass(frozen=True)
class _Done:
    """One finished call and whether the cache had it."""

    step: Step
    was_cached: bool


def run_candidate(question: Question, clip: ClipView, kit: TeacherKit, *, candidate: int) -> Trace:
    """The trace of one plan; failures of planner and tools are part of it, never exceptions."""
    question = question.model_copy(update={"answer": ""})  # Neither planner nor wording may lean on the gold answer.
    started_s = time.perf_counter()
    scene = kit.scene(clip)
    context = ToolContext(clip=clip, looker=kit.looker, procedure=kit.procedure)
    done: list[_Done] = []

    def trace(status: str, *, error: TraceError | None = None, final: FinalAnswer | None = None) -> Trace:
        steps = tuple(one.step for one in done)
        return Trace.model_validate(
            {
                "question_id": question.id,
                "sample_index": candidate,
                "teacher": kit.planner.name,
                "steps": steps,
                "support": final.support if final else (),
                "answer": final.answer if final else "",
                "rationale": _rationale(question, steps, final, kit, candidate) if final else "",
                "status": status,
                "error": error,
                "usage": Usage(
                    tool_calls=len(done),
                    cached_calls=sum(one.was_cached for one in done),
                    seconds=time.perf_counter() - started_s,
                ),
                "config_digest": kit.config_digest,
            }
        )

    while True:
        try:
            action = kit.planner.next_action(
                question, tuple(one.step for one in done), scene=scene, candidate=candidate
            )
        except AotError as error:
            return trace("failed", error=TraceError(boundary=error.boundary, message=str(error)[:MAX_ERROR_CHARS]))
        if isinstance(action, FinalAnswer):
            return trace("ok", final=action)
        if len(done) >= kit.budget.max_calls:
            return trace("truncated", error=_over(f"no answer after {len(done)} calls; raise teacher.max_calls"))
        if time.perf_counter() - started_s > kit.budget.time_limit_s:
            limit = f"no answer within {kit.budget.time_limit_s:.0f} s; raise teacher.time_limit_s"
            return trace("truncated", error=_over(limit))
        done.append(call_tool(action, context, kit, index=len(done) + 1))


def call_tool(call: ToolCall, context: ToolContext, kit: TeacherKit, *, index: int) -> _Done:
    """The call as a finished step, failed if the tool failed."""
    started_s = time.perf_counter()
    was_cached = False
    try:
        step, was_cached = _called(call, context, kit, index=index)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the arguments"
        step = _failed(call, f"bad arguments: {problem['msg']} at {where}", index=index)
    except ToolError as error:
        step = _failed(call, str(error), index=index)
    except (cv2.error, ArithmeticError, LookupError, ValueError) as error:
        step = _failed(call, f"{type(error).__name__}: {error}", index=index)
    return _Done(step.model_copy(update={"duration_s": round(time.perf_counter() - started_s, 6)}), was_cached)


def failed_trace(question: Question, kit: TeacherKit, *, boundary: str, message: str) -> Trace:
    """The row of a question that no plan could begin with, such as one about a clip that is not there."""
    return Trace(
        question_id=question.id,
        sample_index=0,
        teacher=kit.planner.name,
        status="failed",
        error=TraceError(boundary=boundary, message=message[:MAX_ERROR_CHARS]),
        config_digest=kit.config_digest,
    )


def with_attempts_cost(trace: Trace, attempts: list[Trace]) -> Trace:
    """The emitted trace, charged with what all attempts at its question cost."""
    usages = [attempt.usage for attempt in attempts]
    return trace.model_copy(
        update={
            "usage": Usage(
                tool_calls=sum(usage.tool_calls for usage in usages),
                cached_calls=sum(usage.cached_calls for usage in usages),
                seconds=round(sum(usage.seconds for usage in usages), 6),
            )
        }
    )


def _called(call: ToolCall, context: ToolContext, kit: TeacherKit, *, index: int) -> tuple[Step, bool]:
    tool = kit.tools.get(call.tool)
    if tool is None:
        raise ToolError(f"no tool is called {call.tool!r}; known: {', '.join(kit.tools)}")
    arguments = tool.Arguments.model_validate(call.arguments)
    span, times_s = _looked_at(arguments, context.clip)
    step = Step(index=index, call=call, span=span, frame_times_s=times_s)
    key = cache_key(
        clip=context.clip,
        tool=tool.name,
        version=tool.version,
        arguments=arguments.model_dump(mode="json"),
        sight=sight_of(tool, context),
    )
    stored = kit.cache.get(key) if tool.source in CACHED else None
    if stored is not None:
        return step.model_copy(update={"result": stored.result}), True
    result: JsonDict = tool.run(arguments, context).model_dump(mode="json")
    if tool.source in CACHED:
        kit.cache.put(CachedResult(key=key, result=result))
    return step.model_copy(update={"result": result}), False


def _looked_at(arguments: ToolArguments, clip: ClipView) -> tuple[TimeSpan | None, tuple[float, ...]]:
    """The span a call looks at and the true times of the frames in it; nothing for tools without a window."""
    start_s, end_s = getattr(arguments, "start_s", None), getattr(arguments, "end_s", None)
    if start_s is None or end_s is None:
        return None, ()
    span = clamp_window(start_s, end_s, clip)
    positions = clip.positions(span, fps=getattr(arguments, "fps", None))
    rounded = TimeSpan(start_s=round(span.start_s, 3), end_s=round(span.end_s, 3))
    return rounded, tuple(round(clip.times_s[position], 3) for position in positions)


def _rationale(question: Question, steps: tuple[Step, ...], final: FinalAnswer, kit: TeacherKit, candidate: int) -> str:
    seed = zlib.crc32(f"{kit.seed}:{question.id}:{candidate}".encode())
    return verbalise(question=question, steps=steps, support=final.support, answer=final.answer, seed=seed)


def _failed(call: ToolCall, message: str, *, index: int) -> Step:
    return Step(index=index, call=call, status="failed", error=message[:MAX_ERROR_CHARS])


def _over(message: str) -> TraceError:
    return TraceError(boundary="guard", message=message)
