"""Worker processes that solve rows, each with caches of its own; they die with their parent, which writes the rows."""

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from aot import errors
from aot.errors import AotError, GuardStop
from aot.files.children import die_with_parent, starting_children
from aot.generate.solve import MakeSolver, Solved
from aot.generate.todo import Pending, read_tasks


@dataclass(frozen=True)
class Failure:
    """What a worker says before it ends: the class of the error and its text."""

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


class Processes:
    """Several processes of this machine, each with its share of the questions."""

    def __init__(self, solver: MakeSolver, pending: Pending, *, workers: int, writer: str) -> None:
        """Starts the workers; the files of their caches are called `<writer>-<number>`."""
        spawn = multiprocessing.get_context("spawn")
        self._children: dict[Connection, SpawnProcess] = {}
        self._open: list[Connection] = []
        with starting_children():
            for worker, share in enumerate(pending.dealt(workers)):
                receiver, sender = spawn.Pipe(duplex=False)
                arguments = (solver, Pending(pending.questions, share), f"{writer}-{worker}".strip("-"), sender)
                child = spawn.Process(target=_work, args=arguments, daemon=True)
                child.start()
                sender.close()
                self._children[receiver] = child
                self._open.append(receiver)

    def solved(self) -> Iterator[Solved]:
        """Rows as they come.

        Raises:
            AotError: what a worker raised.
            GuardStop: a worker was killed.
        """
        while self._open:
            for pipe in wait(self._open):
                assert isinstance(pipe, Connection)
                message = _received(pipe)
                if message is None:
                    self._open.remove(pipe)
                    self._require_done(self._children[pipe])
                elif isinstance(message, Failure):
                    raise message.error()
                else:
                    yield message

    def end(self) -> Iterator[Solved]:
        """End the workers; what they had sent before."""
        for child in self._children.values():
            child.terminate()
        for child in self._children.values():
            child.join()
        for pipe in self._open:
            while isinstance(message := _received(pipe), Solved):
                yield message

    def _require_done(self, child: SpawnProcess) -> None:
        child.join()
        if child.exitcode != 0:
            raise GuardStop(
                f"a teacher process ended with code {child.exitcode}; run the same command again to go on: "
                "finished traces are kept"
            )


def _received(pipe: Connection) -> Solved | Failure | None:
    """The next message of a worker; None at its end, even if that came in the middle of a message."""
    try:
        message: Solved | Failure = pipe.recv()
    except (EOFError, OSError):
        return None
    return message


def _work(make_solver: MakeSolver, pending: Pending, writer: str, sender: Connection) -> None:
    """The life of a worker process."""
    die_with_parent()
    try:
        solver = make_solver(writer)
        for task in read_tasks(pending.questions, pending.places):
            sender.send(solver.solve(task))
        solver.close()
    except AotError as error:
        sender.send(Failure.of(error))
    finally:
        sender.close()
