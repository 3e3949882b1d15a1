"""What the filters did: the funnel as bars, the planted defects they caught, and traces that were refused."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from aot.config import RunConfig
from aot.display import counted
from aot.filtering.funnel import FaultTotals, Funnel
from aot.records import Question, Trace, Verdict
from aot.reporting.charts import Drawing, count_bars
from aot.reporting.load import RunData, rows_or_none
from aot.reporting.numbers import clip_text, short
from aot.wilson import wilson


def funnel_bars(funnel: Funnel) -> Drawing:
    """From all traces to those that were kept."""
    rows = [
        ("candidate traces", funnel.traces, "#94a3b8"),
        ("verified: complete, right answer", funnel.verified, "#60a5fa"),
        ("kept by every filter", funnel.kept, "#10b981"),
    ]
    return count_bars(rows, name="traces before and after the filters")


def reason_bars(funnel: Funnel) -> Drawing:
    """Dropped traces by the first filter that refused them and its reason."""
    rows = sorted(funnel.reasons, key=lambda row: (-row.first, -row.any, row.filter, row.reason))
    bars = [(f"{row.filter}: {row.reason}", row.first, "#f87171") for row in rows]
    return count_bars(bars, name="dropped traces by first reason")


@dataclass(frozen=True)
class FaultRow:
    """How well one kind of planted defect was caught, in words."""

    fault: str
    planted: int
    caught: int
    recall: str
    precision: str
    caught_by: str


def fault_rows(faults: FaultTotals) -> list[FaultRow]:
    """All kinds together, then each kind."""
    precision = _share(faults.caught, faults.dropped_verified)
    total = FaultRow("all kinds", faults.planted, faults.caught, _share(faults.caught, faults.planted), precision, "")
    rows = [total]
    for kind in faults.kinds:
        by = ", ".join(f"{name} {count}" for name, count in kind.caught_by.items())
        share = "" if kind.precision is None else f"{100 * kind.precision:.1f}%"
        rows.append(FaultRow(kind.fault, kind.planted, kind.caught, _share(kind.caught, kind.planted), share, by))
    return rows


@dataclass(frozen=True)
class Rejected:
    """A trace that a filter refused, with what offended it."""

    filter: str
    reason: str
    detail: str
    question: Question
    answer: str
    rationale: str
    planted: str
    """Kind of the defect that was planted in it; empty if it failed by itself."""


def rejected_examples(data: RunData, config: RunConfig) -> dict[str, list[Rejected]]:
    """For each reason, the first few traces that were refused for it; most frequent reason first."""
    limit = config.report.rejected_per_reason
    chosen: defaultdict[str, list[Verdict]] = defaultdict(list)
    counts: Counter[str] = Counter()
    planted: Counter[str] = Counter()
    for verdict in rows_or_none(data.run.verdicts, Verdict):
        if not verdict.keep:
            counts[verdict.reason] += 1
            planted[verdict.reason] += (verdict.question_id, verdict.sample_index) in data.planted
            if len(chosen[verdict.reason]) < limit and verdict.question_id in data.questions:
                chosen[verdict.reason].append(verdict)
    keys = {(v.question_id, v.sample_index) for verdicts in chosen.values() for v in verdicts}
    traces = {
        (trace.question_id, trace.sample_index): trace
        for trace in rows_or_none(data.run.dropped, Trace)
        if (trace.question_id, trace.sample_index) in keys
    }
    return {
        _counted(reason, counts[reason], planted[reason]): [_rejected(v, traces, data) for v in chosen[reason]]
        for reason in sorted(chosen, key=lambda reason: (-counts[reason], reason))
    }


def planted_sentence(data: RunData) -> str:
    """How many of the dropped traces were spoilt on purpose; empty where none was."""
    if not data.planted:
        return ""
    dropped = [(row.question_id, row.sample_index) for row in rows_or_none(data.run.dropped, Trace)]
    spoilt = sum(key in data.planted for key in dropped)
    return (
        f"{spoilt:,} of {counted(len(dropped), 'dropped trace')} had been verified and were then spoilt on purpose "
        f"(planted defects, which measure the filters); {len(dropped) - spoilt:,} failed by themselves."
    )


def _counted(reason: str, count: int, planted: int) -> str:
    return f"{reason} ({count}, {planted} of them planted)" if planted else f"{reason} ({count})"


def _rejected(verdict: Verdict, traces: Mapping[tuple[str, int], Trace], data: RunData) -> Rejected:
    key = verdict.question_id, verdict.sample_index
    trace, question = traces.get(key), data.questions[verdict.question_id]
    detail = verdict.detail or (f"value {short(verdict.value)}" if verdict.value is not None else "")
    rationale = clip_text(trace.rationale, 600) if trace else "(trace not found)"
    answer = clip_text(trace.answer, 100) if trace else ""
    return Rejected(verdict.filter, verdict.reason, clip_text(detail, 300), question, answer, rationale,
                    data.planted.get(key, ""))  # fmt: skip


def _share(part: int, whole: int) -> str:
    if not whole:
        return "nothing to divide by"
    low, high = wilson(hits=part, n=whole)
    return f"{100 * part / whole:.1f}% [{100 * low:.1f}, {100 * high:.1f}] n={whole}"
