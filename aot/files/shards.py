"""Shares of the questions of a run, for several machines at once: who owns a question, and how far each share is.

A shard is a piece of the generate stage (aot.files.pieces) and appends to parts of its own. This module knows no
teacher.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from aot.errors import ConfigError, RunError
from aot.files.pieces import Piece, read_state
from aot.files.run_folder import RunFolder
from aot.records import Question
from aot.run_records import PieceState

_NAME = re.compile(r"(\d{1,9})of([1-9]\d{0,8})")
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


def shard_piece(run: RunFolder, shard: Shard) -> Piece:
    """The files of a shard."""
    return Piece(run, run.shards / shard.writer, f"shard {shard}")


def begun_shards(run: RunFolder, *, end: str = ".json") -> list[Shard]:
    """The shards of which there is a file with that end, in order."""
    names = (_NAME.fullmatch(path.name.removesuffix(end)) for path in run.shards.glob(f"*{end}"))
    return sorted(Shard(int(match[1]), int(match[2])) for match in names if match)


def share_key(question: Question) -> str:
    """What decides whose a question is: its clip, so that frames are read in one place; without one, its id."""
    return question.media.uri if question.media else question.id


def read_states(run: RunFolder) -> dict[Shard, PieceState]:
    """The states of the shards that have begun, in order; empty for a run that was never split.

    Raises:
        RunError: a state file cannot be read, or the run was split in two ways.
    """
    begun = begun_shards(run)
    counts = sorted({shard.count for shard in begun})
    if len(counts) > 1:
        split = " and ".join(map(str, counts))
        raise RunError(f"{run.shards} holds states of a run split in {split}; remove the files of all but one of them")
    return {shard: state for shard in begun if (state := read_state(shard_piece(run, shard)))}


def shard_of_run(run: RunFolder, text: str) -> Shard:
    """The shard that `i/N` names, once it is known that the run was not split in another number of shards.

    Raises:
        ConfigError: the text does not name a shard.
        RunError: the run is split in another number of shards.
    """
    shard = Shard.of(text)
    count = next((one.count for one in read_states(run)), shard.count)
    if count != shard.count:
        raise RunError(
            f"{run.root} is split in {count} shards, so there is no shard {shard} of it; go on with "
            f"--shard i/{count}, or remove {run.shards} to split what is left in another way "
            "(finished traces are kept)"
        )
    return shard


def missing_shards(run: RunFolder) -> list[Shard]:
    """The shards that are not done, those that never began among them; empty for a run that was never split."""
    states = read_states(run)
    count = max((shard.count for shard in states), default=0)
    shards = (Shard(index, count) for index in range(count))
    return [shard for shard in shards if shard not in states or states[shard].state != "done"]
