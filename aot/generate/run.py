"""The generate stage of both doors: missing rows are solved in one of four ways, then teacher.json is published.

Rows are appended by this process alone, each as soon as it is there. A kill at any moment loses what was in flight and
at most half a line, which readers leave out (aot.files.traces) and which is solved again. A run that is one shard of
many writes parts of its own and publishes nothing. Nothing here knows how a trace is made.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import IO, Any, Self

from pydantic import BaseModel

from aot.chat.outage import AT_LEAST, Unanswered, got_no_reply, is_unproven, until_outage
from aot.config import RunConfig, teacher_chats
from aot.files.parts import part_path
from aot.files.run_folder import RunFolder, append_row, open_append, publish
from aot.files.shards import Shard
from aot.files.traces import any_answered, read_solved
from aot.generate.processes import Processes
from aot.generate.solve import Alone, Engine, MakeSolver, Solved, Solver, TeacherRoom, Threads
from aot.generate.stats import Tally, with_spend
from aot.generate.todo import Pending, pending_questions, read_tasks

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]


def generate(run: RunFolder, config: RunConfig, progress: Progress, teachers: TeacherRoom[Any]) -> dict[str, int]:
    """Write the rows of the shard that are missing; for a whole run publish teacher.json too.

    Returns:
        How many traces there are, and of them failed ones and those that a chat model refused; or a shard's questions.

    Raises:
        ConfigError: the teacher cannot work at all, or a chat model cannot be asked.
        DecodeError: the frame store is damaged.
        RunError: the disk refuses a row.
        GuardStop: a worker was killed, the cost limit is reached, or some were left unanswered; the same command goes
            on where it stopped.
    """
    shard = Shard.of(config.run.shard)
    samples = teachers.samples_of(config.teacher)
    pending = pending_questions(run, shard, samples=samples)
    written = pending.total * samples - pending.missing
    progress(written // samples, pending.total)
    if pending.places:
        with Rows(run, writer="0" if config.run.shard is None else shard.writer) as rows:
            engine = _engine(run, config, pending, teachers)
            try:
                for solved in _answered(engine, run, config):
                    rows.add(solved)
                    written += 1
                    progress(written // samples, pending.total)
            finally:
                for solved in engine.end():
                    if not (got_no_reply(solved.trace) or is_unproven(solved.trace)):
                        rows.add(solved)
    if config.run.shard is not None:
        return {"questions": pending.total}
    return _publish_stats(run, config, teachers)


class Rows:
    """The parts that one writer appends to."""

    def __init__(self, run: RunFolder, *, writer: str) -> None:
        """Opens nothing before there is a row."""
        self._run, self._writer = run, writer
        self._files: dict[str, IO[bytes]] = {}
        self._open = ExitStack()

    def add(self, solved: Solved) -> None:
        """Append what the work on one row gave; raises RunError when the disk refuses.

        The trace goes last: a kill before it repeats the row, which gives the same attempts and fault again.
        """
        for attempt in solved.earlier:
            self._append("attempts", attempt)
        if solved.fault is not None:
            self._append("faults", solved.fault)
        self._append("traces", solved.trace)

    def _append(self, kind: str, row: BaseModel) -> None:
        if kind not in self._files:
            path = part_path(getattr(self._run, kind), self._writer)
            self._files[kind] = self._open.enter_context(open_append(path))
        append_row(self._files[kind], row)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()


def chat_threads(config: RunConfig) -> int:
    """How many rows are worked on at once because their teacher waits for a chat model; 0 if it asks none."""
    return max((section.max_concurrency for section in teacher_chats(config) if section), default=0)


def _engine(run: RunFolder, config: RunConfig, pending: Pending, teachers: TeacherRoom[Any]) -> Engine:
    """The way in which the rows of a run are solved."""
    teacher, threads = config.teacher, chat_threads(config)
    solver: MakeSolver = partial(Solver, teachers.open_teacher, run, config, teachers.tries_of(teacher))
    writer = "" if config.run.shard is None else Shard.of(config.run.shard).writer
    if teacher.engine == "ray":
        from aot.generate.ray_engine import RayActors  # here, because the package is optional

        return RayActors(solver, config, pending, threads=max(1, threads), writer=f"{writer}-ray".strip("-"))
    workers = min(teacher.workers, len(pending.places))
    if not threads and workers > 1 and len(pending.places) > teachers.FEW_QUESTIONS:
        return Processes(solver, pending, workers=workers, writer=writer)
    tasks = read_tasks(pending.questions, pending.places)
    one = solver(writer or "0")
    return Threads(one, tasks, threads=threads) if threads else Alone(one, tasks)


def _answered(engine: Engine, run: RunFolder, config: RunConfig) -> Iterator[Solved]:
    """What is a row (aot.chat.outage); a script that has no reply to a question will have none another time.

    Raises:
        GuardStop: the chat model answers nobody, or left some unanswered.
    """
    sections = [section for section in teacher_chats(config) if section]
    if not sections:
        return engine.solved()
    scripted = all(section.backend == "scripted" for section in sections)
    unanswered: Unanswered = "refuse" if scripted else config.teacher.unanswered
    teacher = config.teacher
    at_once = chat_threads(config) * (teacher.workers if teacher.engine == "ray" else 1)
    return until_outage(
        engine.solved(), trace_of=lambda solved: solved.trace, limit=max(AT_LEAST, at_once), unanswered=unanswered,
        answered_before=lambda: any_answered(run, config_digest=config.digest()),
    )  # fmt: skip


def _publish_stats(run: RunFolder, config: RunConfig, teachers: TeacherRoom[Any]) -> dict[str, int]:
    tally = Tally()
    for question, traces in read_solved(run):
        tally.add(question, traces)
    one_row = teachers.samples_of(config.teacher) == 1
    stats = tally.stats(tries=teachers.tries_of(config.teacher) if one_row else None)
    stats = with_spend(stats, run, teacher_chats(config))
    publish(run.teacher_stats, stats.model_copy(update=teachers.figures(run, config)).as_json() + "\n")
    return {"traces": tally.samples, "failed": tally.failed, "refused": tally.refused}
