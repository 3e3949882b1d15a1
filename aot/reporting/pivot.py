"""One kind of table for everything, and how numbers are written in it: a share never without its interval and n."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from aot.display import counted
from aot.records import Interval, MetricRow
from aot.reporting.charts import Drawing, interval_bar
from aot.run_records import Share

_NAMES = {"pass_at_1": "pass@1", "pass_at_k": "pass@k", "iou": "IoU", "ece": "ECE", "ms": "ms", "s": "s"}

TERMS = {
    "cut off by the cap": "replies that reached the limit on tokens, and so have no answer",
    "unreadable or not an option": "no answer could be found in the reply, or it is none of the options",
    "tokens of a reply": "how many tokens a student generates for a question, its thinking included",
    "tokens per right answer": "all tokens generated, divided by the number of right answers",
    "mean IoU of times": "how far the stated time span overlaps the true one: 1 is perfect, 0 no overlap",
    "calibration error": "how far stated probabilities are from how often they come true: 0 is best",
    "claims supported by annotations": "of the facts that a rationale lists, the share that the annotations confirm",
    "rank correlation": "between distance and being right; negative: it is right more often on what is near",
    "recall": "of the planted defects, the share that was caught",
    "precision": "of the complete and right traces that were dropped, the share with a planted defect",
    "pass@1 value": "share of questions that the first trace answers right",
    "next": "next-step questions, with options and open",
    "next_choice": "the next step, to be chosen from options",
    "next_open": "the next step, without options",
    "trainable parameters": "weights that training changes; the others stay as they were",
    "rationales seen": "rationales that training reached before it ended",
}
"""What a label means, where a reader of tables may not know it."""
Verdict = Literal["", "better", "worse", "open"]
_PLAIN = ("tokens", "calls", "mean_iou", "ece")
"""Starts of metrics that are no shares."""


def percent(row: MetricRow | Interval | Share) -> str:
    """A share with interval and n.

    >>> row = MetricRow(arm="a", mode="direct", split="test", kind="all", metric="accuracy", value=0.875, low=0.821,
    ...                 high=0.916, n=160)
    >>> percent(row)
    '87.5% [82.1, 91.6] n=160'
    """
    if row.value is None:
        return "nothing to divide by"
    return f"{100 * row.value:.1f}% [{100 * row.low:.1f}, {100 * row.high:.1f}] n={row.n}"


def points(row: MetricRow) -> str:
    """A difference of two shares in percentage points, with its interval and n."""
    value, low, high = (round(100 * x, 1) + 0.0 for x in (row.value, row.low, row.high))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}] points, n={row.n}"


def plain(row: MetricRow) -> str:
    """A quantity that is no share."""
    return f"{_figures(row.value)} [{_figures(row.low)}, {_figures(row.high)}] n={row.n}"


def short(value: object) -> str:
    """Any scalar of a statistics file in a few characters.

    >>> short(0.123456), short(12), short(True), short(None)
    ('0.123', '12', 'yes', '')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _figures(value)
    return str(value)


def _figures(value: float) -> str:
    """Three significant digits, or all before the point.

    >>> _figures(8391.7), _figures(0.02345)
    ('8,392', '0.0234')
    """
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def title(name: str) -> str:
    """A field name as a heading.

    >>> title("pass_at_1"), title("seconds_per_trace")
    ('pass@1', 'seconds per trace')
    """
    return _NAMES.get(name, " ".join(_NAMES.get(word, word) for word in name.split("_")))


def clip_text(text: str, limit: int) -> str:
    """`text` cut to `limit` characters, saying how much is left out.

    >>> clip_text("abcdef", 4)
    'abcd… (2 more)'
    """
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit} more)"


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

    @property
    def size(self) -> str:
        """What stands where the table is folded away."""
        size = f"{counted(len(self.rows), 'row')}, {counted(len(self.columns), 'column')}"
        return f"Table: {self.title} ({size})" if self.title else f"Table ({size})"

    @property
    def is_large(self) -> bool:
        """Whether a reader should first be asked."""
        return len(self.columns) > 4 or len(self.rows) > 12

    def of_rows(self, places: Sequence[int]) -> "Pivot":
        """The table with these of its rows."""
        rows, cells = (tuple(lines[place] for place in places) for lines in (self.rows, self.cells))
        return replace(self, rows=rows, cells=cells)  # type: ignore[arg-type]

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
    if not rows:
        return []
    names = tuple(Heading(place, str(row[0])) for place, row in enumerate(rows))
    cells = tuple(tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in row[1:]) for row in rows)
    return [Pivot(title, columns[0], names, tuple(Heading(name, name) for name in columns[1:]), cells)]


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
    written += "" if cut is None else f", {100 * cut.value:.1f}% cut off"
    text, _, interval = written.partition(" ")
    return Cell(text, interval, row.note, interval_bar(row.value, row.low, row.high, fill=fill) if fill else None)
