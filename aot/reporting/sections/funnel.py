"""What the filters did: the funnel as bars, the planted defects they caught, and traces that were refused."""

from typing import Any

from aot.display import counted
from aot.filtering.funnel import share_of
from aot.records import Trace, Verdict
from aot.reporting.charts import Drawing, count_bars
from aot.reporting.load import RunData, key_of, rows_or_none
from aot.reporting.pivot import Pivot, clip_text, percent, short, word_table
from aot.reporting.sections import Block, Section, absent, charts, note, sentences, tables
from aot.run_records import FaultTotals, Funnel, JudgeTotals


def funnel_bars(funnel: Funnel) -> list[Drawing]:
    """From all traces to those that were kept; and the dropped ones by the first filter that refused them and why."""
    totals = [
        ("candidate traces", funnel.traces, "var(--grey)"),
        ("verified: complete, right answer", funnel.verified, "var(--main)"),
        ("kept by every filter", funnel.kept, "var(--good)"),
    ]
    ranked = sorted(funnel.reasons, key=lambda row: (-row.first, -row.any, row.filter, row.reason))
    reasons = [(f"{row.filter}: {row.reason}", row.first, "var(--bad)") for row in ranked if row.first]
    charts = [count_bars(totals, name="traces before and after the filters")]
    return charts + ([count_bars(reasons, name="dropped traces by their first reason")] if reasons else [])


def fault_table(faults: FaultTotals) -> list[Pivot]:
    """How well planted defects were caught: all kinds together, then each kind."""
    caught, planted, dropped = faults.caught, faults.planted, faults.dropped_verified
    shares = percent(share_of(caught, planted)), percent(share_of(caught, dropped))
    rows = [("all kinds", str(planted), str(caught), *shares, "")]
    for kind in faults.kinds:
        by = ", ".join(f"{name} {count}" for name, count in kind.caught_by.items())
        precision = "" if kind.precision is None else f"{100 * kind.precision:.1f}%"
        recall = percent(share_of(kind.caught, kind.planted))
        rows.append((kind.fault, str(kind.planted), str(kind.caught), recall, precision, by))
    columns = ("defect", "planted", "caught", "recall", "precision", "caught by")
    return word_table("Planted defects: what the filters caught", columns, rows)


def judge_table(judge: JudgeTotals) -> list[Pivot]:
    """How well the judge caught planted defects, and whether it called them by their names."""
    rows = [
        (kind.fault, f"{kind.recall.count} of {kind.recall.n}", percent(kind.recall), percent(kind.named))
        for kind in judge.kinds
    ]
    return word_table(
        "Planted defects: what the judge caught", ("defect", "caught", "recall", "called by its name"), rows
    )


def rejected_examples(data: RunData) -> dict[str, list[dict[str, Any]]]:
    """For each reason, as rejected.html.j2 shows them, the first few traces refused for it; most unplanted first."""
    chosen, counts, planted = data.verdicts.examples, data.verdicts.dropping, data.verdicts.dropping_planted
    keys = {key_of(verdict) for verdicts in chosen.values() for verdict in verdicts}
    traces = {key_of(one): one for one in rows_or_none(data.run.dropped, Trace) if key_of(one) in keys}
    examples = {}
    for reason in sorted(chosen, key=lambda one: (planted[one] - counts[one], -counts[one], one)):
        which = "all" if planted[reason] == counts[reason] else f"{planted[reason]} of them"
        marked = f", {which} planted" if planted[reason] else ""
        rows = [_rejected(v, traces.get(key_of(v)), data) for v in chosen[reason]]
        examples[f"{reason} ({counts[reason]}{marked})"] = rows
    return examples


def _rejected(verdict: Verdict, trace: Trace | None, data: RunData) -> dict[str, Any]:
    detail = verdict.detail or (f"value {short(verdict.value)}" if verdict.value is not None else "")
    return {
        "filter": verdict.filter,
        "offence": clip_text(detail, 300) or verdict.reason,
        "question": data.questions[verdict.question_id],
        "answer": clip_text(trace.answer, 100) if trace else "",
        "rationale": clip_text(trace.rationale, 600) if trace else "(trace not found)",
        "planted": data.planted.get((verdict.question_id, verdict.sample_index), ""),
    }


def check_sentences(funnel: Funnel | None) -> list[str]:
    """What the shuffled options and the judge told; nothing where neither was asked."""
    if funnel is None:
        return []
    sentences = []
    if (shuffle := funnel.shuffle) is not None:
        sentences.append(
            f"options in another order: {shuffle.changed} of {shuffle.checked} checked answers changed; "
            f"with random answers, {short(shuffle.lucky)} would have stayed the same"
        )
    if (judge := funnel.judge) is not None:
        quality = ""
        if judge.precision is not None and judge.recall is not None:
            precision, recall = (percent(share) for share in (judge.precision, judge.recall))
            quality = f"; planted defects: precision {precision}, recall {recall}"
        sentences.append(
            f"judge: {judge.dropped} of {judge.judged} traces dropped, {judge.failed} without a usable verdict{quality}"
        )
    return sentences


def planted_sentence(data: RunData) -> str:
    """How many of the dropped traces were spoilt on purpose; empty where none was."""
    if not data.planted:
        return ""
    dropped = [(row.question_id, row.sample_index) for row in rows_or_none(data.run.dropped, Trace)]
    spoilt = sum(key in data.planted for key in dropped)
    return (
        f"{spoilt:,} of {counted(len(dropped), 'dropped trace')} had been verified and were then damaged on purpose "
        f"(planted defects, which test the filters); {len(dropped) - spoilt:,} failed by themselves."
    )


def _funnel(data: RunData) -> list[Block]:
    funnel = data.funnel
    if funnel is None:
        return [absent(data, "no funnel yet", "filter")]
    blocks = [*charts(funnel_bars(funnel)), *note(planted_sentence(data))]
    if funnel.faults:
        blocks += tables(fault_table(funnel.faults))
        blocks += note(
            "Defects were planted in complete traces with the right answer; precision and recall are over those. No "
            "filter knows which traces have one."
        )
    blocks += sentences([(text, "") for text in check_sentences(funnel)])
    blocks += tables(judge_table(funnel.judge)) if funnel.judge else []
    examples = rejected_examples(data)
    return blocks + ([Block("template", "rejected.html.j2", values={"rejected": examples})] if examples else [])


SECTIONS = (Section("funnel", "Filter funnel", "Filter funnel", _funnel),)
