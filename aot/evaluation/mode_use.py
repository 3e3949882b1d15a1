"""How an adaptive student chooses: how often each way of answering, how it does on each, and how sure it is.

A student's probability of a way is read as the probability that this way is enough and no shorter one is. So what it
states about its choice is the sum over that way and all shorter ones: the probability that the choice is enough.
"""

from collections.abc import Iterator

import numpy as np

from aot.evaluation.calibration import Confidences, expected_calibration_error
from aot.evaluation.groups import Cell
from aot.evaluation.intervals import Bootstrap, cluster_ids, proportion
from aot.records import THOUGHT_MODES, MetricRow


def thought_rows(cell: Cell, bootstrap: Bootstrap) -> Iterator[MetricRow]:
    """How a cell's replies chose their way; nothing unless some reply did.

    `share_<way>` over all questions, `accuracy_when_<way>` over those answered so, `choice_probability` (mean
    probability of the chosen way itself), and `choice_ece`: the calibration error of "the chosen way is enough" against
    right answers, over replies that chose a shorter way than the longest, because of that one the claim is always 1.
    """
    thoughts = np.array([g.prediction.thought for g in cell.graded])
    if not (thoughts != "").any():
        return
    for way in THOUGHT_MODES:
        yield cell.row(f"share_{way}", proportion(thoughts == way, cell.clusters))
    for way in THOUGHT_MODES:
        if (thoughts == way).any():
            inside = cell.subset(thoughts == way)
            yield cell.row(f"accuracy_when_{way}", proportion(inside.correct, inside.clusters))
    sure = cell.subset(np.array([bool(g.prediction.thought and g.prediction.thought_probs) for g in cell.graded]))
    if sure.graded:
        own = np.array([g.prediction.thought_probs[_place(g.prediction.thought)] for g in sure.graded])
        yield cell.row("choice_probability", bootstrap.mean(own, sure.clusters, bounds=(0.0, 1.0)))
        yield from _calibration(sure, bootstrap)


def _calibration(cell: Cell, bootstrap: Bootstrap) -> Iterator[MetricRow]:
    shorter = [g.prediction.thought != THOUGHT_MODES[-1] for g in cell.graded]
    early = cell.subset(np.array(shorter))
    if not early.graded:
        return
    enough = [sum(g.prediction.thought_probs[: _place(g.prediction.thought) + 1]) for g in early.graded]
    stated = Confidences(
        confidence=np.clip(np.array(enough), 0.0, 1.0),
        correct=early.correct,
        clusters=cluster_ids([question.group for question in early.questions]),
    )
    note = f"over {len(enough)} of {len(shorter)} replies that chose a shorter way; 10 equal-width bins"
    yield early.row("choice_ece", expected_calibration_error(stated, bootstrap), note)


def _place(thought: str) -> int:
    return [str(way) for way in THOUGHT_MODES].index(thought)
