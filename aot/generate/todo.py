"""Which questions of a run still lack a trace, without holding any question in memory: a key and a place in the file.

Questions are read again one by one when somebody is free to work on them, so that a hundred thousand of them cost no
more memory than their keys. This module knows no teacher.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic_core import from_json

from aot.errors import SourceError
from aot.files.parts import placed_lines, row_at
from aot.files.run_folder import RunFolder
from aot.files.shards import Shard
from aot.files.traces import solved_samples
from aot.records import Question


class Place(NamedTuple):
    """Where a question lies."""

    key: str
    """Its clip, or its id where it has none: what decides on the shard, so that frames are read in one place."""
    offset: int
    """Byte offset of its line in the questions file."""
    samples: tuple[int, ...]
    """Those of its rows that are missing."""

    def rows(self) -> "Iterator[Place]":
        """The same place for each of its missing rows."""
        return (self._replace(samples=(sample,)) for sample in self.samples)


@dataclass(frozen=True)
class Pending:
    """The work left of one shard."""

    questions: Path
    places: list[Place]
    """Questions of one clip follow each other, so that its frames are read once."""
    total: int = 0
    """Questions of the shard, solved ones included."""

    @property
    def missing(self) -> int:
        """How many rows are missing."""
        return sum(len(place.samples) for place in self.places)

    def dealt(self, workers: int) -> list[list[Place]]:
        """The places dealt out to workers, those of one clip to one of them; no share is empty."""
        shares: list[list[Place]] = [[] for _ in range(workers)]
        owner: dict[str, int] = {}
        for place in self.places:
            shares[owner.setdefault(place.key, len(owner) % workers)].append(place)
        return [share for share in shares if share]


def pending_questions(run: RunFolder, shard: Shard, *, samples: int = 1) -> Pending:
    """The questions of `shard` that lack one of so many rows; whichever sample it is where they have one row each."""
    written = solved_samples(run)
    wanted = tuple(range(samples))
    first: dict[str, Place] = {}
    places: list[Place] = []
    total = 0
    for question_id, uri, offset in _keys(run.questions):
        key = question_id if uri is None else uri
        if not shard.owns(key):
            continue
        total += 1
        there = written.get(question_id, ())
        if there and samples == 1:
            continue
        if missing := tuple(sample for sample in wanted if sample not in there) if there else wanted:
            head = first.setdefault(key, Place(key, offset, missing))
            places.append(Place(head.key, offset, missing))  # one string for all questions of a clip
    places.sort(key=lambda place: (first[place.key].offset, place.offset))
    return Pending(run.questions, places, total)


def read_tasks(path: Path, places: Iterable[Place]) -> Iterator[tuple[Question, int]]:
    """The questions at `places` with each of their missing samples, read when they are asked for.

    Raises:
        SourceError: there is no question.
    """
    for place in places:
        question = row_at(path, place.offset, Question)
        for sample in place.samples:
            yield question, sample


def _keys(path: Path) -> Iterator[tuple[str, str | None, int]]:
    """Id, clip and offset of each question."""
    for number, (offset, line) in enumerate(placed_lines(path), start=1):
        try:
            row = from_json(line)
            media = row.get("media")
            yield str(row["id"]), None if media is None else str(media["uri"]), offset
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SourceError(f"{path}:{number} is no question; run prepare again in a new folder") from None
