"""Does a stated probability mean what it says? Expected calibration error and the bins of a reliability diagram.

Confidence is the largest probability over the choices, as scored by likelihood; it is right if that choice is the gold
answer. Ten equal-width bins (Guo et al. 2017, arXiv 1706.04599). The error is biased upwards in small samples, and its
bootstrap draws even more so; the interval reflects them at the value (the basic bootstrap of Davison and Hinkley 1997,
section 5.2) and begins at 0 unless a perfectly calibrated student would hardly ever show so large an error.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aot.evaluation.groups import Cell
from aot.evaluation.intervals import Bootstrap, cluster_ids, interval_of, proportion
from aot.records import THOUGHT_MODES, Interval, MetricRow, Prediction, Question

NUM_BINS = 10


class ReliabilityBin(NamedTuple):
    """Predictions whose confidence lies in one stretch of [0, 1]."""

    size: int
    confidence: float
    """Mean confidence."""
    accuracy: Interval


@dataclass(frozen=True)
class Confidences:
    """Confidence, correctness and cluster of each scored choice, all (n,)."""

    confidence: np.ndarray
    correct: np.ndarray
    clusters: np.ndarray

    @property
    def bin_index(self) -> np.ndarray:
        """Bin of each item, 0 to NUM_BINS - 1."""
        return bins_of(self.confidence)


def confidences(questions: Sequence[Question], predictions: Sequence[Prediction]) -> Confidences | None:
    """What the choice probabilities of `predictions` (in the order of `questions`) say; None if there are none."""
    rows = [
        (q, p)
        for q, p in zip(questions, predictions, strict=True)
        if p.choice_probs and len(p.choice_probs) == len(q.choices)
    ]
    if not rows:
        return None
    best = [int(np.argmax(p.choice_probs)) for _, p in rows]
    right = [q.option_answers[b] == q.right_answer for (q, _), b in zip(rows, best, strict=True)]
    return Confidences(
        confidence=np.array([min(1.0, p.choice_probs[b]) for (_, p), b in zip(rows, best, strict=True)]),
        correct=np.array(right, dtype=float),
        clusters=cluster_ids([q.group for q, _ in rows]),
    )


def bins_of(confidence: np.ndarray) -> np.ndarray:
    """Bin of each confidence (n,), 0 to NUM_BINS - 1."""
    return np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)


def calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Mean gap between confidence and accuracy over bins, weighted by their size, both (n,); 0 without any."""
    return float(np.abs(_gaps_nK(confidence, correct).sum(axis=0)).sum() / len(confidence)) if len(confidence) else 0.0


def _gaps_nK(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    return np.asarray((confidence - correct)[:, None] * np.eye(NUM_BINS)[bins_of(confidence)])


def expected_calibration_error(scored: Confidences, bootstrap: Bootstrap) -> Interval:
    """Mean gap between confidence and accuracy over bins, weighted by their size, with a clustered interval.

    Simulated with n=80 and true errors of 0, 0.05 and 0.15, the interval held them in 95, 95 and 86 of 100 samples.
    """
    value, gap = calibration_error(scored.confidence, scored.correct), _gaps_nK(scored.confidence, scored.correct)
    sums = bootstrap.sums_BK(np.concatenate([gap, np.ones((len(gap), 1))], axis=1), scored.clusters)
    draws = np.abs(sums[:, :NUM_BINS]).sum(axis=1) / sums[:, NUM_BINS]
    plain = interval_of(value, draws, cluster_ids=scored.clusters, bounds=(0.0, 1.0))
    # Reflected, because resamples overstate the error twice: once in the sample, once more in each draw from it.
    low = max(0.0, 2 * value - plain.high) if value > _chance_error(scored, bootstrap) else 0.0
    return plain.model_copy(update={"low": low, "high": min(1.0, max(value, 2 * value - plain.low))})


def _chance_error(scored: Confidences, bootstrap: Bootstrap) -> float:
    """The error that a perfectly calibrated student with these confidences stays below in 95 of 100 samples."""
    # Drawn from the stated probabilities themselves: with few answers even perfect calibration shows an error above 0.
    rng = np.random.default_rng(bootstrap.seed)
    right_Bn = rng.random((bootstrap.samples, len(scored.confidence))) < scored.confidence
    gap_BK = (scored.confidence - right_Bn) @ np.eye(NUM_BINS)[scored.bin_index]
    return float(np.quantile(np.abs(gap_BK).sum(axis=1) / len(scored.confidence), 0.95))


def reliability_bins(questions: Sequence[Question], predictions: Sequence[Prediction]) -> list[ReliabilityBin]:
    """The non-empty bins of a reliability diagram; `predictions` stand in the order of `questions`."""
    scored = confidences(questions, predictions)
    if scored is None:
        return []
    bins = []
    for index in range(NUM_BINS):
        inside = scored.bin_index == index
        if inside.any():
            # Clusters of a bin count from 0 again: an interval must not count those that have no answer in it.
            _, clusters = np.unique(scored.clusters[inside], return_inverse=True)
            accuracy = proportion(scored.correct[inside], clusters)
            bins.append(ReliabilityBin(int(inside.sum()), float(scored.confidence[inside].mean()), accuracy))
    return bins


def thought_rows(cell: Cell, bootstrap: Bootstrap) -> Iterator[MetricRow]:
    """How the replies of an adaptive student chose their way.

    Its probability of a way is read as the probability that this way is enough and no shorter one is. So what it states
    about its choice is the sum over that way and all shorter ones: the probability that the choice is enough.

    `share_<way>` over all questions, `accuracy_when_<way>` over those answered so, `choice_probability` (mean
    probability of the chosen way itself), and `choice_ece`: the calibration error of "the chosen way is enough" against
    right answers, over replies that chose a shorter way than the longest, because of that one the claim is always 1.
    """
    thoughts = np.array([g.prediction.thought for g in cell.graded])
    for way in THOUGHT_MODES:
        yield cell.share(f"share_{way}", thoughts == way)
    for way in THOUGHT_MODES:
        if (thoughts == way).any():
            yield cell.share(f"accuracy_when_{way}", cell.correct, among=thoughts == way)
    sure = cell.subset(np.array([bool(g.prediction.thought and g.prediction.thought_probs) for g in cell.graded]))
    if sure.graded:
        stated = np.array([g.prediction.thought_probs[_place(g.prediction.thought)] for g in sure.graded])
        yield cell.row("choice_probability", bootstrap.mean(stated, sure.clusters, bounds=(0.0, 1.0)))
        yield from _choice_calibration(sure, bootstrap)


def _choice_calibration(cell: Cell, bootstrap: Bootstrap) -> Iterator[MetricRow]:
    shorter = [g.prediction.thought != THOUGHT_MODES[-1] for g in cell.graded]
    # The longest way is always enough by its own claim, so replies that chose it would only dilute the error.
    early = cell.subset(np.array(shorter))
    if not early.graded:
        return
    enough = [sum(g.prediction.thought_probs[: _place(g.prediction.thought) + 1]) for g in early.graded]
    stated = Confidences(confidence=np.clip(np.array(enough), 0.0, 1.0), correct=early.correct, clusters=early.clusters)
    note = f"over {len(enough)} of {len(shorter)} replies that chose a shorter way; 10 equal-width bins"
    yield early.row("choice_ece", expected_calibration_error(stated, bootstrap), note)


def _place(thought: str) -> int:
    return [str(way) for way in THOUGHT_MODES].index(thought)
