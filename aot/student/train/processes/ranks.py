"""What each of several processes is at, in a small file that it touches each second; and who of them is lost.

A process that ends in an orderly way takes its note along. One that is killed, or stopped for good, leaves it: the
others, and who started them all, can then say which rank it was, at which step, with which questions.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from aot.errors import AotError, GuardStop
from aot.records import Record

RANKS = "ranks"
"""Folder of the notes beside what is trained, each named by its rank."""
HEARTBEAT_S = 1.0
STALE_S = 5.0
"""A note that was not touched for so long belongs to a process that is gone, or stands still."""
REPORTED_IDS = 16
"""How many question ids a message names at most."""


class RankNote(Record):
    """What one process is at."""

    rank: int
    host: str
    pid: int
    step: int = 0
    """The step that was begun; 0 before the first one."""
    question_ids: tuple[str, ...] = ()


class Notes:
    """The notes of the processes that train one arm, of which this one writes its own."""

    def __init__(self, folder: Path, *, rank: int, processes: int) -> None:
        self._folder = folder
        self._processes = processes
        self._note = RankNote(rank=rank, host=socket.gethostname(), pid=os.getpid())
        self._ended = threading.Event()

    def begin(self, step: int, question_ids: list[str]) -> None:
        """Note the step that is begun now."""
        if self._processes > 1:
            self._note = self._note.model_copy(update={"step": step, "question_ids": tuple(question_ids)})
            self._write()

    @contextmanager
    def kept(self) -> Iterator["Notes"]:
        """Keep the own note inside the block, and take it away after it; of an error for a lost peer make one sentence.

        Raises:
            GuardStop: an exchange with the other processes broke off or took longer than it may.
        """
        if self._processes < 2:
            yield self
            return
        self._write()
        threading.Thread(target=self._touch, daemon=True).start()
        try:
            yield self
        except Exception as error:
            if isinstance(error, AotError) or not is_of_exchange(error):
                raise
            self._write()
            lost = wait_for_lost(self._folder, processes=self._processes, rank=self._note.rank)
            raise GuardStop(
                f"rank {self._note.rank} heard no more of the others at step {self._note.step}: {lost}. The same "
                "command goes on from the newest checkpoint"
            ) from error
        finally:
            self._ended.set()
            with suppress(OSError):
                self._path(self._note.rank).unlink()

    def _path(self, rank: int) -> Path:
        return self._folder / RANKS / str(rank)

    def _write(self) -> None:
        path = self._path(self._note.rank)
        with suppress(OSError):  # a full disk stops what needs to be saved, and not what only helps to explain
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._note.model_dump_json(), encoding="utf-8")

    def _touch(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            with suppress(OSError):
                os.utime(self._path(self._note.rank))


def wait_for_lost(folder: Path, *, processes: int, rank: int) -> str:
    """The same as `lost_ranks`, as soon as it can be told, seen by a process that is still there itself."""
    until_s = time.monotonic() + STALE_S + 2 * HEARTBEAT_S
    while True:
        lost = lost_ranks(folder, processes=processes, but=rank)
        if lost or time.monotonic() > until_s:
            return lost or _all_there(folder, processes=processes, but=rank)
        time.sleep(HEARTBEAT_S / 2)


def lost_ranks(folder: Path, *, processes: int, but: int | None = None, ended: bool = False) -> str:
    """Which processes are gone or stand still, with step and questions; empty if none is known to.

    Args:
        folder: that of the arm.
        processes: how many there are.
        but: this one asks, and is there.
        ended: whether all have ended, so that whoever left a note is lost.
    """
    notes = _read(folder, processes=processes, but=but)
    return "; ".join(_sentence(note, path) for note, path in notes if ended or _is_lost(note, path))


def clear_notes(folder: Path) -> None:
    """Take away what processes of an earlier life left."""
    for path in (folder / RANKS).glob("*"):
        path.unlink(missing_ok=True)


def _read(folder: Path, *, processes: int, but: int | None) -> list[tuple[RankNote, Path]]:
    notes = []
    for rank in range(processes):
        path = folder / RANKS / str(rank)
        with suppress(OSError, ValidationError):  # gone since, or half-written by a process that was killed
            if rank != but:
                notes.append((RankNote.model_validate_json(path.read_bytes()), path))
    return notes


def _is_lost(note: RankNote, path: Path) -> bool:
    if note.host == socket.gethostname() and _state(note.pid) in "ZXTt":
        return True
    with suppress(OSError):
        return time.time() - path.stat().st_mtime > STALE_S
    return False


def _state(pid: int) -> str:
    """How the kernel calls the state of a process of this machine; X for one that is gone, ? where nobody says so."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "X" if Path("/proc/self/stat").exists() else "?"
    except (OSError, IndexError):
        return "?"


def _sentence(note: RankNote, path: Path) -> str:
    names = f"{', '.join(note.question_ids[:REPORTED_IDS])}{' ...' if len(note.question_ids) > REPORTED_IDS else ''}"
    at = f"at step {note.step} with the questions {names}" if note.step else "before its first step"
    return f"rank {note.rank} ({note.host}, process {note.pid}) ended or stands still {at}"


def _all_there(folder: Path, *, processes: int, but: int) -> str:
    steps = ", ".join(
        f"rank {note.rank} at step {note.step}" for note, _ in _read(folder, processes=processes, but=but)
    )
    return f"all that left a note are still there ({steps or 'no other did'})"


def is_of_exchange(error: Exception) -> bool:
    """Whether the other processes are the reason: torch has classes for that, gloo throws plain errors."""
    import torch

    words = str(error).lower()
    marks = ("gloo", "connection closed by peer", "connection reset by peer", "nccl", "timed out waiting")
    return isinstance(error, torch.distributed.DistError) or any(mark in words for mark in marks)
