"""Accuracy by split, by kind of question, by distance to training, and in paired tests."""

from itertools import product

from aot.evaluation.groups import ALL, MIDDLE, NEXT
from aot.evaluation.memorisation import SENSES
from aot.reporting.load import RunData, Student
from aot.reporting.numbers import points
from aot.reporting.pivot import Cell, Heading, Pivot, cell_of, pivot, word_table
from aot.reporting.sections import Block, Section, no_metrics, note, open_tables, tables, words
from aot.reporting.sections.headline import headline_kind, metric_table, students

_BY_SPLIT = {
    "accuracy_gap_vs_{first}": "gap to {first}",
    "tokens_mean": "tokens of a reply",
}
_SENSES = {"exact": "numbers as they are", "template": "every number alike"}


def transfer_tables(data: RunData) -> list[Pivot]:
    """Students over splits: the gap to the first split, and tokens."""
    names = [(metric.format(first=data.first), title.format(first=data.first)) for metric, title in _BY_SPLIT.items()]
    return [table for metric, title in names for table in _split_table(data, title, metric)]


def _split_table(data: RunData, title: str, metric: str) -> list[Pivot]:
    columns, kinds = [Heading(split, split) for split in data.splits], (headline_kind(data), ALL)
    return pivot(
        title, students(data), columns, lambda student, split: cell_of(data.find(student, split, metric, *kinds))
    )


def kind_tables(data: RunData) -> list[Pivot]:
    """For each split: accuracy by kind and tag of question; the longer of the two stands in the rows."""
    tables = [table for split in data.splits for table in _kind_table(data, split)]
    return [table.turned("kind") if len(table.columns) > len(table.rows) else table for table in tables]


def _kind_table(data: RunData, split: str) -> list[Pivot]:
    kinds = dict.fromkeys(r.kind for r in data.metrics if r.split == split and r.metric == "accuracy")
    columns = [Heading(kind, kind, strong=kind in (ALL, NEXT, MIDDLE)) for kind in kinds]

    def accuracy(student: Student, kind: str) -> Cell | None:
        cut = data.find(student, split, "truncated_rate", kind)
        return cell_of(data.find(student, split, "accuracy", kind), cut=cut if cut and cut.value else None)

    return pivot(split, students(data), columns, accuracy)


def memorisation_tables(data: RunData) -> list[Pivot]:
    """For each split and sense of distance: accuracy by distance, and the correlation."""
    tables = []
    for split, sense in product(data.splits, SENSES):
        start = f"accuracy_at_{sense}_distance_"
        bins = sorted({r.metric for r in data.metrics if r.split == split and r.metric.startswith(start)})
        columns = {metric: f"distance {metric.removeprefix(start)}" for metric in bins}
        columns[f"{sense}_distance_correlation"] = "rank correlation"
        tables += metric_table(data, f"{split}: {_SENSES[sense]}", columns, split=split)
    return tables


def paired_blocks(data: RunData) -> list[Block]:
    """Paired differences; those of the main arm on the first split lead, with those of arms that choose."""
    lead = {data.learning.main, *(arm.name for arm in data.arms if arm.order == "adaptive")}
    rows: dict[bool, list[tuple[str | Cell, ...]]] = {True: [], False: []}
    for row in data.metrics:
        is_leading = row.split == data.first and row.arm in lead and row.kind in (headline_kind(data), MIDDLE)
        if "difference" in row.metric and row.kind in (ALL, NEXT, MIDDLE):
            verdict = "better" if row.low > 0 else "worse" if row.high < 0 else "open"
            other = row.metric.removeprefix("accuracy_difference_").removeprefix("vs_").replace("_vs_", " against ")
            first, second = data.name((row.arm, row.mode)), data.learning.shown(other)
            judged = Cell(verdict, verdict=verdict)  # type: ignore[arg-type]
            tests = Cell("", range=row.note)
            rows[is_leading].append((row.split, row.kind, first, second, points(row), judged, tests))
    columns = ("split", "kind", "first", "against", "difference in accuracy", "", "tests")
    both = [table for is_leading in (True, False) for table in word_table("", columns, rows[is_leading])]
    return [
        *tables(both, more=f"{len(rows[False])} more comparisons"),
        *note("The p-values are not corrected for multiple tests."),
    ]


def _transfer(data: RunData) -> list[Block]:
    by_split = transfer_tables(data)
    if not by_split:
        return [no_metrics(data)]
    return [
        words(
            f"A gap is the accuracy there minus that on {data.first}, whose questions are weighted so that they have "
            "the same kinds and numbers of steps, or the same kinds where those numbers do not occur in it; the "
            "questions differ, so it is no paired difference (Newcombe's interval)."
        ),
        *open_tables(by_split),
    ]


def _memorised(data: RunData) -> list[Block]:
    frames = " Frames are no part of it." if data.has_frames else ""
    return [
        words(
            "Accuracy by the distance of a question's words to the nearest one that the student learned from, for "
            "others to any training question (1 minus the Jaccard index of word triples), with numbers as they are and "
            f"with every number alike. A negative rank correlation means: right on what is near.{frames}"
        ),
        *tables(memorisation_tables(data), more="the other sense, and the other splits"),
    ]


SECTIONS = (
    Section(
        "transfer", "Out of distribution", "In and out of distribution", _transfer,
        applies=lambda data: len(data.splits) > 1, needs="several evaluated splits",
    ),
    Section("kinds", "By kind", "By kind of question", lambda data: tables(kind_tables(data)) or [no_metrics(data)]),
    Section(
        "paired", "Paired tests", "Paired tests on the same questions", paired_blocks,
        applies=lambda data: data.has_metric("accuracy_difference"), needs="two students with the same questions",
    ),
    Section(
        "memorised", "Memorisation", "Is it right on what it has seen the like of?", _memorised,
        applies=lambda data: data.has_metric("accuracy_at_"), needs="training questions to hold others against",
    ),
)  # fmt: skip
