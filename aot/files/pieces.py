"""Pieces of a stage that work beside others, in processes of their own: shards of the traces, jobs of the training.

A piece writes what only it writes: its results, and a state, a log and a lease of its own. The run folder's own papers
(config.yaml, run.json, log.txt) belong to the commands that work on the whole run: the stages before, and the one that
puts all together. Nobody locks anything, because locks lie on cluster file systems.
"""

import errno
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from aot.config import RunConfig
from aot.display import PlainFormatter
from aot.errors import AotError, GuardStop, RunError, VideoError
from aot.files.disk import DISK_FULL
from aot.files.lease import CHECK_S, Lease, check_lease, hold, in_use, look
from aot.files.opening import changed_settings, claim_run
from aot.files.run_folder import RunFolder, publish, read_run_json, run_root, stage_done, write_error
from aot.files.seals import check_seals
from aot.interrupts import check_interrupt
from aot.run_records import PieceState

log = logging.getLogger(__name__)
STATE_EVERY_S = 5.0
LINE_EVERY_S = 30.0
WAIT_S = 10.0
LEASE = ".lease"


@dataclass(frozen=True)
class Piece:
    """One piece of a stage of a run."""

    run: RunFolder
    stem: Path
    """Its files, without their ends."""
    title: str
    """For people, such as `shard 0/8`."""

    @property
    def state(self) -> Path:
        """How far it is; only the piece itself writes it."""
        return self._file(".json")

    @property
    def log(self) -> Path:
        """What was logged while it worked."""
        return self._file(".log")

    @property
    def lease(self) -> Path:
        """Who works on it now; gone when nobody does."""
        return self._file(LEASE)

    def _file(self, end: str) -> Path:
        return self.stem.with_name(self.stem.name + end)


def read_state(piece: Piece) -> PieceState | None:
    """How far a piece is; None if it never began.

    Raises:
        RunError: its state cannot be read.
    """
    try:
        return PieceState.model_validate_json(piece.state.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise RunError(f"{piece.state} is no state of a {piece.title} ({_line(error)}); remove it") from None


def is_at_work(piece: Piece) -> bool:
    """Whether somebody works on a piece now, by what can be seen from here."""
    return look(piece.lease, live_at_s=time.time()) is not None


def prepared_run(config: RunConfig, *, config_path: Path, stages: Sequence[str], piece: str) -> RunFolder:
    """The run folder that a piece works in, in which `stages` are done; nothing of it is changed.

    Without any it may be new: pieces of the first stage open it beside each other.

    Raises:
        RunError: they are not, or were done with other settings, or files of theirs are damaged.
    """
    if not stages:
        return claim_run(config, config_path=config_path)
    run = RunFolder(run_root(config, config_path=config_path))
    missing = [stage for stage in stages if not (run.config.exists() and stage_done(run, stage))]
    if missing:
        raise RunError(
            f"a {piece} needs a run in which {', '.join(stages)} {'is' if len(stages) == 1 else 'are'} done, and "
            f"{run.root} is none; run `aot {missing[0]} {config_path}` first, with the same settings"
        )
    changed_settings(run, config, mending=f"use the same ones for every {piece}")
    check_seals(run, stages)
    return run


@contextmanager
def holding(run: RunFolder, *, command: Sequence[str], piece: Piece | None = None) -> Iterator[Lease]:
    """The lease over a run folder, or over one piece of it, for as long as the block lasts.

    Raises:
        RunError: another command works on it, or the folder cannot be written.
    """
    path = piece.lease if piece else run.lease
    with ExitStack() as stack:
        try:
            lease = stack.enter_context(
                hold(path, root=run.root, command=command, doing=lambda: "" if piece else _at(run))
            )
        except OSError as error:
            raise write_error(path, error) from error
        yield lease


@contextmanager
def working_on(piece: Piece) -> Iterator["PieceProgress"]:
    """The progress of a piece that nobody else works on, nor on the whole run, for as long as the block lasts.

    Raises:
        RunError: another command does.
    """
    with holding(piece.run, command=sys.argv, piece=piece) as lease:
        _require_no_whole_run(piece.run, lease)
        # Within the progress, so that the state notes what the user is told.
        with PieceProgress(piece) as progress, user_errors(piece.run.root, log_path=piece.log):
            yield progress


@contextmanager
def user_errors(root: Path, *, log_path: Path) -> Iterator[None]:
    """A block whose errors of clips and of the disk a user is told as ours; anything else flies as it came."""
    try:
        yield
    except VideoError as error:
        if error.reason != "disk_full":
            raise
        raise GuardStop(str(error)) from error
    except Exception as error:
        if _is_disk_full(error):
            path = Path(getattr(error, "filename", None) or root)
            raise write_error(path, OSError(errno.ENOSPC, str(error))) from error
        if not isinstance(error, OSError):
            raise
        where = error.filename or root
        raise RunError(
            f"{where}: {error.strerror or error}; mend that, or choose another folder with run.dir=, "
            f"and run the same command again (see {log_path})"
        ) from error


def _is_disk_full(error: BaseException) -> bool:
    """Whether a file could take no more bytes; those who write tensors raise errors of their own then."""
    if isinstance(error, OSError):
        return error.errno in DISK_FULL
    if isinstance(error, AotError):
        return False
    text = str(error)
    torch_save = "inline_container.cc" in text and "unexpected pos" in text
    return torch_save or any(f"(os error {code})" in text for code in DISK_FULL)


def require_idle(run: RunFolder, lease: Lease, pieces: Iterable[Piece]) -> None:
    """Look whether none of `pieces` is at work on what this command is about to do.

    Raises:
        RunError: one is; the message says who.
    """
    for piece in pieces:
        now_s = lease.now_s()
        if seen := look(piece.lease, live_at_s=now_s):
            raise in_use(run.root, seen, silent_s=now_s - seen.touched_s, doing=piece.title)


def _require_no_whole_run(run: RunFolder, lease: Lease) -> None:
    """Wait a little for a command that holds the whole run: one that puts pieces together may end at once.

    Raises:
        RunError: it goes on working.
    """
    until_s = time.monotonic() + WAIT_S
    while seen := look(run.lease, live_at_s=lease.now_s()):
        if time.monotonic() > until_s:
            raise in_use(run.root, seen, silent_s=lease.now_s() - seen.touched_s, doing=_at(run))
        time.sleep(WAIT_S / 20)


def _at(run: RunFolder) -> str:
    """The stage that is being done in a run folder, and how far it is."""
    with suppress(RunError):
        for name, stage in read_run_json(run)["stages"].items():
            if stage.get("state") == "running":
                return f"stage {name}" + (f", {stage.get('done', 0)} of {stage['total']}" if "total" in stage else "")
    return ""


class PieceProgress:
    """Call it with (done, total); keeps the state and the log of one piece while it is entered."""

    def __init__(self, piece: Piece) -> None:
        """The progress of `piece`, which this process alone works on."""
        self._piece = piece
        self._started_s = time.monotonic()
        self._state_s = self._line_s = self._started_s
        self._counts = (0, 0)
        self._handler: logging.Handler | None = None

    def __enter__(self) -> Self:
        """Mark the piece as running, and log to a file of its own."""
        self._write("running")
        try:
            self._handler = logging.FileHandler(self._piece.log, encoding="utf-8")
        except OSError as error:
            raise write_error(self._piece.log, error) from error
        self._handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.getLogger().addHandler(self._handler)
        log.info("%s: starting: %s", self._piece.title, " ".join(sys.argv))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Mark how the piece ended."""
        done, total = self._counts
        try:
            if error is None:
                self._write("done")
                log.info("%s: done%s", self._piece.title, f", {done} of {total}" if total else "")
            else:
                state = "stopped" if isinstance(error, KeyboardInterrupt | GuardStop) else "failed"
                text = str(error) if isinstance(error, AotError) else f"{type(error).__name__}: {error}"
                log.info("%s: %s after %d of %d: %s", self._piece.title, state, done, total, text)
                self._write(state, error=text)
        except (AotError, OSError) as second:
            if error is None:
                raise
            # The disk that stopped the work may also refuse this note; the first error is the one to tell.
            log.warning("could not note how the %s ended: %s", self._piece.title, second)
        finally:
            if self._handler:
                logging.getLogger().removeHandler(self._handler)
                self._handler.close()

    def __call__(self, done: int, total: int) -> None:
        """Note that `done` of `total` are finished."""
        check_interrupt()
        check_lease(self._piece.run.root, every_s=CHECK_S)
        now = time.monotonic()
        self._counts = (done, total)
        if now - self._state_s >= STATE_EVERY_S:
            self._state_s = now
            self._write("running")
        if now - self._line_s >= LINE_EVERY_S:
            self._line_s = now
            log.info("%s: %d of %d", self._piece.title, done, total)

    def _write(self, state: str, *, error: str = "") -> None:
        done, total = self._counts
        seconds = round(time.monotonic() - self._started_s, 2)
        fields = {"state": state, "done": done, "total": total, "seconds": seconds, "error": error}
        write_state(self._piece, PieceState.model_validate(fields))


def write_state(piece: Piece, state: PieceState) -> None:
    """Publish how far a piece is."""
    now = state.model_copy(update={"updated_s": time.time()})
    publish(piece.state, now.model_dump_json(indent=1) + "\n")


def _line(error: Exception) -> str:
    return str(error).splitlines()[0]
