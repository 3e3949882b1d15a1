"""Charts as plain geometry; one template turns it into SVG, so no markup is made by joining strings.

Lengths are SVG units, one CSS pixel at full size; y grows downwards.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from aot.records import Interval

_SOFT = (
    "#bfdbfe", "#fde68a", "#bbf7d0", "#fbcfe8", "#ddd6fe", "#fed7aa", "#a5f3fc", "#d9f99d", "#e2e8f0", "#fecaca",
)  # fmt: skip
_GREY, _GRID, _INK, _TRACK = "var(--soft)", "var(--line)", "var(--ink)", "var(--track)"
"""Colours by their names in style.css, which gives them a light and a dark value."""
_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
_LABEL_STEP = 15.0


class Shape(NamedTuple):
    """One mark: an SVG element with its attributes, its text and a tooltip."""

    tag: Literal["rect", "polyline", "circle", "text"]
    attributes: dict[str, object]
    text: str = ""
    tip: str = ""


def bar(x: float, y: float, width: float, height: float, fill: str, tip: str = "") -> Shape:
    """A filled rectangle."""
    size = {"width": round(width, 1), "height": round(height, 1)}
    return Shape("rect", {"x": round(x, 1), "y": round(y, 1), **size, "fill": fill, "rx": 2}, tip=tip)


def stroke(points: Iterable[tuple[float, float]], color: str, width: float = 1.0, dash: str = "") -> Shape:
    """A line through points."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = {"stroke-dasharray": dash} if dash else {}
    return Shape("polyline", {"points": path, "fill": "none", "stroke": color, "stroke-width": width, **dashes})


def dot(x: float, y: float, radius: float, fill: str, tip: str = "") -> Shape:
    """A filled circle."""
    return Shape("circle", {"cx": round(x, 1), "cy": round(y, 1), "r": round(radius, 1), "fill": fill}, tip=tip)


def word(
    x: float, y: float, text: str, size: float = 12, anchor: str = "start", fill: str = "var(--quiet)", *,
    turn: float = 0, bold: bool = False,
) -> Shape:  # fmt: skip
    """A word or number, turned by so many degrees around (x, y)."""
    x, y = round(x, 1), round(y, 1)
    attributes = {"x": x, "y": y, "font-size": size, "text-anchor": anchor, "fill": fill}
    attributes |= {"font-weight": 600} if bold else {}
    return Shape("text", attributes | ({"transform": f"rotate({turn} {x} {y})"} if turn else {}), text)


@dataclass(frozen=True)
class Drawing:
    """One chart."""

    width: float
    height: float
    name: str
    """What a screen reader says."""
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Axes:
    """Where numbers lie on a chart: the edges of its field, and the numbers at them."""

    left: float
    right: float
    top: float
    bottom: float
    x: tuple[float, float]
    y: tuple[float, float] = (0.0, 1.0)
    log: bool = False
    """Whether x is on a logarithmic scale."""

    def sx(self, value: float) -> float:
        """Where an x lies; on a logarithmic scale what is below the first tick lies at it."""
        low, high = self.x
        if self.log:
            value, low, high = math.log2(max(value, low)), math.log2(low), math.log2(high)
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def sy(self, value: float) -> float:
        """Where a y lies."""
        return self.bottom - (value - self.y[0]) / (self.y[1] - self.y[0]) * (self.bottom - self.top)

    def line(self, points: Sequence[tuple[float, float]], color: str, width: float, dash: str = "") -> Shape:
        """A stroke through points given as numbers."""
        return stroke([(self.sx(x), self.sy(y)) for x, y in points], color, width, dash)

    def shapes(
        self,
        name: str,
        x_name: str,
        *,
        x_ticks: Sequence[float],
        y_ticks: Sequence[float] = _QUARTERS,
        write: Callable[[float], str] = "{:g}".format,
        write_y: Callable[[float], str] = "{:.0%}".format,
    ) -> list[Shape]:
        """Heading, grid, ticks and the name of the x axis."""
        shapes: list[Shape] = [word(self.left, self.top - 10, name, bold=True)]
        for tick in y_ticks:
            shapes.append(stroke(((self.left, self.sy(tick)), (self.right, self.sy(tick))), _GRID))
            shapes.append(word(self.left - 7, self.sy(tick) + 4, write_y(tick), 11, "end", _GREY))
        for tick in x_ticks:
            shapes.append(word(self.sx(tick), self.bottom + 16, write(tick), 11, "middle", _GREY))
        return [*shapes, word((self.left + self.right) / 2, self.bottom + 33, x_name, 11, "middle", _GREY)]


def count_bars(rows: Sequence[tuple[str, int, str]], *, name: str, width: float = 760) -> Drawing:
    """Horizontal bars of (label, count, fill), the count written at the end of each."""
    left, step, most = 250.0, 26.0, max([count for _, count, _ in rows], default=1) or 1
    shapes: list[Shape] = []
    for index, (label, count, fill) in enumerate(rows):
        y = index * step + 4
        length = (width - left - 90) * count / most
        shapes += [
            word(left - 10, y + 13, label[:40], anchor="end"),
            bar(left, y, max(length, 1), 18, fill, f"{label}: {count}"),
            word(left + length + 7, y + 13, f"{count:,}"),
        ]
    return Drawing(width, len(rows) * step + 8, name, tuple(shapes))


class FlowBox(NamedTuple):
    """One station of a flow: a number, what it counts, and what to know of it."""

    title: str
    number: str
    lines: tuple[str, ...]
    fill: str


class FlowLoss(NamedTuple):
    """What left on the way for one reason, and how much of it was damaged on purpose."""

    reason: str
    number: int
    planted: int = 0


def flow(
    boxes: Sequence[FlowBox], losses: Sequence[FlowLoss], *, loss_name: str, after: int, upright: bool, name: str
) -> Drawing:
    """Stations in a row (or `upright`: in a column) with arrows between them; below station `after` what left there."""
    width, gap = (344.0, 22.0) if upright else (1120.0, 30.0)
    wide, high = (width, 70.0) if upright else ((width - gap * (len(boxes) - 1)) / len(boxes), 98.0)
    losses_high = 30.0 + 22 * len(losses) if losses else 0.0
    shapes: list[Shape] = []
    for place, box in enumerate(boxes):
        x = 0.0 if upright else place * (wide + gap)
        y = place * (high + gap) + losses_high * (place > after) if upright else 0.0
        shapes += _station(box, x, y, wide, high, upright=upright)
        if place and upright:
            shapes += _arrow([(18, y - gap + 3), (18, y - 4)])
        elif place:
            shapes += _arrow([(x - gap + 4, high / 2), (x - 4, high / 2)])
        if losses and place == after:
            top = y + high + (6 if upright else 12)
            shapes += [] if upright else [stroke(((x + 18, high), (x + 18, top + 3)), "var(--bad)", 1.4)]
            shapes += _losses(losses, loss_name, x, top, width - x, name_width=150.0)
    height = len(boxes) * (high + gap) - gap + losses_high if upright else high + 14 + losses_high
    return Drawing(width, height, name, tuple(shapes))


def _station(box: FlowBox, x: float, y: float, wide: float, high: float, *, upright: bool) -> list[Shape]:
    shapes = [bar(x, y, wide, high, "var(--wash)"), bar(x, y, 4, high, box.fill)]
    where = (x + wide - 14, y + 28, box.number, 22, "end") if upright else (x + 14, y + 47, box.number, 24, "start")
    first = 40 if upright else 68
    lines = [word(x + 14, y + first + 17 * i, _fit(line, wide - 22, 12), 12) for i, line in enumerate(box.lines)]
    return [*shapes, word(x + 14, y + 20, box.title, 12, fill=_GREY, bold=True),
            word(*where, fill=_INK, bold=True), *lines]  # fmt: skip


def _arrow(ends: Sequence[tuple[float, float]]) -> list[Shape]:
    (start_x, _), (x, y) = ends
    head = [(x - 4, y - 5), (x, y), (x + 4, y - 5)] if start_x == x else [(x - 5, y - 4), (x, y), (x - 5, y + 4)]
    return [stroke(ends, _GREY, 1.4), stroke(head, _GREY, 1.4)]


def _losses(
    losses: Sequence[FlowLoss], loss_name: str, x: float, top: float, width: float, *, name_width: float
) -> list[Shape]:
    shapes = [word(x, top + 16, loss_name, 12, fill="var(--bad)", bold=True)]
    most, room = max(loss.number for loss in losses), min(width - name_width - 60, 420.0)
    for place, loss in enumerate(losses):
        y, length = top + 28 + 22 * place, room * loss.number / most
        spoilt = length * loss.planted / max(loss.number, 1)
        tip = f"{loss.reason}: {loss.number}, {loss.planted} of them planted"
        shapes += [
            word(x, y + 11, _fit(loss.reason, name_width - 8, 12), 12),
            bar(x + name_width, y, max(length, 1), 14, "var(--bad)", tip),
            *([bar(x + name_width, y, spoilt, 14, "var(--planted)", tip)] if loss.planted else []),
            word(x + name_width + length + 6, y + 11, f"{loss.number:,}"),
        ]
    return shapes


def _fit(text: str, width: float, size: float) -> str:
    """As much of `text` as fits, by the mean width of letters."""
    room = int(width / (0.53 * size))
    return text if len(text) <= room else f"{text[: room - 1]}…"


def interval_bar(value: float, low: float, high: float, *, fill: str, width: float = 220) -> Drawing:
    """One share on a 0 to 1 axis with its interval as a whisker."""
    x = [round(width * min(max(v, 0.0), 1.0), 1) for v in (value, low, high)]
    shapes = (
        bar(0, 3, width, 12, _TRACK),
        bar(0, 3, x[0], 12, fill),
        stroke(((x[1], 9), (x[2], 9)), _INK, 1.5),
        stroke(((x[1], 5), (x[1], 13)), _INK, 1.5),
        stroke(((x[2], 5), (x[2], 13)), _INK, 1.5),
    )
    return Drawing(width, 18, f"{100 * value:.1f}%", shapes)


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]], *, colors: Mapping[str, str], name: str, x_name: str
) -> Drawing:
    """Lines over a shared x axis, each with its name at the right."""
    points = [point for line in series.values() for point in line]
    x, y = _range([x for x, _ in points]), _range([y for _, y in points], zero=True)
    axes = Axes(left=52, right=425, top=26, bottom=226, x=x, y=y)
    shapes = axes.shapes(name, x_name, x_ticks=_ticks(*x), y_ticks=_ticks(*y), write_y="{:g}".format)
    heights: list[float] = []
    for label, line in series.items():
        if line:
            shapes.append(axes.line(line, colors[label], 1.8))
            height = axes.sy(line[-1][1])
            while any(abs(height - other) < 13 for other in heights):
                height -= 13
            heights.append(height)
            x_label = axes.sx(line[-1][0]) + 6
            shapes.append(word(x_label, height + 4, label[:18], 11, fill=colors[label], bold=True))
    return Drawing(545, 264, name, tuple(shapes))


class BandPoint(NamedTuple):
    """One stretch of a timeline: where it begins, its mean, and the band around it where there is one."""

    x: float
    y: float
    low: float | None
    high: float | None
    tip: str


def band_chart(
    points: Sequence[BandPoint], *, name: str, x_name: str, events: Sequence[tuple[float, str]]
) -> Drawing:  # fmt: skip
    """Means over time with whiskers; dashed lines where something began."""
    ys = [value for one in points for value in (one.y, one.low, one.high) if value is not None]
    x, y = _range([*(one.x for one in points), *(at for at, _ in events)]), _range(ys, zero=min(ys) >= 0)
    axes = Axes(left=60, right=520, top=26, bottom=190, x=x, y=y)
    shapes = axes.shapes(name, x_name, x_ticks=_ticks(*x), y_ticks=_ticks(*y), write_y="{:g}".format)
    shapes.append(axes.line([(one.x, one.y) for one in points], "var(--quiet)", 1.2))
    for one in points:
        if one.low is not None and one.high is not None:
            shapes.append(axes.line([(one.x, one.low), (one.x, one.high)], "var(--grey)", 1))
        shapes.append(dot(axes.sx(one.x), axes.sy(one.y), 2.6, _INK, one.tip))
    for at, label in events:
        shapes.append(axes.line([(at, y[0]), (at, y[1])], "var(--bad)", 1.4, "4 3"))
        place = ("end", -4) if axes.sx(at) > (axes.left + axes.right) / 2 else ("start", 4)
        shapes.append(word(axes.sx(at) + place[1], axes.top + 10, label, 11, place[0], "var(--bad)", bold=True))
    return Drawing(545, 232, name, tuple(shapes))


def reliability_chart(
    series: Mapping[str, Sequence[tuple[float, float, float, float, int]]], *, colors: Mapping[str, str], name: str
) -> Drawing:
    """A reliability diagram: (confidence, accuracy, low, high, count) of each bin for each series."""
    axes = Axes(left=46, right=346, top=24, bottom=324, x=(0.0, 1.0))
    shapes = axes.shapes(name, "stated probability", x_ticks=_QUARTERS, write="{:.0%}".format)
    shapes.append(axes.line([(0, 0), (1, 1)], "var(--grey)", 1, "4 4"))
    for index, (label, bins) in enumerate(series.items()):
        shapes.append(word(axes.right + 18, axes.top + 16 + 18 * index, label, 12, fill=colors[label], bold=True))
        shapes.append(axes.line([(stated, accuracy) for stated, accuracy, *_ in bins], colors[label], 1.4))
        for stated, accuracy, low, high, count in bins:
            tip = f"{label}: confidence {stated:.0%}, right {accuracy:.0%}, n={count}"
            radius = 2.5 + min(5.0, count**0.5 / 3)
            shapes.append(axes.line([(stated, low), (stated, high)], colors[label], 1))
            shapes.append(dot(axes.sx(stated), axes.sy(accuracy), radius, colors[label], tip))
    return Drawing(536, 366, name, tuple(shapes))


class TokenPoint(NamedTuple):
    """One student: mean tokens of a reply, accuracy with its interval, and what each budget of tokens would leave."""

    tokens: float
    accuracy: Interval
    tip: str
    color: str
    budgets: Sequence[tuple[float, float]]
    """Budget in tokens and accuracy within it, in order."""
    efforts: Sequence[tuple[float, float]] = ()
    """Mean tokens and accuracy at each effort of an adaptive student, in order."""


def token_chart(points: Mapping[str, TokenPoint], *, name: str) -> Drawing:
    """Accuracy over generated tokens on a logarithmic axis; each student of `points` is named at the right."""
    tokens = [max(1.0, x) for one in points.values() for x in (one.tokens, *(budget for budget, _ in one.budgets))]
    first, last = math.floor(math.log2(min(tokens))), math.ceil(math.log2(max(tokens)))
    ticks = [2.0**power for power in range(first, max(last, first + 1) + 1)]
    axes = Axes(left=52, right=680, top=30, bottom=336, x=(ticks[0], ticks[-1]), log=True)
    x_name = "generated tokens of a reply (dot: mean; line: at each effort; dashed: most that a reply may have)"
    shapes = axes.shapes(name, x_name, x_ticks=ticks)
    shapes += [axes.line(one.budgets, one.color, 1.4, "5 4") for one in points.values()]
    shapes += [axes.line(one.efforts, one.color, 2.2) for one in points.values() if one.efforts]
    for label, one in points.items():
        shapes.append(axes.line([(one.tokens, one.accuracy.low), (one.tokens, one.accuracy.high)], one.color, 1.5))
        shapes.append(dot(axes.sx(one.tokens), axes.sy(one.accuracy.value), 6, one.color, f"{label}: {one.tip}"))
    # Names stand at the height of their dots where there is room, none upon another.
    height = 0.0
    ranked = sorted(points.items(), key=lambda item: -item[1].accuracy.value)
    for place, (label, one) in enumerate(ranked):
        height = max(axes.sy(one.accuracy.value), height + _LABEL_STEP, axes.top)
        y = min(height, axes.bottom + 36 - _LABEL_STEP * (len(ranked) - 1 - place))
        text = f"{label[:34]}: {one.accuracy.value:.0%}, {one.tokens:.1f}"
        shapes += [dot(694, y, 4, one.color), word(704, y + 4, text, 12, fill=one.color, bold=True)]
    return Drawing(980, 380, name, tuple(shapes))


class EscalationLine(NamedTuple):
    """One split: accuracy over the share that is escalated, and the points that were chosen."""

    points: Sequence[tuple[float, Interval]]
    chosen: Sequence[tuple[float, Interval, str]]
    """With a tooltip."""
    color: str


def escalation_chart(lines: Mapping[str, EscalationLine], *, name: str) -> Drawing:
    """Accuracy of a cascade over the share that goes to the big model, with whiskers; rings mark chosen points."""
    axes = Axes(left=52, right=420, top=30, bottom=290, x=(0.0, 1.0))
    shapes = axes.shapes(name, "share escalated (left: student alone, right: big model alone)", x_ticks=_QUARTERS,
                         write="{:.0%}".format)  # fmt: skip
    for place, (label, line) in enumerate(lines.items()):
        shapes.append(word(axes.right + 18, axes.top + 16 + 18 * place, label[:24], 12, fill=line.color, bold=True))
        shapes.append(axes.line([(x, accuracy.value) for x, accuracy in line.points], line.color, 1.6))
        for x, accuracy in line.points:
            tip = f"{label}: {x:.1%} escalated, {accuracy.value:.1%} right, n={accuracy.n}"
            shapes.append(axes.line([(x, accuracy.low), (x, accuracy.high)], line.color, 0.6))
            shapes.append(dot(axes.sx(x), axes.sy(accuracy.value), 2.2, line.color, tip))
        for x, accuracy, tip in line.chosen:
            shapes.append(dot(axes.sx(x), axes.sy(accuracy.value), 7, line.color, tip))
            shapes.append(dot(axes.sx(x), axes.sy(accuracy.value), 3.5, "var(--page)", tip))
    return Drawing(600, 332, name, tuple(shapes))


def heat_map(counts: np.ndarray, *, rows: Sequence[str], columns: Sequence[str], name: str) -> Drawing:
    """A table of counts as shades; each row is scaled by its own sum, the diagonal is green, errors are red."""
    cell, left, top = min(26.0, max(15.0, 420.0 / max(1, len(columns)))), 132.0, 118.0
    middle = cell / 2 + 3.5
    shapes: list[Shape] = []
    for i, row in enumerate(rows):
        y = top + i * cell
        shapes += [word(left - 6, y + middle, row[:22], 10, "end")]
        total = max(1, int(counts[i].sum()))
        for j, column in enumerate(columns):
            count = int(counts[i, j])
            shapes += [bar(left + j * cell, y, cell - 1, cell - 1, _TRACK)]
            if count:
                shade = bar(left + j * cell, y, cell - 1, cell - 1, "var(--good)" if row == column else "var(--bad)",
                            f"{row} → {column}: {count} of {total}")  # fmt: skip
                shapes += [shade._replace(attributes=shade.attributes | {"fill-opacity": round(count / total, 2)})]
                ink = "var(--page)" if count / total > 0.55 else _INK
                x, size = left + j * cell + cell / 2 - 0.5, 8 if cell < 20 else 10
                shapes += [word(x, y + middle - 0.8, str(count), size, "middle", ink)]
    for j, column in enumerate(columns):
        shapes += [word(left + j * cell + cell / 2 + 3, top - 6, column[:22], 10, turn=-60)]
    return Drawing(left + len(columns) * cell + 70, top + len(rows) * cell + 4, name, tuple(shapes))


def timeline(
    rows: Sequence[tuple[str, Sequence[tuple[float, float, str]]]],
    *,
    end_s: float,
    window: tuple[float, float],
    name: str,
) -> Drawing:
    """Rows of labelled stretches (start_s, end_s, label) on one time axis; outside the window is greyed."""
    width, left, step = 1080.0, 118.0, 24.0
    scale = (width - left - 20) / max(end_s, 1e-6)
    labels = sorted({label for _, row in rows for _, _, label in row})
    shapes: list[Shape] = []
    for index, (row_name, stretches) in enumerate(rows):
        y = index * step
        shapes += [word(left - 8, y + 14, row_name, 11, "end", _GREY), bar(left, y, end_s * scale, 20, _TRACK)]
        for start_s, stop_s, label in stretches:
            stretch = max(1.0, (stop_s - start_s) * scale - 1)
            tip = f"{label} {start_s:.1f}-{stop_s:.1f} s"
            shapes += [bar(left + start_s * scale, y, stretch, 20, _SOFT[labels.index(label) % len(_SOFT)], tip)]
            room = int(stretch / 6.2)
            if room > 3:
                shapes += [word(left + start_s * scale + 4, y + 14, label[:room], 10.5, fill="#0f172a")]
    bottom = len(rows) * step
    for edge_s in {window[0], window[1]}:
        x = left + min(edge_s, end_s) * scale
        shapes += [stroke(((x, 0), (x, bottom)), _INK, 1.4, "3 3")]
    for tick in _ticks(0.0, end_s):
        shapes += [word(left + tick * scale, bottom + 12, f"{tick:g} s", 10, "middle", _GREY)]
    return Drawing(width, bottom + 18, name, tuple(shapes))


def _range(values: Sequence[float], *, zero: bool = False) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    low = min(low, 0.0) if zero else low
    return (low, high) if high > low else (low, low + 1.0)


def _ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough - 1e-12)
    return [float(round(k * step, 10)) for k in range(int(np.ceil(low / step)), int(np.floor(high / step + 1e-9)) + 1)]
