"""`aot generate CONFIG --shard i/N`: one share of the generate stage, beside others that run at the same time.

A shard writes what only it writes: its trace parts, its state, its log. The run folder's own papers (config.yaml,
run.json, log.txt) belong to the commands that run alone: prepare before, and the generate that puts all together.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from aot.config import RunConfig, differing_keys, load_saved
from aot.display import PlainFormatter
from aot.errors import AotError, ConfigError, GuardStop, RunError
from aot.files.lease import CHECK_S, Lease, check_lease, hold, in_use, look
from aot.files.run_folder import RunFolder, fixed_settings, read_run_json, run_root, stage_done, write_error
from aot.files.seals import check_seals
from aot.files.shards import Shard, lease_path, log_path, missing_shards, read_states, shard_of_run, write_state
from aot.run_records import ShardState

log = logging.getLogger(__name__)
Work = Callable[[RunFolder, RunConfig, Callable[[int, int], None]], object]
STATE_EVERY_S = 5.0
LINE_EVERY_S = 30.0
WAIT_S = 10.0
LISTED = 20
"""Missing shards that an error names."""


def prepared_run(config: RunConfig, *, config_path: Path) -> RunFolder:
    """The run folder that a shard works in; nothing of it is changed.

    Raises:
        RunError: prepare is not done there, or was done with other settings, or its files are damaged.
    """
    run = RunFolder(run_root(config, config_path=config_path))
    if not run.config.exists() or not stage_done(run, "prepare"):
        raise RunError(f"a shard needs a prepared run, and {run.root} is none; run `aot prepare {config_path}` first")
    different = fixed_settings(run, config, differing_keys(load_saved(run.config), config))
    if different:
        changes = "; ".join(f"{key}: {old!r} there, {new!r} now" for key, (old, new) in different.items())
        raise RunError(f"{run.root} was prepared with other settings ({changes}); use the same ones for every shard")
    check_seals(run, ("prepare",))
    return run


def generate_shard(run: RunFolder, config: RunConfig, work: Work) -> None:
    """Do the share that `run.shard` names, unless it is done already.

    Raises:
        ConfigError: `run.shard` names no shard.
        RunError: the run is split in another number of shards.
        AotError: what `work` raised, after the state of the shard was marked.
    """
    if config.run.shard is None:
        raise ConfigError("run.shard names no shard; give i/N with i from 0 to N-1")
    shard = shard_of_run(run, config.run.shard)
    if stage_done(run, "generate"):
        log.info("generate: finished before for all questions, nothing to do")
        return
    if shard not in missing_shards(run) and read_states(run):
        log.info("shard %s: finished before, nothing to do", shard)
        return
    with holding(run, command=sys.argv, shard=shard) as lease:
        _require_no_whole_run(run, lease)
        with ShardProgress(run, shard) as progress:
            work(run, config, progress)


@contextmanager
def holding(run: RunFolder, *, command: Sequence[str], shard: Shard | None = None) -> Iterator[Lease]:
    """The lease over a run folder, or over one shard of it, for as long as the block lasts.

    Raises:
        RunError: another command works on it, or the folder cannot be written.
    """
    path = lease_path(run, shard) if shard else run.lease
    with ExitStack() as stack:
        try:
            lease = stack.enter_context(
                hold(path, root=run.root, command=command, doing=lambda: "" if shard else _at(run))
            )
        except OSError as error:
            raise write_error(path, error) from error
        yield lease


def require_idle_shards(run: RunFolder, lease: Lease) -> None:
    """Look whether no shard is at work on what this command is about to do.

    Raises:
        RunError: one is; the message says who.
    """
    for path in sorted(run.shards.glob("*.lease")):
        seen, now_s = look(path), lease.now_s()
        if seen and seen.is_live(now_s=now_s):
            raise in_use(run.root, seen, silent_s=now_s - seen.touched_s, doing=f"shard {path.stem.replace('of', '/')}")


def _require_no_whole_run(run: RunFolder, lease: Lease) -> None:
    """Wait a little for a command that holds the whole run: one that puts shards together may end at once.

    Raises:
        RunError: it goes on working.
    """
    until_s = time.monotonic() + WAIT_S
    while (seen := look(run.lease)) and seen.is_live(now_s=lease.now_s()):
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


class ShardProgress:
    """Call it with (done, total); keeps the state and the log of one shard while it is entered."""

    def __init__(self, run: RunFolder, shard: Shard) -> None:
        """The progress of `shard`, which this process alone works on."""
        self._run, self._shard = run, shard
        self._started_s = time.monotonic()
        self._state_s = self._line_s = self._started_s
        self._counts = (0, 0)
        self._handler: logging.Handler | None = None

    def __enter__(self) -> Self:
        """Mark the shard as running, and log to a file of its own."""
        self._write("running")
        self._handler = logging.FileHandler(log_path(self._run, self._shard), encoding="utf-8")
        self._handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.getLogger().addHandler(self._handler)
        log.info("shard %s: starting: %s", self._shard, " ".join(sys.argv))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Mark how the shard ended."""
        done, total = self._counts
        try:
            if error is None:
                self._write("done")
                log.info("shard %s: done, %d questions", self._shard, total)
            else:
                state = "stopped" if isinstance(error, KeyboardInterrupt | GuardStop) else "failed"
                text = str(error) if isinstance(error, AotError) else f"{type(error).__name__}: {error}"
                log.info("shard %s: %s after %d of %d: %s", self._shard, state, done, total, text)
                self._write(state, error=text)
        except (AotError, OSError) as second:
            if error is None:
                raise
            # The disk that stopped the work may also refuse this note; the first error is the one to tell.
            log.warning("could not note how the shard ended: %s", second)
        finally:
            if self._handler:
                logging.getLogger().removeHandler(self._handler)
                self._handler.close()

    def __call__(self, done: int, total: int) -> None:
        """Note that `done` of `total` questions are finished."""
        check_lease(self._run.root, every_s=CHECK_S)
        now = time.monotonic()
        self._counts = (done, total)
        if now - self._state_s >= STATE_EVERY_S:
            self._state_s = now
            self._write("running")
        if now - self._line_s >= LINE_EVERY_S:
            self._line_s = now
            log.info("shard %s: %d of %d", self._shard, done, total)

    def _write(self, state: str, *, error: str = "") -> None:
        done, total = self._counts
        seconds = round(time.monotonic() - self._started_s, 2)
        fields = {"index": self._shard.index, "count": self._shard.count, "state": state, "error": error}
        write_state(self._run, ShardState.model_validate({**fields, "done": done, "total": total, "seconds": seconds}))


def require_shards(run: RunFolder, *, config_path: Path) -> None:
    """Look whether every shard of a run that was split is done.

    Raises:
        RunError: some are missing; it lists them with the command for each.
    """
    missing = missing_shards(run)
    if not missing:
        return
    commands = [f"  aot generate {config_path} --shard {shard}" for shard in missing[:LISTED]]
    more = [f"  and {len(missing) - LISTED} more"] if len(missing) > LISTED else []
    sentence = f"{len(missing)} of {missing[0].count} shards of {run.root} are not done; run them first:"
    hint = f"(or remove {run.shards}: then this command does what is left by itself)"
    raise RunError(sentence, lines=[*commands, *more, hint])
