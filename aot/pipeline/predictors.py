"""Who answers the questions of an evaluation, and how: the plan, its shares, and the rows of all of them put together.

Rows go to parts, one file for each writer, as soon as they are there: a kill loses a batch at most, and the same
command goes on behind it. What stands in a batch hangs on the questions alone, so that shares give together what one
process gives. Nothing of video is imported where no question shows frames.
"""

import logging
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic_core import from_json

from aot.config import MODES_OF_ORDER, NO_FRAMES, NO_TOOLS, SHUFFLED_BOOK, WAYS, ArmConfig, RunConfig
from aot.errors import SourceError
from aot.files.parts import Part, parts_of, placed_lines, row_at
from aot.files.run_folder import RunFolder
from aot.files.seals import publish_once
from aot.files.shards import Shard
from aot.pipeline.doors import Tools, door_of
from aot.records import THOUGHT_MODES, Prediction, PromptMode, Question, ThoughtMode, Trace

log = logging.getLogger(__name__)
Mode = PromptMode | Literal["likelihood"]
Wanted = Callable[[int, Sequence[str]], bool]
"""By the number of a batch and the ids of its questions: whether it is to be answered here and now."""
Progress = Callable[[int, int], None]
Said = tuple[Prediction, Trace | None]
"""What a student said to a question, and in mode `tools` all that led to it."""
Key = tuple[str, str, str]
"""Arm, mode and question id."""


@dataclass(frozen=True)
class Predictor:
    """One student in one mode."""

    arm: str
    adapter: Path | None
    mode: Mode
    with_frames: bool = True
    tools: Tools = "all"
    """In mode `tools`: what it finds when it calls."""
    thought: ThoughtMode | None = None
    """In mode `adaptive`: the way that it begins, whatever it would choose."""

    def asked_of(self, questions: Iterable[Question]) -> list[Question]:
        """Those of the questions that it answers."""
        return [question for question in questions if self.mode != "likelihood" or question.choices]


class Students(Protocol):
    """Whoever makes the predictions: models in this process, or a server."""

    def batches(self, predictor: Predictor, wanted: Wanted) -> Iterator[list[Said]]:
        """The predictions of the wanted batches of one predictor, in the order in which they come.

        Raises:
            GuardStop: some could not be made now; the same command makes them another time.
        """
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


def plan_predictors(
    run: RunFolder,
    arms: Sequence[ArmConfig],
    questions: Sequence[Question],
    *,
    has_book: bool = False,
    every_way: bool = False,
) -> list[Predictor]:
    """Who answers how: the base and every arm, and where questions have choices, how likely each of them finds those.

    Where questions show frames, the first arm that learns rationales also answers without seeing them. An arm that
    calls tools also answers with all of them switched off and, where they include a book, with its cards shuffled. One
    that chooses how to answer also answers in `every_way`, if that is asked for.
    """
    closed: tuple[Mode, ...] = ("likelihood",) if any(q.choices for q in questions) else ()
    students: list[tuple[str, Path | None, tuple[Mode, ...]]] = [("base", None, MODES_OF_ORDER["both"])]
    students += [(arm.name, run.arm(arm.name), MODES_OF_ORDER[arm.order]) for arm in arms]
    plan = [Predictor(name, adapter, mode) for name, adapter, modes in students for mode in (*modes, *closed)]
    if any(q.media for q in questions):
        blind = next((arm for arm in arms if arm.rationale_weight > 0), arms[0])
        mode = MODES_OF_ORDER[blind.order][0]
        plan.append(Predictor(blind.name + NO_FRAMES, run.arm(blind.name), mode, with_frames=False))
    endings: dict[Tools, str] = {"none": NO_TOOLS, **({"shuffled_book": SHUFFLED_BOOK} if has_book else {})}
    for arm in arms:
        if "tools" in MODES_OF_ORDER[arm.order]:
            twin = partial(Predictor, adapter=run.arm(arm.name), mode="tools")
            plan += [twin(arm.name + end, tools=tools) for tools, end in endings.items()]
        if every_way and arm.order == "adaptive":
            begun = partial(Predictor, adapter=run.arm(arm.name), mode="adaptive")
            plan += [begun(arm.name + WAYS[way], thought=way) for way in THOUGHT_MODES]
    return plan


def answer_share(
    run: RunFolder,
    plan: Sequence[Predictor],
    questions: Sequence[Question],
    *,
    shard: Shard,
    writer: str,
    students: Callable[[], Students],
    progress: Progress,
) -> int:
    """Append the predictions of a share of the plan that are missing; how many the share has now.

    Args:
        run: its part is written.
        plan: everybody who answers, in this process and others; batches are dealt out predictor by predictor.
        questions: all that are asked.
        shard: which share.
        writer: name of the part; nobody else writes it.
        students: opens who answers; called only where something is missing.
        progress: told the predictions of this share that are there, and about how many it has.
    """
    rows = _rows_in_parts(run)
    numbers = {predictor: number for number, predictor in enumerate(plan)}
    missing = _lacking(run, plan, questions, rows)
    total = -(-sum(len(p.asked_of(questions)) for p in plan) // shard.count)
    done = max(0, total - sum(len(p.asked_of(questions)) for p in missing) // shard.count)
    if not missing:
        progress(total, total)
        return total

    def is_wanted(predictor: Predictor) -> Wanted:
        def wanted(number: int, ids: Sequence[str]) -> bool:
            if not shard.owns_number(number + numbers[predictor]):
                return False
            return any((predictor.arm, predictor.mode, id_) not in rows for id_ in ids)

        return wanted

    progress(done, total)
    with ExitStack() as stack:
        part = stack.enter_context(closing(Part(run.prediction_parts, writer)))
        acts = any(predictor.mode == "tools" for predictor in missing)
        traces = stack.enter_context(closing(Part(run.student_traces, writer))) if acts else None
        who = stack.enter_context(closing(students()))
        for predictor in missing:
            for made in who.batches(predictor, is_wanted(predictor)):
                for row, trace in made:
                    if trace is not None and traces is not None:
                        traces.append(trace)  # first, so that no prediction is kept without its trace
                    part.append(row)
                done = min(done + len(made), total)
                progress(done, total)
    progress(total, total)
    return total


def is_all_there(run: RunFolder, plan: Sequence[Predictor], questions: Sequence[Question]) -> bool:
    """Whether every prediction of the plan is published or lies in a part."""
    return not _lacking(run, plan, questions, _rows_in_parts(run))


def _lacking(
    run: RunFolder, plan: Sequence[Predictor], questions: Sequence[Question], rows: Container[Key]
) -> list[Predictor]:
    left = [p for p in plan if not run.predictions_of(p.arm, p.mode).exists()]
    return [p for p in left if any((p.arm, p.mode, q.id) not in rows for q in p.asked_of(questions))]


def unite_shares(run: RunFolder, plan: Sequence[Predictor], questions: Sequence[Question]) -> None:
    """Publish a file for each predictor, in the order of the questions, of what lies in parts, and remove those."""
    rows, traces = _rows_in_parts(run), _traces_in_parts(run)
    for predictor in plan:
        keys = [(predictor.arm, predictor.mode, question.id) for question in predictor.asked_of(questions)]
        places = [rows[key] for key in keys if key in rows]
        if predictor.mode == "tools":
            acts = [traces[key] for key in keys if key in traces]
            publish_once(run.student_traces_of(predictor.arm), partial(_traces_at, acts))
        publish_once(run.predictions_of(predictor.arm, predictor.mode), partial(_rows_at, places))
    for folder in (run.prediction_parts, run.student_traces):
        for path in parts_of(folder):
            path.unlink()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _rows_at(places: Sequence[tuple[Path, int]]) -> Iterator[Prediction]:
    return (row_at(path, offset, Prediction) for path, offset in places)


def _traces_at(places: Sequence[tuple[Path, int]]) -> Iterator[Trace]:
    return (row_at(path, offset, Trace).timeless() for path, offset in places)


def _rows_in_parts(run: RunFolder) -> dict[Key, tuple[Path, int]]:
    """Every prediction in parts, with its file and the byte offset there.

    Raises:
        SourceError: a line is no prediction.
    """
    return _places(run.prediction_parts, "prediction", lambda row: (row["arm"], row["mode"], row["question_id"]))


def _traces_in_parts(run: RunFolder) -> dict[Key, tuple[Path, int]]:
    """The same of the traces behind them, of which a kill may have left one twice."""
    return _places(run.student_traces, "trace", lambda row: (row["teacher"], "tools", row["question_id"]))


def _places(folder: Path, what: str, key: Callable[[Any], tuple[Any, ...]]) -> dict[Key, tuple[Path, int]]:
    rows: dict[Key, tuple[Path, int]] = {}
    for path in parts_of(folder):
        for offset, line in placed_lines(path):
            try:
                arm, mode, question_id = map(str, key(from_json(line)))
            except (ValueError, KeyError, TypeError) as error:
                raise SourceError(
                    f"{path}, byte {offset}: no {what} ({error}); delete that file, and its rows are made anew"
                ) from None
            rows.setdefault((arm, mode, question_id), (path, offset))
    return rows


class StudentsHere:
    """The base and the arms as models in this process; one of them is in memory at a time."""

    def __init__(self, run: RunFolder, config: RunConfig, questions: Sequence[Question], *, writer: str = "0") -> None:
        """Loads nothing yet; what tools of students find goes to the part of that writer."""
        from aot.student.rows.frames import FramePixels, FrameSource

        self._run, self._config, self._questions, self._writer = run, config, questions, writer
        self._store: FrameSource | None = None
        if any(question.media for question in questions):
            from video_data.store.shards import FrameStore

            self._store = FrameStore(run.frames)
        self._pixels: FramePixels | None = None
        """Processed frames, shared by all students, which have the processor of the base."""
        self._student: Any = None
        self._adapter: Path | None = None
        """Of the student that is loaded."""

    def batches(self, predictor: Predictor, wanted: Wanted) -> Iterator[list[Said]]:
        """The predictions of the wanted batches, batch by batch."""
        from aot.student.answer.predict import predict_batches

        student = self._loaded(predictor)
        if predictor.mode == "tools":
            yield from self._acts(predictor, student, wanted)
            return
        made = predict_batches(
            student,
            self._questions,
            pixels=self._pixels,
            arm=predictor.arm,
            mode=predictor.mode,
            batch_size=self._config.evaluate.batch_size,
            with_frames=predictor.with_frames,
            thought=predictor.thought,
            wanted=wanted,
        )
        for batch in made:
            yield [(row, None) for row in batch]

    def _loaded(self, predictor: Predictor) -> Any:  # noqa: ANN401 - a Student, whose module imports torch
        from aot.student.model.loading import load_student

        config = self._config
        if self._student is None or predictor.adapter != self._adapter:
            self._student = load_student(config.student.base, adapter=predictor.adapter, config=config.student)
            self._adapter = predictor.adapter
        student = self._student
        if self._store is not None and self._pixels is None:
            self._pixels = student.pixels(self._store, max_bytes=config.train.frame_cache_mb << 20)
        return student

    def _acts(self, predictor: Predictor, student: Any, wanted: Wanted) -> Iterator[list[Said]]:  # noqa: ANN401
        """The same of a student that calls tools, with the traces."""
        from aot.acting.act import Actor, act_batches

        config, shows = self._config, predictor.with_frames
        with closing(door_of(config).bench(config, self._run, predictor.tools, f"student-{self._writer}")) as every:
            bench = every.offering([tool["function"]["name"] for tool in student.renderer.offered])
            actor = Actor(student, bench, predictor.arm, pixels=self._pixels, with_frames=shows)
            for made in act_batches(actor, self._questions, batch_size=config.evaluate.batch_size, wanted=wanted):
                yield [(one.prediction, one.trace) for one in made]

    def close(self) -> None:
        """Forget the model."""
        self._student = None
