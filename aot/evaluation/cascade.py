"""What a cascade of a student and a bigger model would have done, at every threshold: arrays in, records out.

At a threshold the answers that are at least so sure stay with the student, the others are the big model's. The curve
replays answers that both have given already, so nothing is asked. Shares have the clustered intervals of
aot.evaluation.intervals, costs and the difference to the big model bootstrap intervals over clusters.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from aot.answer_records import CascadeCurve, CascadePoint, CascadeRow
from aot.evaluation.intervals import Bootstrap, cluster_ids, proportion
from aot.evaluation.risk import must_escalate

STEPS = 20
"""Thresholds of a curve, at equal shares of the questions."""


@dataclass(frozen=True)
class Replayed:
    """Questions that a student and a bigger model have answered, all (n,)."""

    confidence: np.ndarray
    """Calibrated; below 0 where the student has no answer, so that it never stays."""
    student_right: np.ndarray
    big_right: np.ndarray
    clusters: np.ndarray
    """Numbers from 0 without gaps; questions about one clip are one cluster."""
    student_cost: np.ndarray | None = None
    """Of asking the student, which every question pays; None with `big_cost`: nothing is priced."""
    big_cost: np.ndarray | None = None
    """Of asking the big model, which escalated questions pay too."""

    def stays(self, threshold: float | None) -> np.ndarray:
        """Whether each answer stays local at a threshold; None keeps none."""
        if threshold is None:
            return np.zeros(len(self.confidence), dtype=bool)
        return (self.confidence >= threshold) & (self.confidence >= 0)

    def right(self, threshold: float | None) -> np.ndarray:
        """Whether the answer that stands is right."""
        return np.where(self.stays(threshold), self.student_right, self.big_right)


def replayed_rows(rows: Iterable[CascadeRow]) -> Replayed:
    """The questions of a cascade's ledger that both models have answered, such as all of one in shadow mode.

    Nobody knows what is right there: an answer counts as right where it is that of the big model. What asking that one
    costs is its cost, unless one of the rows is unpriced; the student costs nothing.

    Raises:
        ValueError: there is no such question.
    """
    both = [row for row in rows if row.agreed is not None]
    if not both:
        raise ValueError("no row of the ledger has the answers of both models; let the cascade run in shadow mode")
    costs = [row.cost for row in both]
    is_priced = all(cost is not None for cost in costs)
    return Replayed(
        confidence=np.array([-1.0 if row.confidence is None else row.confidence for row in both]),
        student_right=np.array([bool(row.agreed) for row in both]),
        big_right=np.ones(len(both), dtype=bool),
        clusters=cluster_ids([row.question for row in both]),
        student_cost=np.zeros(len(both)) if is_priced else None,
        big_cost=np.array([cost or 0.0 for cost in costs]) if is_priced else None,
    )


def point_at(replayed: Replayed, threshold: float | None, bootstrap: Bootstrap) -> CascadePoint:
    """The cascade at one threshold."""
    stays = replayed.stays(threshold)
    local_error, cost = None, None
    if stays.any():
        # Clusters of a part count from 0 again: those without a local answer say nothing about local errors.
        _, clusters = np.unique(replayed.clusters[stays], return_inverse=True)
        local_error = proportion(~replayed.student_right[stays].astype(bool), clusters)
    if replayed.student_cost is not None and replayed.big_cost is not None:
        each = replayed.student_cost + np.where(stays, 0.0, replayed.big_cost)
        most = float((replayed.student_cost + replayed.big_cost).max())
        cost = bootstrap.mean(each, replayed.clusters, bounds=(0.0, most))
    return CascadePoint(
        threshold=threshold,
        escalated=proportion(~stays, replayed.clusters),
        accuracy=proportion(replayed.right(threshold), replayed.clusters),
        local_error=local_error,
        cost=cost,
    )


def thresholds_of(replayed: Replayed) -> list[float | None]:
    """Thresholds from the one that keeps every answer up to None, which keeps none; equal confidences go together.

    >>> two = np.zeros(2, dtype=bool)
    >>> thresholds_of(Replayed(np.array([0.5, 0.9]), two, two, np.arange(2)))
    [0.5, 0.9, None]
    """
    answered = replayed.confidence[replayed.confidence >= 0]
    if not len(answered):
        return [None]
    levels = np.unique(np.quantile(answered, np.linspace(0, 1, STEPS + 1), method="lower"))
    return [*map(float, levels), None]


def curve_points(replayed: Replayed, bootstrap: Bootstrap) -> tuple[CascadePoint, ...]:
    """The cascade at every threshold, which no target changes.

    Raises:
        ValueError: there are no questions.
    """
    return tuple(point_at(replayed, one, bootstrap) for one in thresholds_of(replayed))


def cascade_curve(
    replayed: Replayed,
    points: tuple[CascadePoint, ...],
    *,
    split: str,
    threshold: float | None,
    target: float,
    bootstrap: Bootstrap,
) -> CascadeCurve:
    """The curve of one split through `points`, with that of a threshold which was chosen on other questions."""
    student, big = (right.astype(bool) for right in (replayed.student_right, replayed.big_right))
    difference = replayed.right(threshold).astype(float) - big.astype(float)
    return CascadeCurve(
        split=split,
        student=proportion(student, replayed.clusters),
        big=proportion(big, replayed.clusters),
        points=points,
        chosen=point_at(replayed, threshold, bootstrap),
        versus_big=bootstrap.mean(difference, replayed.clusters, bounds=(-1.0, 1.0)),
        least_escalated=must_escalate(1.0 - float(student.mean()), target),
    )
