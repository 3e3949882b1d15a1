"""The result tables of a report: headline, per kind, quality of answers, paired tests; and what they mean in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from aot.config import ArmConfig, RunConfig
from aot.display import counted
from aot.evaluation.baselines import BASELINES
from aot.evaluation.spending import cut_sentences
from aot.records import MetricRow, Question
from aot.reporting.charts import Drawing, color, interval_bar
from aot.reporting.load import SAW_NONE, Learning, RunData
from aot.reporting.numbers import cut_share, percent, plain, points

WHAT = {
    "base": "student before training",
    "teacher": "agent with tools",
    "copy_last": "baseline: the latest gold step (of the choices, if there are any)",
    "task_majority": "baseline: most frequent next step of the known task",
    "bigram_predicted": "baseline: successor, in the known task, of the step the teacher's tools saw last",
    "bigram_gold": "baseline: successor, in the known task, of the true last step",
    "trigram_predicted": "baseline: successor, in the known task, of the two steps the teacher's tools saw last",
    "trigram_gold": "baseline: successor, in the known task, of the true last two steps",
}


MIN_GAP = 0.05
"""A smaller gap between the two bigrams is within their intervals, and a share of it would say nothing."""


@dataclass(frozen=True)
class Roles:
    """Which arms the headline is about."""

    control: str | None
    """Trained on answers only."""
    main: str | None
    """Trained on rationales as well."""

    @property
    def arms(self) -> list[str]:
        """Both, without those that are missing."""
        return [name for name in (self.control, self.main) if name]


def roles(learning: Learning, config: RunConfig) -> Roles:
    """The first arm that learns answers only, and the first that learned rationales, best before the answer."""
    distilled = [arm for arm in config.train.arms if arm.learns_rationales and not learning.saw_none(arm)]
    control = next((arm.name for arm in config.train.arms if arm not in distilled), None)
    main = min(distilled, key=lambda arm: arm.order != "pre", default=None)
    return Roles(control, main.name if main else None)


def arm_colors(data: RunData, config: RunConfig) -> dict[str, str]:
    """One colour for each student, the same in every chart."""
    role = roles(data.learning, config)
    first = [name for name in (role.main, role.control, "base") if name]
    others = [arm.name for arm in config.train.arms if arm.name not in first]
    return {name: color(index) for index, name in enumerate([*first, *others])}


@dataclass(frozen=True)
class Cell:
    """One number with its interval, ready to be shown."""

    row: MetricRow
    text: str
    bar: Drawing | None = None


@dataclass(frozen=True)
class HeadlineRow:
    """One arm in one mode over the splits."""

    arm: str
    what: str
    mode: str
    cells: tuple[Cell | None, ...]
    strong: bool


@dataclass(frozen=True)
class Table:
    """Named rows of optional cells under column names."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[Cell | None, ...]], ...]
    """(arm, mode, cells)."""


def headline_kind(data: RunData) -> str:
    """`next` where next steps were asked, else `all`."""
    return "next" if any(row.kind == "next" for row in data.metrics) else "all"


def headline_rows(data: RunData, config: RunConfig) -> list[HeadlineRow]:
    """Accuracy of every arm that the comparison needs, answering directly; the main arm also reasoning first.

    A mode `likelihood` says how often the likeliest choice is right: a fairer look at a student, such as the base, that
    knows no answer format. It is about questions with choices only.
    """
    role, kind, colors = roles(data.learning, config), headline_kind(data), arm_colors(data, config)
    trained = [arm.name for arm in config.train.arms]
    wanted = [("base", "direct"), *((name, "direct") for name in trained)]
    if role.main:
        wanted += [(role.main, "reason"), (f"{role.main}_no_frames", "direct")]
    wanted += [(name, "likelihood") for name in ("base", *role.arms)]
    wanted += [("teacher", mode) for mode in data.modes("teacher")[:1]]
    wanted += [(name, "none") for name in BASELINES]
    what = {**WHAT, **{arm.name: what_arm(data, arm) for arm in config.train.arms}}
    if role.main:
        what[f"{role.main}_no_frames"] = f"{role.main} with all frames taken away"
    rows = []
    for arm, mode in wanted:
        of = "next_choice" if mode == "likelihood" and kind == "next" else kind
        found = [data.metric(arm=arm, mode=mode, split=s, kind=of, metric="accuracy") for s in config.evaluate.splits]
        if any(found):
            fill = colors[arm] if arm in role.arms else "#94a3b8"
            cells = tuple(_cell(data, row, fill) if row else None for row in found)
            name = data.learning.shown(arm, config.train.arms)
            rows.append(HeadlineRow(name, what.get(arm, ""), mode, cells, arm == role.main))
    return rows


def kind_tables(data: RunData, config: RunConfig) -> list[Table]:
    """For each split, accuracy by kind of question, each arm in each mode."""
    tables = []
    for split in config.evaluate.splits:
        rows = [row for row in data.metrics if row.split == split and row.metric == "accuracy"]
        kinds = tuple(dict.fromkeys(row.kind for row in rows))
        kinds = tuple(sorted(kinds, key=lambda kind: (kind != "all", kind != "next", kinds.index(kind))))
        cut = [row for row in data.metrics if row.split == split and row.metric == "truncated_rate" and row.value]
        tables.append(_table(split, rows, kinds, column_of=lambda row: row.kind, cut=cut))
    return [_for_readers(table, data, config) for table in tables if table.rows]


_QUALITY = (
    "truncated_rate", "unparsable_rate", "failed_rate", "tokens_per_correct", "mean_iou", "ece", "supported_claims",
)  # fmt: skip


def quality_tables(data: RunData, config: RunConfig) -> list[Table]:
    """For each split: unparsable rate, tokens for each right answer, IoU of times, calibration, support of claims."""
    best_kind = {"mean_iou": ("when",), "ece": ("next_choice", "all")}
    tables = []
    for split in config.evaluate.splits:
        rows: dict[tuple[str, str, str], MetricRow] = {}
        for row in data.metrics:
            rank = best_kind.get(row.metric, ("all", "next"))
            if row.split == split and row.metric in _QUALITY and row.kind in rank and row.arm not in BASELINES:
                key = (row.arm, row.mode, row.metric)
                if key not in rows or rank.index(row.kind) < rank.index(rows[key].kind):
                    rows[key] = row
        present = tuple(name for name in _QUALITY if any(row.metric == name for row in rows.values()))
        tables.append(_table(split, list(rows.values()), present, column_of=lambda row: row.metric))
    return [_for_readers(table, data, config) for table in tables if table.rows]


@dataclass(frozen=True)
class PairedRow:
    """One paired comparison."""

    split: str
    kind: str
    first: str
    second: str
    difference: str
    verdict: str
    """better, worse or open."""
    tests: str
    first_rank: bool
    """Whether this is about the main arm answering next-step questions directly."""


def paired_rows(data: RunData, config: RunConfig) -> list[PairedRow]:
    """Paired differences of the trained arms over all and over next-step questions."""
    kinds = list(dict.fromkeys((headline_kind(data), "all")))
    trained = {arm.name for arm in config.train.arms}
    rows = []
    for row in data.metrics:
        if not row.metric.startswith("accuracy_difference_") or row.split not in config.evaluate.splits:
            continue
        by_likelihood = row.kind == "next_choice" and row.mode == "likelihood"
        if row.arm in trained and (row.kind in kinds or by_likelihood):
            against = row.metric.removeprefix("accuracy_difference_").removeprefix("vs_")
            arms = config.train.arms
            name = data.learning.shown(row.arm, arms)
            second = f"{name}, direct" if against == "reason_vs_direct" else data.learning.shown(against, arms)
            verdict = "better" if row.low > 0 else "worse" if row.high < 0 else "open"
            first = f"{name}, {row.mode}"
            direct = row.mode == "direct" or against == "reason_vs_direct"
            important = row.arm == roles(data.learning, config).main and row.kind == kinds[0] and direct
            rows.append(PairedRow(row.split, row.kind, first, second, points(row), verdict, row.note, important))
    return sorted(rows, key=lambda row: (not row.first_rank, config.evaluate.splits.index(row.split)))


@dataclass(frozen=True)
class Sentence:
    """A finding in words, and the tests behind it."""

    text: str
    tests: str


def honest_sentences(data: RunData, config: RunConfig) -> list[Sentence]:
    """What the comparisons of the main arm say, whichever way they came out."""
    role, kind = roles(data.learning, config), headline_kind(data)
    sentences: list[Sentence] = []
    for split in config.evaluate.splits:
        for control, name in ((role.control, "learning from answers only"), ("base", "the untrained base")):
            if role.main is None or control is None:
                continue
            metric = f"accuracy_difference_vs_{control}"
            row = data.metric(arm=role.main, mode="direct", split=split, kind=kind, metric=metric)
            if row is not None:
                sentences.append(Sentence(f"{split}: {_judge(row, role.main, f'{name} ({control})')}", row.note))
    return sentences


def gap_sentence(data: RunData, config: RunConfig) -> str:
    """How much of the way from the bigram on seen history to the bigram on gold history the main arm goes."""
    main, split, kind = roles(data.learning, config).main, config.evaluate.splits[0], headline_kind(data)
    seen = data.metric(arm="bigram_predicted", mode="none", split=split, kind=kind, metric="accuracy")
    gold = data.metric(arm="bigram_gold", mode="none", split=split, kind=kind, metric="accuracy")
    own = main and data.metric(arm=main, mode="direct", split=split, kind=kind, metric="accuracy")
    if not (seen and gold and own) or gold.value - seen.value < MIN_GAP:
        return ""
    share = (own.value - seen.value) / (gold.value - seen.value)
    return (
        f"{split}: of the {100 * (gold.value - seen.value):.1f} points between the bigram on the history the tools "
        f"saw and the bigram on the true history, {main} covers {share:.0%}."
    )


def chance_level(questions: Sequence[Question], split: str) -> float | None:
    """Expected accuracy of random guessing among the options of the next-step choices of `split`."""
    sizes = [len(q.choices) for q in questions if q.split == split and q.kind == "next_choice"]
    return sum(1 / size for size in sizes) / len(sizes) if sizes else None


def _judge(row: MetricRow, main: str, against: str) -> str:
    if row.low > 0:
        return f"{main} is better than {against}: {points(row)}."
    if row.high < 0:
        return f"{main} is worse than {against}: {points(row)}."
    return (
        f"no significant difference between {main} and {against}: {points(row)}. Only a gain of more than "
        f"{100 * row.high:.1f} points and a loss of more than {abs(100 * row.low):.1f} can be ruled out."
    )


def _cell(data: RunData, row: MetricRow, fill: str) -> Cell:
    text = percent(row) + cut_share(_cut_of(data, row))
    return Cell(row, text, interval_bar(row.value, row.low, row.high, fill=fill))


def _cut_of(data: RunData, row: MetricRow) -> MetricRow | None:
    """The share of cut replies that belongs to an accuracy."""
    return data.metric(arm=row.arm, mode=row.mode, split=row.split, kind=row.kind, metric="truncated_rate")


def what_arm(data: RunData, arm: ArmConfig) -> str:
    """What an arm of a video run is, by its record of what it saw."""
    if not arm.learns_rationales:
        return "student trained on answers only"
    if data.learning.saw_none(arm):
        return f"student that was to learn rationales and {SAW_NONE}: trained on answers only"
    learned = data.learning.arms.get(arm.name)
    if learned is None or learned.rationales is None:
        return f"student to be trained on answers and rationales (λ={arm.rationale_weight:g}); no record of what it saw"
    asked = "answers" if learned.questions is None else counted(learned.questions, "answer")
    return f"student trained on {asked} and {counted(learned.rationales, 'rationale')} (λ={arm.rationale_weight:g})"


FEW_RATIONALES = 10


def warning_sentences(data: RunData, config: RunConfig) -> list[str]:
    """What must be said first: arms that were to learn rationales and saw none or few, and caps that cut much off."""
    told = cut_sentences(data.metrics, shown=lambda arm: data.learning.shown(arm, config.train.arms))
    for arm in config.train.arms:
        learned = data.learning.arms.get(arm.name)
        if data.learning.saw_none(arm):
            told.append(f"{data.learning.shown(arm.name, config.train.arms)}: it is no distilled student.")
        elif arm.learns_rationales and learned and 0 < (learned.rationales or 0) < FEW_RATIONALES:
            few = counted(learned.rationales or 0, "rationale")
            told.append(f"{arm.name} learned from {few} only, too few to say anything about learning from them.")
    return told


def _for_readers(table: Table, data: RunData, config: RunConfig) -> Table:
    rows = tuple((data.learning.shown(arm, config.train.arms), mode, cells) for arm, mode, cells in table.rows)
    return Table(table.title, table.columns, rows)


def _table(
    title: str,
    rows: Sequence[MetricRow],
    columns: tuple[str, ...],
    *,
    column_of: object,
    cut: Sequence[MetricRow] = (),
) -> Table:
    """Cells by arm, mode and column; `cut` are the shares of cut replies that stand beside accuracies."""
    assert callable(column_of)
    cut_of = {(row.arm, row.mode, column_of(row)): row for row in cut}
    found: dict[tuple[str, str], dict[str, Cell]] = {}
    for row in rows:
        text = plain(row) if row.metric in ("tokens_per_correct", "mean_iou", "ece") else percent(row)
        text += cut_share(cut_of.get((row.arm, row.mode, column_of(row))))
        found.setdefault((row.arm, row.mode), {})[column_of(row)] = Cell(row, text)
    lines = tuple((arm, mode, tuple(cells.get(name) for name in columns)) for (arm, mode), cells in found.items())
    return Table(title, columns, lines)
