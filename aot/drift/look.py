"""One look: state, logs and canaries are read, canaries asked if wanted, and what came of it is published."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from aot.answers import check_packages, stop_workers
from aot.display import counted
from aot.drift.advice import advice_on, alarm_line, odd_lines, when
from aot.drift.log import new_rows
from aot.drift.records import LogPlace, WatchFile
from aot.drift.watching import ALARM_RATE, Watch, fresh_state
from aot.errors import ConfigError, RunError, SourceError, first_problem
from aot.evaluation.scoring import score
from aot.files.run_folder import RunFolder, publish, read_rows
from aot.records import Prediction, Question
from aot.served_records import Canary, Sight, StudentContract
from aot.serving.contract import read_contract
from aot.serving.student import Ask, ServedStudent, load_student

REASKS = 2
"""So often a canary that came out wrong is asked again at once, alone."""
Answers = Mapping[str, str | None]
"""What a student says to canaries now, by question id; None where it says nothing."""
AskThem = Callable[[Sequence[Canary]], Answers]


@dataclass(frozen=True)
class WatchFiles:
    """What a look reads and writes besides the export."""

    logs: tuple[Path, ...] = ()
    canaries: Path | None = None
    state: Path | None = None
    """None: beside the first log, or the canaries."""


@dataclass(frozen=True)
class Wanted:
    """What a look takes besides the log."""

    alarm_rate: float = ALARM_RATE
    promised: float | None = None
    now_s: float | None = None
    """None: by this machine's clock."""


def look_at(export: Path, files: WatchFiles, *, ask: bool, wanted: Wanted) -> tuple[Sight, WatchFile]:
    """What is new since the last look, with the state that was kept.

    Raises:
        AotError: something cannot be read or written, or there is nothing to look at.
    """
    if ask and files.canaries is None:
        raise ConfigError("--ask asks canaries; name their file with --canaries FILE")
    if not files.logs and not ask:
        raise ConfigError("nothing to look at: name with --log FILE what the server recorded, or add --ask")
    first = files.logs[0] if files.logs else files.canaries
    assert first is not None
    contract = read_contract(export, check_files=False)
    canaries = read_canaries(files.canaries) if files.canaries else []
    asks = _asking(export, files.canaries) if ask and files.canaries else None
    return take_look(contract, files.logs, canaries, files.state or first.with_suffix(".watch"), wanted, ask=asks)


def _asking(export: Path, canaries_file: Path) -> AskThem:
    """What asks the export, loaded here at the first question."""
    loaded: list[ServedStudent] = []

    def ask(canaries: Sequence[Canary]) -> Answers:
        if not loaded:
            loaded.append(load_student(export))
        said = answers_to([one.question for one in canaries], loaded[0], clips_of(canaries_file))
        return {name: answer for name, (answer, _) in said.items()}

    return ask


def clips_of(canaries_file: Path) -> Path:
    """Where the clips of a file of canaries lie."""
    return drawn_beside(canaries_file).clips


def drawn_beside(canaries_file: Path) -> RunFolder:
    """The folder of what was drawn for a file of canaries."""
    return RunFolder(canaries_file.with_name(f"{canaries_file.stem}-drawn"))


def answers_to(
    questions: Sequence[Question], student: ServedStudent, clips: Path
) -> dict[str, tuple[str | None, float | None]]:
    """Answer and confidence by question id; no answer where the student abstained."""
    asks = [
        Ask(
            one.text, choices=one.shown_choices, kind=one.kind,
            clip=clips / one.media.uri if one.media else None,
            start_s=one.media.start_s if one.media else None, end_s=one.media.end_s if one.media else None,
        )
        for one in questions
    ]  # fmt: skip
    return {
        question.id: (None if answer.abstained else answer.answer, answer.confidence)
        for question, answer in zip(questions, student.unreviewed(asks), strict=True)
    }


def read_canaries(path: Path) -> list[Canary]:
    """The canaries of a file.

    Raises:
        SourceError: there is none, or a row that is no canary, or two of one id.
    """
    try:
        rows = list(read_rows(path, Canary))
    except SourceError as error:
        if not path.is_file():
            raise SourceError(f"there is no file {path}; draw canaries with --draw N --run RUN") from error
        raise SourceError(f"{error}; canaries are drawn with --draw N --run RUN") from error
    if not rows:
        raise SourceError(f"{path} holds no canary; draw some with --draw N --run RUN, or leave --canaries out")
    ids = [one.question.id for one in rows]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise SourceError(f"{path} holds the canary {twice!r} twice; draw them again")
    return rows


def wrong_canaries(canaries: Sequence[Canary], state_file: Path | None) -> list[Canary]:
    """Those that were wrong when a watch last asked them; without a watch, at export.

    Raises:
        RunError: the file is no state of a watch.
    """
    if state_file is None:
        return [one for one in canaries if not one.right]
    memory = _stored_state(state_file).canaries
    return [one for one in canaries if (seen := memory.get(one.question.id)) and seen.is_wrong]


def read_state(path: Path, contract: StudentContract, *, alarm_rate: float) -> WatchFile:
    """The state of the last look, or a fresh one where there is none.

    Raises:
        RunError: the file is no state of a watch.
    """
    if not path.exists():
        return fresh_state(contract, alarm_rate=alarm_rate)
    return _stored_state(path)


def _stored_state(path: Path) -> WatchFile:
    try:
        return WatchFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(f"the state {path} cannot be read: {error.strerror}; name another file with --state") from None
    except ValidationError as error:
        raise RunError(
            f"{path} is no state of this version of `aot watch` ({first_problem(error)}); move it away, and all of the "
            "log is read again"
        ) from None


def grade(canary: Canary, answer: str) -> bool:
    """Whether an answer to a canary is right, by the grader of every evaluation."""
    row = Prediction(question_id=canary.question.id, arm="watch", mode="none", raw_text=answer, answer=answer)
    return score(row, canary.question).correct


def take_look(
    contract: StudentContract,
    logs: Sequence[Path],
    canaries: Sequence[Canary],
    state_file: Path,
    wanted: Wanted,
    *,
    ask: AskThem | None = None,
) -> tuple[Sight, WatchFile]:
    """What is new since the last look, with the state that was published.

    Args:
        contract: of the export.
        logs: served logs; only what they have got since the last look is read.
        canaries: labelled questions; may be empty.
        state_file: is replaced when all is read.
        wanted: of the look.
        ask: asks canaries now; those that come out wrong are asked again, alone.

    Raises:
        AotError: a file cannot be read or written.
    """
    now_s = time.time() if wanted.now_s is None else wanted.now_s
    before = read_state(state_file, contract, alarm_rate=wanted.alarm_rate)
    watch = Watch(contract, canaries, before, now_s=now_s, grade=grade, promised=wanted.promised)
    places = {one.path: one for one in before.logs}
    words = _words(contract)
    check_packages([one.question for one in canaries])
    try:
        for log in logs:
            for row in new_rows(log, places.get(str(log)), words=words):
                if isinstance(row, LogPlace):
                    places[row.path] = row
                else:
                    watch.see(row)
        if ask and canaries:
            _ask(watch, canaries, ask, now_s)
        state = watch.state().model_copy(update={"logs": tuple(places.values())})
    finally:
        stop_workers()
    publish(state_file, state.model_dump_json() + "\n")
    return _sight(watch, before, state, canaries), state


def _ask(watch: Watch, canaries: Sequence[Canary], ask: AskThem, now_s: float) -> None:
    wrong = _take(watch, canaries, ask(canaries), now_s)
    for _ in range(REASKS):
        # Alone, as a batch may be what made it wrong; a second wrong answer is worth far more than a first.
        wrong = [one for one in wrong if _take(watch, [one], ask([one]), now_s)]


def _take(watch: Watch, canaries: Iterable[Canary], said: Answers, now_s: float) -> list[Canary]:
    """The canaries that were right at export and are wrong now, after all answers were taken."""
    lost = []
    for one in canaries:
        answer = said.get(one.question.id)
        is_right = answer is not None and grade(one, answer)
        watch.ask(one.question.id, is_right=is_right, time_s=now_s)
        if one.right and not is_right:
            lost.append(one)
    return lost


def _words(contract: StudentContract) -> frozenset[str]:
    watches = contract.calibration.watches if contract.calibration else ()
    return frozenset(watches[0].words) if watches else frozenset()


def _sight(watch: Watch, before: WatchFile, state: WatchFile, canaries: Sequence[Canary]) -> Sight:
    wrong = {one.question.id for one in watch.now_wrong()}
    answered = [one for one in canaries if one.question.id in state.canaries]
    return Sight(
        looks=state.looks, read=state.read, used=state.used, new=state.read - before.read, odd=state.odd,
        examples=state.examples, canaries=len(canaries), canaries_asked=len(answered),
        canaries_lost=sum(one.right and one.question.id in wrong for one in answered),
        canaries_gained=sum(not one.right and one.question.id not in wrong for one in answered),
        promised=watch.promised, promised_by=watch.promised_by, wealth=watch.wealth(), alarms=state.alarms,
        advice=tuple(advice_on(state.alarms, state, watch.contract, canaries)),
    )  # fmt: skip


def sight_lines(sight: Sight, state: WatchFile) -> list[str]:
    """A look for people."""
    lines = [
        f"look {sight.looks}: {counted(sight.new, 'new row')}, {counted(sight.used, 'row')} used of {sight.read} so "
        f"far, the last at {when(state.last_s)}"
    ]
    if sight.odd:
        lines += ["rows that were not used, or lack something:", *odd_lines(sight.odd, sight.examples)]
    if sight.canaries:
        lines.append(
            f"canaries: {sight.canaries_asked} of {sight.canaries} were asked; {sight.canaries_lost} that were right "
            f"at export are wrong, {sight.canaries_gained} that were wrong are right"
        )
    if sight.promised is not None:
        lines.append(f"accuracy is expected to be at least {sight.promised:.1%} ({sight.promised_by})")
    if not sight.alarms:
        most = max(sight.wealth.items(), key=lambda item: item[1], default=None)
        if most is None:
            lines.append("nothing was tested yet: the log has no row of this export, and no canary was asked")
        else:
            lines.append(f"no alarm; of {counted(len(sight.wealth), 'test')}, {most[0]} moved most (log e-value "
                         f"{most[1]:.2f})")  # fmt: skip
    return [*lines, *(alarm_line(one) for one in sight.alarms), *sight.advice]
