"""One kind of table for everything: named rows over named columns, with a number, words or nothing in each place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from aot.records import MetricRow
from aot.reporting.charts import Drawing, interval_bar
from aot.reporting.numbers import cut_share, percent, plain, points

Verdict = Literal["", "better", "worse", "open"]
_PLAIN = ("tokens", "mean_iou", "ece")
"""Starts of metrics that are no shares."""


@dataclass(frozen=True)
class Heading:
    """Of a row or column: what it looks up, and what a reader sees."""

    key: Any
    label: str
    what: str = ""
    """What the holder of the label is."""
    strong: bool = False


@dataclass(frozen=True)
class Cell:
    """One place of a table, ready to be shown."""

    text: str
    range: str = ""
    """Of a number: its interval and n, and what must be read with it."""
    note: str = ""
    bar: Drawing | None = None
    verdict: Verdict = ""

    @property
    def whole(self) -> str:
        """The number with its interval and n."""
        return f"{self.text} {self.range}".strip()


@dataclass(frozen=True)
class Pivot:
    """A table."""

    title: str
    corner: str
    rows: tuple[Heading, ...]
    columns: tuple[Heading, ...]
    cells: tuple[tuple[Cell | None, ...], ...]

    def turned(self, corner: str) -> "Pivot":
        """The same table with rows and columns changed for each other."""
        cells = tuple(tuple(line[place] for line in self.cells) for place in range(len(self.columns)))
        return replace(self, corner=corner, rows=self.columns, columns=self.rows, cells=cells)


def pivot(
    title: str,
    rows: Sequence[Heading],
    columns: Sequence[Heading],
    value: Callable[[Any, Any], Cell | None],
    *,
    corner: str = "who",
) -> list[Pivot]:
    """The table of `value` over the keys of rows and columns, less those that hold nothing; none if nothing is left."""
    cells = [[value(row.key, column.key) for column in columns] for row in rows]
    used_rows = [i for i, line in enumerate(cells) if any(line)]
    used = [j for j in range(len(columns)) if any(line[j] for line in cells)]
    table = Pivot(
        title, corner, tuple(rows[i] for i in used_rows), tuple(columns[j] for j in used),
        tuple(tuple(cells[i][j] for j in used) for i in used_rows),
    )  # fmt: skip
    return [table] if used_rows else []


def word_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str | Cell]]) -> list[Pivot]:
    """A table of words, whose first column names the rows; none if there are no rows."""
    names = tuple(Heading(place, str(row[0])) for place, row in enumerate(rows))
    cells = tuple(tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in row[1:]) for row in rows)
    table = Pivot(title, columns[0], names, tuple(Heading(name, name) for name in columns[1:]), cells)
    return [table] if rows else []


def cell_of(row: MetricRow | None, *, cut: MetricRow | None = None, fill: str = "") -> Cell | None:
    """A number in the way its metric is written.

    Args:
        row: The number; without one there is no cell.
        cut: The share of cut replies that stands beside an accuracy.
        fill: Colour of a bar, if there is to be one.
    """
    if row is None:
        return None
    if "difference" in row.metric or "gap" in row.metric:
        written = points(row)
    elif row.metric.startswith(_PLAIN) or row.metric.endswith(("_correlation", "_ece", "_probability")):
        written = plain(row)
    else:
        written = percent(row)
    text, _, interval = (written + cut_share(cut)).partition(" ")
    return Cell(text, interval, row.note, interval_bar(row.value, row.low, row.high, fill=fill) if fill else None)
