"""Charts as plain geometry; one template turns it into SVG, so no markup is made by joining strings.

Lengths are SVG units, one CSS pixel at full size; y grows downwards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

PALETTE = ("#2563eb", "#d97706", "#64748b", "#059669", "#9333ea", "#db2777", "#0891b2", "#65a30d", "#b45309", "#475569")


@dataclass(frozen=True)
class Rect:
    """A filled rectangle with an optional tooltip."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    tip: str = ""
    kind: str = "rect"


@dataclass(frozen=True)
class Line:
    """A stroke through points."""

    points: tuple[tuple[float, float], ...]
    stroke: str
    width: float = 1.0
    dash: str = ""
    kind: str = "line"

    @property
    def text(self) -> str:
        """Points as SVG writes them."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


@dataclass(frozen=True)
class Dot:
    """A filled circle with an optional tooltip."""

    x: float
    y: float
    radius: float
    fill: str
    tip: str = ""
    kind: str = "dot"


@dataclass(frozen=True)
class Text:
    """A word or number."""

    x: float
    y: float
    text: str
    size: float = 12
    anchor: str = "start"
    fill: str = "#334155"
    turn: float = 0
    """Degrees around (x, y)."""
    bold: bool = False
    kind: str = "text"


Shape = Rect | Line | Dot | Text


@dataclass(frozen=True)
class Drawing:
    """One chart."""

    width: float
    height: float
    name: str
    """What a screen reader says."""
    shapes: tuple[Shape, ...]


def color(index: int) -> str:
    """The colour of the series with that index."""
    return PALETTE[index % len(PALETTE)]


def count_bars(rows: Sequence[tuple[str, int, str]], *, name: str, width: float = 760) -> Drawing:
    """Horizontal bars of (label, count, fill), the count written at the end of each."""
    left, step, most = 250.0, 26.0, max([count for _, count, _ in rows], default=1) or 1
    shapes: list[Shape] = []
    for index, (label, count, fill) in enumerate(rows):
        y = index * step + 4
        length = (width - left - 90) * count / most
        shapes += [
            Text(left - 10, y + 13, label[:40], anchor="end"),
            Rect(left, y, max(length, 1), 18, fill, f"{label}: {count}"),
            Text(left + length + 7, y + 13, f"{count:,}"),
        ]
    return Drawing(width, len(rows) * step + 8, name, tuple(shapes))


def interval_bar(value: float, low: float, high: float, *, fill: str, width: float = 220) -> Drawing:
    """One share on a 0 to 1 axis with its interval as a whisker."""
    x = [round(width * min(max(v, 0.0), 1.0), 1) for v in (value, low, high)]
    shapes = (
        Rect(0, 3, width, 12, "#eef2f7"),
        Rect(0, 3, x[0], 12, fill),
        Line(((x[1], 9), (x[2], 9)), "#0f172a", 1.5),
        Line(((x[1], 5), (x[1], 13)), "#0f172a", 1.5),
        Line(((x[2], 5), (x[2], 13)), "#0f172a", 1.5),
    )
    return Drawing(width, 18, f"{100 * value:.1f}%", shapes)


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]], *, colors: Mapping[str, str], name: str, x_name: str
) -> Drawing:
    """Lines over a shared x axis, each with its name at the right."""
    width, height, left, right, top, bottom = 545.0, 260.0, 52.0, 120.0, 26.0, 34.0
    points = [point for line in series.values() for point in line]
    x_low, x_high = _range([x for x, _ in points])
    y_low, y_high = _range([y for _, y in points], zero=True)

    def sx(x: float) -> float:
        return left + (x - x_low) / (x_high - x_low) * (width - left - right)

    def sy(y: float) -> float:
        return height - bottom - (y - y_low) / (y_high - y_low) * (height - top - bottom)

    shapes: list[Shape] = [Text(left, 14, name, bold=True)]
    for tick in _ticks(y_low, y_high):
        shapes += [Line(((left, sy(tick)), (width - right, sy(tick))), "#e2e8f0")]
        shapes += [Text(left - 8, sy(tick) + 4, f"{tick:g}", 11, "end", "#64748b")]
    for tick in _ticks(x_low, x_high):
        shapes += [Text(sx(tick), height - bottom + 16, f"{tick:g}", 11, "middle", "#64748b")]
    shapes += [Text((left + width - right) / 2, height - 3, x_name, 11, "middle", "#64748b")]
    ends: list[float] = []
    for label, line in series.items():
        if line:
            shapes.append(Line(tuple((sx(x), sy(y)) for x, y in line), colors[label], 1.8))
            y_label = sy(line[-1][1])
            while any(abs(y_label - other) < 13 for other in ends):
                y_label -= 13
            ends.append(y_label)
            shapes.append(Text(sx(line[-1][0]) + 6, y_label + 4, label[:18], 11, fill=colors[label], bold=True))
    return Drawing(width, height, name, tuple(shapes))


def reliability_chart(
    series: Mapping[str, Sequence[tuple[float, float, float, float, int]]], *, colors: Mapping[str, str], name: str
) -> Drawing:
    """A reliability diagram: (confidence, accuracy, low, high, count) of each bin for each series."""
    size, left, top = 300.0, 46.0, 24.0

    def sx(x: float) -> float:
        return left + x * size

    def sy(y: float) -> float:
        return top + (1 - y) * size

    shapes: list[Shape] = [Text(left, 14, name, bold=True), Rect(left, top, size, size, "#f8fafc")]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        shapes += [Line(((sx(0), sy(tick)), (sx(1), sy(tick))), "#e2e8f0")]
        shapes += [Text(left - 6, sy(tick) + 4, f"{tick:.0%}", 11, "end", "#64748b")]
        shapes += [Text(sx(tick), top + size + 16, f"{tick:.0%}", 11, "middle", "#64748b")]
    shapes += [Line(((sx(0), sy(0)), (sx(1), sy(1))), "#94a3b8", 1, "4 4")]
    for index, (label, bins) in enumerate(series.items()):
        shapes += [Text(left + size + 18, top + 16 + 18 * index, label, 12, fill=colors[label], bold=True)]
        shapes += [Line(tuple((sx(b[0]), sy(b[1])) for b in bins), colors[label], 1.4)]
        for confidence, accuracy, low, high, count in bins:
            shapes += [Line(((sx(confidence), sy(low)), (sx(confidence), sy(high))), colors[label], 1)]
            tip = f"{label}: confidence {confidence:.0%}, right {accuracy:.0%}, n={count}"
            shapes += [Dot(sx(confidence), sy(accuracy), 2.5 + min(5.0, count**0.5 / 3), colors[label], tip)]
    shapes += [Text(left + size / 2, top + size + 34, "stated probability", 11, "middle", "#64748b")]
    return Drawing(left + size + 190, top + size + 42, name, tuple(shapes))


def heat_map(counts: np.ndarray, *, rows: Sequence[str], columns: Sequence[str], name: str) -> Drawing:
    """A table of counts as shades; each row is scaled by its own sum, the diagonal is green, errors are red."""
    cell, left, top = min(26.0, max(15.0, 420.0 / max(1, len(columns)))), 132.0, 118.0
    middle = cell / 2 + 3.5
    shapes: list[Shape] = []
    for i, row in enumerate(rows):
        y = top + i * cell
        shapes += [Text(left - 6, y + middle, row[:22], 10, "end")]
        total = max(1, int(counts[i].sum()))
        for j, column in enumerate(columns):
            count = int(counts[i, j])
            fill = _shade(count / total, right=row == column) if count else "#f1f5f9"
            tip = f"{row} → {column}: {count} of {total}" if count else ""
            shapes += [Rect(left + j * cell, y, cell - 1, cell - 1, fill, tip)]
            if count:
                ink = "#ffffff" if count / total > 0.55 else "#0f172a"
                shapes += [
                    Text(
                        left + j * cell + cell / 2 - 0.5,
                        y + middle - 0.8,
                        str(count),
                        8 if cell < 20 else 10,
                        "middle",
                        ink,
                    )
                ]
    for j, column in enumerate(columns):
        shapes += [Text(left + j * cell + cell / 2 + 3, top - 6, column[:22], 10, turn=-60)]
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
        shapes += [Text(left - 8, y + 14, row_name, 11, "end", "#64748b"), Rect(left, y, end_s * scale, 20, "#f1f5f9")]
        for start_s, stop_s, label in stretches:
            stretch = max(1.0, (stop_s - start_s) * scale - 1)
            tip = f"{label} {start_s:.1f}-{stop_s:.1f} s"
            shapes += [Rect(left + start_s * scale, y, stretch, 20, _soft(labels.index(label)), tip)]
            room = int(stretch / 6.2)
            if room > 3:
                shapes += [Text(left + start_s * scale + 4, y + 14, label[:room], 10.5, fill="#0f172a")]
    bottom = len(rows) * step
    for edge_s in {window[0], window[1]}:
        x = left + min(edge_s, end_s) * scale
        shapes += [Line(((x, 0), (x, bottom)), "#0f172a", 1.4, "3 3")]
    for tick in _ticks(0.0, end_s):
        shapes += [Text(left + tick * scale, bottom + 12, f"{tick:g} s", 10, "middle", "#64748b")]
    return Drawing(width, bottom + 18, name, tuple(shapes))


def _shade(share: float, *, right: bool) -> str:
    light, dark = ((220, 242, 231), (4, 120, 87)) if right else ((254, 226, 226), (185, 28, 28))
    r, g, b = (round(a + (z - a) * share) for a, z in zip(light, dark, strict=True))
    return f"#{r:02x}{g:02x}{b:02x}"


def _soft(index: int) -> str:
    soft = (
        "#bfdbfe",
        "#fde68a",
        "#bbf7d0",
        "#fbcfe8",
        "#ddd6fe",
        "#fed7aa",
        "#a5f3fc",
        "#d9f99d",
        "#e2e8f0",
        "#fecaca",
    )
    return soft[index % len(soft)]


def _range(values: Sequence[float], *, zero: bool = False) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    low = min(low, 0.0) if zero else low
    return (low, high) if high > low else (low, low + 1.0)


def _ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough - 1e-12)
    return [float(round(k * step, 10)) for k in range(int(np.ceil(low / step)), int(np.floor(high / step + 1e-9)) + 1)]
