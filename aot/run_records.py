"""Records of a run folder beside the trunk's (aot.records): what a stage notes of its own work for those after it."""

from typing import Literal

from pydantic import ConfigDict

from aot.records import Interval, Record


class PieceState(Record):
    """How far a piece of a stage is that works beside others (aot.files.pieces); its file names it."""

    model_config = ConfigDict(extra="ignore")  # earlier versions noted the number of a shard too

    state: Literal["running", "done", "stopped", "failed"]
    done: int = 0
    total: int = 0
    """Of what the piece counts: questions of a shard, steps of a training job."""
    seconds: float = 0.0
    """Since the work began, or began again."""
    updated_s: float = 0.0
    """When this was written, in seconds since the epoch."""
    error: str = ""


class JobFacts(Record):
    """One job of the train stage, for people and for scripts that start jobs."""

    name: str
    """What `aot train CONFIG --job` takes."""
    state: Literal["waits", "ready", "running", "stopped", "failed", "done", "not_needed"]
    needs: tuple[str, ...]
    """Jobs that must be done before."""
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    """Both as paths within the run folder."""
    steps: int
    """Optimiser steps it takes."""
    error: str = ""


class Accuracy(Record):
    """What a student reached on a split; reported, never used to decide anything."""

    split: str
    accuracy: float
    low: float
    high: float
    """95% interval."""
    n: int
    truncated_rate: float | None = None
    """Share of its replies that the cap cut off; None in rounds of before this was counted."""

    @property
    def interval(self) -> Interval:
        """The accuracy with its interval; the number of clusters is unknown and taken as that of questions."""
        return Interval(value=self.accuracy, low=self.low, high=self.high, n=self.n, num_clusters=self.n)


class Round(Accuracy):
    """What one round of an arm that writes its own chains had, brought, and reached.

    The last row of rounds.json may be of the final student, from which nothing was sampled.
    """

    round: int
    teacher_chains: int
    own_chains: int
    """Those the student of this round was trained on."""
    sampled: int
    new_chains: int
    """Questions that this round's samples gave a chain for the first time."""
