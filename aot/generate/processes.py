"""Worker processes that solve questions, each with files of its own; they die with their parent."""

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import cv2

from aot import errors
from aot.config import RunConfig
from aot.errors import AotError, GuardStop
from aot.files.children import die_with_parent, starting_children
from aot.files.run_folder import RunFolder
from aot.files.todo import Pending, read_places
from aot.generate.video_work import solve_all


@dataclass(frozen=True)
class Failure:
    """What a worker tells before it ends: the class of the error and its text."""

    kind: str
    message: str

    @classmethod
    def of(cls, error: AotError) -> "Failure":
        """The failure that `error` is."""
        return cls(type(error).__name__, str(error))

    def error(self) -> AotError:
        """The error as it was raised in the worker."""
        kind = getattr(errors, self.kind, None)
        if kind is errors.VideoError:
            return errors.DecodeError(self.message)
        if isinstance(kind, type) and issubclass(kind, AotError) and kind is not errors.ChatError:
            return kind(self.message)
        return AotError(self.message)


def solve_in_processes(
    run: RunFolder, config: RunConfig, pending: Pending, *, writer: str, workers: int
) -> Iterator[str]:
    """Ids of questions as their rows get on disk; each worker appends to parts `<writer>-<its number>`.

    Raises:
        AotError: what a worker raised.
        GuardStop: a worker was killed.
    """
    spawn = multiprocessing.get_context("spawn")
    children: dict[Connection, SpawnProcess] = {}
    try:
        with starting_children():
            for worker, share in enumerate(pending.dealt(workers)):
                mine = Pending(pending.questions, share, len(share))
                receiver, sender = spawn.Pipe(duplex=False)
                own = f"{writer}-{worker}" if writer else str(worker)
                child = spawn.Process(target=_work, args=(run, config, mine, own, sender), daemon=True)
                child.start()
                sender.close()
                children[receiver] = child
        yield from _messages(children)
    finally:
        for child in children.values():
            child.terminate()
        for child in children.values():
            child.join()


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
            if isinstance(message, Failure):
                raise message.error()
            yield message


def _work(run: RunFolder, config: RunConfig, pending: Pending, writer: str, sender: Connection) -> None:
    """The life of a worker process."""
    die_with_parent()
    cv2.setNumThreads(1)
    try:
        for question_id in solve_all(run, config, read_places(pending.questions, pending.places), writer=writer):
            sender.send(question_id)
    except AotError as error:
        sender.send(Failure.of(error))
    finally:
        sender.close()
