"""The chart of accuracy against generated tokens: a dot for each student, a line for what each budget would leave."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aot.reporting.charts import Dot, Drawing, Line, Shape, Text

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 980.0, 380.0, 52.0, 300.0, 30.0, 44.0
_LABEL_STEP = 15.0


@dataclass(frozen=True)
class TokenPoint:
    """One student: mean tokens of a reply, and accuracy with its interval."""

    tokens: float
    accuracy: float
    low: float
    high: float
    tip: str


def token_chart(
    points: Mapping[str, TokenPoint],
    budgets: Mapping[str, Sequence[tuple[float, float]]],
    *,
    colors: Mapping[str, str],
    name: str,
) -> Drawing:
    """Accuracy over tokens on a logarithmic axis; each student of `points` is named at the right.

    Args:
        points: Students by the name that is shown.
        budgets: For each of them (budget in tokens, accuracy within it), in order.
        colors: A colour for each.
        name: Heading, and what a screen reader says.
    """
    ticks = _powers([point.tokens for point in points.values()] + [x for line in budgets.values() for x, _ in line])
    shapes = _axes(ticks, name)
    for label, line in budgets.items():
        shapes.append(Line(tuple((_sx(x, ticks), _sy(y)) for x, y in line), colors[label], 1.4, "5 4"))
    for label, point in points.items():
        x = _sx(point.tokens, ticks)
        shapes.append(Line(((x, _sy(point.low)), (x, _sy(point.high))), colors[label], 1.5))
        shapes.append(Dot(x, _sy(point.accuracy), 6, colors[label], f"{label}: {point.tip}"))
    shapes += _legend(points, colors)
    return Drawing(_WIDTH, _HEIGHT, name, tuple(shapes))


def _axes(ticks: Sequence[float], name: str) -> list[Shape]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    shapes: list[Shape] = [Text(_LEFT, 16, name, bold=True)]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        shapes.append(Line(((_LEFT, _sy(share)), (right, _sy(share))), "#e2e8f0"))
        shapes.append(Text(_LEFT - 8, _sy(share) + 4, f"{share:.0%}", 11, "end", "#64748b"))
    for tick in ticks:
        x = _sx(tick, ticks)
        shapes.append(Line(((x, _TOP), (x, bottom)), "#f1f5f9"))
        shapes.append(Text(x, bottom + 16, f"{tick:g}", 11, "middle", "#64748b"))
    axis = "generated tokens of a reply (dot: mean; dashed: most that a reply may have)"
    return [*shapes, Text((_LEFT + right) / 2, _HEIGHT - 8, axis, 11, "middle", "#64748b")]


def _legend(points: Mapping[str, TokenPoint], colors: Mapping[str, str]) -> list[Shape]:
    """Names at the height of their dots where there is room, none upon another."""
    labels = sorted(points, key=lambda label: -points[label].accuracy)
    heights: list[float] = []
    for label in labels:
        lowest = heights[-1] + _LABEL_STEP if heights else _TOP
        heights.append(max(_sy(points[label].accuracy), lowest))
    shapes: list[Shape] = []
    for place, label in enumerate(labels):
        room = _HEIGHT - 8 - _LABEL_STEP * (len(labels) - 1 - place)
        y, point = min(heights[place], room), points[label]
        told = f"{label[:28]}: {point.accuracy:.0%}, {point.tokens:.1f}"
        shapes += [Dot(_WIDTH - _RIGHT + 14, y, 4, colors[label])]
        shapes += [Text(_WIDTH - _RIGHT + 24, y + 4, told, 12, fill=colors[label], bold=True)]
    return shapes


def _powers(tokens: Sequence[float]) -> list[float]:
    """Powers of two around all of `tokens`."""
    used = [max(1.0, value) for value in tokens] or [1.0]
    low, high = math.floor(math.log2(min(used))), math.ceil(math.log2(max(used)))
    return [2.0**power for power in range(low, max(high, low + 1) + 1)]


def _sx(tokens: float, ticks: Sequence[float]) -> float:
    low, high = math.log2(ticks[0]), math.log2(ticks[-1])
    return _LEFT + (math.log2(max(tokens, ticks[0])) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)


def _sy(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)
