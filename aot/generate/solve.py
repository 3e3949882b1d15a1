"""What one process does: solves rows of questions with an opened teacher, one after the other or by several threads.

What row (question i, sample k) gives depends on (seed, i, k) only, so it does not matter who solves it or how often.
The gold answer is used in one place, to stop at the first attempt at a training row that verifies, and to plant faults
in what verifies. Nothing is written here: whoever iterates appends the rows.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import numpy as np

from aot.answers import verifies
from aot.chat.client import map_threads
from aot.chat.outage import got_no_reply
from aot.config import RunConfig, TeacherConfig
from aot.errors import AotError, DecodeError, SourceError, ToolError, VideoError
from aot.faults.plant import Edits, plant
from aot.files.run_folder import RunFolder
from aot.records import Question, Trace, TraceError, Usage
from aot.run_records import PlantedFault

TRAIN = "train"
Run = TypeVar("Run", bound=RunConfig, contravariant=True)
Task = tuple[Question, int]
"""A question and which sample of it is wanted."""


class Teacher(Protocol):
    """Writes traces; opened once in each process, and asked by many threads at once where it waits for a chat model."""

    @property
    def name(self) -> str:
        """What stands in its traces."""
        ...

    @property
    def edits(self) -> Edits[Any]:
        """The faults that may be planted in its traces."""
        ...

    def solve(self, question: Question, sample: int) -> Trace:
        """One attempt; what fails on the way stands in the trace.

        Raises:
            SourceError, DecodeError, ToolError: no attempt at this question can begin.
            ConfigError, GuardStop, RunError, VideoError: nobody can go on.
        """
        ...

    def answer(self, question: Question, sample: int) -> Trace:
        """As `solve`, where only the answer matters."""
        ...

    def give_up(self) -> None:
        """End the requests to models that are waiting."""
        ...

    def close(self) -> None:
        """Close files and connections."""
        ...


class OpenTeacher(Protocol[Run]):
    """Opens a teacher; a function of a module, so that worker processes find it by its name."""

    def __call__(self, run: RunFolder, config: Run, *, writer: str) -> Teacher:
        """The teacher of `config`; `writer` names the files that this process appends to."""
        ...


class TeacherRoom(Protocol[Run]):
    """The module in which a door keeps its teachers."""

    FEW_QUESTIONS: int
    """So many are solved in this process: starting workers would take longer."""

    def open_teacher(self, run: RunFolder, config: Run, *, writer: str) -> Teacher:
        """See OpenTeacher."""
        ...

    def samples_of(self, teacher: TeacherConfig) -> int:
        """Rows of each question: its samples count from 0."""
        ...

    def tries_of(self, teacher: TeacherConfig) -> int:
        """Attempts at a row of a training question, until one verifies."""
        ...

    def figures(self, run: RunFolder, config: Run) -> dict[str, Any]:
        """What only this teacher has to say in teacher.json."""
        ...


@dataclass(frozen=True)
class Solved:
    """What the work on one row gave."""

    trace: Trace
    """The row."""
    earlier: tuple[Trace, ...] = ()
    """Attempts before it that did not verify."""
    fault: PlantedFault | None = None


class Solver:
    """Makes rows of questions; several threads may share one."""

    def __init__(
        self, open_teacher: OpenTeacher[Any], run: RunFolder, config: RunConfig, tries: int, writer: str
    ) -> None:
        """Opens the teacher; raises ConfigError or DecodeError where it cannot work at all."""
        self._teacher, self._config, self._tries = open_teacher(run, config, writer=writer), config, tries
        self.give_up, self.close = self._teacher.give_up, self._teacher.close

    def solve(self, task: Task) -> Solved:
        """The row of one sample: the first attempt that verifies, else the last one; a failure is a row.

        Raises:
            DecodeError: the frame store is damaged.
            ConfigError, GuardStop, RunError: nobody can go on.
        """
        question, sample = task
        training = question.split == TRAIN
        attempts: list[Trace] = []
        try:
            for attempt in range(sample, sample + (self._tries if training else 1)):
                attempts.append(self._teacher.solve(question, attempt))
                if training and verifies(attempts[-1], question):
                    return self._verified(question, attempts)
        except VideoError as error:
            raise DecodeError(str(error)) from error
        except (SourceError, DecodeError, ToolError) as error:
            attempts.append(failed_trace(task, error, teacher=self._teacher.name, config_digest=self._config.digest()))
        *earlier, last = attempts
        return Solved(_charged(last, attempts), tuple(earlier))

    def _verified(self, question: Question, attempts: list[Trace]) -> Solved:
        """The row of a training question, whose last attempt came to the gold answer."""
        teacher, seed = self._config.teacher, self._config.seed
        *earlier, trace = attempts
        # Runs without choices do not read the setting, which the table of readers would then refuse to them.
        others = reordered(question, times=teacher.shuffle_checks, seed=seed) if question.choices else ()
        checks = [self._teacher.answer(other, trace.sample_index) for other in others]
        if silent := next((check for check in checks if got_no_reply(check)), None):
            trace = silent  # Nobody answered, so nobody knows yet whether the answer holds: the row is asked for again.
        elif checks:
            trace = trace.model_copy(update={"shuffled_answers": tuple(check.answer for check in checks)})
        trace, fault = _charged(trace, [*attempts, *checks]), None
        if teacher.faults and not silent:
            trace, fault = plant(trace, question, self._teacher.edits, rate=teacher.faults.rate, seed=seed)
        return Solved(trace, tuple(earlier), fault)


def failed_trace(task: Task, error: AotError, *, teacher: str, config_digest: str, reason: str = "") -> Trace:
    """The row of a question that no attempt could begin with, such as one about a clip that is not there."""
    return Trace(
        question_id=task[0].id, sample_index=task[1], teacher=teacher, status="failed",
        error=TraceError(boundary=error.boundary, message=str(error)[:300], reason=reason),
        config_digest=config_digest,
    )  # fmt: skip


def reordered(question: Question, *, times: int, seed: int) -> list[Question]:
    """The question with its options in other orders, each different from the given one; depends on (seed, id) only.

    An answer that does not hold in another order was a lucky guess or a habit of letters. None where only letters tell
    the options apart: they belong to the given order.
    """
    digits = np.frombuffer(question.id.encode("utf-8", "surrogatepass"), np.uint8)
    rng = np.random.default_rng([seed, *map(int, digits)])
    others: list[Question] = []
    while len(others) < times and len(question.choices) > 1 and question.answer_index is None:
        order = [int(i) for i in rng.permutation(len(question.choices))]
        if order != sorted(order):
            choices = tuple(question.choices[i] for i in order)
            others.append(question.model_copy(update={"choices": choices}))
    return others


def _charged(trace: Trace, attempts: list[Trace]) -> Trace:
    """The row, charged with what all attempts at it have cost."""
    usages = [attempt.usage for attempt in attempts]
    counts = [name for name in Usage.model_fields if name not in ("cost", "seconds")]
    sums: dict[str, Any] = {name: sum(getattr(usage, name) for usage in usages) for name in counts}
    paid = [usage.cost for usage in usages if usage.chat_calls]
    cost = None if None in paid or not paid else sum(one for one in paid if one is not None)
    seconds = round(sum(usage.seconds for usage in usages), 6)
    return trace.model_copy(update={"usage": Usage(**sums, cost=cost, seconds=seconds)})


class Engine(Protocol):
    """A way to solve many rows."""

    def solved(self) -> Iterator[Solved]:
        """Rows as they come, in no order; raises what nobody can go on after."""
        ...

    def end(self) -> Iterable[Solved]:
        """Stop, and close what is open; what was finished meanwhile."""
        ...


class Alone:
    """One row after the other, in this thread."""

    def __init__(self, solver: Solver, tasks: Iterable[Task]) -> None:
        self._solver, self._tasks = solver, tasks

    def solved(self) -> Iterator[Solved]:
        """Rows in the order of the tasks."""
        return map(self._solver.solve, self._tasks)

    def end(self) -> Iterable[Solved]:
        """Close the teacher."""
        self._solver.close()
        return ()


class Threads:
    """Many rows at once, for teachers that wait for a chat model most of the time."""

    def __init__(self, solver: Solver, tasks: Iterable[Task], *, threads: int) -> None:
        self._solver = solver
        self._finished: SimpleQueue[Solved] = SimpleQueue()

        def work(task: Task) -> None:
            self._finished.put(solver.solve(task))

        self._working = map_threads(work, tasks, threads=threads, give_up=solver.give_up)

    def solved(self) -> Iterator[Solved]:
        """Rows as they come; when a thread stops the work, nothing new is started."""
        for _ in self._working:
            yield from self._drained()

    def end(self) -> Iterable[Solved]:
        """Wait for the calls in flight, which are paid for, and close the teacher."""
        self._working.close()
        self._solver.close()
        return self._drained()

    def _drained(self) -> Iterator[Solved]:
        while not self._finished.empty():
            yield self._finished.get()


MakeSolver = Callable[[str], Solver]
"""Opens a solver whose caches have files of that name; it travels to worker processes."""
