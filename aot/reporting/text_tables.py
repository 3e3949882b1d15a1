"""The result tables of a text run's report: one row for each arm, and what the comparisons say in words."""

from collections.abc import Iterable
from dataclasses import replace

from aot.evaluation.groups import ALL, MIDDLE
from aot.evaluation.spending import budget_of
from aot.records import THOUGHT_MODES
from aot.reporting.charts import Drawing
from aot.reporting.numbers import cut_share, percent, plain, points
from aot.reporting.tables import Cell, PairedRow, Sentence, roles
from aot.reporting.text_results import (
    CHAINS,
    Grid,
    GridRow,
    Results,
    Student,
    cell_of,
    lookup,
    metric_grid,
    students_grid,
)
from aot.reporting.token_chart import TokenPoint, token_chart

STEP_METRICS = {
    "chains_with_wrong_step": "chains with a wrong step",
    "wrong_answers_after_wrong_step": "wrong answers with a wrong step",
    "wrong_answers_from_wrong_step": "wrong answers whose wrong step goes on",
    "right_answers_with_wrong_step": "right answers with a wrong step",
}
ANSWER_METRICS = {
    "accuracy": "accuracy",
    "truncated_rate": "cut off by the cap",
    "tokens_mean": "tokens of a reply",
    "tokens_per_correct": "tokens per right answer",
    "unparsable_rate": "unparsable",
    "failed_rate": "failed",
}
TRANSFER = (
    ("accuracy", "accuracy"),
    ("truncated_rate", "cut off by the cap"),
    ("accuracy_gap_vs_{first}", "gap to {first}"),
    ("tokens_mean", "tokens of a reply"),
)
_SENSES = {"exact": "numbers as they are", "template": "every number alike"}


def answer_grid(results: Results) -> Grid | None:
    """Accuracy with a bar, tokens and unreadable replies of every student on the first split."""
    return metric_grid(results, "", list(ANSWER_METRICS.items()), split=results.first, bars=True)


def transfer_grids(results: Results) -> list[Grid]:
    """Students over splits: accuracy, its gap to the first split, and tokens."""
    grids = []
    for metric, title in TRANSFER:
        name, heading = metric.format(first=results.first), title.format(first=results.first)
        splits = [split for split in results.splits if any(key[2] == split and key[4] == name for key in results.rows)]
        lookups = [(split, lookup(results, split, name)) for split in splits]
        grids.append(students_grid(results, heading, lookups))
    return [grid for grid in grids if grid]


def kind_grids(results: Results) -> list[Grid]:
    """For each split: kinds, categories and numbers of steps over students."""
    grids = []
    for split in results.splits:
        kinds = list(dict.fromkeys(key[3] for key in results.rows if key[2] == split and key[4] == "accuracy"))
        students = [student for student in results.students if results.find(student, split, "accuracy")]
        rows = []
        for kind in kinds:
            found = [_accuracy_cell(results, student, split, kind) for student in students]
            rows.append(GridRow(kind, "", tuple(found), kind in (ALL, MIDDLE)))
        grids.append(Grid(split, "kind", tuple(map(results.name, students)), tuple(rows)))
    return grids


def _accuracy_cell(results: Results, student: Student, split: str, kind: str) -> Cell | None:
    """An accuracy, and beside it the share of cut replies where there are any."""
    cell = cell_of(results.find(student, split, "accuracy", kind=kind))
    cut = results.find(student, split, "truncated_rate", kind=kind)
    return replace(cell, text=cell.text + cut_share(cut)) if cell and cut and cut.value else cell


def step_grids(results: Results) -> list[Grid]:
    """For each split, what the equations of the chains show."""
    grids = [metric_grid(results, split, list(STEP_METRICS.items()), split=split) for split in results.splits]
    return [grid for grid in grids if grid]


def memorisation_grids(results: Results, split: str) -> list[Grid]:
    """In both senses of distance: accuracy by distance, and the correlation, on one split."""
    grids = []
    for sense, words in _SENSES.items():
        start = f"accuracy_at_{sense}_distance_"
        bins = sorted({key[4] for key in results.rows if key[2] == split and key[4].startswith(start)})
        columns = [(metric, f"distance {metric.removeprefix(start)}") for metric in bins]
        columns.append((f"{sense}_distance_correlation", "rank correlation"))
        grids.append(metric_grid(results, f"{split}: {words}", columns, split=split))
    return [grid for grid in grids if grid]


def choice_grids(results: Results) -> list[Grid]:
    """For each adaptive student on the first split: which way it chose, by number of steps."""
    grids = []
    metrics = [(f"share_{way}", f"chose {way}") for way in THOUGHT_MODES]
    metrics += [(f"accuracy_when_{way}", f"right when {way}") for way in THOUGHT_MODES]
    metrics += [("choice_probability", "probability of the choice"), ("choice_ece", "calibration error")]
    for student in results.students:
        keys = [key for key in results.rows if key[:3] == (*student, results.first) and key[4] == "share_direct"]
        rows = []
        for kind in (key[3] for key in keys):
            found = [results.find(student, results.first, metric, kind=kind) for metric, _ in metrics]
            rows.append(GridRow(kind, "", tuple(cell_of(row) for row in found), kind == ALL))
        if rows:
            columns = tuple(name for _, name in metrics)
            grids.append(Grid(f"{results.name(student)} on {results.first}", "questions", columns, tuple(rows)))
    return grids


def structure_grid(results: Results) -> Grid | None:
    """Arms that learned damaged chains, beside the arms with sound chains and with none, over splits."""
    arms = results.config.train.arms
    damaged = [arm for arm in arms if arm.chains in CHAINS]
    orders = {arm.order for arm in damaged}
    whole = [arm for arm in arms if arm.chains == "kept" and arm.chain_share == 1 and arm.tuning == "lora"]
    sound = [arm for arm in whole if arm.order in orders]
    plain_answers = [arm for arm in whole if arm.order == "answers_only"]
    shown = [arm.name for arm in (*sound, *damaged, *plain_answers)]
    lookups = [(split, lookup(results, split, "accuracy")) for split in results.splits]
    for arm in sound:
        metric = f"accuracy_difference_vs_{arm.name}"
        lookups.append((f"against {arm.name}, {results.first}", lookup(results, results.first, metric)))
    return students_grid(results, "", lookups, only=shown) if damaged else None


def text_paired_rows(results: Results) -> list[PairedRow]:
    """Paired differences over all questions and over those of 3 and 4 steps; the main arm on the first split leads."""
    main, rows = roles(results.data.learning, results.config).main, []
    for row in results.data.metrics:
        if row.metric.startswith("accuracy_difference_vs_") and row.kind in (ALL, MIDDLE):
            verdict = "better" if row.low > 0 else "worse" if row.high < 0 else "open"
            important = row.split == results.first and (row.arm == main or results.order(row.arm) == "adaptive")
            first = results.name((row.arm, row.mode))
            second = results.shown(row.metric.removeprefix("accuracy_difference_vs_"))
            rows.append(PairedRow(row.split, row.kind, first, second, points(row), verdict, row.note, important))
    return rows


def text_sentences(results: Results) -> list[Sentence]:
    """What thinking first brings on problems of several steps, and what choosing saves, whichever way it came out."""
    role, found = roles(results.data.learning, results.config), []
    main = results.student(role.main) if role.main else None
    for kind, where in ((MIDDLE, "problems of 3 and 4 steps"), (ALL, "all questions")):
        row = main and results.find(main, results.first, f"accuracy_difference_vs_{role.control}", kind=kind)
        if row:
            text = f"{results.first}, {where}: {row.arm} minus {role.control}: {points(row)}."
            found.append(Sentence(text, row.note))
    for student in results.students:
        if results.order(student[0]) == "adaptive":
            found += _savings(results, student)
    return found


def accuracy_chart(results: Results) -> Drawing | None:
    """Accuracy against tokens on the first split."""
    dots, lines, colors = {}, {}, {}
    for student in results.students:
        accuracy = results.find(student, results.first, "accuracy")
        tokens = results.find(student, results.first, "tokens_mean")
        if accuracy and tokens:
            name = results.name(student)
            tip = f"{percent(accuracy)}, {plain(tokens)} tokens"
            dots[name] = TokenPoint(tokens.value, accuracy.value, accuracy.low, accuracy.high, tip)
            lines[name] = _budget_line(results, student)
            colors[name] = results.fill(student)
    return token_chart(dots, lines, colors=colors, name=f"Accuracy and tokens on {results.first}") if dots else None


def _budget_line(results: Results, student: Student) -> list[tuple[float, float]]:
    found = {
        budget: row.value
        for key, row in results.rows.items()
        if key[:4] == (*student, results.first, ALL) and (budget := budget_of(key[4])) is not None
    }
    return sorted(found.items())


def _savings(results: Results, student: Student) -> Iterable[Sentence]:
    own = results.find(student, results.first, "tokens_mean")
    for arm in results.config.train.arms:
        row = results.find(student, results.first, f"accuracy_difference_vs_{arm.name}")
        other = results.student(arm.name)
        tokens = other and results.find(other, results.first, "tokens_mean")
        if row and own and tokens and arm.order in ("pre", "post"):
            times = own.value / tokens.value
            pair = f"{results.shown(row.arm)} minus {results.shown(arm.name)}"
            text = f"{results.first}: {pair}: {points(row)}, with {times:.2f} times its tokens."
            yield Sentence(text, row.note)
