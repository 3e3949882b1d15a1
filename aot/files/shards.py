"""Shards of a stage, for several machines at once: who owns what, how far each share is, and doing one of them.

Prepare, generate and evaluate split. A shard is a piece of its stage (aot.files.pieces) and writes files of its own;
the same stage without a shard puts all of them together. This module knows no stage from inside.
"""

import hashlib
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from aot.errors import ConfigError, RunError
from aot.files.pieces import LEASE, Piece, read_state, working_on
from aot.files.run_folder import RunFolder, stage_done
from aot.run_records import PieceState

log = logging.getLogger(__name__)
LISTED = 20
"""Missing shards that an error names."""
_NAME = re.compile(r"(\d{1,9})of([1-9]\d{0,8})")
_FORM = re.compile(r"(\d{1,9})/([1-9]\d{0,8})")


@dataclass(frozen=True, order=True)
class Shard:
    """One of `count` shares of the work of a stage."""

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
        return self.owns_number(int.from_bytes(digest))

    def owns_number(self, number: int) -> bool:
        """Whether this shard is the one that works on a numbered item: they are dealt out one by one."""
        return number % self.count == self.index

    @property
    def writer(self) -> str:
        """Beginning of the names of everything that only this shard writes, such as `0of8`."""
        return f"{self.index}of{self.count}"

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def shard_piece(run: RunFolder, stage: str, shard: Shard) -> Piece:
    """The files of a shard."""
    return Piece(run, run.shards_of(stage) / shard.writer, f"{stage} shard {shard}")


def begun_shards(run: RunFolder, stage: str, *, end: str = ".json") -> list[Shard]:
    """The shards of a stage of which there is a file with that end, in order."""
    names = (_NAME.fullmatch(path.name.removesuffix(end)) for path in run.shards_of(stage).glob(f"*{end}"))
    return sorted(Shard(int(match[1]), int(match[2])) for match in names if match)


def read_states(run: RunFolder, stage: str) -> dict[Shard, PieceState]:
    """The states of the shards that have begun, in order; empty for a stage that was never split.

    Raises:
        RunError: a state file cannot be read, or the stage was split in two ways.
    """
    begun = begun_shards(run, stage)
    counts = sorted({shard.count for shard in begun})
    if len(counts) > 1:
        split, folder = " and ".join(map(str, counts)), run.shards_of(stage)
        raise RunError(f"{folder} holds states of a stage split in {split}; remove the files of all but one of them")
    return {shard: state for shard in begun if (state := read_state(shard_piece(run, stage, shard)))}


class ShardState(NamedTuple):
    """One shard of a stage that was split."""

    shard: Shard
    piece: Piece
    state: PieceState | None
    """None where it never began."""

    @property
    def is_done(self) -> bool:
        """Whether it has made its share."""
        return self.state is not None and self.state.state == "done"


def shard_states(run: RunFolder, stage: str) -> list[ShardState]:
    """Every shard of a stage, those that never began among them; none of a stage that was never split."""
    states = read_states(run, stage)
    count = max((shard.count for shard in states), default=0)
    shards = (Shard(index, count) for index in range(count))
    return [ShardState(shard, shard_piece(run, stage, shard), states.get(shard)) for shard in shards]


def leased_shards(run: RunFolder) -> Iterator[Piece]:
    """The shards of all stages that somebody works on, or left behind without a word."""
    for folder in sorted(run.shards_of("").glob("*/")):
        yield from (shard_piece(run, folder.name, shard) for shard in begun_shards(run, folder.name, end=LEASE))


def require_shards(run: RunFolder, stage: str, *, config_path: Path) -> None:
    """Look whether every shard of a stage that was split is done.

    Raises:
        RunError: some are missing; it lists them with the command for each.
    """
    missing = [one.shard for one in shard_states(run, stage) if not one.is_done]
    if not missing:
        return
    lines = [f"  aot {stage} {config_path} --shard {shard}" for shard in missing[:LISTED]]
    lines += [f"  and {len(missing) - LISTED} more"] if len(missing) > LISTED else []
    lines.append(f"(or remove {run.shards_of(stage)}: then this command does what is left by itself)")
    number = f"{len(missing)} of {missing[0].count} shards of {stage}"
    raise RunError(f"{number} in {run.root} are not done; run them first, with the same settings:", lines=lines)


def do_shard(run: RunFolder, stage: str, shard: str, work: Callable[[Callable[[int, int], None]], object]) -> None:
    """Do one share of a stage, `i/N`, unless it is done already.

    Raises:
        ConfigError: `shard` names none.
        RunError: the stage is split in another number of shards, or somebody works on this one, or on the whole run.
        AotError: what `work` raised, after the state of the shard was marked.
    """
    mine = Shard.of(shard)
    count = next((one.count for one in read_states(run, stage)), mine.count)
    if count != mine.count:
        raise RunError(
            f"{stage} of {run.root} is split in {count} shards, so there is no shard {mine} of it; go on with "
            f"--shard i/{count}, or remove {run.shards_of(stage)} to split what is left in another way "
            "(finished work is kept)"
        )
    piece = shard_piece(run, stage, mine)
    state = read_state(piece)
    if stage_done(run, stage):
        log.info("%s: finished before as a whole, nothing to do", stage)
    elif state and state.state == "done":
        log.info("%s: finished before, nothing to do", piece.title)
    else:
        with working_on(piece) as progress:
            work(progress)
