"""`aot generate CONFIG --shard i/N`: one share of the generate stage, beside others that run at the same time."""

import logging
from collections.abc import Callable
from pathlib import Path

from aot.config import RunConfig
from aot.errors import ConfigError, RunError
from aot.files.pieces import read_state, working_on
from aot.files.run_folder import RunFolder, stage_done
from aot.files.shards import missing_shards, shard_of_run, shard_piece

log = logging.getLogger(__name__)
Work = Callable[[RunFolder, RunConfig, Callable[[int, int], None]], object]
LISTED = 20
"""Missing shards that an error names."""


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
    state = read_state(shard_piece(run, shard))
    if state and state.state == "done":
        log.info("shard %s: finished before, nothing to do", shard)
        return
    with working_on(shard_piece(run, shard)) as progress:
        work(run, config, progress)


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
    number = f"{len(missing)} of {missing[0].count} shards"
    sentence = f"{number} of {run.root} are not done; run them first, with the same settings:"
    hint = f"(or remove {run.shards}: then this command does what is left by itself)"
    raise RunError(sentence, lines=[*commands, *more, hint])
