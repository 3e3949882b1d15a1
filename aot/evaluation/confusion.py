"""Which next step was taken for which: a count table of gold against predicted labels."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aot.evaluation.baselines import NEXT_KINDS
from aot.rationales.wording import phrase_key
from aot.records import Prediction, Question

NO_ANSWER = "(no answer)"
OTHER = "(other words)"


@dataclass(frozen=True)
class Confusion:
    """Counts of next-step answers."""

    labels: tuple[str, ...]
    """Rows (gold) and columns (predicted), sorted; the columns go on with NO_ANSWER and OTHER."""
    counts: np.ndarray
    """Integers (len(labels), len(labels) + 2)."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return (*self.labels, NO_ANSWER, OTHER)

    def top_pairs(self, limit: int) -> list[tuple[str, str, int]]:
        """The most frequent (gold, predicted, count) off the diagonal, most frequent first."""
        pairs = [
            (gold, said, int(self.counts[i, j]))
            for i, gold in enumerate(self.labels)
            for j, said in enumerate(self.columns)
            if i != j and self.counts[i, j]
        ]
        return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:limit]


def confusion(
    questions: Sequence[Question], predictions: Sequence[Prediction], *, vocabulary: Sequence[str] = ()
) -> Confusion:
    """Counts over the next-step questions that `predictions` (one arm, one mode) answer.

    Labels are the gold answers and the options of those questions, and `vocabulary`; any other answer is OTHER.
    """
    by_id = {question.id: question for question in questions if question.kind in NEXT_KINDS}
    answered = [by_id[p.question_id] for p in predictions if p.question_id in by_id]
    labels = tuple(
        sorted({*vocabulary, *(label for q in answered for label in (q.answer, *q.choices))} if answered else ())
    )
    row_of = {label: index for index, label in enumerate(labels)}
    by_spelling = {phrase_key(label): index for label, index in row_of.items()}
    cells: Counter[tuple[int, int]] = Counter()
    for prediction in predictions:
        question = by_id.get(prediction.question_id)
        if question is None:
            continue
        column = len(labels)
        if prediction.answer is not None:
            column = by_spelling.get(phrase_key(prediction.answer), len(labels) + 1)
        cells[row_of[question.answer], column] += 1
    counts = np.zeros((len(labels), len(labels) + 2), dtype=np.int64)
    for (row, column), count in cells.items():
        counts[row, column] = count
    return Confusion(labels, counts)
