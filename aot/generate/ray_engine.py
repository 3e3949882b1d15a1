"""The generate stage on Ray actors: they solve, the process that iterates appends the rows.

Frames, annotations and caches lie in the run folder, so its path must be the same on every node of a cluster; traces
come back over the wire. What an actor had in hands when it was lost is done once more by another one, then refused.
"""

import logging
import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import ray
from ray.exceptions import RayActorError

from aot.config import RunConfig, TeacherConfig
from aot.errors import AotError, GuardStop
from aot.generate.processes import Failure
from aot.generate.solve import MakeSolver, Solved, Solver, Task, failed_trace
from aot.generate.todo import Pending, Place, read_tasks

log = logging.getLogger(__name__)
OBJECT_STORE_BYTES = 100_000_000
"""Of a Ray that is started here: only questions and traces pass through it."""
TRIES = 2
"""So often a row is given to an actor that does not survive it."""
STARTS = 3
"""So many actors in a row may fail to start."""


@contextmanager
def _connected(teacher: TeacherConfig) -> Iterator[None]:
    """A Ray to work on: a small one on this machine, or the one at `teacher.ray_address`."""
    handler = signal.getsignal(signal.SIGTERM)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    try:
        if teacher.ray_address is None:
            local: dict[str, Any] = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
            ray.init(address="local", num_cpus=teacher.workers, **local, **quiet)
        else:
            ray.init(address=teacher.ray_address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        where = teacher.ray_address or "a new one on this machine"
        raise GuardStop(f"no Ray to work on ({where}): {error}; see docs/cluster.md") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray puts one of its own there, which ends with another exit code.
    try:
        yield
    finally:
        ray.shutdown()


class SolvingActor:
    """Solves the rows it is handed; lives in a process of Ray."""

    def __init__(self, make_solver: MakeSolver, writer: str) -> None:
        """Remembers what to open; `start` opens it."""
        self._make_solver, self._writer = make_solver, writer
        self._solver: Solver | None = None

    def start(self) -> Failure | None:
        """Open clips, tools and models; says what was wrong."""
        try:
            self._solver = self._make_solver(self._writer)
        except AotError as error:
            return Failure.of(error)
        return None

    def solve(self, task: Task) -> Solved | Failure:
        """What the work on one row gave."""
        assert self._solver is not None
        try:
            return self._solver.solve(task)
        except AotError as error:
            return Failure.of(error)


@dataclass
class _Member:
    """One actor and what it has to do."""

    actor: Any
    places: deque[Place]
    """Its share of the rows, clip by clip."""
    flying: dict[Any, Place] = field(default_factory=dict)
    """The rows it has in hands, by the reference of their results."""


class RayActors:
    """Actors of one Ray, each with its share of the rows."""

    def __init__(self, solver: MakeSolver, config: RunConfig, pending: Pending, *, threads: int, writer: str) -> None:
        """Connects to Ray; raises GuardStop where there is none.

        Args:
            solver: travels to the actors.
            config: of the run.
            pending: the rows that are missing.
            threads: rows that an actor works on at once.
            writer: beginning of the names of the files of caches.
        """
        self._solver, self._config, self._pending = solver, config, pending
        self._threads, self._writer = threads, writer
        self._numbers = count()
        self._again: deque[Place] = deque()
        """What lost actors had in hands."""
        self._losses: dict[Place, int] = {}
        self._members: list[_Member] = []
        self._ray = ExitStack()
        self._ray.enter_context(_connected(config.teacher))

    def solved(self) -> Iterator[Solved]:
        """Rows as they come.

        Raises:
            AotError: what an actor raised.
            GuardStop: no actor can be started.
        """
        for share in self._pending.dealt(self._config.teacher.workers):
            self._members.append(_Member(self._spawn(), deque(row for place in share for row in place.rows())))
        for member in self._members:
            member.actor = self._started(member.actor)
            self._feed(member)
        while flying := {ref: member for member in self._members for ref in member.flying}:
            (ref, *_), _ = ray.wait(list(flying), num_returns=1)
            member = flying[ref]
            try:
                result = ray.get(ref)
            except RayActorError:
                yield from self._replace(member)
            else:
                del member.flying[ref]
                if isinstance(result, Failure):
                    raise result.error()
                yield result
            for one in self._members:
                self._feed(one)

    def end(self) -> Iterator[Solved]:
        """End all actors; what they had finished already."""
        refs = [ref for member in self._members for ref in member.flying]
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0) if refs else ([], [])
        finished = []
        for ref in ready:
            try:
                finished.append(ray.get(ref))
            except RayActorError:
                continue
        for member in self._members:
            ray.kill(member.actor)
        self._ray.close()
        return (result for result in finished if isinstance(result, Solved))

    def _spawn(self) -> Any:  # noqa: ANN401 - Ray has no type for a handle
        """A new actor, with files of its own."""
        remote = ray.remote(SolvingActor).options(
            num_cpus=1, num_gpus=self._config.teacher.gpus_per_worker, max_concurrency=self._threads
        )
        return remote.remote(self._solver, f"{self._writer}{next(self._numbers)}")

    def _started(self, actor: Any) -> Any:  # noqa: ANN401
        for _ in range(STARTS):
            try:
                failure = ray.get(actor.start.remote())
            except RayActorError as error:
                log.warning("a Ray worker was lost while it started: %s", str(error).splitlines()[0])
                actor = self._spawn()
                continue
            if failure is not None:
                raise failure.error()
            return actor
        raise GuardStop(f"{STARTS} Ray workers in a row were lost while they started; see the logs of Ray")

    def _feed(self, member: _Member) -> None:
        """Hand out rows as long as the actor has a free thread."""
        while len(member.flying) < self._threads and (place := self._next(member)):
            member.flying[member.actor.solve.remote(self._task(place))] = place

    def _next(self, member: _Member) -> Place | None:
        """Its share first, then what was lost, then the end of the longest other share."""
        if member.places:
            return member.places.popleft()
        if self._again:
            return self._again.popleft()
        longest = max(self._members, key=lambda one: len(one.places))
        return longest.places.pop() if longest.places else None

    def _task(self, place: Place) -> Task:
        (task,) = read_tasks(self._pending.questions, [place])
        return task

    def _replace(self, member: _Member) -> Iterator[Solved]:
        """Put a new actor in place of a lost one; gives refusals for what was lost too often."""
        lost, member.flying = member.flying, {}
        for place in lost.values():
            self._losses[place] = self._losses.get(place, 0) + 1
            if self._losses[place] < TRIES:
                self._again.append(place)
            else:
                error = GuardStop(f"{TRIES} workers were lost while they worked on it; see the logs of Ray")
                teacher, digest = self._config.teacher.planner, self._config.digest()
                yield Solved(
                    failed_trace(self._task(place), error, teacher=teacher, config_digest=digest, reason="worker_lost")
                )
        log.warning("a Ray worker was lost with %d rows in hands; starting another", len(lost))
        ray.kill(member.actor)
        member.actor = self._started(self._spawn())
