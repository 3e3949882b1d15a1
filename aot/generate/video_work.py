"""One share of the generate stage: solves questions, alone or by several threads, and appends their rows.

What question i gives depends on (seed, question i) only, so it does not matter who solves it or how often. All rows
are appended by the one thread that iterates.
"""

import queue
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from aot.answers import verifies
from aot.chat.outage import AT_LEAST, Unanswered, got_no_reply, is_unproven, until_outage
from aot.chat.pool import map_threads
from aot.config import RunConfig
from aot.errors import DecodeError, VideoError
from aot.faults.video_plant import plant
from aot.files.run_folder import RunFolder, append_row, open_append
from aot.files.traces import any_answered, part_path
from aot.generate.attempts import solve
from aot.records import PlantedFault, Question, Trace
from aot.teacher.clip_shelf import open_shelf
from aot.teacher.parts import TRAIN, make_kit, open_models


@dataclass(frozen=True)
class Solved:
    """What the work on one question gave."""

    trace: Trace
    """Its row."""
    earlier: tuple[Trace, ...] = ()
    """Attempts before it that did not verify."""
    fault: PlantedFault | None = None


class Solver:
    """Solves questions; several threads may share one."""

    def __init__(self, run: RunFolder, config: RunConfig, *, writer: str) -> None:
        """The teacher of `config` on the stored clips of `run`; `writer` names the files of its caches.

        Raises:
            DecodeError: the frame store is damaged.
            ConfigError: the appearance card cannot be read, or a chat model cannot be asked.
        """
        self._config = config
        self._shelf = open_shelf(run)
        self._models = open_models(config, run, writer=writer)
        self._kit = make_kit(run, config, writer=writer, models=self._models)
        self._labels = self._kit.procedure.labels if self._kit.procedure else self._kit.looker.card.labels

    def solve(self, question: Question) -> Solved:
        """The attempts at one question; a failure is a row.

        Raises:
            DecodeError: the frame store is damaged.
            ConfigError, GuardStop: nobody can go on.
        """
        teacher = self._config.teacher
        try:
            *earlier, trace = solve(question, self._shelf, self._kit, candidates=teacher.candidates)
        except VideoError as error:
            raise DecodeError(str(error)) from error
        fault: PlantedFault | None = None
        if teacher.faults is not None and question.split == TRAIN and verifies(trace, question):
            rate, seed = teacher.faults.rate, self._config.seed
            trace, fault = plant(trace, question, rate=rate, seed=seed, labels=self._labels)
        return Solved(trace, tuple(earlier), fault)

    def give_up(self) -> None:
        """End the requests to models that are waiting."""
        self._models.close()

    def close(self) -> None:
        """Close the files of the caches and the connections of the models."""
        self._kit.cache.close()
        self._models.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RowFiles:
    """The parts that one writer appends to."""

    def __init__(self, run: RunFolder, *, writer: str) -> None:
        """Opens them; raises RunError when the disk refuses."""
        self._traces, self._faults, self._earlier = (
            open_append(part_path(folder, writer)) for folder in (run.traces, run.faults, run.attempts)
        )

    def add(self, solved: Solved) -> str:
        """Append the rows of one question; its id.

        The trace goes last: a kill before it repeats the question, which gives the same attempts and fault again.
        """
        for attempt in solved.earlier:
            append_row(self._earlier, attempt)
        if solved.fault is not None:
            append_row(self._faults, solved.fault)
        append_row(self._traces, solved.trace)
        return solved.trace.question_id

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._traces, self._faults, self._earlier):
            file.close()


def solve_all(run: RunFolder, config: RunConfig, questions: Iterable[Question], *, writer: str) -> Iterator[str]:
    """Solve and append one after the other; gives the id of each question once its row is on disk.

    Raises:
        DecodeError: the frame store is damaged.
        RunError: the disk refuses a row.
    """
    with Solver(run, config, writer=writer) as solver, RowFiles(run, writer=writer) as rows:
        for question in questions:
            yield rows.add(solver.solve(question))


def solve_in_threads(
    run: RunFolder, config: RunConfig, questions: Iterable[Question], *, writer: str, threads: int
) -> Iterator[str]:
    """Like `solve_all`, many questions at once: for teachers that wait for a chat model most of the time.

    When a thread or the caller stops the work, nothing new is started, and what the other threads still finish is
    written before the error goes on; questions to which nobody answered stay unwritten then.

    Raises:
        GuardStop: the chat model answers nobody any more, or left some unanswered.
    """
    finished: queue.SimpleQueue[Solved] = queue.SimpleQueue()

    def work(question: Question) -> None:
        finished.put(solver.solve(question))

    def as_they_come() -> Generator[Solved, None, None]:
        for _ in map_threads(work, questions, threads=threads, give_up=solver.give_up):
            while not finished.empty():
                yield finished.get()

    with Solver(run, config, writer=writer) as solver, RowFiles(run, writer=writer) as rows:
        coming = as_they_come()
        try:
            limit = max(AT_LEAST, threads)
            for solved in answered_rows(coming, run, config, limit=limit):
                yield rows.add(solved)
        finally:
            coming.close()  # waits for the calls in flight
            while not finished.empty():
                late = finished.get()
                if not (got_no_reply(late.trace) or is_unproven(late.trace)):
                    rows.add(late)


def answered_rows(coming: Iterable[Solved], run: RunFolder, config: RunConfig, *, limit: int) -> Iterator[Solved]:
    """What is a row (aot.chat.outage); a script that has no reply to a question will have none another time.

    Raises:
        GuardStop: the chat model answers nobody, or left some unanswered.
    """
    sections = (config.chat, config.vision_chat)
    scripted = all(section is None or section.backend == "scripted" for section in sections)
    unanswered: Unanswered = "refuse" if scripted else config.teacher.unanswered
    return until_outage(
        coming, trace_of=lambda solved: solved.trace, limit=limit, unanswered=unanswered,
        answered_before=lambda: any_answered(run, config_digest=config.digest()),
    )  # fmt: skip


def chat_threads(config: RunConfig) -> int:
    """How many questions are worked on at once because their teacher waits for a chat model; 0 if it asks none."""
    teacher = config.teacher
    thinks = config.chat if teacher.planner == "chat" or teacher.rationale == "chat" else None
    looks = (config.vision_chat or config.chat) if teacher.tools.behind("chat") else None
    return max((section.max_concurrency for section in (thinks, looks) if section), default=0)
