"""How many answers are right, what the comparisons say, and what the answers cost."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from aot.evaluation.baselines import BASELINES
from aot.evaluation.groups import ALL, MIDDLE, NEXT
from aot.evaluation.spending import budget_of
from aot.records import MetricRow
from aot.reporting.charts import Drawing, TokenPoint, token_chart
from aot.reporting.load import RunData, Student
from aot.reporting.numbers import percent, plain, points
from aot.reporting.pivot import Cell, Heading, Pivot, cell_of, pivot
from aot.reporting.sections import Block, Section, charts, no_metrics, note, sentences, tables, words

MIN_GAP = 0.05
"""A smaller gap between the two bigrams is within their intervals, and a share of it would say nothing."""
GREY = "#94a3b8"
QUALITY = {
    "truncated_rate": "cut off by the cap",
    "unparsable_rate": "unreadable or not an option",
    "failed_rate": "failed",
    "tokens_mean": "tokens of a reply",
    "tokens_per_correct": "tokens per right answer",
    "mean_iou": "mean IoU of times",
    "ece": "calibration error",
    "supported_claims": "claims supported by annotations",
}
_BUDGETS = (
    "A dashed line shows how many answers are right if each reply may have so many tokens at most: one that needed "
    "more counts as wrong."
)
_QUALITY_KINDS = (ALL, NEXT, "when", "next_choice")
"""Of what a metric is looked up, in this order: not every one is measured on all questions."""


def headline_kind(data: RunData) -> str:
    """`next` where next steps were asked, else `all`."""
    return NEXT if any(row.kind == NEXT for row in data.metrics) else ALL


def students(data: RunData, *, baselines: bool = True) -> list[Heading]:
    """A row for each student; the main one stands out."""
    names = [student for student in data.students if baselines or student[0] not in BASELINES]
    return [Heading(student, data.name(student), strong=student[0] == data.learning.main) for student in names]


def metric_table(
    data: RunData, title: str, metrics: Mapping[str, str], *kinds: str, split: str, baselines: bool = True
) -> list[Pivot]:
    """Students over metrics (with what to call them) on one split, of the first of `kinds` that has a number."""
    return pivot(
        title, students(data, baselines=baselines), [Heading(metric, name) for metric, name in metrics.items()],
        lambda student, metric: cell_of(data.find(student, split, metric, *kinds)),
    )  # fmt: skip


def accuracy_table(data: RunData) -> list[Pivot]:
    """Students over splits: accuracy on the headline's questions, with the share of cut replies.

    What answers questions with options only, such as the likeliest choice, is measured on these.
    """
    kinds = (headline_kind(data), "next_choice")

    def accuracy(student: Student, split: str) -> Cell | None:
        row, cut = (data.find(student, split, metric, *kinds) for metric in ("accuracy", "truncated_rate"))
        return cell_of(row, cut=cut, fill=_fill(data, student))

    rows = [replace(row, what=data.learning.what(row.key[0])) for row in students(data)]
    return pivot("", rows, [Heading(split, split) for split in data.splits], accuracy)


def _fill(data: RunData, student: Student) -> str:
    """The colour of an arm for its main mode."""
    return data.learning.colors.get(student[0], GREY) if data.student(student[0]) == student else GREY


def quality_tables(data: RunData) -> list[Pivot]:
    """For each split: how the answers are given, and how many tokens they cost."""
    return [
        table
        for split in data.splits
        for table in metric_table(data, split, QUALITY, *_QUALITY_KINDS, split=split, baselines=False)
    ]


def findings(data: RunData) -> Iterator[tuple[str, str]]:
    """What the comparisons of the main arm say, whichever way they came out; each with its tests."""
    main, names = data.student(data.learning.main), {data.learning.control: "learning from answers only"}
    names.setdefault("base", "the untrained base")
    places = [
        (data.first, MIDDLE, ", questions of 3 and 4 steps"),
        *((s, headline_kind(data), "") for s in data.splits),
    ]
    for split, kind, where in places:
        for control, name in names.items():
            row = main and control and data.find(main, split, f"accuracy_difference_vs_{control}", kind)
            if row:
                yield f"{split}{where}: {_judge(row, f'{name} ({control})')}", row.note


def _judge(row: MetricRow, against: str) -> str:
    if row.low > 0:
        return f"{row.arm} is better than {against}: {points(row)}."
    if row.high < 0:
        return f"{row.arm} is worse than {against}: {points(row)}."
    return (
        f"no significant difference between {row.arm} and {against}: {points(row)}. Only a gain of more than "
        f"{100 * row.high:.1f} points and a loss of more than {abs(100 * row.low):.1f} can be ruled out."
    )


def savings(data: RunData) -> Iterator[tuple[str, str]]:
    """What choosing how to answer changes against arms that always think; each with its tests."""
    choosers = [s for s in data.students if any(a.name == s[0] and a.order == "adaptive" for a in data.arms)]
    for student in choosers:
        spent = data.find(student, data.first, "tokens_mean")
        for arm in data.arms:
            row = data.find(student, data.first, f"accuracy_difference_vs_{arm.name}")
            other = data.student(arm.name)
            tokens = other and data.find(other, data.first, "tokens_mean")
            if row and spent and tokens and arm.order in ("pre", "post"):
                pair = f"{data.learning.shown(row.arm)} minus {data.learning.shown(arm.name)}"
                times = f"with {spent.value / tokens.value:.2f} times its tokens"
                yield f"{data.first}: {pair}: {points(row)}, {times}.", row.note


def gap_sentence(data: RunData) -> str:
    """How much of the way from the bigram on seen history to the bigram on gold history the main arm goes."""
    main, split, kind = data.student(data.learning.main), data.first, headline_kind(data)
    seen, gold = (data.find((f"bigram_{which}", "none"), split, "accuracy", kind) for which in ("predicted", "gold"))
    reached = main and data.find(main, split, "accuracy", kind)
    if not (main and seen and gold and reached) or gold.value - seen.value < MIN_GAP:
        return ""
    share = (reached.value - seen.value) / (gold.value - seen.value)
    return (
        f"{split}: of the {100 * (gold.value - seen.value):.1f} points between the bigram on the history the tools "
        f"saw and the bigram on the true history, {main[0]} covers {share:.0%}."
    )


def chance_sentence(data: RunData) -> str:
    """Expected accuracy of random guessing among the options of next-step choices; empty where there are none."""
    shares = []
    for split in data.splits:
        sizes = [len(q.choices) for q in data.evaluated if q.split == split and q.kind == "next_choice"]
        shares += [f"{100 * sum(1 / size for size in sizes) / len(sizes):.0f}% on {split}"] if sizes else []
    return f"Random guessing among the options of next_choice scores {', '.join(shares)}." if shares else ""


def accuracy_chart(data: RunData) -> list[Drawing]:
    """Accuracy against tokens on the first split."""
    dots = {}
    for student in data.students:
        accuracy, tokens = (data.find(student, data.first, metric) for metric in ("accuracy", "tokens_mean"))
        if accuracy and tokens:
            tip = f"{percent(accuracy)}, {plain(tokens)} tokens"
            rows = [row for key, row in data.by_key.items() if key[:4] == (*student, data.first, ALL)]
            budgets = sorted((budget, row.value) for row in rows if (budget := budget_of(row.metric)) is not None)
            shown = TokenPoint(tokens.value, accuracy.interval, tip, _fill(data, student), budgets)
            dots[data.name(student)] = shown
    return [token_chart(dots, name=f"Accuracy and tokens on {data.first}")] if dots else []


def _headline(data: RunData) -> list[Block]:
    table = accuracy_table(data)
    if not table:
        return [no_metrics(data)]
    which = "next-step questions, with options and open" if headline_kind(data) == NEXT else "all questions"
    clustered = "; questions about one clip are counted as one cluster" if data.has_frames else ""
    gap = gap_sentence(data)
    return [
        words(
            f"Accuracy on {which}. Brackets hold the 95% interval{clustered}. What cannot be parsed, was cut off by "
            "the cap on tokens, or was never answered, is wrong."
        ),
        *tables(table),
        *note(chance_sentence(data)),
        *sentences([*findings(data), *savings(data), *([(gap, "")] if gap else [])]),
    ]


SECTIONS = (
    Section("headline", "Headline", "How many answers are right?", _headline),
    Section(
        "cost", "Cost and form", "How the answers are given, and at what cost",
        lambda data: [*tables(quality_tables(data)), *charts(accuracy_chart(data)), *note(_BUDGETS)],
        "Tokens are those that a student generates; for an arm that answers first, generation stops after the answer. "
        "Each number is over all questions, or over those of the kinds that it can be measured on.",
        applies=lambda data: bool(quality_tables(data)), needs="answers that were measured",
    ),
)  # fmt: skip
