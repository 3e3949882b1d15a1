"""The first screen: what came out in plain words, the way from questions to answers with its counts, three traces.

It repeats numbers that the sections below hold, and works out none of its own.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from aot.display import counted
from aot.records import MetricRow
from aot.reporting.charts import Drawing, FlowBox, FlowLoss, flow
from aot.reporting.load import RunData, Student
from aot.reporting.pivot import clip_text
from aot.reporting.sections.accuracy import HEADS, arm_about, headline_kind, judged, ruled_out
from aot.reporting.sections.gallery import Panel
from aot.reporting.students import MODES

SHOWN_REASONS = 5
MINI_FRAMES = 4
MINI_CHARS = 240
FATES = (("kept", "Kept: students may learn from it"), ("rejected", "Rejected by a filter"),
         ("held out", "Held out: students are only asked"))  # fmt: skip
"""Of the three traces: how its state begins, and what the card calls it."""
_JUDGED = {
    "better": "Learning from the teacher's traces helped.",
    "worse": "Learning from the teacher's traces hurt.",
    "open": "Learning from the teacher's traces made no significant difference.",
}
_TRAINED = {
    "better": "Training helped.",
    "worse": "Training hurt.",
    "open": "Training made no significant difference.",
}
_SAYS = {"better": "significantly better", "worse": "significantly worse", "open": "no significant difference"}


Figure = tuple[str, tuple[str, ...]]
"""Of a station of the flow: its number, and what to know of it."""


class Outcome(NamedTuple):
    """What a run says, for a reader who sees nothing else."""

    kind: str
    """`better`, `worse`, `open`, or nothing where no comparison was made."""
    headline: str
    sentences: tuple[str, ...]


def outcome(data: RunData) -> Outcome:
    """The main student against the one that learned from answers alone, or against the base, on the first split."""
    lead = data.student(arm_about(data, headline_kind(data)))
    if lead is None or data.find(lead, data.first, "accuracy", headline_kind(data)) is None:
        return _unmeasured(data)
    sentences = tuple(_sentences(data, lead))
    if data.learning.main is None:
        if any(data.learning.saw_none(arm) for arm in data.arms):
            return Outcome("worse", "No distillation took place: no student saw a rationale of the teacher.", sentences)
        return Outcome("", "No distillation took place: the students of this run learn from answers alone.", sentences)
    rivals = ((data.learning.control, _JUDGED), ("base", _TRAINED))
    for rival, words in rivals:
        if row := _against(data, lead, data.first, rival):
            return Outcome(judged(row), words[judged(row)], sentences)
    return Outcome("", f"{lead[0]} was compared with no other student.", sentences)


def _unmeasured(data: RunData) -> Outcome:
    kept: tuple[str, ...] = ()
    if data.funnel:
        kept = (f"{data.funnel.kept:,} of {counted(data.funnel.traces, 'trace')} of the teacher passed the filters.",)
    if data.learning.seen:
        return Outcome("", "A student was trained; how good it is was not measured yet.", kept)
    return Outcome("", "No student was trained yet.", kept)


def _against(data: RunData, student: Student, split: str, rival: str | None) -> MetricRow | None:
    return data.find(student, split, f"accuracy_difference_vs_{rival}", headline_kind(data)) if rival else None


def _sentences(data: RunData, lead: Student) -> Iterator[str]:
    """What the main student reaches on each split, against whom, and what its teacher reaches."""
    kind, split = headline_kind(data), data.first
    row, teacher = (data.find(student, split, "accuracy", kind) for student in (lead, ("teacher", "none")))
    assert row is not None
    mode = f" ({MODES[lead[1]]})" if MODES.get(lead[1]) else ""
    yield (
        f"On {split}, {data.learning.shown(lead[0])}{mode} gets {_share(row)} of {HEADS[kind].partition(',')[0]} right "
        f"{_interval(row)}." + (f" The teacher gets {_share(teacher)} {_interval(teacher)}." if teacher else "")
    )
    gap = _against(data, lead, split, data.learning.control)
    if gap and data.learning.control != lead[0]:
        yield f"Against {data.learning.control}, which learned from answers alone: {_gap(gap)}.{_bounds(gap)}"
    base = _against(data, lead, split, "base")
    if base:
        yield f"Against the untrained base: {_gap(base)}.{'' if gap else _bounds(base)}"
    others = []
    for split in data.splits[1:]:
        if row := data.find(lead, split, "accuracy", kind):
            gap = _against(data, lead, split, data.learning.control) or _against(data, lead, split, "base")
            than = f", {100 * gap.value + 0.0:+.1f} points" if gap else ""
            others.append(f"{split} {_share(row)} {_interval(row)[:-1]}{than})")
    if others:
        control = data.learning.control
        against = control if control and control != lead[0] else "the untrained base"
        yield f"Elsewhere, with the difference from {against}: {'; '.join(others)}."


def _gap(row: MetricRow) -> str:
    value, low, high = (round(100 * x, 1) + 0.0 for x in (row.value, row.low, row.high))
    return f"{value:+.1f} points (95% interval {low:+.1f} to {high:+.1f}), {_SAYS[judged(row)]}"


def _bounds(row: MetricRow) -> str:
    return f" {ruled_out(row)}" if judged(row) == "open" else ""


def _share(row: MetricRow) -> str:
    return f"{100 * row.value:.1f}%"


def _interval(row: MetricRow) -> str:
    return f"(95% interval {100 * row.low:.1f} to {100 * row.high:.1f}, n={row.n})"


def flow_drawings(data: RunData) -> tuple[Drawing, Drawing]:
    """The way from questions to answers: for wide screens, and for narrow ones."""
    boxes, losses = _boxes(data), _losses(data)
    spoilt = sum(loss.planted for loss in losses)
    lost = f"{sum(loss.number for loss in losses):,} dropped"
    short = f"{lost}, {spoilt:,} of them planted (violet)" if spoilt else lost
    test = f": {spoilt:,} were damaged on purpose to test the filters (planted defects, violet)" if spoilt else ""
    parts = [f"{box.title.lower()}: {box.number}, {', '.join(filter(None, box.lines))}" for box in boxes]
    name = "; ".join([*parts, *([short] if losses else [])])
    return (
        flow(boxes, losses, loss_name=f"{lost}, by the first reason{test}", after=1, upright=False, name=name),
        flow(boxes, losses, loss_name=short, after=1, upright=True, name=name),
    )


def _boxes(data: RunData) -> list[FlowBox]:
    funnel, lead = data.funnel, arm_about(data, headline_kind(data))
    splits = Counter(question.split for question in data.questions.values())
    clips = len({q.media.uri for q in data.questions.values() if q.media})
    num_asked = sum(count for split, count in splits.items() if split in data.splits)
    about = f", {counted(clips, 'clip')}" if clips else ""
    lines = (f"{splits['train']:,} to train on", f"{num_asked:,} to test on{about}")
    questions = FlowBox("QUESTIONS", f"{splits['train'] + num_asked:,}", lines, "var(--grey)")
    teacher = f"by the teacher {data.teacher.get('planner') or data.config.teacher.planner}"
    made: Figure = ("none yet", (teacher, "not filtered"))
    kept: Figure = ("none yet", ("not filtered",))
    seen: Figure = ("none yet", ("no student was trained",))
    right: Figure = ("none yet", ("not measured",))
    if funnel and funnel.traces:
        made = f"{funnel.traces:,}", (teacher, f"{funnel.verified:,} with the right answer")
        kept = f"{funnel.kept:,}", (f"{100 * funnel.kept / funnel.traces:.0f}% passed every filter",)
    learned = data.learning.seen.get(lead or "")
    if learned and lead:
        beside = "" if learned.questions is None else f"and {counted(learned.questions, 'answer')}"
        seen = ("" if learned.rationales is None else f"{learned.rationales:,}"), (beside, f"by the student {lead}")
    student = data.student(lead)
    row = data.find(student, data.first, "accuracy", headline_kind(data)) if student else None
    if row:
        what = f"{HEADS[row.kind].partition(',')[0]}, {data.first}"
        right = _share(row), (f"[{100 * row.low:.1f}, {100 * row.high:.1f}] n={row.n}", what)
    return [
        questions,
        FlowBox("TRACES TO TRAIN ON", *made, "var(--main)"),
        FlowBox("KEPT BY THE FILTERS", *kept, "var(--good)"),
        FlowBox("RATIONALES LEARNED", *seen, "var(--series4)"),
        FlowBox("ANSWERED RIGHT", *right, "var(--series1)"),
    ]


def _losses(data: RunData) -> list[FlowLoss]:
    """The most frequent first reasons for dropping traces, and how many of those were damaged on purpose."""
    if data.funnel is None:
        return []
    ranked = sorted(data.funnel.reasons, key=lambda row: (-row.first, row.filter, row.reason))
    planted = Counter((verdict.filter, verdict.reason) for verdict in data.verdicts.first_planted.values())
    losses = [
        FlowLoss(row.reason.replace("_", " "), row.first, min(planted[row.filter, row.reason], row.first))
        for row in ranked
        if row.first
    ]
    shown, others = losses[:SHOWN_REASONS], losses[SHOWN_REASONS:]
    if len(others) < 2:
        return losses
    counts = (sum(one.number for one in others), sum(one.planted for one in others))
    return [*shown, FlowLoss(counted(len(others), "other reason"), *counts)]


def mini_traces(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """Up to three traces of the gallery in short: one kept, one rejected (best by itself), one held out."""
    minis = []
    for start, name in FATES:
        fitting = [panel for panel in panels if panel["state"].startswith(start)]
        fitting.sort(key=lambda panel: (bool(panel["planted"]), not panel_frames(panel)))
        minis += [{"panel": panel, "name": name, "frames": panel_frames(panel),
                   "says": clip_text(panel["trace"].rationale, MINI_CHARS),
                   "calls": [step["step"].call.tool for step in panel["steps"]]} for panel in fitting[:1]]  # fmt: skip
    return minis


def panel_frames(panel: Panel) -> list[Any]:
    """A few frames of a trace with their boxes, of the call that saw most; evenly spread."""
    frames: list[Any] = max((step["frames"] for step in panel["steps"]), key=len, default=[])
    last = len(frames) - 1
    if last < MINI_FRAMES:
        return list(frames)
    return [frames[round(place * last / (MINI_FRAMES - 1))] for place in range(MINI_FRAMES)]
