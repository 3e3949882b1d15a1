"""What the filters did: the funnel as bars, the planted defects they caught, and traces that were refused."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from aot.display import counted
from aot.records import Question, Trace, Verdict
from aot.reporting.charts import Drawing, count_bars
from aot.reporting.chat_costs import check_sentences, share_of
from aot.reporting.load import RunData, rows_or_none
from aot.reporting.numbers import clip_text, short
from aot.reporting.pivot import Pivot, word_table
from aot.reporting.sections import Block, Section, absent, charts, note, sentences, tables
from aot.run_records import FaultTotals, Funnel, JudgedFault, Share
from aot.wilson import wilson


@dataclass(frozen=True)
class Rejected:
    """A trace that a filter refused, with what offended it."""

    filter: str
    offence: str
    question: Question
    answer: str
    rationale: str
    planted: str
    """Kind of the defect that was planted in it; empty if it failed by itself."""


def funnel_bars(funnel: Funnel) -> list[Drawing]:
    """From all traces to those that were kept; and the dropped ones by the first filter that refused them and why."""
    totals = [
        ("candidate traces", funnel.traces, "#94a3b8"),
        ("verified: complete, right answer", funnel.verified, "#60a5fa"),
        ("kept by every filter", funnel.kept, "#10b981"),
    ]
    ranked = sorted(funnel.reasons, key=lambda row: (-row.first, -row.any, row.filter, row.reason))
    reasons = [(f"{row.filter}: {row.reason}", row.first, "#f87171") for row in ranked]
    charts = [count_bars(totals, name="traces before and after the filters")]
    return charts + ([count_bars(reasons, name="dropped traces by first reason")] if reasons else [])


def fault_table(faults: FaultTotals) -> Pivot:
    """How well planted defects were caught: all kinds together, then each kind."""
    of_all = _share(faults.caught, faults.planted), _share(faults.caught, faults.dropped_verified)
    rows = [("all kinds", str(faults.planted), str(faults.caught), *of_all, "")]
    for kind in faults.kinds:
        by = ", ".join(f"{name} {count}" for name, count in kind.caught_by.items())
        precision = "" if kind.precision is None else f"{100 * kind.precision:.1f}%"
        recall = _share(kind.caught, kind.planted)
        rows.append((kind.fault, str(kind.planted), str(kind.caught), recall, precision, by))
    columns = ("defect", "planted", "caught", "recall", "precision", "caught by")
    return word_table("Planted defects: what the filters caught", columns, rows)


def judge_table(kinds: Sequence[JudgedFault]) -> list[Pivot]:
    """How well the judge caught planted defects, and whether it called them by their names."""
    rows = [
        (kind.fault, f"{kind.recall.count} of {kind.recall.n}", _written(kind.recall), _written(kind.named))
        for kind in kinds
    ]
    columns = ("defect", "caught", "recall", "called by its name")
    return [word_table("Planted defects: what the judge caught", columns, rows)] if rows else []


def rejected_examples(data: RunData) -> dict[str, list[Rejected]]:
    """For each reason, the first few traces that were refused for it; most frequent reason first."""
    chosen: defaultdict[str, list[Verdict]] = defaultdict(list)
    counts: Counter[str] = Counter()
    planted: Counter[str] = Counter()
    for verdict in rows_or_none(data.run.verdicts, Verdict):
        if not verdict.keep:
            counts[verdict.reason] += 1
            planted[verdict.reason] += (verdict.question_id, verdict.sample_index) in data.planted
            is_room = len(chosen[verdict.reason]) < data.config.report.rejected_per_reason
            if is_room and verdict.question_id in data.questions:
                chosen[verdict.reason].append(verdict)
    keys = {(v.question_id, v.sample_index) for verdicts in chosen.values() for v in verdicts}
    dropped = {(trace.question_id, trace.sample_index): trace for trace in rows_or_none(data.run.dropped, Trace)}
    traces = {key: trace for key, trace in dropped.items() if key in keys}
    examples = {}
    for reason in sorted(chosen, key=lambda reason: (-counts[reason], reason)):
        marked = f", {planted[reason]} of them planted" if planted[reason] else ""
        rows = [_rejected(v, traces.get((v.question_id, v.sample_index)), data) for v in chosen[reason]]
        examples[f"{reason} ({counts[reason]}{marked})"] = rows
    return examples


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


def _rejected(verdict: Verdict, trace: Trace | None, data: RunData) -> Rejected:
    detail = verdict.detail or (f"value {short(verdict.value)}" if verdict.value is not None else "")
    return Rejected(
        filter=verdict.filter,
        offence=clip_text(detail, 300) or verdict.reason,
        question=data.questions[verdict.question_id],
        answer=clip_text(trace.answer, 100) if trace else "",
        rationale=clip_text(trace.rationale, 600) if trace else "(trace not found)",
        planted=data.planted.get((verdict.question_id, verdict.sample_index), ""),
    )


def _share(part: int, whole: int) -> str:
    low, high = wilson(hits=part, n=whole)
    return share_of(part / whole if whole else None, low, high, whole)


def _written(share: Share) -> str:
    return share_of(share.value, share.low, share.high, share.n)


def _funnel(data: RunData) -> list[Block]:
    funnel = data.funnel
    if funnel is None:
        return [absent(data, "no funnel yet", "filter")]
    blocks = [*charts(funnel_bars(funnel)), *note(planted_sentence(data))]
    if funnel.faults:
        blocks += tables([fault_table(funnel.faults)])
        blocks += note(
            "Defects were planted in traces that had verified; precision and recall are taken over those. No filter "
            "sees what was planted."
        )
    blocks += sentences([(text, "") for text in check_sentences(funnel)])
    blocks += tables(judge_table(funnel.judge.kinds if funnel.judge else ()))
    examples = rejected_examples(data)
    return blocks + ([Block("template", "rejected.html.j2", values={"rejected": examples})] if examples else [])


SECTIONS = (Section("funnel", "Filter funnel", "Filter funnel", _funnel),)
