"""How many answers are right: what comparisons say and answers cost, then by split, by kind and by distance."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from statistics import fmean

from aot.display import counted
from aot.evaluation.baselines import BASELINES
from aot.evaluation.groups import ALL, MIDDLE, NEXT, OPEN_BOOK
from aot.evaluation.memorisation import SENSES
from aot.evaluation.paired import seed_groups
from aot.evaluation.spending import budget_of, effort_of
from aot.records import MetricRow
from aot.reporting.charts import Drawing, TokenPoint, token_chart
from aot.reporting.load import RunData, Student
from aot.reporting.pivot import Cell, Heading, Pivot, Verdict, cell_of, percent, pivot, plain, points, short, word_table
from aot.reporting.sections import Block, Section, charts, no_metrics, note, open_tables, sentences, tables, words
from aot.reporting.sections.making import stage_seconds

MIN_GAP = 0.05
"""A smaller gap between the two bigrams is within their intervals, and a share of it would say nothing."""
GREY = "var(--grey)"
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
MAX_OPEN_ROWS = 12
"""More students than these do not stand open in the headline."""
_BUDGETS = (
    "Dashed lines show the accuracy under a limit on the tokens of a reply: a reply that needs more counts as wrong."
)
_SENSES = {"exact": "numbers as they are", "template": "all numbers treated alike"}
_QUALITY_KINDS = (ALL, NEXT, "when", "next_choice")
"""Of what a metric is looked up, in this order: not every one is measured on all questions."""


HEADS = {
    OPEN_BOOK: "open-book questions, about recipe cards that no training question shows",
    NEXT: "next-step questions, with options and open",
    ALL: "all questions",
}
"""What the headline may be about, in words, the first that was asked for before the others."""


def headline_kinds(data: RunData) -> list[str]:
    """Those of HEADS that were asked; `all` only where none of the others was."""
    kinds = {row.kind for row in data.metrics}
    return [kind for kind in HEADS if kind in kinds and kind != ALL] or [ALL]


def headline_kind(data: RunData) -> str:
    """The kind of questions that comes first."""
    return headline_kinds(data)[0]


def arm_about(data: RunData, kind: str) -> str | None:
    """The arm that a verdict about these questions is about: where a book answers them, one that can look it up."""
    return (data.learning.actor if kind == OPEN_BOOK else None) or data.learning.lead


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


def accuracy_table(data: RunData, kind: str = "") -> list[Pivot]:
    """Students over splits: accuracy on questions of this kind, or of the headline's, with the share of cut replies.

    What answers questions with options only, such as the likeliest choice, is measured on these.
    """
    kind = kind or headline_kind(data)
    kinds = (kind, *(["next_choice"] if kind != OPEN_BOOK else []))

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


def _times(data: RunData) -> list[Block]:
    """How long students took for a question, and the stages and the teacher of the run."""
    seconds = defaultdict(list)
    for said in data.predictions:
        if said.latency_s:
            seconds[said.arm, said.mode].append(said.latency_s)
    rows = [
        (row.label, f"{1000 * fmean(seconds[row.key]):,.0f} ms", f"{len(seconds[row.key]):,}")
        for row in students(data)
        if row.key in seconds
    ]
    stages, each = stage_seconds(data.provenance), data.teacher.get("seconds_per_verified_trace")
    teacher = f" The teacher took {short(each)} s per trace with the right answer." if stages and each else ""
    title = "Time per question, answered in batches on the machine of the run"
    return [*tables(word_table(title, ("who", "mean time", "questions"), rows)), *note(stages + teacher)]


def findings(data: RunData) -> Iterator[tuple[str, str]]:
    """What the comparisons of the main arm say, whichever way they came out; each with its tests."""
    names = {data.learning.control: "learning from answers only", "base": "the untrained base"}
    first, *others = headline_kinds(data)
    places = [
        (data.first, MIDDLE, ", questions of 3 and 4 steps"),
        *((s, first, "") for s in data.splits),
        *((s, kind, f", {HEADS[kind]}") for kind in others for s in data.splits),
    ]
    for split, kind, where in places:
        main = data.student(arm_about(data, kind)) if data.learning.main else None
        for control, name in names.items():
            row = main and control and data.find(main, split, f"accuracy_difference_vs_{control}", kind)
            if row:
                yield f"{split}{where}: {_judge(row, f'{name} ({control})')}", row.note


def _judge(row: MetricRow, against: str) -> str:
    if (verdict := judged(row)) != "open":
        return f"{row.arm} is {verdict} than {against}: {points(row)}."
    return f"no significant difference between {row.arm} and {against}: {points(row)}. {ruled_out(row)}"


def judged(row: MetricRow) -> Verdict:
    """Whether the interval of a difference lies above zero, below it, or holds it."""
    return "better" if row.low > 0 else "worse" if row.high < 0 else "open"


def ruled_out(row: MetricRow) -> str:
    """What a difference that is not significant still excludes."""
    gain, loss = 100 * row.high, abs(100 * row.low)
    if round(gain) == round(loss) > 0:
        return f"With n={row.n}, only differences of more than about {gain:.0f} points can be ruled out."
    gains, losses = (
        f"a {name} of more than {size:.1f}{unit}" if size >= 0.05 else f"any {name}"
        for name, size, unit in (("gain", gain, " points"), ("loss", loss, "" if gain >= 0.05 else " points"))
    )
    return f"With n={row.n}, only {gains} and {losses} can be ruled out."


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
            shown = TokenPoint(tokens.value, accuracy.interval, tip, _fill(data, student), budgets, _efforts(rows))
            dots[data.name(student)] = shown
    return [token_chart(dots, name=f"Accuracy and tokens on {data.first}")] if dots else []


def _efforts(rows: Sequence[MetricRow]) -> list[tuple[float, float]]:
    """Tokens and accuracy of an adaptive student at each effort, in order; none of another one."""
    values = {row.metric: row.value for row in rows}
    at_efforts = sorted(
        (effort, value) for metric, value in values.items() if (effort := effort_of(metric)) is not None
    )
    return [(values[f"tokens_at_effort_{effort:.2f}"], value) for effort, value in at_efforts]


def _headline(data: RunData) -> list[Block]:
    which, *others = headline_kinds(data)
    first = _in_two(data, which)
    if not first:
        return [no_metrics(data)]
    clustered = "; questions about one clip count as one cluster" if data.has_frames else ""
    gap = gap_sentence(data)
    return [
        words(
            f"Accuracy on {HEADS[which]}. Brackets hold the 95% interval{clustered}. An answer that cannot be read, "
            "that the limit on tokens cut off, or that was never given counts as wrong. Each arm is one way of "
            "training the same base; the highlighted one learned from the teacher's rationales."
        ),
        *first,
        *(block for kind in others for block in (words(f"Accuracy on {HEADS[kind]}."), *_in_two(data, kind))),
        *note(chance_sentence(data)),
        *sentences(
            [*findings(data), *savings(data), *([(gap, "")] if gap else [])],
            fold="What the comparisons say, with their tests",
        ),
    ]


def _in_two(data: RunData, kind: str) -> list[Block]:
    """The accuracies of base, arms and teacher in their main mode, and all others folded away."""
    firsts = [data.student(name) for name in ("base", *(arm.name for arm in data.arms), "teacher")]
    table = accuracy_table(data, kind)
    places = {True: list[int](), False: list[int]()}
    for place, row in enumerate(table[0].rows if table else ()):
        places[row.key in firsts[-MAX_OPEN_ROWS:]].append(place)
    both = [table[0].of_rows(chosen) for chosen in places.values() if chosen]
    return tables(both, more=f"{counted(len(places[False]), 'more row')}: other ways to answer, baselines, controls")


def transfer_tables(data: RunData) -> list[Pivot]:
    """Students over splits: the gap to the first split, and tokens."""
    names = {f"accuracy_gap_vs_{data.first}": f"gap to {data.first}", "tokens_mean": "tokens of a reply"}
    columns, kinds = [Heading(split, split) for split in data.splits], (headline_kind(data), ALL)

    def table(metric: str, title: str) -> list[Pivot]:
        return pivot(title, students(data), columns, lambda one, split: cell_of(data.find(one, split, metric, *kinds)))

    return [one for metric, title in names.items() for one in table(metric, title)]


def kind_tables(data: RunData) -> list[Pivot]:
    """For each split: accuracy by kind and tag of question; the longer of the two stands in the rows."""
    tables = [table for split in data.splits for table in _kind_table(data, split)]
    return [table.turned("kind") if len(table.columns) > len(table.rows) else table for table in tables]


def _kind_table(data: RunData, split: str) -> list[Pivot]:
    kinds = dict.fromkeys(r.kind for r in data.metrics if r.split == split and r.metric == "accuracy")
    columns = [Heading(kind, kind, strong=kind in (ALL, OPEN_BOOK, NEXT, MIDDLE)) for kind in kinds]

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
        if "difference" in row.metric and row.kind in (ALL, OPEN_BOOK, NEXT, MIDDLE):
            verdict = judged(row)
            other = row.metric.removeprefix("accuracy_difference_").removeprefix("vs_").replace("_vs_", " against ")
            first, second = data.name((row.arm, row.mode)), data.learning.shown(other)
            chip = Cell(verdict, verdict=verdict)
            tests = Cell("", range=row.note)
            rows[is_leading].append((row.split, row.kind, first, second, points(row), chip, tests))
    columns = ("split", "kind", "first", "against", "difference in accuracy", "", "tests")
    both = [table for is_leading in (True, False) for table in word_table("", columns, rows[is_leading])]
    return [
        *tables(both, more=f"{len(rows[False])} more comparisons"),
        *note("The p-values are not corrected for multiple tests."),
    ]


def study_tables(data: RunData) -> list[Pivot]:
    """For each split: what arms that differ in their seed only reach together, and against what they are held."""
    groups = seed_groups(data.arms)
    rows = [row for row in students(data) if row.key[0] in groups]
    start = "accuracy_difference_vs_"
    others = dict.fromkeys(row.metric for row in data.metrics if row.arm in groups and row.metric.startswith(start))
    columns = [Heading("accuracy", "accuracy"), Heading("tokens_mean", "tokens of a reply")]
    columns += [Heading(metric, f"against {metric.removeprefix(start)}") for metric in others]
    kind = headline_kind(data)

    def table(split: str) -> list[Pivot]:
        return pivot(split, rows, columns, lambda who, metric: cell_of(data.find(who, split, metric, kind)))

    return [one for split in data.splits for one in table(split)]


def _transfer(data: RunData) -> list[Block]:
    by_split = transfer_tables(data)
    if not by_split:
        return [no_metrics(data)]
    return [
        words(
            f"The gap of a split is its accuracy minus that on {data.first}, whose questions are weighted to have the "
            "same mix of kinds and numbers of steps, or of kinds alone where those numbers do not occur in it. The "
            "questions differ, so this is not a paired difference; the interval is Newcombe's."
        ),
        *open_tables(by_split),
    ]


def _memorised(data: RunData) -> list[Block]:
    frames = " Frames play no part in it." if data.has_frames else ""
    return [
        words(
            "Accuracy by how far the words of a question are from the nearest question that the student learned from; "
            "for the base and the teacher, from any training question. Distance is 1 minus the Jaccard index of word "
            f"triples, with the numbers as they are and with all numbers treated alike.{frames}"
        ),
        *tables(memorisation_tables(data), more="the other sense, and the other splits"),
    ]


HEADLINE = Section("headline", "Headline", "How many answers are right?", _headline)
SECTIONS = (
    Section(
        "study", "Over seeds", "Arms over all their seeds", lambda data: open_tables(study_tables(data)),
        "Arms that differ only in their seed, taken together: a question counts with its mean over the seeds. "
        "Differences are paired by question. The 95% intervals say how far a number would move with other questions, "
        "not with other seeds; the result of each seed is in the other tables.",
        applies=lambda data: bool(study_tables(data)),
    ),
    Section(
        "cost", "Tokens and time", "Tokens, time and form of the answers",
        lambda data: [*tables(quality_tables(data)), *charts(accuracy_chart(data)), *note(_BUDGETS), *_times(data)],
        "Tokens are those that a student generates; for an arm that answers first, generation stops after the answer. "
        "Each number is over all questions, or over those of the kinds that it can be measured on.",
        applies=lambda data: bool(quality_tables(data)), needs="answers that were measured",
    ),
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
        "memorised", "Memorisation", "Are answers right more often close to the training questions?", _memorised,
        applies=lambda data: data.has_metric("accuracy_at_"), needs="training questions to hold others against",
    ),
)  # fmt: skip
