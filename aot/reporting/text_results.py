"""The metrics of a text run as the report looks them up, and tables of them with students as rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from aot.config import ArmConfig, RunConfig
from aot.display import counted
from aot.evaluation.groups import ALL
from aot.records import MetricRow
from aot.reporting.charts import interval_bar
from aot.reporting.load import SAW_NONE, Learning, RunData
from aot.reporting.numbers import percent, plain, points
from aot.reporting.tables import Cell, arm_colors, roles

ORDERS = {
    "answers_only": "learns answers only",
    "pre": "thinks, then answers",
    "post": "answers, then explains; stops after the answer",
    "adaptive": "chooses: at once, short steps, or all steps",
}
CHAINS = {
    "wrong_content": "chains with wrong content in sound structure",
    "shuffled": "chains with shuffled steps",
    "deleted": "chains with steps left out",
}
MODES = {"direct": "answer at once", "reason": "reasoning first", "explain": "answer first", "adaptive": "own choice"}

Student = tuple[str, str]
"""Arm and mode."""


@dataclass(frozen=True)
class GridRow:
    """One line of a table."""

    label: str
    what: str
    cells: tuple[Cell | None, ...]
    strong: bool = False


@dataclass(frozen=True)
class Grid:
    """Cells with names for rows and columns."""

    title: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[GridRow, ...]


@dataclass(frozen=True)
class Results:
    """The metric rows of a run, to be looked up by key."""

    data: RunData
    config: RunConfig
    rows: dict[tuple[str, str, str, str, str], MetricRow]

    @cached_property
    def students(self) -> list[Student]:
        """Every arm and mode, in the order of the metrics."""
        return list(dict.fromkeys((row.arm, row.mode) for row in self.data.metrics))

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """Evaluated splits with numbers, the one in distribution first."""
        return tuple(s for s in self.config.evaluate.splits if any(key[2] == s for key in self.rows))

    @property
    def first(self) -> str:
        """The split in distribution."""
        return self.config.evaluate.splits[0]

    def find(self, student: Student, split: str, metric: str, *, kind: str = ALL) -> MetricRow | None:
        """The row of that key, or None."""
        return self.rows.get((*student, split, kind, metric))

    def student(self, arm: str) -> Student | None:
        """The arm with the only, or first, mode it answered in."""
        return next((student for student in self.students if student[0] == arm), None)

    def name(self, student: Student) -> str:
        """How a student is called; an arm with several modes with its mode."""
        several = sum(arm == student[0] for arm, _ in self.students) > 1
        shown = self.shown(student[0])
        return f"{shown}, {MODES.get(student[1], student[1])}" if several else shown

    def shown(self, arm: str) -> str:
        """The name of an arm for a reader."""
        return self.data.learning.shown(arm, self.config.train.arms)

    def what(self, student: Student) -> str:
        """What a student is, in a few words."""
        arm = next((arm for arm in self.config.train.arms if arm.name == student[0]), None)
        return (
            _what(arm, self.data.learning)
            if arm
            else {"base": "before training", "teacher": "writes the chains"}.get(student[0], "")
        )

    def fill(self, student: Student) -> str:
        """The colour of a student, the same in every chart."""
        if student == ("base", "reason"):
            return "#94a3b8"
        return arm_colors(self.data, self.config).get(student[0], "#0f172a")

    def order(self, arm: str) -> str:
        """The order of thought and answer that a trained arm learned; empty for others."""
        return next((one.order for one in self.config.train.arms if one.name == arm), "")


def results_of(data: RunData, config: RunConfig) -> Results:
    """The metrics of a run by key."""
    return Results(data, config, {(r.arm, r.mode, r.split, r.kind, r.metric): r for r in data.metrics})


def metric_grid(
    results: Results, title: str, metrics: Sequence[tuple[str, str]], *, split: str, bars: bool = False
) -> Grid | None:
    """Students over those (metric, heading) that anybody has on `split`."""
    there = {key[4] for key in results.rows if key[2:4] == (split, ALL)}
    lookups = [(name, lookup(results, split, metric)) for metric, name in metrics if metric in there]
    return students_grid(results, title, lookups, bars=bars)


def students_grid(
    results: Results,
    title: str,
    lookups: Sequence[tuple[str, Callable[[Student], MetricRow | None]]],
    *,
    bars: bool = False,
    only: Sequence[str] | None = None,
) -> Grid | None:
    """Students over (heading, how to find the row); `bars` draws accuracies, `only` names the arms that are shown."""
    main, rows = roles(results.data.learning, results.config).main, []
    for student in results.students:
        found = [look(student) for _, look in lookups]
        if any(found) and (only is None or student[0] in only):
            cells = tuple(cell_of(row, fill=results.fill(student) if bars else "") for row in found)
            rows.append(GridRow(results.name(student), results.what(student), cells, student[0] == main))
    return Grid(title, "who", tuple(name for name, _ in lookups), tuple(rows)) if rows else None


def lookup(results: Results, split: str, metric: str) -> Callable[[Student], MetricRow | None]:
    """How to find a metric of all questions of a split."""
    return lambda student: results.find(student, split, metric)


def cell_of(row: MetricRow | None, *, fill: str = "") -> Cell | None:
    """A number in the way its metric is written; with a bar in the colour `fill` if it is an accuracy."""
    if row is None:
        return None
    if "difference" in row.metric or "gap" in row.metric:
        return Cell(row, points(row))
    if row.metric.startswith("tokens") or row.metric.endswith(("_correlation", "_ece", "_probability")):
        return Cell(row, plain(row))
    bar = interval_bar(row.value, row.low, row.high, fill=fill) if fill and row.metric == "accuracy" else None
    return Cell(row, percent(row), bar)


def _what(arm: ArmConfig, learning: Learning) -> str:
    learned = learning.arms.get(arm.name)
    if learning.saw_none(arm):
        return f"was to learn rationales and {SAW_NONE}"
    words = [ORDERS.get(arm.order, arm.order)]
    if arm.learns_rationales and learned and learned.rationales is not None:
        words.append(counted(learned.rationales, "rationale"))
    if arm.chains == "self":
        words.append(f"{arm.chain_share:.0%} of the teacher's chains, then its own")
    elif arm.chain_share < 1:
        words.append(f"{arm.chain_share:.0%} of the teacher's chains")
    words += [CHAINS[arm.chains]] if arm.chains in CHAINS else []
    words += ["full fine-tuning"] if arm.tuning == "full" else []
    return "; ".join(words)
