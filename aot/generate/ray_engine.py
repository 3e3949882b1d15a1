"""The generate stage on Ray actors: they solve, this process alone appends rows.

Frames, annotations and caches lie in the run folder, so its path must be the same on every node of a cluster; traces
come back over the wire. What an actor had in hands when it was lost is done once more by another one, then refused.
"""

import logging
import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import ray
from ray.exceptions import RayActorError

from aot.chat.outage import AT_LEAST, got_no_reply, is_unproven
from aot.config import RunConfig
from aot.errors import AotError, GuardStop
from aot.files.run_folder import RunFolder
from aot.files.todo import Pending, Place, read_places
from aot.generate.processes import Failure
from aot.generate.video_work import RowFiles, Solved, Solver, answered_rows, chat_threads
from aot.records import Question, Trace, TraceError

log = logging.getLogger(__name__)
OBJECT_STORE_BYTES = 100_000_000
"""Of a Ray that is started here: only questions and traces pass through it."""
TRIES = 2
"""So often a question is given to an actor that does not survive it."""
STARTS = 3
"""So many actors in a row may fail to start."""


def solve_on_ray(run: RunFolder, config: RunConfig, pending: Pending, *, writer: str) -> Iterator[str]:
    """Ids of questions as their rows get on disk.

    Raises:
        AotError: what an actor raised.
        GuardStop: no cluster answers, or no actor can be started.
    """
    with _connected(config), RowFiles(run, writer=writer) as rows:
        crew = _Crew(run, config, pending, writer=writer)
        try:
            limit = max(AT_LEAST, config.teacher.workers * max(1, chat_threads(config)))
            for solved in answered_rows(crew.work(), run, config, limit=limit):
                yield rows.add(solved)
        finally:
            for solved in crew.dismiss():
                if not (got_no_reply(solved.trace) or is_unproven(solved.trace)):
                    rows.add(solved)


@contextmanager
def _connected(config: RunConfig) -> Iterator[None]:
    """A Ray to work on: a small one on this machine, or the one at `teacher.ray_address`."""
    teacher = config.teacher
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
    """Solves the questions it is handed; lives in a process of Ray."""

    def __init__(self, run: RunFolder, config: RunConfig, writer: str) -> None:
        """Remembers what to open; `start` opens it."""
        self._run, self._config, self._writer = run, config, writer
        self._solver: Solver | None = None

    def start(self) -> Failure | None:
        """Open clips, tools and models; tells what was wrong."""
        import cv2

        cv2.setNumThreads(1)
        try:
            self._solver = Solver(self._run, self._config, writer=self._writer)
        except AotError as error:
            return Failure.of(error)
        return None

    def solve(self, question: Question) -> Solved | Failure:
        """What the work on one question gave."""
        assert self._solver is not None
        try:
            return self._solver.solve(question)
        except AotError as error:
            return Failure.of(error)


@dataclass
class _Member:
    """One actor and what it has to do."""

    actor: Any
    places: deque[Place]
    """Its share of the work, clip by clip."""
    flying: dict[Any, Place] = field(default_factory=dict)
    """The questions it has in hands, by the reference of their results."""


class _Crew:
    def __init__(self, run: RunFolder, config: RunConfig, pending: Pending, *, writer: str) -> None:
        self._run, self._config, self._pending, self._writer = run, config, pending, writer
        self._threads = chat_threads(config)
        self._numbers = count()
        self._again: deque[Place] = deque()
        """What lost actors had in hands."""
        self._losses: dict[Place, int] = {}
        self._members: list[_Member] = []

    def work(self) -> Iterator[Solved]:
        """Results as they come."""
        shares = self._pending.dealt(self._config.teacher.workers)
        for share in shares:
            self._members.append(_Member(self._spawn(), deque(share)))
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

    def dismiss(self) -> list[Solved]:
        """End all actors; what they had finished already."""
        refs = [ref for member in self._members for ref in member.flying]
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0) if refs else ([], [])
        finished = []
        for ref in ready:
            try:
                result = ray.get(ref)
            except RayActorError:
                continue
            if isinstance(result, Solved):
                finished.append(result)
        for member in self._members:
            ray.kill(member.actor)
        return finished

    def _spawn(self) -> Any:  # noqa: ANN401 - Ray has no type for a handle
        """A new actor, with files of its own."""
        remote = ray.remote(SolvingActor).options(
            num_cpus=1, num_gpus=self._config.teacher.gpus_per_worker, max_concurrency=max(1, self._threads)
        )
        return remote.remote(self._run, self._config, f"{self._writer}{next(self._numbers)}")

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
        """Hand out questions as long as the actor has a free thread."""
        while len(member.flying) < max(1, self._threads):
            place = self._next(member)
            if place is None:
                return
            (question,) = read_places(self._pending.questions, [place])
            member.flying[member.actor.solve.remote(question)] = place

    def _next(self, member: _Member) -> Place | None:
        """Its own work first, then what was lost, then the end of the longest other share."""
        if member.places:
            return member.places.popleft()
        if self._again:
            return self._again.popleft()
        longest = max(self._members, key=lambda one: len(one.places))
        return longest.places.pop() if longest.places else None

    def _replace(self, member: _Member) -> Iterator[Solved]:
        """Put a new actor in place of a lost one; gives refusals for what was lost too often."""
        lost, member.flying = member.flying, {}
        for place in lost.values():
            self._losses[place] = self._losses.get(place, 0) + 1
            if self._losses[place] < TRIES:
                self._again.append(place)
            else:
                yield self._refusal(place)
        log.warning("a Ray worker was lost with %d questions in hands; starting another", len(lost))
        ray.kill(member.actor)
        member.actor = self._started(self._spawn())

    def _refusal(self, place: Place) -> Solved:
        (question,) = read_places(self._pending.questions, [place])
        message = f"{TRIES} workers were lost while they worked on it; see the logs of Ray"
        error = TraceError(boundary="guard", message=message, reason="worker_lost")
        return Solved(
            Trace(
                question_id=question.id,
                sample_index=0,
                teacher=self._config.teacher.planner,
                status="failed",
                error=error,
                config_digest=self._config.digest(),
            )
        )
