"""Who works on a run folder: one command at a time holds its lease, a small file that it keeps touching.

No lock of the file system is used, because locks lie on cluster file systems; a lease tells who holds it, and can be
found abandoned. It is taken by making a hard link, which is atomic on NFS too. Its holder is known to be gone if it ran
on this machine and its process is no more; any other if the file was not touched for STALE_S, and is not while one
watches: whoever sees it being touched gives up. Times are those of files just touched there; no machine's clock counts.

From a holder that is gone one command takes over: the one that links its own lease to `.<name>.after-<old id>.tmp`. Who
wakes up and finds the lease taken over stops before it publishes anything.
"""

import logging
import os
import secrets
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError

from aot.errors import GuardStop, RunError
from aot.files.disk import linked
from aot.records import Record

log = logging.getLogger(__name__)
HEARTBEAT_S = 5.0
STALE_S = 60.0
"""Twelve heartbeats: a file server may be away for a while."""
WATCH_S = 10.0
"""So long a silent lease is watched at least before it is taken over: a clock that jumped makes it look old."""
CHECK_S = 1.0
_HIDDEN = "hidden"
"""Of a process that is there, and whose beginning this user may not see."""


class Holder(Record):
    """The content of a lease."""

    id: str
    host: str
    space: str
    """Boot and process namespace: only within them a process number names the same process."""
    pid: int = Field(ge=0, lt=1 << 31)
    started: str
    """When the process began, in the words of the system; a later process of the same number differs in it."""
    command: str
    since: str
    """For people only: by the clock of the holder."""

    @classmethod
    def me(cls, command: Sequence[str]) -> Self:
        """This process, about to do `command`."""
        return cls(
            id=secrets.token_hex(8), host=socket.gethostname(), space=_space(), pid=os.getpid(),
            started=_began(os.getpid()), command=shlex.join(["aot", *command[1:]])[:300],
            since=time.strftime("%Y-%m-%d %H:%M:%S %z"),
        )  # fmt: skip

    @property
    def line(self) -> str:
        """Who it is, for a person; without control characters, whoever wrote the file."""
        text = f"`{self.command}` (pid {self.pid} on {self.host}, since {self.since})"
        return "".join(c if c.isprintable() else " " for c in text)

    @property
    def is_here(self) -> bool:
        """Whether its process can be seen from here."""
        return self.space == _space() and self.host == socket.gethostname()

    @property
    def is_gone(self) -> bool:
        """Whether it ran here and its process is no more; False where that cannot be seen."""
        if not self.is_here:
            return False
        began = _began(self.pid)
        return not began or (bool(self.started) and began not in (self.started, _HIDDEN))


@dataclass(frozen=True)
class Sighting:
    """A lease that somebody holds or held."""

    holder: Holder
    touched_s: float
    """When it was touched, by the clock of its file system."""

    def is_live(self, *, now_s: float) -> bool:
        """Whether its holder must be taken to be at work at `now_s` on that clock."""
        return not self.holder.is_gone and now_s - self.touched_s <= STALE_S


class Lease:
    """A lease as who works under it sees it: its holder, or a process that the holder started."""

    def __init__(self, path: Path, *, root: Path, id: str) -> None:
        """The lease with that id at `path`, over everything in `root`."""
        self.path, self.root, self.id = path, root, id
        self._checked_s = 0.0

    @property
    def is_mine(self) -> bool:
        """Whether the file still says so; raises OSError where it cannot be looked at."""
        seen = look(self.path)
        return seen is not None and seen.holder.id == self.id

    def check(self, *, every_s: float = 0.0) -> None:
        """Look whether the lease still holds, unless that was done in the last `every_s`.

        Raises:
            GuardStop: it was taken over.
        """
        if every_s and time.monotonic() - self._checked_s < every_s:
            return
        with suppress(OSError):  # a file server that is away says nothing about the lease
            if not self.is_mine:
                other = look(self.path)
                who = f" by {other.holder.line}" if other else ""
                raise GuardStop(
                    f"{self.root} was taken over{who}, because this command gave no sign of life for more than "
                    f"{STALE_S:.0f} s; it stopped, and published nothing since. See `aot status {self.root}`"
                )
        self._checked_s = time.monotonic()

    def now_s(self) -> float:
        """The time by the clock of the file system, late by a heartbeat at most."""
        return self.path.stat().st_mtime


_held: list[Lease] = []
"""What this process works under; those who publish ask for it by path."""


def check_lease(path: Path, *, every_s: float = 0.0) -> None:
    """Look whether this process may still publish `path`, or go on working below it.

    Raises:
        GuardStop: its lease was taken over.
    """
    for lease in _over(path):
        lease.check(every_s=every_s)


def lease_over(path: Path) -> Lease | None:
    """The lease under which this process works on `path`, if any."""
    return next(_over(path), None)


def _over(path: Path) -> Iterator[Lease]:
    return (lease for lease in tuple(_held) if lease.root == path or lease.root in path.parents)


@contextmanager
def working_under(lease: Lease) -> Iterator[None]:
    """Nothing below the root of `lease` is published from now on without a look at it."""
    _held.append(lease)
    try:
        yield
    finally:
        _held.remove(lease)


@contextmanager
def hold(path: Path, *, root: Path, command: Sequence[str], doing: Callable[[], str] = str) -> Iterator[Lease]:
    """The lease at `path` over `root`, for as long as the block lasts; `doing` tells what its holder is at.

    Raises:
        RunError: somebody else holds it; the message says who.
        OSError: the folder cannot be written.
    """
    me = Holder.me(command)
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = path.with_name(f".{path.name}.{me.id}.tmp")
    try:
        _take(path, mine=mine, me=me, root=root, doing=doing)
    finally:
        mine.unlink(missing_ok=True)
    lease, ended = Lease(path, root=root, id=me.id), threading.Event()
    threading.Thread(target=_keep_touching, args=(lease, ended), name="aot-lease", daemon=True).start()
    try:
        with working_under(lease):
            yield lease
    finally:
        ended.set()
        with suppress(OSError):
            if lease.is_mine:
                path.unlink()


def look(path: Path, *, live_at_s: float | None = None) -> Sighting | None:
    """The lease at `path`; None if there is none, or nobody works under it at `live_at_s` where that is given.

    One that cannot be read counts as that of somebody unknown.

    Raises:
        OSError: it cannot be looked at.
    """
    try:
        with path.open("rb") as file:  # opened before its time is asked for: NFS tells old times of files not opened
            touched_s = os.fstat(file.fileno()).st_mtime
            data = file.read(1 << 16)
    except FileNotFoundError:
        return None
    try:
        seen = Sighting(Holder.model_validate_json(data), touched_s)
    except ValidationError:
        unknown = Holder(id="unreadable", host="?", space="?", pid=0, started="", command="unknown", since="unknown")
        seen = Sighting(unknown, touched_s)
    return seen if live_at_s is None or seen.is_live(now_s=live_at_s) else None


def in_use(root: Path, seen: Sighting, *, silent_s: float, doing: str = "") -> RunError:
    """What to tell whoever wants to work on a folder that somebody else works on."""
    at = f", {doing}" if doing else ""
    return RunError(
        f"{root} is in use by {seen.holder.line}{at}, last sign of life {max(0.0, silent_s):.0f} s ago; wait until it "
        f"has ended (see `aot status {root}`), or give another folder with run.dir="
    )


def _take(path: Path, *, mine: Path, me: Holder, root: Path, doing: Callable[[], str]) -> None:
    """Make `path` the lease of `me`, which is written to `mine` first."""
    while True:
        now_s = _write(mine, me)
        chain = _chain(path)
        if not chain:
            if linked(mine, path):
                break
            continue
        _require_gone(path, chain[-1], now_s=now_s, root=root, doing=doing)
        marker = _marker(path, chain[-1])
        if not linked(mine, marker):
            continue
        # If somebody finished taking over since the chain was read, a marker after the old one means nothing any more.
        if [seen.holder.id for seen in _chain(path)][-1:] == [me.id]:
            mine.replace(path)
            who = chain[-1].holder
            why = "ended without a word" if who.is_gone else f"gave no sign of life for more than {STALE_S:.0f} s"
            log.info("%s: taken over from %s, which %s", root, who.line, why)
            for seen in chain:
                _marker(path, seen).unlink(missing_ok=True)
            break
        marker.unlink(missing_ok=True)
    _sweep(path, now_s=now_s)


def _require_gone(path: Path, seen: Sighting, *, now_s: float, root: Path, doing: Callable[[], str]) -> None:
    """Return when the holder is gone, or when another look must tell who holds the lease now.

    Raises:
        RunError: it is at work.
    """
    if seen.holder.is_gone:
        return
    silent_s = now_s - seen.touched_s
    if not (seen.holder.is_here and silent_s <= STALE_S):
        watch_s = max(WATCH_S, STALE_S - silent_s)
        log.info(
            "%s is in use by %s; looking for %.0f s whether that is still at work", root, seen.holder.line, watch_s
        )
        until_s = time.monotonic() + watch_s
        while (last := _chain(path)[-1:]) == [seen] and time.monotonic() < until_s:
            time.sleep(min(0.5, watch_s / 10))
        if last == [seen] or [one.holder.id for one in last] != [seen.holder.id]:
            return
        seen, silent_s = last[0], 0.0
    raise in_use(root, seen, silent_s=silent_s, doing=doing())


def _write(mine: Path, me: Holder) -> float:
    """Write `mine`, or touch it; the time on its file system."""
    if mine.exists():
        os.utime(mine)
    else:
        with mine.open("wb") as file:
            file.write(me.model_dump_json(indent=1).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    return mine.stat().st_mtime


def _keep_touching(lease: Lease, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT_S):
        with suppress(OSError):
            if not lease.is_mine:
                return
            os.utime(lease.path)


def _sweep(path: Path, *, now_s: float) -> None:
    """Remove what commands left that were killed while they took a lease, and nothing of one that still tries."""
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        with suppress(OSError):
            seen = look(left)
            if seen and not seen.is_live(now_s=now_s):
                left.unlink()


def _chain(path: Path) -> list[Sighting]:
    """The lease and those that took over from one another since; the last one is who holds it."""
    seen, chain, passed = look(path), list[Sighting](), set[str]()
    while seen is not None and seen.holder.id not in passed:
        chain.append(seen)
        passed.add(seen.holder.id)
        seen = look(_marker(path, seen))
    return chain


def _marker(path: Path, seen: Sighting) -> Path:
    """Where the lease of who takes over from that holder appears first."""
    name = "".join(c for c in seen.holder.id if c.isalnum())[:32]
    return path.with_name(f".{path.name}.after-{name}.tmp")


def _space() -> str:
    """Boot and process namespace of this process; empty where the system tells none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _began(pid: int) -> str:
    """When a process began, in the words of the system; empty if there is none, or one that is dead and unburied."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        return _HIDDEN
    ask = ["ps", "-o", "lstart=", "-p", str(pid)]
    try:
        answer = subprocess.run(ask, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    except OSError:
        return _HIDDEN
    return " ".join(answer.stdout.split()) or _HIDDEN
