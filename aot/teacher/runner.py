"""The generate stage: worker processes solve the questions that have no row yet.

Each worker appends to files of its own, so a kill at any moment loses at most a half-written line, which is left out
by the readers (aot.traces) and solved again. Children die with their parent.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import cv2

from aot import errors
from aot.config import RunConfig
from aot.errors import AotError, GuardStop
from aot.records import ClipAnnotation, Question
from aot.runs import RunFolder, publish, read_rows
from aot.teacher.exam import examine
from aot.teacher.solving import make_kit, open_shelf, solve_all
from aot.teacher.stats import teacher_stats
from aot.teacher.tools.appearance import load_appearance
from aot.traces import read_traces, solved_ids

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
FEW_QUESTIONS = 24
"""So many are solved in this process: starting workers would take longer."""


def generate(run: RunFolder, config: RunConfig, *, progress: Progress) -> None:
    """Write a trace row for each question that has none, then publish teacher.json.

    Raises:
        ConfigError: the appearance card cannot be read.
        DecodeError: the frame store is damaged.
        RunError: the disk refuses a row.
        GuardStop: a worker was killed; the same command goes on where it stopped.
    """
    load_appearance(config.teacher.appearance)  # A bad card is told before any worker starts.
    questions = list(read_rows(run.questions, Question))
    done = solved_ids(run)
    pending = [question for question in questions if question.id not in done]
    finished = len(questions) - len(pending)
    progress(finished, len(questions))
    for _ in _solve(run, config, pending):
        finished += 1
        progress(finished, len(questions))
    kit = make_kit(run, config, writer="exam")
    with kit.cache:
        accuracy = examine(read_rows(run.annotations, ClipAnnotation), open_shelf(run), kit)
    stats = teacher_stats(
        read_traces(run),
        questions=questions,
        tool_accuracy=accuracy,
        candidates=config.teacher.candidates,
    )
    publish(run.teacher_stats, stats.model_dump_json(indent=1) + "\n")


@dataclass(frozen=True)
class _Failure:
    """What a worker tells before it ends: the class of the error and its text."""

    kind: str
    message: str


def _solve(run: RunFolder, config: RunConfig, pending: Sequence[Question]) -> Iterator[str]:
    workers = min(config.teacher.workers, len(pending))
    if workers <= 1 or len(pending) <= FEW_QUESTIONS:
        if pending:
            yield from solve_all(run, config, pending, writer="0")
        return
    spawn = multiprocessing.get_context("spawn")
    children: dict[Connection, SpawnProcess] = {}
    try:
        for worker, share in enumerate(shares(pending, workers)):
            receiver, sender = spawn.Pipe(duplex=False)
            child = spawn.Process(target=_work, args=(run, config, share, str(worker), sender), daemon=True)
            child.start()
            sender.close()
            children[receiver] = child
        yield from _messages(children)
    finally:
        for child in children.values():
            child.terminate()
        for child in children.values():
            child.join()


def shares(questions: Sequence[Question], workers: int) -> list[list[Question]]:
    """Questions dealt out to workers; those of one clip stay together, because its frames are looked at once."""
    dealt: list[list[Question]] = [[] for _ in range(workers)]
    owner: dict[str, int] = {}
    for question in questions:
        uri = question.media.uri if question.media else question.id
        worker = owner.setdefault(uri, len(owner) % workers)
        dealt[worker].append(question)
    return [sorted(share, key=lambda q: q.media.uri if q.media else q.id) for share in dealt if share]


def _messages(children: dict[Connection, SpawnProcess]) -> Iterator[str]:
    """Ids of solved questions as they come; raises what a worker raised."""
    open_pipes = dict(children)
    while open_pipes:
        for pipe in wait(list(open_pipes)):
            assert isinstance(pipe, Connection)
            try:
                message = pipe.recv()
            except EOFError:
                child = open_pipes.pop(pipe)
                child.join()
                if child.exitcode != 0:
                    raise GuardStop(
                        f"a teacher process ended with code {child.exitcode}; run the same command again to go on: "
                        "finished traces are kept"
                    ) from None
                continue
            if isinstance(message, _Failure):
                raise _same_error(message)
            yield message


def _same_error(failure: _Failure) -> AotError:
    kind = getattr(errors, failure.kind, None)
    if isinstance(kind, type) and issubclass(kind, AotError):
        return kind(failure.message)
    return AotError(failure.message)


def _work(run: RunFolder, config: RunConfig, questions: list[Question], writer: str, sender: Connection) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its children.
    _die_with_parent()
    cv2.setNumThreads(1)
    try:
        for question_id in solve_all(run, config, questions, writer=writer):
            sender.send(question_id)
    except AotError as error:
        sender.send(_Failure(type(error).__name__, str(error)))
    finally:
        sender.close()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
