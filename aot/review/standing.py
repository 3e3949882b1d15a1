"""Which verdict counts where there are several: of one reviewer the last, of several reviewers the strictest.

Strictest is `rejected`, then `corrected`, then `approved`; two corrections that differ count as `rejected`, since
nobody knows which of them is right. All rows stay, and every contradiction and disagreement is counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aot.review_records import ReviewRow, Said

STRICTNESS: tuple[Said, ...] = ("approved", "corrected", "rejected")


@dataclass(frozen=True)
class Standing:
    """What counts of the verdicts on one item."""

    verdict: Said
    correction: str
    rows: tuple[ReviewRow, ...]
    """The last one of each reviewer."""

    @property
    def disputed(self) -> bool:
        """Whether reviewers do not say the same."""
        return len({(row.verdict, row.correction) for row in self.rows}) > 1

    @property
    def row(self) -> ReviewRow:
        """One that says what counts; of a dispute over corrections the last of them."""
        same = [one for one in self.rows if (one.verdict, one.correction) == (self.verdict, self.correction)]
        return (same or self.rows)[-1]


@dataclass(frozen=True)
class Standings:
    """What counts of all verdicts, and what does not."""

    by_item: dict[str, Standing] = field(default_factory=dict)
    stale: tuple[ReviewRow, ...] = ()
    contradictions: int = 0

    @property
    def disagreements(self) -> int:
        """Items on which reviewers do not say the same."""
        return sum(one.disputed for one in self.by_item.values())

    def count(self, verdict: Said) -> int:
        """Items with this verdict."""
        return sum(one.verdict == verdict for one in self.by_item.values())


def standings_of(rows: Sequence[ReviewRow], *, current: Mapping[str, str] | None = None) -> Standings:
    """What counts of verdicts, the earliest of which comes first.

    Args:
        rows: verdicts on items of one sort.
        current: the digest of each item as it is now; None where items never change, so that the last digest counts.
    """
    now = current if current is not None else {row.item: row.digest for row in rows}
    last: dict[str, dict[str, ReviewRow]] = {}
    stale, contradictions = [], 0
    for row in rows:
        if now.get(row.item) != row.digest:
            stale.append(row)
            continue
        mine = last.setdefault(row.item, {})
        before = mine.pop(row.reviewer, None)
        contradictions += before is not None and (before.verdict, before.correction) != (row.verdict, row.correction)
        mine[row.reviewer] = row
    return Standings({item: _standing(tuple(one.values())) for item, one in last.items()}, tuple(stale), contradictions)


def _standing(rows: tuple[ReviewRow, ...]) -> Standing:
    verdict = max((row.verdict for row in rows), key=STRICTNESS.index)
    corrections = {row.correction for row in rows if row.verdict == "corrected"}
    if verdict == "corrected" and len(corrections) > 1:
        return Standing("rejected", "", rows)
    return Standing(verdict, corrections.pop() if verdict == "corrected" else "", rows)
