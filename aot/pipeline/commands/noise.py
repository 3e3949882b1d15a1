"""`aot baselines --noise`: next-step predictors on histories in which a simulated recogniser errs.

Each step of a gold history is recognised rightly with probability p, and else taken for another step of its task:
`independent` for any of them alike; `correlated` by a confusion matrix, in which most errors of a step go to the one
that its name is most like, so that the same mistake comes again and again. Every question is asked of several draws.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from aot.errors import ConfigError
from aot.evaluation.baselines import NEXT_KINDS, best_labels, count_steps, gold_history, successors
from aot.evaluation.groups import metric_row
from aot.evaluation.intervals import Bootstrap, cluster_ids, proportion
from aot.records import ClipAnnotation, MetricRow, Question
from aot.seeds import hashed, rng, share
from aot.teacher.tools.bayes import BayesHistory, SoftLabel, counted_confusions

Errors = Literal["independent", "correlated"]
ERRORS: tuple[Errors, ...] = ("independent", "correlated")
DRAWS = 5
"""Simulated recognitions of each history."""
LIKE_SHARE = 0.7
"""Of the errors about a step, under correlated ones, so many go to the step that it is most like."""
BIGRAM, TRIGRAM, COUNTED, BAYES = "bigram_noisy", "trigram_noisy", "counted_noisy", "bayes_noisy"
BAYES_ANY_TASK, BAYES_CONFUSION = "bayes_any_task", "bayes_confusion"
AGAINST_BIGRAM = "accuracy_difference_vs_bigram"


@dataclass(frozen=True)
class Recogniser:
    """A simulated one, which takes the steps of a task for each other."""

    right: float
    """Probability that a step is recognised."""
    errors: Errors
    labels: Mapping[str, tuple[str, ...]]
    """Task to all its steps, sorted."""
    seed: int

    def seen(self, labels: Sequence[str], *, task: str, name: str) -> tuple[str, ...]:
        """What it takes each of `labels` for; the same for the same name and seed."""
        draws = rng(self.seed, "noise", self.errors, f"{self.right}", name)
        return tuple(self._one(label, task=task, draws=draws) for label in labels)

    def _one(self, label: str, *, task: str, draws: np.random.Generator) -> str:
        is_right, to_like, place = draws.random(), draws.random(), draws.random()
        others = [one for one in self.labels[task] if one != label]
        if is_right < self.right or not others:
            return label
        if self.errors == "correlated" and to_like < LIKE_SHARE:
            return most_like(label, others, seed=self.seed)
        return others[int(place * len(others))]


def most_like(label: str, others: Sequence[str], *, seed: int) -> str:
    """The label that shares most words with `label`; among equals one that depends on the seed and the names only.

    >>> most_like("chop onion", ["wash rice", "chop carrot"], seed=0)
    'chop carrot'
    """
    words = set(re.findall(r"\w+", label.casefold()))

    def likeness(other: str) -> float:
        theirs = set(re.findall(r"\w+", other.casefold()))
        return len(words & theirs) / max(1, len(words | theirs))

    return max(others, key=lambda other: (likeness(other), share(seed, label, other)))


def read_levels(text: str) -> tuple[float, ...]:
    """The shares of right recognitions that a user lists, such as `0.66,0.73,0.85`.

    Raises:
        ConfigError: one is no number above 0 and up to 1.
    """
    levels = []
    for word in text.split(","):
        try:
            level = float(word)
        except ValueError:
            level = -1.0
        if not 0 < level <= 1:
            raise ConfigError(
                f"--noise takes shares of right recognitions above 0 and up to 1, such as 0.66,0.73,0.85; got {word!r}"
            )
        levels.append(level)
    return tuple(dict.fromkeys(levels))


def noise_rows(
    questions: Sequence[Question],
    annotations: Sequence[ClipAnnotation],
    *,
    levels: Sequence[float],
    seed: int,
    bootstrap: Bootstrap,
) -> list[MetricRow]:
    """Accuracy of every predictor at each level and under both kinds of error, and what it has over the bigram.

    A row's mode names the level and the kind of error. A question's value is its share of right answers over DRAWS.

    Args:
        questions: those evaluated; of other kinds than next steps are passed over.
        annotations: all splits; knowledge is counted from `train`.
        levels: shares of right recognitions.
        seed: of the recognitions.
        bootstrap: for the intervals of differences.
    """
    by_uri = {row.uri: row for row in annotations}
    chosen = [q for q in questions if q.kind in NEXT_KINDS and q.media is not None and q.media.uri in by_uri]
    if not chosen:
        return []
    labels = _labels_of_tasks(annotations)
    predictors = _Predictors(annotations)
    rows: list[MetricRow] = []
    for level in levels:
        for errors in ERRORS if level < 1 else ERRORS[:1]:
            right: defaultdict[str, list[float]] = defaultdict(list)
            recognisers = [Recogniser(level, errors, labels, hashed(seed, "noise", number)) for number in range(DRAWS)]
            answer_as = [predictors.of(recogniser) for recogniser in recognisers]
            for question in chosen:
                assert question.media is not None
                clip = by_uri[question.media.uri]
                hits = [
                    one(question, clip, recogniser.seen(gold_history(clip, question), task=clip.task, name=clip.uri))
                    for recogniser, one in zip(recognisers, answer_as, strict=True)
                ]
                for arm in hits[0]:
                    right[arm].append(float(np.mean([one[arm] for one in hits])))
            mode = f"p={level:g}" + (f" {errors}" if level < 1 else "")
            rows += _level_rows(chosen, right, mode=mode, bootstrap=bootstrap)
    return rows


def _labels_of_tasks(annotations: Iterable[ClipAnnotation]) -> dict[str, tuple[str, ...]]:
    of_task: defaultdict[str, set[str]] = defaultdict(set)
    for row in annotations:
        of_task[row.task] |= {segment.label for segment in row.segments}
    return {task: tuple(sorted(labels)) for task, labels in of_task.items()}


class _Predictors:
    """All that is counted once, from training clips."""

    def __init__(self, annotations: Sequence[ClipAnnotation]) -> None:
        self._counts = count_steps(annotations)
        self._bayes = BayesHistory.of(annotations)
        self._procedure = self._bayes.procedure
        self._leaders = best_labels(list(self._counts.overall), [self._counts.overall], top=1)

    def of(self, recogniser: Recogniser) -> Callable[[Question, ClipAnnotation, Sequence[str]], dict[str, bool]]:
        """What tells which predictor is right about a question, after a history as `recogniser` saw it."""
        confusions = counted_confusions(
            self._procedure.clips, lambda clip: recogniser.seen(clip.labels, task=clip.task, name=clip.uri)
        )
        by_confusion = self._bayes.knowing(confusions)

        def right(question: Question, clip: ClipAnnotation, seen: Sequence[str]) -> dict[str, bool]:
            said = dict(self._counted(question, clip, seen))
            soft = [SoftLabel(label, recogniser.right) for label in seen]
            if self._procedure.clips:
                forecasts = {
                    COUNTED: self._procedure.forecast(seen),
                    BAYES: self._bayes.forecast(soft, task=clip.task),
                    BAYES_ANY_TASK: self._bayes.forecast(soft),
                    BAYES_CONFUSION: by_confusion.forecast(soft, task=clip.task),
                }
                for arm, forecast in forecasts.items():
                    said[arm] = _first(question, [one.label for one in forecast.candidates])
            return {arm: answer == question.answer for arm, answer in said.items()}

        return right

    def _counted(self, question: Question, clip: ClipAnnotation, seen: Sequence[str]) -> Iterator[tuple[str, str]]:
        orders: tuple[tuple[str, Literal[1, 2]], ...] = ((BIGRAM, 1), (TRIGRAM, 2))
        for arm, order in orders:
            levels = successors(self._counts, clip.task, seen, order=order)
            options = question.choices or sorted(set(self._leaders).union(*levels))
            yield arm, next(iter(best_labels(options, [*levels, self._counts.overall], top=1)), "")


def _first(question: Question, labels: Sequence[str]) -> str:
    """The first of `labels`, which begin with the likeliest, that is an option of a question, or the first of all."""
    among = [label for label in labels if label in question.choices] if question.choices else labels
    return next(iter(among), sorted(question.choices)[0] if question.choices else "")


def _level_rows(
    chosen: Sequence[Question], right: Mapping[str, Sequence[float]], *, mode: str, bootstrap: Bootstrap
) -> Iterator[MetricRow]:
    for split, kind in sorted({(question.split, question.kind) for question in chosen}):
        places = [i for i, one in enumerate(chosen) if (one.split, one.kind) == (split, kind)]
        clusters = cluster_ids([chosen[i].group for i in places])
        bigram = np.array([right[BIGRAM][i] for i in places])
        for arm, values in right.items():
            hits = np.array([values[i] for i in places])
            key = (arm, mode, split, kind)
            yield metric_row(key, "accuracy", proportion(hits, clusters), f"mean of {DRAWS} draws of each history")
            if arm != BIGRAM:
                gap = bootstrap.mean(hits - bigram, clusters, bounds=(-1.0, 1.0))
                yield metric_row(key, AGAINST_BIGRAM, gap, f"paired, mean of {DRAWS} draws of each history")
