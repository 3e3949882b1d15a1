"""What the chains of students show: which way they chose, whether steps are right, and what was learned from chains."""

from collections.abc import Sequence
from dataclasses import replace

from aot.config import ArmConfig
from aot.evaluation.groups import ALL
from aot.evaluation.intervals import ratio_of_shares
from aot.files.run_folder import ROUNDS
from aot.records import THOUGHT_MODES, MetricRow
from aot.reporting.load import RunData, Student, read_file
from aot.reporting.pivot import Heading, Pivot, cell_of, percent, pivot, word_table
from aot.reporting.sections import Section, note, tables
from aot.reporting.sections.accuracy import metric_table, students
from aot.reporting.students import DAMAGED
from aot.run_records import Round

ROUND_COLUMNS = (
    "round", "chains used", "of the teacher", "of its own", "replies sampled", "new chains found", "accuracy",
    "cut off by the cap", "share of the full accuracy",
)  # fmt: skip
STEPS = {
    "chains_with_wrong_step": "chains with a wrong step",
    "wrong_answers_after_wrong_step": "wrong answers with a wrong step",
    "wrong_answers_from_wrong_step": "wrong answers that use the wrong step",
    "right_answers_with_wrong_step": "right answers with a wrong step",
}
CHOICES = {
    **{f"share_{way}": f"chose {way}" for way in THOUGHT_MODES},
    **{f"accuracy_when_{way}": f"right when {way}" for way in THOUGHT_MODES},
    "choice_probability": "probability of the choice",
    "choice_ece": "calibration error",
}


def choice_tables(data: RunData) -> list[Pivot]:
    """For each student that chooses how to answer, on the first split: which way it chose, by number of steps."""
    return [table for student in data.students for table in _choice_table(data, student)]


def _choice_table(data: RunData, student: Student) -> list[Pivot]:
    rows = [r for r in data.metrics if (r.arm, r.mode, r.split) == (*student, data.first)]
    kinds = [Heading(r.kind, r.kind, strong=r.kind == ALL) for r in rows if r.metric == "share_direct"]
    return pivot(
        f"{data.name(student)} on {data.first}", kinds, [Heading(metric, name) for metric, name in CHOICES.items()],
        lambda kind, metric: cell_of(data.find(student, data.first, metric, kind)), corner="questions",
    )  # fmt: skip


def step_tables(data: RunData) -> list[Pivot]:
    """For each split, what the equations of the chains show."""
    return [table for split in data.splits for table in metric_table(data, split, STEPS, split=split)]


def structure_table(data: RunData) -> list[Pivot]:
    """Arms that learned damaged chains, beside the arms with sound chains and with none, over splits."""
    damaged = [arm for arm in data.arms if arm.chains in DAMAGED]
    whole = [a for a in data.arms if a.chains == "kept" and a.chain_share == 1 and a.tuning == "lora"]
    sound = [a for a in whole if a.learns_rationales and a.order in {d.order for d in damaged}]
    shown = [arm.name for arm in (*sound, *damaged, *(a for a in whole if not a.learns_rationales))]
    rows = [replace(row, what=data.learning.what(row.key[0])) for row in students(data)]
    rows = [row for row in rows if row.key[0] in shown and row.key == data.student(row.key[0])]
    columns = [Heading((split, "accuracy"), split) for split in data.splits]
    columns += [
        Heading((data.first, f"accuracy_difference_vs_{arm.name}"), f"against {arm.name}, {data.first}")
        for arm in sound
    ]
    return pivot("", rows, columns, lambda student, key: cell_of(data.find(student, *key))) if damaged else []


def round_tables(data: RunData) -> list[tuple[Pivot, str]]:
    """For each arm with a rounds.json: chains used, accuracy, its share of what all the teacher's chains give; a note.

    Raises:
        SourceError: a rounds.json is no list of rounds.
    """
    tables_with_notes = []
    for arm in data.arms:
        path = data.run.arm(arm.name) / ROUNDS
        rows = read_file(path, list[Round], remedy="delete it and train the arm again") if path.exists() else []
        full = _full_accuracy(data, arm, rows[0].split) if rows else None
        lines = [_round_line(row, full, is_last=row is rows[-1]) for row in rows]
        tables_with_notes += [(table, _round_note(full)) for table in word_table(arm.name, ROUND_COLUMNS, lines)]
    return tables_with_notes


def _round_note(full: MetricRow | None) -> str:
    if full is None:
        return "No arm of this run learns all of the teacher's chains in this way."
    return (
        f"{full.arm}, which learns all of the teacher's chains, reaches {percent(full)} on {full.split}. The share is "
        "the ratio of the two accuracies, with the interval of Donner and Zou (2012), which takes them as independent."
    )


def _round_line(row: Round, full: MetricRow | None, *, is_last: bool) -> Sequence[str]:
    name = "final student" if is_last and row.sampled == 0 else str(row.round)
    counts = (row.teacher_chains + row.own_chains, row.teacher_chains, row.own_chains, row.sampled, row.new_chains)
    share = ratio_of_shares(row.interval, full.interval) if full else None
    cut = "not known" if row.truncated_rate is None else f"{row.truncated_rate:.1%}"
    shares = (percent(row.interval), cut, percent(share) if share else "not known")
    return (name, *(f"{count:,}" for count in counts), *shares)


def _full_accuracy(data: RunData, like: ArmConfig, split: str) -> MetricRow | None:
    """The accuracy of the arm that thinks first and learns all of the teacher's kept chains, otherwise like `like`."""
    wanted = ("pre", "kept", 1, like.tuning, like.seed)
    full = (a.name for a in data.arms if (a.order, a.chains, a.chain_share, a.tuning, a.seed) == wanted)
    student = data.student(next(full, None))
    return data.find(student, split, "accuracy") if student else None


SECTIONS = (
    Section(
        "choices", "Choices", "What the adaptive student chooses",
        lambda data: tables(choice_tables(data), more="the other students"),
        "The first line of its reply names the way it chose. The calibration error compares its probability that this "
        "way, or a shorter one, is enough with how often the answer was right, over the replies that chose a shorter "
        "way than all steps.",
        applies=lambda data: data.has_metric("share_"), needs="a student that chooses how to answer",
    ),
    Section(
        "steps", "Steps", "Are the steps right?", lambda data: tables(step_tables(data)),
        "Every readable equation of a reply is recomputed. A wrong step is used if a later equation needs its result, "
        "or if it is the answer. Missing steps, and true ones that do not help, are not noticed. Only replies with a "
        "readable equation count: n is all of them in the first column, those with a wrong answer in the next two, and "
        "those with a right answer in the last.",
        applies=lambda data: data.has_metric("chains_with_wrong_step"), needs="replies with readable equations",
    ),
    Section(
        "rounds", "Own chains", "Chains that the student wrote itself",
        lambda data: [block for table, text in round_tables(data) for block in (*tables([table]), *note(text))],
        applies=lambda data: any((data.run.arm(arm.name) / ROUNDS).exists() for arm in data.arms),
        needs="an arm that writes its own chains",
    ),
    Section(
        "structure", "Structure and content", "Structure against content", lambda data: tables(structure_table(data)),
        "Same questions and same number of training steps; only the chains were damaged.",
        applies=lambda data: bool(structure_table(data)), needs="an arm that learns damaged chains",
    ),
)  # fmt: skip
