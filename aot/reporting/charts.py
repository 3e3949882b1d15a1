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
_GREY, _GRID, _INK = "#64748b", "#e2e8f0", "#0f172a"
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
    x: float, y: float, text: str, size: float = 12, anchor: str = "start", fill: str = "#334155", *, turn: float = 0,
    bold: bool = False,
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


def interval_bar(value: float, low: float, high: float, *, fill: str, width: float = 220) -> Drawing:
    """One share on a 0 to 1 axis with its interval as a whisker."""
    x = [round(width * min(max(v, 0.0), 1.0), 1) for v in (value, low, high)]
    shapes = (
        bar(0, 3, width, 12, "#eef2f7"),
        bar(0, 3, x[0], 12, fill),
        stroke(((x[1], 9), (x[2], 9)), "#0f172a", 1.5),
        stroke(((x[1], 5), (x[1], 13)), "#0f172a", 1.5),
        stroke(((x[2], 5), (x[2], 13)), "#0f172a", 1.5),
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


def reliability_chart(
    series: Mapping[str, Sequence[tuple[float, float, float, float, int]]], *, colors: Mapping[str, str], name: str
) -> Drawing:
    """A reliability diagram: (confidence, accuracy, low, high, count) of each bin for each series."""
    axes = Axes(left=46, right=346, top=24, bottom=324, x=(0.0, 1.0))
    shapes = axes.shapes(name, "stated probability", x_ticks=_QUARTERS, write="{:.0%}".format)
    shapes.append(axes.line([(0, 0), (1, 1)], "#94a3b8", 1, "4 4"))
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
            shapes.append(dot(axes.sx(x), axes.sy(accuracy.value), 3.5, "#ffffff", tip))
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
            fill = _shade(count / total, right=row == column) if count else "#f1f5f9"
            tip = f"{row} → {column}: {count} of {total}" if count else ""
            shapes += [bar(left + j * cell, y, cell - 1, cell - 1, fill, tip)]
            if count:
                ink = "#ffffff" if count / total > 0.55 else _INK
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
        shapes += [word(left - 8, y + 14, row_name, 11, "end", "#64748b"), bar(left, y, end_s * scale, 20, "#f1f5f9")]
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
        shapes += [stroke(((x, 0), (x, bottom)), "#0f172a", 1.4, "3 3")]
    for tick in _ticks(0.0, end_s):
        shapes += [word(left + tick * scale, bottom + 12, f"{tick:g} s", 10, "middle", "#64748b")]
    return Drawing(width, bottom + 18, name, tuple(shapes))


def _shade(share: float, *, right: bool) -> str:
    light, dark = ((220, 242, 231), (4, 120, 87)) if right else ((254, 226, 226), (185, 28, 28))
    r, g, b = (round(a + (z - a) * share) for a, z in zip(light, dark, strict=True))
    return f"#{r:02x}{g:02x}{b:02x}"


def _range(values: Sequence[float], *, zero: bool = False) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    low = min(low, 0.0) if zero else low
    return (low, high) if high > low else (low, low + 1.0)


def _ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough - 1e-12)
    return [float(round(k * step, 10)) for k in range(int(np.ceil(low / step)), int(np.floor(high / step + 1e-9)) + 1)]
