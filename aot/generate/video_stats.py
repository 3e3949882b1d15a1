"""What the teacher's work yielded and cost: published as teacher.json, the one file that may hold wall times.

A trace counts as verified when it came to an end with the gold answer; filters judge later.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from aot.answers import verifies
from aot.chat.spend import SpendSummary
from aot.evaluation.intervals import cluster_ids, proportion
from aot.files.traces import SettingsRows
from aot.generate.failures import FailedTraces, FailureCounter
from aot.generate.tool_accuracy import Estimate, ToolAccuracy, estimate
from aot.records import Question, Record, Trace
from aot.teacher.parts import TRAIN


class YieldRow(Record):
    """How many questions of one split and kind the teacher solved."""

    split: str
    kind: str
    n: int
    pass_at_1: Estimate
    pass_at_k: Estimate | None
    """None where questions get one candidate only: outside the training split no gold answer may pick among several."""
    attempts: float
    """Mean candidates tried for a question."""


class ToolCost(Record):
    """How often a tool was called, and how long it took."""

    tool: str
    calls: int
    failed: int
    mean_ms: float


class TeacherStats(Record):
    """The content of teacher.json."""

    planner: str
    questions: int
    candidates: int
    """k: plans tried for each training question."""
    train_traces: int
    train_failed: int
    """Those of the training traces that came to no answer."""
    train_verified: int
    """Those that came to the gold answer; the filters keep some of them."""
    seconds_per_verified_trace: float | None
    """Worker seconds of all attempts at training questions for each verified trace; None when there is none."""
    status: dict[str, int]
    """Traces by status; failed ones by the boundary where they failed."""
    yields: tuple[YieldRow, ...]
    tool_accuracy: tuple[ToolAccuracy, ...]
    """Of the exam, against annotations; empty where there are none."""
    tool_cost: tuple[ToolCost, ...]
    failures: dict[str, int] = Field(default_factory=dict)
    """Failed traces by boundary and reason, where there is one."""
    failed_traces: tuple[FailedTraces, ...] = ()
    """The same with countable reasons for all, and an example of each."""
    spend: SpendSummary | None = None
    """What the chat model that plans and writes has cost this run."""
    vision_spend: SpendSummary | None = None
    """The same of the chat model that looks, where it is another one."""
    chat_settings: tuple[SettingsRows, ...] = ()
    """The rows by the settings of the chat models that made them; those may be mended between two lives of a run."""
    gpu_hours_per_thousand_chains: float | None = None
    """Of kept training traces; None where `chat.gpus` is not given."""


def teacher_stats(
    solved: Iterable[tuple[Question, list[Trace]]],
    *,
    tool_accuracy: tuple[ToolAccuracy, ...],
    candidates: int,
) -> TeacherStats:
    """Yield and cost over all traces, beside what the exam gave; reads the questions with their traces once."""
    passed: defaultdict[tuple[str, str], list[_Solved]] = defaultdict(list)
    status: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    told: Counter[str] = Counter()
    failed = FailureCounter()
    call_seconds: defaultdict[str, float] = defaultdict(float)
    train_seconds, planner, questions = 0.0, "", 0
    for question, traces in solved:
        questions += 1
        for trace in traces:
            row = _Solved(verifies(trace, question), trace.sample_index, sys.intern(question.group))
            passed[question.split, question.kind].append(row)
            passed[question.split, "all"].append(row)
            status[trace.status if trace.error is None else f"{trace.status}_{trace.error.boundary}"] += 1
            failed.add(trace, is_training=question.split == TRAIN)
            if trace.error is not None:
                told[":".join(filter(None, (trace.error.boundary, trace.error.reason)))] += 1
            train_seconds += trace.usage.seconds if question.split == TRAIN else 0.0
            planner = trace.teacher
            for step in trace.steps:
                if step.call is not None:
                    calls[step.call.tool] += 1
                    call_seconds[step.call.tool] += step.duration_s
                    failures[step.call.tool] += step.status == "failed"
    verified = sum(one.right for one in passed.get((TRAIN, "all"), ()))
    return TeacherStats(
        planner=planner,
        questions=questions,
        candidates=candidates,
        train_traces=failed.training,
        train_failed=failed.training_failed,
        train_verified=verified,
        seconds_per_verified_trace=train_seconds / verified if verified else None,
        status=dict(sorted(status.items())),
        failures=dict(sorted(told.items())),
        failed_traces=failed.groups(),
        yields=tuple(_yield_row(split, kind, rows) for (split, kind), rows in sorted(passed.items())),
        tool_accuracy=tool_accuracy,
        tool_cost=tuple(
            ToolCost(tool=tool, calls=count, failed=failures[tool], mean_ms=1000 * call_seconds[tool] / count)
            for tool, count in sorted(calls.items())
        ),
    )


@dataclass(frozen=True, slots=True)
class _Solved:
    """How one question ended."""

    right: bool
    candidate: int
    group: str


def _yield_row(split: str, kind: str, rows: list[_Solved]) -> YieldRow:
    clusters = cluster_ids([row.group for row in rows])

    def share(hits: list[bool]) -> Estimate:
        return estimate(proportion(np.array(hits, dtype=float), clusters))

    return YieldRow(
        split=split,
        kind=kind,
        n=len(rows),
        pass_at_1=share([row.right and row.candidate == 0 for row in rows]),
        pass_at_k=share([row.right for row in rows]) if split == TRAIN else None,
        attempts=sum(row.candidate + 1 for row in rows) / len(rows),
    )
