"""What a cascade of the student and the teacher would have done: the curve, the chosen point, what is promised."""

from collections.abc import Iterator

from aot.answer_records import CascadeCurve, CascadeResults
from aot.records import Interval
from aot.reporting.charts import Drawing, EscalationLine, escalation_chart
from aot.reporting.load import RunData
from aot.reporting.pivot import Cell, Pivot, percent, short, word_table
from aot.reporting.sections import Block, Section, charts, note, open_tables, sentences, words
from aot.reporting.students import PALETTE

_COLUMNS = (
    "split", "{arm} alone", "{big} alone", "cascade", "cascade minus {big}", "escalated", "wrong among the local ones",
    "cost of a question",
)  # fmt: skip


def cascade_sentences(data: RunData) -> Iterator[tuple[str, str]]:
    """For each target what was chosen, what it promises, and what it does on every split; with the bounds behind it."""
    for one in data.cascade:
        goal = f"{one.arm}, {one.mode}: at most {one.target:.3g} of the local answers wrong"
        if one.threshold is None:
            yield f"{goal}: no threshold could be proven on {one.chosen_on}, so everything is escalated.", _bounds(one)
            continue
        parts = [
            f"{curve.split} {100 * curve.chosen.escalated.value:.1f}% escalated, accuracy "
            f"{percent(curve.chosen.accuracy)} ({one.arm} alone {100 * curve.student.value:.1f}%, {one.big} alone "
            f"{100 * curve.big.value:.1f}%)"
            for curve in one.curves
        ]
        yield (
            f"{goal}: answers with a confidence of at least {one.threshold:.3f} are kept; {'; '.join(parts)}.",
            _bounds(one),
        )


def _bounds(one: CascadeResults) -> str:
    """How much must be escalated whatever the threshold, and where the promise is not kept."""
    least = ", ".join(f"{100 * curve.least_escalated:.1f}% on {curve.split}" for curve in one.curves)
    text = f"With any threshold, this target needs at least this share escalated: {least}."
    if broken := [curve.split for curve in one.curves if _is_over(curve, one.target)]:
        text += (
            f" On {', '.join(broken)} more of the local answers are wrong: the promise is void there, because it holds "
            "only for questions like those of the calibration."
        )
    return text


def _is_over(curve: CascadeCurve, target: float) -> bool:
    error = curve.chosen.local_error
    return error is not None and error.low > target


def cascade_charts(data: RunData) -> list[Drawing]:
    """A chart for each mode: its splits, and on them the chosen points of all targets."""
    drawings = []
    for mode in dict.fromkeys(one.mode for one in data.cascade):
        results = [one for one in data.cascade if one.mode == mode]
        lines = {
            curve.split: EscalationLine(
                [(point.escalated.value, point.accuracy) for point in curve.points],
                [_chosen(one, curve.split) for one in results],
                PALETTE[place % len(PALETTE)],
            )
            for place, curve in enumerate(results[0].curves)
        }
        drawings.append(escalation_chart(lines, name=f"Accuracy and share escalated, {mode}"))
    return drawings


def _chosen(one: CascadeResults, split: str) -> tuple[float, Interval, str]:
    point = next(curve.chosen for curve in one.curves if curve.split == split)
    tip = f"{split}, target {one.target:.3g}: {point.escalated.value:.1%} escalated, {point.accuracy.value:.1%} right"
    return point.escalated.value, point.accuracy, tip


def cascade_tables(data: RunData) -> list[Pivot]:
    """For each mode and target a row for each split."""
    return [
        table
        for one in data.cascade
        for table in word_table(
            f"{one.mode}, at most {one.target:.3g} of the local answers wrong",
            [column.format(arm=one.arm, big=one.big) for column in _COLUMNS],
            [_row(curve, one) for curve in one.curves],
        )
    ]


def _row(curve: CascadeCurve, one: CascadeResults) -> list[str | Cell]:
    chosen = curve.chosen
    low, value, high = (100 * x for x in (curve.versus_big.low, curve.versus_big.value, curve.versus_big.high))
    cost = f"{short(chosen.cost.value)} {one.cost_unit}" if chosen.cost else "unpriced"
    spread = f"[{short(chosen.cost.low)}, {short(chosen.cost.high)}] n={chosen.cost.n}" if chosen.cost else ""
    shares = [_share(one) for one in (curve.student, curve.big, chosen.accuracy)]
    gap = Cell(f"{value:+.1f}", f"[{low:+.1f}, {high:+.1f}] points, n={curve.versus_big.n}")
    error = _share(chosen.local_error) if chosen.local_error else Cell("none kept")
    return [curve.split, *shares, gap, _share(chosen.escalated), error, Cell(cost, spread)]


def _share(interval: Interval) -> Cell:
    text, _, spread = percent(interval).partition(" ")
    return Cell(text, spread)


def _content(data: RunData) -> list[Block]:
    first = data.cascade[0]
    unit = "seconds of computing" if first.cost_unit == "s" else first.cost_unit or "nothing: neither model has a price"
    return [
        words(
            f"Confident answers of {first.arm} are kept; the other questions go to {first.big}. The threshold was "
            f"chosen on {first.chosen_on} with confidence {first.confidence:g}; no question below was used for it. "
            "Rings mark the chosen threshold on each split."
        ),
        *sentences(list(cascade_sentences(data))),
        *charts(cascade_charts(data)),
        *open_tables(cascade_tables(data)),
        *note(f"Costs are {unit}; every question pays for the student, an escalated one for the big model too."),
    ]


SECTION = Section(
    "cascade", "Cascade", "What if a bigger model answered what the student is not sure of?", _content,
    applies=lambda data: bool(data.cascade),
)  # fmt: skip
