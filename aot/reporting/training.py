"""The middle of the report: what the teacher yielded, how training went, and where and how surely answers erred."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aot.config import RunConfig
from aot.evaluation.calibration import reliability_bins
from aot.evaluation.confusion import confusion
from aot.reporting.charts import Drawing, heat_map, line_chart, reliability_chart
from aot.reporting.load import RunData
from aot.reporting.numbers import short, title
from aot.reporting.tables import arm_colors, roles

MAX_HEAT_LABELS = 60
_CURVES = (
    ("loss", "Loss"),
    ("label_loss", "Loss on answers"),
    ("rationale_loss", "Loss on rationales"),
    ("grad_norm", "Gradient norm"),
)
_MAX_POINTS = 400
"""A longer curve is drawn from every n-th of its points."""


@dataclass(frozen=True)
class StatTable:
    """A table of a statistics file, already in words."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Stats:
    """A statistics file for display: single figures, and tables of what is nested."""

    figures: tuple[tuple[str, str], ...]
    tables: tuple[StatTable, ...]


def stats_view(values: Mapping[str, Any]) -> Stats:
    """Scalars of `values` as figures; nested mappings and lists of mappings as tables."""
    figures, tables = [], []
    for name, value in values.items():
        if isinstance(value, dict) and value and all(isinstance(item, dict) for item in value.values()):
            rows = [{"": key, **item} for key, item in value.items()]
            tables.append(_table_of(title(name), rows))
        elif isinstance(value, dict) and value:
            tables.append(StatTable(title(name), ("", "count"), tuple((k, short(v)) for k, v in value.items())))
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            tables.append(_table_of(title(name), value))
        elif not isinstance(value, (dict, list)):
            figures.append((title(name), short(value)))
    return Stats(tuple(figures), tuple(tables))


def curve_charts(data: RunData, config: RunConfig) -> list[Drawing]:
    """One chart for each logged quantity, one line for each arm of the config."""
    charts, known = [], arm_colors(data, config)
    shown = {arm: data.learning.shown(arm, config.train.arms) for arm in known}
    colors = {shown[arm]: fill for arm, fill in known.items()}
    for key, name in _CURVES:
        series = {shown[arm]: _line(rows, key) for arm, rows in data.curves.items() if arm in shown}
        series = {arm: line for arm, line in series.items() if line and any(y for _, y in line)}
        if series:
            charts.append(line_chart(series, colors=colors, name=name, x_name="step"))
    return charts


def reliability(data: RunData, config: RunConfig) -> list[Drawing]:
    """For each split, stated probability against how often it was right."""
    arms = ["base", *roles(data.learning, config).arms]
    charts = []
    for split in config.evaluate.splits:
        series = {}
        for arm in arms:
            rows = [
                p for p in data.predictions
                if p.arm == arm and p.choice_probs and p.question_id in data.questions
                and data.questions[p.question_id].split == split
            ]  # fmt: skip
            mode = rows[0].mode if rows else ""
            rows = [row for row in rows if row.mode == mode]
            bins = reliability_bins([data.questions[p.question_id] for p in rows], rows)
            if bins:
                series[arm] = [(b.confidence, b.accuracy.value, b.accuracy.low, b.accuracy.high, b.count) for b in bins]
        if series:
            charts.append(reliability_chart(series, colors=arm_colors(data, config), name=split))
    return charts


@dataclass(frozen=True)
class ConfusionView:
    """Confused next steps of one arm on one split."""

    arm: str
    split: str
    total: int
    errors: int
    pairs: tuple[tuple[str, str, int], ...]
    chart: Drawing
    hidden_labels: int


def confusions(data: RunData, config: RunConfig) -> list[ConfusionView]:
    """Next steps that the main arm took for others, answering directly, for each split."""
    arm = roles(data.learning, config).main or roles(data.learning, config).control
    steps = sorted({s.label for annotation in data.annotations.values() for s in annotation.segments})
    views = []
    for split in config.evaluate.splits:
        inside = [q for q in data.questions.values() if q.split == split]
        rows = [p for p in data.predictions if p.arm == arm and p.mode == "direct"]
        table = confusion(inside, rows, vocabulary=steps)
        if arm is None or not table.labels:
            continue
        counts, size = table.counts, len(table.labels)
        used = [i for i in range(size) if counts[i].sum() or counts[:, i].sum()]
        busiest = sorted(used, key=lambda i: (-int(counts[i].sum() + counts[:, i].sum()), i))[:MAX_HEAT_LABELS]
        shown = sorted(busiest)
        said = [*shown, size, size + 1]
        chart = heat_map(
            counts[shown][:, said],
            rows=[table.labels[i] for i in shown],
            columns=[table.columns[i] for i in said],
            name=f"{data.learning.shown(arm, config.train.arms)} on {split}: gold step (rows) against answer (columns)",
        )
        total, name = int(counts.sum()), data.learning.shown(arm, config.train.arms)
        errors = total - int(counts[:, :size].trace())
        hidden = len(used) - len(shown)
        views.append(ConfusionView(name, split, total, errors, tuple(table.top_pairs(10)), chart, hidden))
    return views


def _table_of(name: str, rows: Sequence[Mapping[str, Any]]) -> StatTable:
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    cells = tuple(tuple(_stat(row, column) for column in columns) for row in rows)
    return StatTable(name, tuple(title(column) for column in columns), cells)


def _stat(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if not isinstance(value, Mapping) or value.keys() != {"value", "low", "high"}:
        return short(value)
    if str(row.get("metric", "")).endswith("iou"):
        return f"{value['value']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"
    return f"{100 * value['value']:.1f}% [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"


def _line(rows: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    line = [(float(r["step"]), float(r[key])) for r in rows if "step" in r and isinstance(r.get(key), (int, float))]
    stride = max(1, -(-len(line) // _MAX_POINTS))
    return line[::stride] if not line or (len(line) - 1) % stride == 0 else [*line[::stride], line[-1]]
