"""Shares of the questions of a run, for several machines at once: who owns a question, and how far each share is.

Nobody locks anything, because locks lie on cluster file systems: each shard appends to parts of its own and publishes
a state file of its own. This module knows no teacher.
"""

import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from aot.errors import ConfigError, RunError
from aot.files.run_folder import RunFolder, publish
from aot.records import Question
from aot.run_records import ShardState

_FORM = re.compile(r"(\d{1,9})/([1-9]\d{0,8})")


@dataclass(frozen=True, order=True)
class Shard:
    """One of `count` shares of the questions."""

    index: int
    """From 0 to count - 1."""
    count: int

    @classmethod
    def of(cls, text: str | None) -> Self:
        """The shard that `i/N` names; None is the whole.

        >>> Shard.of("3/8")
        Shard(index=3, count=8)

        Raises:
            ConfigError: it has another form, or i is not below N.
        """
        if text is None:
            return cls(0, 1)
        match = _FORM.fullmatch(text.strip())
        if match is None:
            raise ConfigError(f"shard is {text!r}; give i/N with i from 0 to N-1, for example 0/8")
        index, count = int(match[1]), int(match[2])
        if index >= count:
            raise ConfigError(f"shard is {text!r}, but the shards of {count} are 0/{count} to {count - 1}/{count}")
        return cls(index, count)

    def owns(self, key: str) -> bool:
        """Whether this shard is the one that works on `key`; the same on every machine."""
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest) % self.count == self.index

    @property
    def writer(self) -> str:
        """Beginning of the names of everything that only this shard writes, such as `0of8`."""
        return f"{self.index}of{self.count}"

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def shard_of(state: ShardState) -> Shard:
    """Which shard a state is about."""
    return Shard(state.index, state.count)


def lease_path(run: RunFolder, shard: Shard) -> Path:
    """Who works on a shard now; gone when nobody does."""
    return run.shards / f"{shard.writer}.lease"


def share_key(question: Question) -> str:
    """What decides whose a question is: its clip, so that frames are read in one place; without one, its id."""
    return question.media.uri if question.media else question.id


def state_path(run: RunFolder, shard: Shard) -> Path:
    """The file that holds the state of a shard; only that shard writes it."""
    return run.shards / f"{shard.writer}.json"


def log_path(run: RunFolder, shard: Shard) -> Path:
    """The log of a shard."""
    return run.shards / f"{shard.writer}.log"


def write_state(run: RunFolder, state: ShardState) -> None:
    """Publish the state of one shard."""
    now = state.model_copy(update={"updated_s": time.time()})
    publish(state_path(run, shard_of(state)), now.model_dump_json(indent=1) + "\n")


def read_states(run: RunFolder) -> list[ShardState]:
    """The states of the shards that have begun, in order; empty for a run that was never split.

    Raises:
        RunError: a state file cannot be read, or the run was split in two ways.
    """
    states = sorted((_read(path) for path in run.shards.glob("*of*.json")), key=shard_of)
    counts = sorted({state.count for state in states})
    if len(counts) > 1:
        split = " and ".join(map(str, counts))
        raise RunError(f"{run.shards} holds states of a run split in {split}; remove the files of all but one of them")
    return states


def shard_of_run(run: RunFolder, text: str) -> Shard:
    """The shard that `i/N` names, once it is known that the run was not split in another number of shards.

    Raises:
        ConfigError: the text does not name a shard.
        RunError: the run is split in another number of shards.
    """
    shard = Shard.of(text)
    states = read_states(run)
    if states and states[0].count != shard.count:
        raise RunError(
            f"{run.root} is split in {states[0].count} shards, so there is no shard {shard} of it; go on with "
            f"--shard i/{states[0].count}, or remove {run.shards} to split what is left in another way "
            "(finished traces are kept)"
        )
    return shard


def missing_shards(run: RunFolder) -> list[Shard]:
    """The shards that are not done, those that never began among them; empty for a run that was never split."""
    states = {shard_of(state): state for state in read_states(run)}
    return [shard for shard in _all(states) if shard not in states or states[shard].state != "done"]


def _all(states: dict[Shard, ShardState]) -> Iterator[Shard]:
    count = max((shard.count for shard in states), default=0)
    return (Shard(index, count) for index in range(count))


def _read(path: Path) -> ShardState:
    try:
        return ShardState.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise RunError(f"{path} is no state of a shard ({str(error).splitlines()[0]}); remove it") from None
