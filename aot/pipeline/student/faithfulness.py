"""`aot faithfulness`: whether a run's students mean what they write before their answers.

Each step of a stored reply that reasons first is perturbed in turn; the student goes on from there, and is made to
answer right there. Replies lie in parts as they are measured, a window of questions at a time, so that the same command
goes on where it stopped. Nothing here decides what a step is, or how it is perturbed.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from aot.answer_records import Faithfulness, FaithfulReply
from aot.arms.asking import open_student
from aot.config import MODES_OF_ORDER, ArmConfig, RunConfig, load_saved
from aot.display import counted
from aot.errors import ConfigError, RunError
from aot.evaluation.intervals import Bootstrap
from aot.evaluation.steps import CHANGE, FOLLOWS, KEPT, SCORE, SOME_SHARE, faithful_rows
from aot.files.parts import Part, parts_of
from aot.files.pieces import holding
from aot.files.run_folder import ARM_MARKER, RunFolder, publish, read_rows, read_run_json
from aot.pipeline.student.perturbed import Asked
from aot.pipeline.student.talks import Stored, stored_talk
from aot.records import ClipAnnotation, Prediction, PromptMode, Question, Trace
from aot.seeds import hashed
from aot.teacher.implied import EvidenceReader

log = logging.getLogger(__name__)
REASONING: tuple[PromptMode, ...] = ("reason", "adaptive", "tools")
"""Modes in which something stands before the answer."""
WINDOW = 16
"""Questions that are measured together: a kill loses so many at most."""
EXAMPLES = 3
"""Replies of each student that the report shows, of different kinds of questions."""


@dataclass(frozen=True)
class Wanted:
    """Which replies to take up."""

    count: int = 100
    """Questions, the same for every student."""
    split: str | None = None
    """None: the first that was evaluated."""
    arm: str | None = None
    """None: every arm that reasons before it answers."""


def measure_faithfulness(root: Path, wanted: Wanted, *, command: Sequence[str]) -> Faithfulness:
    """How far the answers of a run's students hang on their steps; published in the run folder.

    Raises:
        RunError: `root` is no run folder, or holds no student that reasons before it answers.
        ConfigError: there is no such split or arm, or nothing of the split is evaluated.
    """
    run = RunFolder(root)
    read_run_json(run)
    config = load_saved(run.config)
    plan, left_out = students_of(run, config.train.arms, only=wanted.arm)
    if not plan:
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise RunError(f"{root} has no student whose steps could be perturbed ({why}); train an arm that reasons first")
    questions = _chosen(run, config, wanted)
    for name, reason in left_out.items():
        log.info("faithfulness: left out %s, which %s", name, reason)
    with holding(run, command=command):
        replies = [reply for arm, mode in plan for reply in _replies(run, config, questions, arm=arm, mode=mode)]
        made = _summary(replies, questions, config, left_out)
        publish(run.faithfulness, made.model_dump_json(indent=1) + "\n")
    return made


def students_of(
    run: RunFolder, arms: Sequence[ArmConfig], *, only: str | None = None
) -> tuple[list[tuple[str, PromptMode]], dict[str, str]]:
    """Arms and modes that can be measured, and why the other arms cannot.

    Raises:
        ConfigError: no arm is called `only`.
    """
    plan: list[tuple[str, PromptMode]] = []
    left_out: dict[str, str] = {}
    if only is not None and only not in {arm.name for arm in arms}:
        raise ConfigError(f"the run {run.root} has no arm {only!r}; it has {', '.join(arm.name for arm in arms)}")
    for arm in (arm for arm in arms if only in (None, arm.name)):
        modes = [mode for mode in MODES_OF_ORDER[arm.order] if mode in REASONING]
        there = [mode for mode in modes if run.predictions_of(arm.name, mode).exists()]
        if not arm.learns_rationales:
            left_out[arm.name] = "learned no rationales"
        elif not modes:
            left_out[arm.name] = "answers before it explains"
        elif not (run.arm(arm.name) / ARM_MARKER).exists():
            left_out[arm.name] = "is not trained; run aot train"
        elif not there:
            left_out[arm.name] = "has no replies yet; run aot evaluate"
        plan += [(arm.name, mode) for mode in there if arm.name not in left_out]
    return plan, left_out


def _chosen(run: RunFolder, config: RunConfig, wanted: Wanted) -> list[Question]:
    """The same questions for the same seed, and more of them behind those for a larger count."""
    splits = config.evaluate.splits
    split = wanted.split or next(iter(splits), "")
    if split not in splits:
        raise ConfigError(f"split {split!r} is not evaluated in {run.root}; choose from {', '.join(splits) or 'none'}")
    questions = [one for one in read_rows(run.questions, Question) if one.split == split]
    if not questions:
        raise ConfigError(f"{run.root} has no question of split {split!r}")
    questions.sort(key=lambda one: (hashed(config.seed, "faithfulness", one.id), one.id))
    return questions[: wanted.count]


def _replies(
    run: RunFolder, config: RunConfig, questions: Sequence[Question], *, arm: str, mode: PromptMode
) -> list[FaithfulReply]:
    """What is measured of one student, in the order of the questions; what lies in parts is not measured again."""
    traces = _traces(run, arm) if mode == "tools" else {}
    said = {
        row.question_id: stored_talk(row, traces.get(row.question_id))
        for row in read_rows(run.predictions_of(arm, mode), Prediction)
    }
    rows = {
        row.question_id: row
        for path in parts_of(run.faithfulness.parent)
        for row in read_rows(path, FaithfulReply)
        if (row.arm, row.mode) == (arm, mode) and row.text == _text(said.get(row.question_id))
    }
    windows = [questions[start : start + WINDOW] for start in range(0, len(questions), WINDOW)]
    todo = [window for window in windows if any(one.id not in rows for one in window)]
    if todo:
        student = _opened(run, config, questions, arm=arm, mode=mode)
        with closing(Part(run.faithfulness.parent, "0")) as part:
            for number, window in enumerate(todo, start=1):
                for row in student.measure(window, said):
                    if row.question_id not in rows:
                        rows[row.question_id] = row
                        part.append(row)
                log.info("faithfulness: %s, %s: window %d of %d", arm, mode, number, len(todo))
    return [rows[one.id] for one in questions]


def _text(stored: Stored | None) -> str:
    return stored.prediction.raw_text if stored else ""


def _traces(run: RunFolder, arm: str) -> dict[str, Trace]:
    path = run.student_traces_of(arm)
    return {row.question_id: row for row in read_rows(path, Trace)} if path.exists() else {}


def _opened(run: RunFolder, config: RunConfig, questions: Sequence[Question], *, arm: str, mode: PromptMode) -> Asked:
    student, pixels = open_student(run, config.student, run.arm(arm), questions, cache_mb=config.train.frame_cache_mb)
    rows = read_rows(run.annotations, ClipAnnotation) if run.annotations.exists() else ()
    reader = EvidenceReader(rows)
    batch_size = config.evaluate.batch_size
    return Asked(student, arm, mode, pixels, batch_size, config.seed, reader.labels, reader.answer)


def _summary(
    replies: Sequence[FaithfulReply], questions: Sequence[Question], config: RunConfig, left_out: dict[str, str]
) -> Faithfulness:
    kinds = {one.id: one.kind for one in questions}
    unusable: dict[str, dict[str, int]] = {}
    examples: list[FaithfulReply] = []
    for student in dict.fromkeys((row.arm, row.mode) for row in replies):
        rows = [row for row in replies if (row.arm, row.mode) == student]
        counts = Counter(row.unusable for row in rows if row.unusable)
        unusable[", ".join(student)] = dict(sorted(counts.items()))
        shown = {kinds[row.question_id]: row for row in reversed(rows) if not row.unusable}
        examples += list(shown.values())[::-1][:EXAMPLES]
    bootstrap = Bootstrap(config.evaluate.bootstrap_samples, config.seed)
    return Faithfulness(
        split=questions[0].split, count=len(questions), seed=config.seed, left_out=left_out, unusable=unusable,
        rows=tuple(faithful_rows(replies, bootstrap=bootstrap)), examples=tuple(examples),
    )  # fmt: skip


def faithfulness_lines(made: Faithfulness) -> list[str]:
    """What was measured, as text: a line for each student, who was left out, and what could not be used."""
    lines = [f"steps before the answer, perturbed one at a time: {counted(made.count, 'question')} of {made.split}"]
    for arm, mode in dict.fromkeys((row.arm, row.mode) for row in made.rows):
        by_name = {row.metric: row for row in made.rows if (row.arm, row.mode, row.kind) == (arm, mode, "all")}
        shares = [(FOLLOWS, "answer follows"), (KEPT, "answer kept"), (SOME_SHARE, "steps scored 0.3 or more")]
        said = [
            f"{words} {100 * row.value:.1f}% [{100 * row.low:.1f}, {100 * row.high:.1f}] n={row.n}"
            for name, words in shares
            if (row := by_name.get(name))
        ]
        means = [(SCORE, "True Thinking Score"), (CHANGE, "change of the answer's probability")]
        said += [
            f"{words} {row.value:.3f} [{row.low:.3f}, {row.high:.3f}] n={row.n}"
            for name, words in means
            if (row := by_name.get(name))
        ]
        lines.append(f"  {arm}, {mode}: {'; '.join(said)}")
    for student, counts in made.unusable.items():
        if counts:
            lines.append(f"  {student}: not usable: " + ", ".join(f"{why} {n}" for why, n in counts.items()))
    return lines + [f"  left out: {name}, which {why}" for name, why in made.left_out.items()]
