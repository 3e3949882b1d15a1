"""What `aot compare` says: two finished runs, or two arms of one, on the questions that both were asked.

A question is in common if it has the same id, text, gold answer, answer type and choices in both runs and both arms
answered it; the others are left out and counted by reason. Reads run folders and changes nothing.
"""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from aot.answer_records import Flip, GroupResult, LeftOut, RunComparison, SideFacts
from aot.config import ArmConfig, RunConfig, load_saved
from aot.display import one_line
from aot.errors import ConfigError, RunError, SourceError, first_problem
from aot.evaluation.comparison import compare_answers
from aot.evaluation.groups import MODES, Graded
from aot.evaluation.intervals import Bootstrap
from aot.evaluation.paired import format_p
from aot.evaluation.scoring import score
from aot.files.run_folder import TRAINING, RunFolder, read_rows, read_run_json
from aot.files.seals import check_seals, read_seals
from aot.pipeline.evaluate import read_predictions
from aot.records import Interval, Prediction, Question
from aot.reporting.students import read_learning, training_facts

TEXT_WIDTH = 100
GROUP_COLUMNS: tuple[str, ...] = (
    "split", "kind", "n", "A %", "B %", "B - A, points", "lost", "won", "McNemar", "by cluster",
)  # fmt: skip
MODES_DIFFER = "the modes differ: A answered in {}, B in {}; name others with --arm NAME:MODE --arm-b NAME:MODE"
DIFFERENT = "another text, gold answer, answer type or choices under the same id"


@dataclass(frozen=True)
class _Answered:
    """An evaluated run folder."""

    run: RunFolder
    config: RunConfig
    predictions: list[Prediction]

    @property
    def modes(self) -> dict[str, list[str]]:
        """Arm to the modes that it answered in, in the order of MODES."""
        there = sorted({(row.arm, row.mode) for row in self.predictions}, key=lambda key: (key[0], MODES.index(key[1])))
        return {arm: [mode for name, mode in there if name == arm] for arm, _ in there}


class _Side(NamedTuple):
    facts: SideFacts
    questions: dict[str, Question]
    answers: dict[str, Prediction]


def compare_runs(before: Path, after: Path, *, arm: str | None = None, arm_b: str | None = None) -> RunComparison:
    """The comparison of an arm of one run with an arm of another, or of the same run.

    Args:
        before: First run folder.
        after: Second run folder; may be the same.
        arm: Name of the arm in the first run, or NAME:MODE; None takes the run's main arm. A mode that is not named
            is the other side's where the arm has it, of two unnamed ones the first in which both wrote replies, or
            else the first of each.
        arm_b: The same for the second run; None takes the arm of the first if it is there, else the main arm.

    Raises:
        RunError: a folder is no evaluated run, or its files are damaged.
        ConfigError: an arm is unknown, or both sides are the same.
        SourceError: the two have no question in common.
    """
    a, b = _load(before), _load(after)
    name_a, mode_a = _choose(a, arm, like="")
    name_b, mode_b = _choose(b, arm_b, like=name_a)
    modes_a, modes_b = a.modes[name_a], b.modes[name_b]
    itself = name_a == name_b and before.resolve() == after.resolve()  # then another mode is what is wanted
    same = [m for m in modes_a if m in modes_b and mode_a in ("", m) and mode_b in ("", m) and not itself]
    if same == ["likelihood"] and "likelihood" not in (mode_a, mode_b, modes_a[0], modes_b[0]):
        same = []  # nobody wrote there; each was trained to write in a way of its own
    first = _side(a, name_a, mode_a or (same or modes_a)[0])
    second = _side(b, name_b, mode_b or (same or modes_b)[0])
    if before.resolve() == after.resolve() and first.facts == second.facts:
        raise ConfigError(f"both sides are {_named(first.facts)}; give another arm with --arm-b, or another run")
    common, left_out = _in_common(first, second)
    if not common:
        reasons = "; ".join(f"{row.count} {row.reason}" for row in left_out)
        raise SourceError(
            f"{before} and {after} have no question in common ({reasons}); compare runs over the same data"
        )
    bootstrap = Bootstrap(a.config.evaluate.bootstrap_samples, a.config.seed)
    sides = ([Graded(s.answers[q.id], score(s.answers[q.id], q)) for q in common] for s in (first, second))
    return RunComparison(
        before=first.facts,
        after=second.facts,
        common=len(common),
        left_out=left_out,
        result=compare_answers(common, *sides, bootstrap=bootstrap),
        note="" if same or itself or (mode_a and mode_b) else MODES_DIFFER.format(first.facts.mode, second.facts.mode),
    )


def comparison_lines(comparison: RunComparison) -> list[str]:
    """A comparison as text tables for the terminal."""
    result, before, after = comparison.result, comparison.before, comparison.after
    lines = [f"A: {_named(before)}", f"B: {_named(after)}", f"questions in common: {comparison.common}"]
    lines += [f"note: {comparison.note}"] if comparison.note else []
    lines += [f"  left out: {row.count} {row.reason}" for row in comparison.left_out]
    groups = [GROUP_COLUMNS, *(_group_line(group) for group in result.groups)]
    costs = [("cost", "A", "B"), *_cost_lines(comparison)]
    lines += ["", *_aligned(groups), "", *_aligned(costs)]
    for name, flips, count in (
        ("right in A, wrong in B", result.right_to_wrong, result.groups[0].right_to_wrong),
        ("wrong in A, right in B", result.wrong_to_right, result.groups[0].wrong_to_right),
    ):
        lines += ["", f"{name}: {count}" + (f", the first {len(flips)}:" if flips else "")]
        lines += [_flip_line(flip) for flip in flips]
    return lines


def comparison_page(comparison: RunComparison, out: Path) -> None:
    """Write the comparison with the frames of each flip to `out`, as one file of HTML.

    Raises:
        ConfigError: jinja2 or pillow is not installed.
        RunError: the file cannot be written.
    """
    from aot.pipeline.stages import pictures
    from aot.reporting.flips import write_flips

    run = RunFolder(Path(comparison.before.run))
    groups = [GROUP_COLUMNS, *(_group_line(group) for group in comparison.result.groups)]
    costs = [("cost", "A", "B"), *_cost_lines(comparison)]
    sides = _named(comparison.before), _named(comparison.after)
    write_flips(out, comparison, run, sides=sides, tables=[groups, costs], frames=pictures(run))


def _load(root: Path) -> _Answered:
    run = RunFolder(root)
    if not run.config.is_file() or not run.questions.is_file():
        raise RunError(
            f"{root} is no run folder (no config.yaml or questions.jsonl); give one such as runs/toy_kitchen"
        )
    config = load_saved(run.config)
    if run.run_json.is_file():
        check_seals(run, ("prepare", "evaluate"))
        _require_predictions(run)
    predictions = list(read_predictions(run))
    if not predictions:
        raise RunError(f"{root} has no predictions yet; finish it with `aot run CONFIG` first")
    return _Answered(run, config, predictions)


def _require_predictions(run: RunFolder) -> None:
    """Return if every file of predictions that was published is still there, or else raise RunError."""
    sealed = [run.root / name for name in read_seals(run, "evaluate")]
    if gone := [path for path in sealed if path.parent == run.predictions and not path.is_file()]:
        raise RunError(
            f"{', '.join(map(str, gone))} was published and is gone; put it back, or give the `aot run CONFIG` of "
            f"{run.root} again, which answers anew"
        )


def _choose(side: _Answered, wanted: str | None, *, like: str) -> tuple[str, str]:
    """Arm and mode, empty if not named, of NAME or NAME:MODE; None takes the arm `like` if it is there, or the main."""
    modes, root = side.modes, side.run.root
    if wanted is None and like in modes:
        return like, ""
    learning = read_learning(side.run, side.config.train.arms)
    name, _, mode = (wanted or learning.main or learning.control or "").partition(":")
    if name not in modes:
        near = difflib.get_close_matches(name, modes, n=1, cutoff=0.0)
        raise ConfigError(f"{root} has no answers of arm {name!r}; did you mean {near[0]!r}? known: {', '.join(modes)}")
    if mode and mode not in modes[name]:
        answered = ", ".join(modes[name])
        raise ConfigError(f"{root}: arm {name!r} did not answer in mode {mode!r}; its modes are {answered}")
    return name, mode


def _side(side: _Answered, name: str, mode: str) -> _Side:
    questions = read_rows(side.run.questions, Question)
    return _Side(
        facts=_facts(side.run, side.config.train.arms, name, mode),
        questions={q.id: q for q in questions if q.split in side.config.evaluate.splits},
        answers={row.question_id: row for row in side.predictions if (row.arm, row.mode) == (name, mode)},
    )


def _in_common(first: _Side, second: _Side) -> tuple[list[Question], tuple[LeftOut, ...]]:
    reasons: Counter[str] = Counter()
    common = []
    for question_id in sorted(first.questions.keys() | second.questions.keys()):
        one, other = first.questions.get(question_id), second.questions.get(question_id)
        if one is None or other is None:
            reasons["only in B" if one is None else "only in A"] += 1
        elif _wording(one) != _wording(other):
            reasons[DIFFERENT] += 1
        elif question_id not in first.answers or question_id not in second.answers:
            reasons["not asked of " + ("A" if question_id not in first.answers else "B")] += 1
        else:
            common.append(one)
    return common, tuple(LeftOut(reason=reason, count=count) for reason, count in sorted(reasons.items()))


def _wording(question: Question) -> tuple[str, str, str, tuple[str, ...]]:
    return question.text, question.right_answer, question.answer_type, question.choices


def _facts(run: RunFolder, arms: tuple[ArmConfig, ...], arm: str, mode: str) -> SideFacts:
    trained, learning = training_facts(run, arm), read_learning(run, arms)
    seen = learning.seen.get(arm)
    stage = read_run_json(run)["stages"].get("train", {}) if run.run_json.is_file() and trained else {}
    try:
        return SideFacts(
            run=str(run.root), arm=arm, mode=mode, trainable_parameters=trained.get("trainable_parameters"),
            training_steps=trained.get("max_steps"), train_stage_seconds=stage.get("seconds"),
            rationales_seen=seen.rationales if seen else None, shown=learning.shown(arm),
        )  # fmt: skip
    except ValidationError as error:
        words = f"{run.arm(arm) / TRAINING} or run.json is damaged ({first_problem(error)}); restore it"
        raise RunError(words) from None


def _named(side: SideFacts) -> str:
    return f"{side.shown or side.arm} ({side.mode}) of {side.run}"


def _group_line(group: GroupResult) -> tuple[str, ...]:
    counts = (str(group.right_to_wrong), str(group.wrong_to_right))
    difference = f"{100 * group.difference.value:+.1f} {_range(group.difference, scale=100, signed=True)}"
    tests = (format_p(group.p_mcnemar), format_p(group.p_clustered))
    names = _printable(group.split), _printable(group.kind)
    return *names, str(group.n), _share(group.before), _share(group.after), difference, *counts, *tests


def _cost_lines(comparison: RunComparison) -> list[tuple[str, str, str]]:
    before, after = comparison.before, comparison.after
    tokens_a, tokens_b = comparison.result.tokens_before, comparison.result.tokens_after
    lines = [
        ("tokens per question", _amount(tokens_a.per_question), _amount(tokens_b.per_question)),
        ("tokens per right answer", _amount(tokens_a.per_correct), _amount(tokens_b.per_correct)),
        ("replies cut off by the cap, %", _cut(tokens_a.truncated_rate), _cut(tokens_b.truncated_rate)),
        ("trainable parameters", _count(before.trainable_parameters), _count(after.trainable_parameters)),
        ("training steps", _count(before.training_steps), _count(after.training_steps)),
        ("rationales learned", _count(before.rationales_seen), _count(after.rationales_seen)),
    ]
    if Path(before.run).resolve() != Path(after.run).resolve():  # else it is the same number and tells the arms nothing
        seconds = _count(before.train_stage_seconds), _count(after.train_stage_seconds)
        lines.append(("train stage, all arms of the run, s", *seconds))
    return lines


def _flip_line(flip: Flip) -> str:
    said = f"gold {flip.gold}, A {flip.before or 'nothing'}, B {flip.after or 'nothing'}"
    return f"  {_printable(flip.question_id)} ({_printable(flip.kind)}): {_printable(flip.text)}  [{_printable(said)}]"


def _share(share: Interval) -> str:
    return f"{100 * share.value:.1f} {_range(share, scale=100)}"


def _cut(share: Interval | None) -> str:
    return "not counted" if share is None else f"{_share(share)} n={share.n}"


def _amount(amount: Interval | None) -> str:
    return "not counted" if amount is None else f"{amount.value:.1f} {_range(amount)} n={amount.n}"


def _range(interval: Interval, *, scale: float = 1, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"[{scale * interval.low:{sign}.1f}, {scale * interval.high:{sign}.1f}]"


def _count(count: float | None) -> str:
    return "-" if count is None else f"{count:,.0f}"


def _printable(text: str) -> str:
    """One line, cut to a terminal's width."""
    line = one_line(text)
    return line if len(line) <= TEXT_WIDTH else f"{line[:TEXT_WIDTH]}…"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
