"""`aot audit`: who is asked what, in which order, and what comes of it; the records are in, one record is out.

Base, answers only and distilled are loaded one after the other and asked the same. Of the teacher its stored answers
count: most teachers here can do nothing but the questions of their run.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aot.answers import check_packages, stop_workers
from aot.audit.answers import Change, beyond_name, category_rows, changes_of, follows_gender, pair_rows
from aot.audit.scores import Said, read_said, suite_rows
from aot.audit.suites import Suite, read_suite
from aot.audit.swaps import SWAPS, Pair, pairs_of
from aot.config import RunConfig, load_saved, modes_of
from aot.errors import ConfigError
from aot.evaluation.intervals import Bootstrap
from aot.files.jsonl import RefusedRow
from aot.files.run_folder import ARM_MARKER, RunFolder, read_rows, read_run_json
from aot.records import MetricRow, Prediction, Question
from aot.seeds import hashed
from aot.served_records import Audit, ChangedAnswer, StudentContract
from aot.serving.contract import read_contract

if TYPE_CHECKING:
    from aot.audit.speakers import Speaker

log = logging.getLogger(__name__)
BASE, TEACHER, TRAIN = "base", "teacher", "train"
SAMPLES = 2000
"""Of the bootstrap, where no run says how many."""
MOST_CHANGED = 5


@dataclass(frozen=True)
class Wanted:
    """What is audited."""

    run: Path | None = None
    suites: tuple[Path, ...] = ()
    teacher: Path | None = None
    """What the teacher said to the suites, where somebody asked it."""
    split: str | None = None
    """Of the run's questions; None: the first that was evaluated."""
    count: int = 500
    """Of its questions that are asked."""


@dataclass(frozen=True)
class _Run:
    """What is read of a run."""

    folder: RunFolder
    config: RunConfig
    questions: tuple[Question, ...]
    """Those that are asked."""
    seen: tuple[str, ...]
    """Texts of those that students learned from."""


@dataclass
class _Heard:
    """What everybody said."""

    modes: dict[str, str] = field(default_factory=dict)
    suites: dict[str, dict[str, dict[str, Said]]] = field(default_factory=dict)
    """By suite and student."""
    answers: dict[str, dict[str, Prediction]] = field(default_factory=dict)
    """Of each student to questions and swapped ones."""
    refused: dict[str, dict[str, int]] = field(default_factory=dict)


def audit_export(export: Path, wanted: Wanted) -> Audit:
    """What an exported student inherited, as far as suites and a run can tell.

    Raises:
        AotError: the export, the run or a suite cannot be read, or nothing is to be asked.
    """
    if wanted.run is None and not wanted.suites:
        raise ConfigError("nothing to audit by: name the run of the export with --run RUN, or suites with --suite FILE")
    contract = read_contract(export)
    suites = [read_suite(path) for path in wanted.suites]
    taught = read_said(wanted.teacher, suites) if wanted.teacher else None
    if twice := [suite.name for i, suite in enumerate(suites) if suite.name in {s.name for s in suites[:i]}]:
        raise ConfigError(
            f"two suites are called {twice[0]}; give them different file names, by which rows are told apart"
        )
    run = _read_run(wanted, contract) if wanted.run else None
    pairs = pairs_of(run.questions, seen=run.seen, seed=run.config.seed) if run else []
    check_packages(run.questions if run else ())
    try:
        heard = _hear(export, contract, run, suites, pairs)
        if taught:
            _add_teacher(heard, *taught)
        return _audit(contract, run, suites, pairs, heard)
    finally:
        stop_workers()


def _read_run(wanted: Wanted, contract: StudentContract) -> _Run:
    assert wanted.run is not None
    folder = RunFolder(wanted.run)
    read_run_json(folder)
    config = load_saved(folder.config)
    names = [BASE, *(arm.name for arm in config.train.arms)]
    if contract.arm not in names:
        raise ConfigError(f"{wanted.run} has no arm {contract.arm!r}, which was exported; it has {', '.join(names)}")
    split = wanted.split or next(iter(config.evaluate.splits), "")
    rows = list(read_rows(folder.questions, Question))
    chosen = [one for one in rows if one.split == split]
    if not chosen:
        there = ", ".join(sorted({one.split for one in rows}))
        raise ConfigError(f"{wanted.run} has no question of split {split!r}; it has {there}")
    chosen.sort(key=lambda one: (hashed(config.seed, "audit", one.id), one.id))
    seen = tuple(one.text for one in rows if one.split == TRAIN)
    return _Run(folder, config, tuple(chosen[: wanted.count]), seen)


def _hear(
    export: Path, contract: StudentContract, run: _Run | None, suites: Sequence[Suite], pairs: Sequence[Pair]
) -> _Heard:
    """What everybody says; one student is in memory at a time."""
    heard = _Heard(suites={suite.name: {} for suite in suites})
    questions = list(run.questions) if run else []
    swapped = [pair.swapped for pair in pairs]
    for speaker in _speakers(export, contract, run):
        heard.modes[speaker.name] = speaker.mode
        log.info("audit: asking %s", speaker.name)
        stored = _stored(run, speaker.name, speaker.mode) if run and speaker.name != contract.arm else {}
        fresh = [one for one in (*questions, *swapped) if one.id not in stored]
        heard.answers[speaker.name] = {**stored, **(speaker.answer(fresh) if fresh else {})}
        for suite in suites:
            heard.suites[suite.name][speaker.name] = speaker.weigh(suite)
        if speaker.refused:
            heard.refused[speaker.name] = dict(sorted(speaker.refused.items()))
    if run and (teacher := _stored(run, TEACHER, "none")):
        heard.modes[TEACHER], heard.answers[TEACHER] = "none", teacher
    return heard


def _add_teacher(heard: _Heard, said: Mapping[str, Mapping[str, Said]], refused: Sequence[RefusedRow]) -> None:
    heard.modes.setdefault(TEACHER, "none")
    for suite, answers in said.items():
        if answers:
            heard.suites[suite][TEACHER] = dict(answers)
    if refused:
        heard.refused[TEACHER] = _counts(refused)


def _speakers(export: Path, contract: StudentContract, run: _Run | None) -> Iterator["Speaker"]:
    """The base, the arm of answers only where there is one, and the export."""
    from aot.audit.speakers import Speaker
    from aot.serving.student import load_student as load_export
    from aot.student.model.loading import load_student

    frames = run.folder.frames if run and run.folder.frames.exists() else None
    if run and contract.arm != BASE:
        section, arms = run.config.student, run.config.train.arms
        mode = contract.modes[0] if contract.modes[0] in modes_of(arms, BASE) else "direct"
        yield Speaker(BASE, load_student(section.base, config=section), mode, frames)
        if (only := _answers_only(run, contract)) is not None:
            student = load_student(section.base, adapter=run.folder.arm(only), config=section)
            yield Speaker(only, student, modes_of(arms, only)[0], frames)
    with load_export(export) as served, served.turn() as student:
        yield Speaker(contract.arm, student, contract.modes[0], frames, served.bench)


def _answers_only(run: _Run, contract: StudentContract) -> str | None:
    """The first trained arm that learns answers alone, besides the exported one."""
    names = [arm.name for arm in run.config.train.arms if not arm.learns_rationales and arm.name != contract.arm]
    return next((name for name in names if (run.folder.arm(name) / ARM_MARKER).exists()), None)


def _stored(run: _Run, name: str, mode: str) -> dict[str, Prediction]:
    """What the evaluation of the run kept of one that answers as it does here."""
    path = run.folder.predictions_of(name, mode)
    wanted = {one.id for one in run.questions}
    return (
        {row.question_id: row for row in read_rows(path, Prediction) if row.question_id in wanted}
        if path.exists()
        else {}
    )


def _audit(
    contract: StudentContract, run: _Run | None, suites: Sequence[Suite], pairs: Sequence[Pair], heard: _Heard
) -> Audit:
    bootstrap = Bootstrap(run.config.evaluate.bootstrap_samples, run.config.seed) if run else Bootstrap(SAMPLES, 0)
    rows: list[MetricRow] = []
    missing: list[str] = []
    for suite in suites:
        said = {name: what for name, what in heard.suites[suite.name].items() if what}
        others = [(contract.arm, name) for name in said if name != contract.arm and contract.arm in said]
        rows += suite_rows(suite, said, others, bootstrap)
        missing += [
            f"{suite.name}: {name} could be asked nothing" for name in heard.suites[suite.name] if name not in said
        ]
        if TEACHER not in said:
            missing.append(f"{suite.name}: no answers of the {TEACHER}; give them with --teacher FILE")
    changes = {name: changes_of(pairs, said) for name, said in heard.answers.items() if name != TEACHER}
    if run:
        of_run = {name: said for name, said in heard.answers.items() if said}
        made, without = category_rows(run.questions, of_run, heard.modes, student=contract.arm, teacher=TEACHER)
        rows += [*pair_rows(changes, heard.modes, contract.arm, bootstrap), *made]
        missing += [*_missing_of_run(run, contract, pairs, heard.answers), *without]
    else:
        missing.append("counterfactual pairs, categories, base and teacher: no --run was given")
    refused = {suite.name: _counts(suite.refused) for suite in suites if suite.refused} | heard.refused
    items = {suite.name: len(suite.items) for suite in suites}
    items |= {f"pairs by {swap}": count for swap in SWAPS if (count := sum(pair.swap == swap for pair in pairs))}
    items |= {run.questions[0].split: len(run.questions)} if run else {}
    return Audit(
        student=contract.arm, contract_digest=contract.digest(), modes=heard.modes, items=items, rows=tuple(rows),
        findings=tuple(_followers(changes, bootstrap)), missing=tuple(missing), refused=refused,
        examples=tuple(_examples(suites)), changed=tuple(_changed(changes.get(contract.arm, ()))),
    )  # fmt: skip


def _followers(changes: Mapping[str, Sequence[Change]], bootstrap: Bootstrap) -> Iterator[str]:
    for name, rows in changes.items():
        result = beyond_name(rows, bootstrap)
        if result is not None and follows_gender(result):
            yield f"answers of {name} follow the gender of names: {result.note}"


def _missing_of_run(
    run: _Run, contract: StudentContract, pairs: Sequence[Pair], answers: Mapping[str, object]
) -> Iterator[str]:
    for swap in SWAPS:
        if not any(pair.swap == swap for pair in pairs):
            yield f"counterfactual pairs by {swap}: no question of {run.questions[0].split} has a word to swap"
    if TEACHER not in answers:
        yield f"recovery: the run has no stored answers of its {TEACHER}; run aot evaluate"
    elif pairs:
        yield f"counterfactual pairs: {TEACHER} answered the questions as they are, and no swapped one"
    if _answers_only(run, contract) is None:
        yield "answers only: the run has no trained arm that learns answers alone beside the exported one"


def _counts(refused: Sequence[RefusedRow]) -> dict[str, int]:
    reasons = [row.reason for row in refused]
    return {reason: reasons.count(reason) for reason in sorted(set(reasons))}


def _examples(suites: Sequence[Suite]) -> Iterator[str]:
    for suite in suites:
        first = {row.reason: row for row in reversed(suite.refused)}
        for reason, row in sorted(first.items()):
            yield f"{row.item}: {reason} ({row.detail})"


def _changed(changes: Sequence[Change]) -> Iterator[ChangedAnswer]:
    for one in [one for one in changes if one.changed][:MOST_CHANGED]:
        yield ChangedAnswer(
            swap=one.pair.swap, question=one.pair.question.text, swapped=one.pair.swapped.text,
            before=one.before.answer, after=one.after.answer,
        )  # fmt: skip
