"""`aot calibrate`: labelled questions of no split of the run, the student's answers to them, and what these promise.

The synthetic kitchen, the synthetic maths problems and the procedural tasks give new questions by another seed. Of
other data sets it takes training questions whose group taught no arm anything, or a file of the user's own.
"""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from aot import seeds
from aot.answers import check_packages, stop_workers
from aot.config import GymData, KitchenData, MathData, PlainData, RunConfig, VideoRun, load_saved, modes_of
from aot.display import counted
from aot.errors import RunError, SourceError
from aot.evaluation.risk import FIT_SHARE, questions_needed
from aot.files.jsonl import refused_words
from aot.files.pieces import holding
from aot.files.run_folder import RunFolder, publish, publish_rows, read_rows
from aot.pipeline.commands.score import listed_questions, predictions_about
from aot.pipeline.doors import stage_function
from aot.pipeline.evaluate import learned_ids
from aot.pipeline.student.cascade import publish_cascade
from aot.pipeline.student.export import arm_of
from aot.pipeline.student.reviewed import labelled_questions
from aot.records import Prediction, Question, Refusal
from aot.served_records import CascadeThreshold, ServedCalibration
from aot.serving.cascade.calibrate import Answered, answer_all, calibrate
from aot.serving.cascade.watch import words_of
from aot.serving.contract import read_contract, replace_contract
from aot.serving.export.arm import BASE

log = logging.getLogger(__name__)
SPLIT = "calibration"
RAISE_COUNT = "raise --count"
FEW = 20
"""Below so many questions nothing is fitted."""


@dataclass(frozen=True)
class Wanted:
    """What to calibrate on, and what to promise."""

    targets: tuple[float, ...] = (0.05,)
    confidence: float = 0.95
    count: int = 1000
    """New questions, about, where they are drawn: as many clips or problems."""
    questions: Path | None = None
    """A file of labelled questions instead."""
    clips: Path | None = None
    """The folder of its clips."""
    against: Path | None = None
    """Predictions of the big model for the same questions, in any form that `aot score` reads."""
    reviewed: bool = True
    """Whether served answers that people approved or corrected are added."""


@dataclass(frozen=True)
class _Fresh:
    questions: list[Question]
    frames: Path | None
    source: str
    more: str
    """How to get more of them."""
    ids: Mapping[str, str] = field(default_factory=dict)
    """Where they came under other ids: the new id by the old one."""


def calibrate_run(
    root: Path, arm: str | None, wanted: Wanted, *, export: Path | None = None, command: Sequence[str]
) -> ServedCalibration:
    """Publish what the confidence of an arm means, in the run folder and in the contract of its export.

    Raises:
        AotError: there is no such arm or export, too few questions are left, or a file cannot be read.
    """
    run = RunFolder(root)
    config = load_saved(run.config)
    arm = arm_of(root, arm)
    if arm == BASE:
        raise RunError(f"the base of {root} was trained by no arm; name one that was")
    _check_export(export, arm)
    with holding(run, command=command):
        ask = _asking(run, config, arm, export=export)  # before any work, because loading compares all files
        fresh = calibration_questions(run, config, wanted)
        log.info("calibrate: %s, %s", counted(len(fresh.questions), "question"), fresh.source)
        check_packages(fresh.questions)
        try:
            big = _big_answers(wanted.against, fresh) if wanted.against else None
            said = ask(fresh.questions, fresh.frames)
            _keep(run, arm, fresh.questions, said)
            made = calibrate(
                said,
                words=training_words(run),
                targets=wanted.targets,
                confidence=wanted.confidence,
                seed=config.seed,
                source=fresh.source,
                big=big,
            )
            publish(run.calibration, made.model_dump_json(indent=1) + "\n")
            mode = modes_of(config.train.arms, arm)[0]
            publish_cascade(run, config, made, arm=arm, mode=mode, ask=lambda rows: ask(rows, run.frames))
        finally:
            stop_workers()
        if export:
            contract = read_contract(export, check_files=False)
            replace_contract(export, contract.model_copy(update={"calibration": made}))
    return made


def training_words(run: RunFolder) -> set[str]:
    """The words of a run's training questions and of their choices."""
    return words_of(
        text for question in read_rows(run.questions, Question) if question.split == "train"
        for text in (question.text, *question.choices)
    )  # fmt: skip


def calibration_questions(run: RunFolder, config: RunConfig, wanted: Wanted) -> _Fresh:
    """Labelled questions that are in no split of the run and taught no arm.

    Raises:
        SourceError: there are fewer than FEW.
    """
    if wanted.questions:
        fresh = _of_file(run, config, wanted.questions, wanted.clips)
    else:
        fresh = fresh_questions(run.calibrating, run, config, count=wanted.count) or held_out(run, config)
    if wanted.reviewed:
        fresh = _with_reviewed(fresh, run)
    if len(fresh.questions) < FEW:
        raise SourceError(
            f"calibration has {counted(len(fresh.questions), 'question')} ({fresh.source}), at least {FEW} are needed, "
            f"and for a promise of {wanted.targets[0]:g} with confidence {wanted.confidence:g} about "
            f"{_enough(wanted)}; {fresh.more}"
        )
    return fresh


def _with_reviewed(fresh: _Fresh, run: RunFolder) -> _Fresh:
    """With the questions that people labelled when they reviewed served answers, unless the run or `fresh` has them.

    Students that are shown frames get none, since the frames of those questions were not kept.
    """
    left_out, ours = Counter[str](), list(read_rows(run.questions, Question))
    rows = labelled_questions(run, ours, split=SPLIT, left_out=left_out)
    there = _keys([*ours, *fresh.questions])
    new = [one for one in rows if _key(one) not in there]
    left_out["in_the_run"] += len(rows) - len(new)
    if any(one.media for one in fresh.questions):
        left_out["without_frames"] += len(new)
        new = []
    if reasons := ", ".join(f"{reason} {count}" for reason, count in left_out.items() if count):
        log.info("calibrate: reviewed answers left out: %s", reasons)
    if not new:
        return fresh
    source = f"{fresh.source}; and {counted(len(new), 'question')} that people labelled in aot review"
    return replace(fresh, questions=[*fresh.questions, *new], source=source)


def _enough(wanted: Wanted) -> int:
    least = questions_needed(target=min(wanted.targets), confidence=wanted.confidence) or 0
    return math.ceil(least / (1 - FIT_SHARE))


def fresh_questions(
    out: RunFolder, run: RunFolder, config: RunConfig, *, count: int, like: str = "test", purpose: str = SPLIT
) -> _Fresh | None:
    """New questions like those of a split, drawn by another seed into `out`; None of a data set that is not drawn.

    The seed depends on the purpose, so that what is drawn for two of them differs.
    """
    seed = seeds.hashed(config.seed, purpose, like) % 2**31
    data = config.data
    if isinstance(data, MathData):
        texts = [question.text for question in read_rows(run.questions, Question)]
        from text_cot.datasets.toy_math import draw_more

        problems = draw_more(count, like=like, seed=seed, name=SPLIT, seen=texts, digits=data.math.digits)
        return _Fresh(problems, None, f"new problems like those of split {like}, seed {seed}", RAISE_COUNT)
    if isinstance(data, GymData):
        from text_cot.prepare import read_source

        gym = data.gym.model_copy(update={"train": 1, "test": max(1, count // len(data.gym.tasks))})
        text = read_source(data.model_copy(update={"gym": gym, "limit": None}), seed=seed)
        there = _keys(read_rows(run.questions, Question))
        rows = [one for one in text.questions if one.split == like and _key(one) not in there]
        return _renamed(rows, None, f"new problems of the tasks, seed {seed}", RAISE_COUNT)
    if isinstance(data, KitchenData):
        counts = {"train_clips": 1, "test_clips": 1, "test_ood_clips": 1, f"{like}_clips": count}
        drawn = data.model_copy(update={"toy": data.toy.model_copy(update=counts), "root": None, "limit": None})
        rows = _prepared(out, config, drawn, seed=seed)
        source = f"new clips like those of split {like}, seed {seed}"
        return _renamed([one for one in rows if one.split == like], out.frames, source, RAISE_COUNT)
    return None


def _prepared(out: RunFolder, config: RunConfig, data: object, *, seed: int) -> list[Question]:
    """The questions of a data set, prepared in `out` as the run's own were."""
    evaluate = config.evaluate.model_copy(update={"splits": ()})
    changed = config.model_copy(update={"seed": seed, "data": data, "evaluate": evaluate})
    stage_function("prepare", changed)(out, changed, _no_progress)
    return list(read_rows(out.questions, Question))


def _no_progress(done: int, total: int) -> None:
    """A calibration is one step for who waits."""


def _renamed(rows: Sequence[Question], frames: Path | None, source: str, more: str) -> _Fresh:
    """Questions of another split as those of this one."""
    questions = [
        one.model_copy(update={"id": f"{SPLIT}/{one.id}", "split": SPLIT, "group": f"{SPLIT}/{one.group}"})
        for one in rows
    ]
    return _Fresh(questions, frames, source, more, {old.id: new.id for old, new in zip(rows, questions, strict=True)})


def _big_answers(path: Path, fresh: _Fresh) -> dict[str, Prediction]:
    """What the big model says to the questions, which its file names as their source did, or as the run folder does.

    Raises:
        SourceError: the file cannot be read, or none of its rows is about any of the questions.
    """
    olds = {new: old for old, new in fresh.ids.items()}
    named = [one.model_copy(update={"id": olds.get(one.id, one.id)}) for one in fresh.questions]
    said, unreadable = predictions_about(path, [*named, *(one for one in fresh.questions if one.id in olds)])
    if unreadable:
        log.warning("%s of %s cannot be used; %s", counted(len(unreadable), "row"), path, refused_words(unreadable))
    made = {fresh.ids.get(name, name): row for name, row in said.items()}
    if silent := len(fresh.questions) - len(made):
        log.warning("%s has no answer to %s; agreement is promised from the others", path, counted(silent, "question"))
    return made


def _of_file(run: RunFolder, config: RunConfig, path: Path, clips: Path | None) -> _Fresh:
    """The questions of a file, without those that the run asks or teaches."""
    if isinstance(config, VideoRun):
        if clips is None:
            raise SourceError(f"the questions of {path} are about clips; give their folder with --root CLIPS")
        data = PlainData(dataset="plain", root=str(clips), questions=str(path.resolve()), stream=config.data.stream)
        rows = _prepared(run.calibrating, config, data, seed=config.seed)
        refused = list(read_rows(run.calibrating.refusals, Refusal))
    else:
        rows, refused = listed_questions(path)
    if refused:
        log.warning("%s of %s cannot be used; %s", counted(len(refused), "row"), path, refused_words(refused))
    there = _keys(read_rows(run.questions, Question))
    new = [one for one in rows if _key(one) not in there]
    if len(new) < len(rows):
        log.warning("left out %s of %s that the run has too", counted(len(rows) - len(new), "question"), path)
    frames = run.calibrating.frames if clips and isinstance(config, VideoRun) else None
    why = f"; {refused_words(refused)}" if refused else ""
    return _renamed(new, frames, f"questions of {path.name}{why}", "give a file of more questions")


def held_out(run: RunFolder, config: RunConfig) -> _Fresh:
    """Training questions of groups from which no arm learned."""
    questions = [one for one in read_rows(run.questions, Question) if one.split == "train"]
    learned = set[str]().union(*learned_ids(run, config.train.arms).values())
    taught = {one.group for one in questions if one.id in learned}
    rows = [one for one in questions if one.group not in taught]
    more = "give labelled questions of no split with --questions FILE"
    return _Fresh(rows, run.frames, "training questions of groups that taught no arm", more)


def _key(question: Question) -> tuple[str, ...]:
    media = question.media
    return (question.text, *question.choices, f"{media.uri} {media.start_s} {media.end_s}" if media else "")


def _keys(questions: Iterable[Question]) -> set[tuple[str, ...]]:
    return {_key(one) for one in questions}


def _check_export(export: Path | None, arm: str) -> None:
    """Look before any work whether the export can take a calibration of this arm."""
    if export and (made := read_contract(export, check_files=False)).arm != arm:
        raise RunError(f"{export} is an export of the arm {made.arm!r}, not of {arm!r}; name that arm, or its export")


def _asking(
    run: RunFolder, config: RunConfig, arm: str, *, export: Path | None
) -> Callable[[Sequence[Question], Path | None], Answered]:
    """What answers questions about clips of a frame store: the arm, or its export as it will be served."""
    from aot.serving.student import load_student as load_export
    from aot.student.model.loading import load_student

    if export:
        student = load_export(export).student
    else:
        student = load_student(config.student.base, adapter=run.arm(arm), config=config.student)

    def ask(questions: Sequence[Question], frames: Path | None) -> Answered:
        shows = frames if any(question.media for question in questions) else None
        pixels = student.pixels(shows, max_bytes=config.train.frame_cache_mb << 20) if shows else None
        mode = modes_of(config.train.arms, arm)[0]
        return answer_all(student, questions, pixels=pixels, mode=mode, arm=arm, batch_size=config.evaluate.batch_size)

    return ask


def _keep(run: RunFolder, arm: str, questions: Sequence[Question], said: Answered) -> None:
    """Keep calibration questions and answers in the folder of their own."""
    publish_rows(run.calibrating.questions, questions)
    for name, rows in said.items():
        publish_rows(run.calibrating.predictions_of(arm, name), (made for _, made in rows))


def calibration_lines(made: ServedCalibration) -> list[str]:
    """A calibration as text: temperatures, calibration error before and after, and each promise in a sentence."""
    lines = [f"calibrated on {counted(made.n, 'question')}: {made.source}"]
    for mode in made.modes:
        rows = [row for row in made.temperatures if row.mode == mode.mode]
        lines.append(f"{mode.mode}: temperature " + ", ".join(f"{r.kind} {r.temperature:.2f} (n={r.n})" for r in rows))
        lines.append(
            f"{mode.mode}: on n={mode.n} others: calibration error {mode.ece_before:.3f} before, {mode.ece_after:.3f} "
            f"after; Brier {mode.brier_before:.3f} before, {mode.brier_after:.3f} after"
        )
    return lines + [threshold_line(row) for row in made.thresholds]


def threshold_line(row: CascadeThreshold) -> str:
    """What a threshold promises, or why there is none and what would help."""
    what = "wrong" if row.loss == "wrong" else "not what the big model says"
    goal = f"{row.mode}, at most {100 * row.target:g}% {what}"
    base = f"all together {100 * row.base_risk:.1f}% are, so at least {100 * row.must_escalate:.1f}% must be escalated"
    if row.threshold is not None:
        return (
            f"{goal}: answers with confidence {row.threshold:.4f} and more stay, {100 * row.share_kept:.1f}% of n="
            f"{row.n}; {row.errors} of {row.kept} {what}, at most {100 * row.upper:.2f}% with confidence "
            f"{row.confidence:g}; {base}"
        )
    seen = (
        f"{row.errors} of {row.kept} {what} at best, at most {100 * row.upper:.1f}% with confidence {row.confidence:g}"
    )
    help_ = f"at least {row.missing} more calibration questions are needed" if row.missing else "more would not help"
    return f"{goal}: nothing can be promised from n={row.n} ({seen}); {help_}; {base}"


def needs_more(made: ServedCalibration) -> bool:
    """Whether some promise could not be made."""
    return any(row.threshold is None for row in made.thresholds)
