"""What the teacher's work yielded and cost: published as teacher.json, the one file that may hold wall times.

A trace counts as kept when it came to an end with the gold answer; filters judge later.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from aot.answers import grade
from aot.errors import SourceError
from aot.records import ClipAnnotation, Question, Record, Trace
from aot.teacher.accuracy import ToolAccuracy, ToolScorer

TRAIN = "train"


class YieldRow(Record):
    """How many questions of one split and kind the teacher solved."""

    split: str
    kind: str
    n: int
    pass_at_1: float
    pass_at_k: float | None
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
    train_kept: int
    seconds_per_kept_trace: float | None
    """Worker seconds of all attempts at training questions for each kept trace; None when none was kept."""
    status: dict[str, int]
    """Traces by status; failed ones by the boundary where they failed."""
    yields: tuple[YieldRow, ...]
    tool_accuracy: tuple[ToolAccuracy, ...]
    """Against the annotations; empty where there are none."""
    tool_cost: tuple[ToolCost, ...]


def teacher_stats(
    traces: Iterable[Trace], *, questions: Sequence[Question], annotations: Iterable[ClipAnnotation], candidates: int
) -> TeacherStats:
    """Yield, cost and tool accuracy over all traces; reads the traces once."""
    by_id = {question.id: question for question in questions}
    scorer = ToolScorer(annotations)
    passed: defaultdict[tuple[str, str], list[tuple[bool, int]]] = defaultdict(list)
    status: Counter[str] = Counter()
    calls: defaultdict[str, list[float]] = defaultdict(list)
    failures: Counter[str] = Counter()
    train_seconds, planner = 0.0, ""
    for trace in traces:
        question = by_id[trace.question_id]
        right = _is_right(trace, question)
        passed[question.split, question.kind].append((right, trace.sample_index))
        passed[question.split, "all"].append((right, trace.sample_index))
        status[trace.status if trace.error is None else f"{trace.status}_{trace.error.boundary}"] += 1
        train_seconds += trace.usage.seconds if question.split == TRAIN else 0.0
        planner = trace.teacher
        for step in trace.steps:
            if step.call is not None:
                calls[step.call.tool].append(step.duration_s)
                failures[step.call.tool] += step.status == "failed"
        scorer.add(trace, question)
    kept = sum(right for right, _ in passed.get((TRAIN, "all"), ()))
    return TeacherStats(
        planner=planner,
        questions=len(questions),
        candidates=candidates,
        train_kept=kept,
        seconds_per_kept_trace=train_seconds / kept if kept else None,
        status=dict(sorted(status.items())),
        yields=tuple(_yield_row(split, kind, rows) for (split, kind), rows in sorted(passed.items())),
        tool_accuracy=scorer.rows(),
        tool_cost=tuple(
            ToolCost(tool=tool, calls=len(times), failed=failures[tool], mean_ms=1000 * sum(times) / len(times))
            for tool, times in sorted(calls.items())
        ),
    )


def _yield_row(split: str, kind: str, rows: list[tuple[bool, int]]) -> YieldRow:
    return YieldRow(
        split=split,
        kind=kind,
        n=len(rows),
        pass_at_1=sum(right and index == 0 for right, index in rows) / len(rows),
        pass_at_k=sum(right for right, _ in rows) / len(rows) if split == TRAIN else None,
        attempts=sum(index + 1 for _, index in rows) / len(rows),
    )


def _is_right(trace: Trace, question: Question) -> bool:
    if trace.status != "ok":
        return False
    try:
        return grade(trace.answer, question).verdict == "right"
    except SourceError:
        return False
