"""Records of a run folder beside the trunk's (aot.records): what a stage notes of its own work for those after it."""

from aot.records import Interval, Record


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
