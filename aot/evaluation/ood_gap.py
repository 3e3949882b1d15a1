"""How much accuracy differs between a split and the first one, on questions that are alike.

Splits hold different questions, so no difference between them is paired. It knows kinds and numbers of steps only: two
questions that are alike in both may still differ in everything else.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from aot.evaluation.groups import Cell
from aot.evaluation.intervals import difference_of_shares, proportion, weighted_proportion
from aot.records import MetricRow, Question

Like = tuple[str, ...]
"""What two questions have in common: kind and steps, kind, or nothing."""


def gap_rows(cell: Cell, home: Cell) -> Iterator[MetricRow]:
    """`accuracy_gap_vs_<split of home>`: the accuracy of `cell` minus that on questions of `home` like its own.

    Each question of `cell` is held against those of the same kind and number of steps; where there are none, against
    those of the same kind; and where there are none, against all. The note tells how many were matched in which way.
    """
    places: dict[Like, list[int]] = {}
    for place, question in enumerate(home.questions):
        for like in _likes(question):
            places.setdefault(like, []).append(place)
    matched = [next(like for like in _likes(question) if like in places) for question in cell.questions]
    weights = np.zeros(len(home.questions))
    for like in matched:
        weights[places[like]] += 1 / len(places[like])
    used = weights > 0
    fair = home.subset(used)
    expected = weighted_proportion(fair.correct, weights[used], fair.clusters)
    gap = difference_of_shares(proportion(cell.correct, cell.clusters), expected)
    note = f"against {len(fair.questions)} questions of {home.split}, weighted to match {_told(matched)}; unpaired"
    yield cell.row(f"accuracy_gap_vs_{home.split}", gap, note)


def _likes(question: Question) -> tuple[Like, ...]:
    """From the closest to the widest."""
    steps = question.tags.get("steps")
    by_steps = ((question.kind, str(steps)),) if isinstance(steps, int) else ()
    return (*by_steps, (question.kind,), ())


def _told(matched: Sequence[Like]) -> str:
    names = ("nothing, as no question there is of its kind", "kind alone", "kind and number of steps")
    counts = [sum(len(like) == level for like in matched) for level in range(3)]
    told = [f"{names[level]} ({counts[level]} of {len(matched)})" for level in (2, 1, 0) if counts[level]]
    return ", ".join(told)
