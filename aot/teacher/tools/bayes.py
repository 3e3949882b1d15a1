"""What comes next after steps that nobody is sure of: a Bayesian filter over steps and tasks, counted from annotations.

After BaGLM (Zanella et al., arXiv 2510.16989): the belief over the step that is going on is carried forward by counted
transitions, each weighed by how ready a step is (what usually comes before it was done) and how valid (what usually
comes after it was not), and then multiplied by how likely each step is to be taken for what was recognised. There a
language model tells which step needs which and a vision model how far each one is; here the first is counted, and a
step is as far as the belief that it has been seen. How far the whole task is, by the number of steps so far, is counted
too. Tasks are filtered beside each other and weighed by their evidence.

Legend: V steps of a task, i the step before, j the step after, T places in a clip.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from aot.errors import ToolError
from aot.records import ClipAnnotation
from aot.teacher.tools.procedure import Forecast, KnownClip, NextStep, ProcedureModel

LEAST_SCORE, MOST_SCORE = 0.05, 0.98
"""A recognition is never taken for surer, nor for worth less, than this."""
LEAST_ORDER = 0.02
REPEATED = 0.05
"""Least probability, against a new one, of a step that training clips never repeat."""
ORDER_WEIGHT, PLACE_WEIGHT = 0.25, 0.5
"""Exponents of readiness times validity, and of what usually stands at this place; 0 leaves the transitions alone.
Chosen by four-fold cross-validation over training clips of CrossTask's sample and of the synthetic kitchen."""
PLACE_SPREAD, PLACE_PRIOR = 1.0, 2.0
"""Steps to either side that count as the same place, about; and weight of the task's counts at any place."""
Confusions = Mapping[str, Mapping[str, float]]
"""True label to recognised label to probability."""


@dataclass(frozen=True)
class SoftLabel:
    """One recognition."""

    label: str
    score: float = 1.0
    """Probability that it is right."""


@dataclass(frozen=True)
class _Task:
    """All that is counted of one task."""

    name: str
    num_clips: int
    labels: tuple[str, ...]
    start_V: np.ndarray
    move_VV: np.ndarray
    """Probability of step j right after step i."""
    needs_VV: np.ndarray
    """Of the clips that show step j, in how many more step i comes before it than after it."""
    leads_VV: np.ndarray
    """Of the clips that show step i, in how many more step j comes after it than before it."""
    place_TV: np.ndarray
    """How much likelier a step is as the t-th one of a clip than anywhere."""
    again_V: np.ndarray
    """Probability that a step which was done is done again."""

    def place(self, label: str) -> int | None:
        """Number of a label of the task; None of another one."""
        return self.labels.index(label) if label in self.labels else None


class BayesHistory:
    """Forecasts after uncertain steps; made once from training clips."""

    def __init__(self, procedure: ProcedureModel, confusions: Confusions | None = None) -> None:
        """The filter over the clips of `procedure`.

        Args:
            procedure: training clips.
            confusions: what a step is taken for, where somebody counted that; else every wrong label is as likely.
        """
        self.procedure, self._confusions = procedure, confusions
        self._of_task: dict[str, list[KnownClip]] = {}
        for clip in procedure.clips:
            self._of_task.setdefault(clip.task, []).append(clip)
        self._task_of = {clip.uri: clip.task for clip in procedure.clips}
        self._counted = {name: _task(name, clips) for name, clips in sorted(self._of_task.items())}

    @classmethod
    def of(cls, annotations: Iterable[ClipAnnotation]) -> "BayesHistory":
        """The filter over the training clips among `annotations`."""
        return cls(ProcedureModel.from_annotations(annotations))

    def knowing(self, confusions: Confusions) -> "BayesHistory":
        """The same over what somebody counted that each step is taken for."""
        return BayesHistory(self.procedure, confusions)

    def forecast(
        self, history: Sequence[SoftLabel], *, exclude_uri: str | None = None, task: str | None = None
    ) -> Forecast:
        """Task and next steps after `history`, counted without the clip `exclude_uri` itself.

        Args:
            history: what was recognised, in order.
            exclude_uri: a clip that may not tell its own next step.
            task: where it is given; else all tasks are weighed.

        Raises:
            ToolError: no training clip is left to count from.
        """
        tasks = self._without(exclude_uri)
        those = [one for one in tasks if task in (None, one.name)] or tasks
        if not those:
            raise ToolError("no procedural knowledge: no training annotations; give data.annotations with train rows")
        weights, probs = [], []
        for one in those:
            log_evidence, next_V = self._filtered(one, history)
            weights.append(np.log(one.num_clips) + log_evidence)
            probs.append(next_V)
        posterior = np.exp(np.array(weights) - max(weights))
        posterior /= posterior.sum()
        mixed: Counter[str] = Counter()
        for one, weight, next_V in zip(those, posterior.tolist(), probs, strict=True):
            for label, prob in zip(one.labels, next_V.tolist(), strict=True):
                mixed[label] += weight * prob
        for label in self.procedure.labels:
            mixed[label] += 0.0  # type: ignore[assignment]
        best = int(np.argmax(posterior))
        ranked = sorted(mixed, key=lambda label: (-mixed[label], label))
        return Forecast(
            task=those[best].name,
            task_prob=float(posterior[best]),
            candidates=tuple(NextStep(label=label, prob=float(mixed[label])) for label in ranked),
        )

    def _filtered(self, task: _Task, history: Sequence[SoftLabel]) -> tuple[float, np.ndarray]:
        """Log of the evidence of `history` in a task, and what comes after it [V]."""
        belief_V, done_V, log_evidence = None, np.zeros(len(task.labels)), 0.0
        for number, seen in enumerate(history):
            prior_V = task.start_V if belief_V is None else _moved(task, belief_V, done_V, number)
            joint_V = prior_V * self._likelihood(task, seen)
            total = float(joint_V.sum())
            log_evidence += float(np.log(max(total, 1e-300)))
            belief_V = joint_V / total if total > 0 else prior_V
            done_V = 1 - (1 - done_V) * (1 - belief_V)
        return log_evidence, task.start_V if belief_V is None else _moved(task, belief_V, done_V, len(history))

    def _likelihood(self, task: _Task, seen: SoftLabel) -> np.ndarray:
        """Probability of what was recognised for each true step of a task [V]."""
        score = min(max(seen.score, LEAST_SCORE), MOST_SCORE)
        others = max(len(self.procedure.labels) - 1, 1)
        place = task.place(seen.label)
        if self._confusions is not None:
            rows = [self._confusions.get(label, {}).get(seen.label, 0.0) for label in task.labels]
            return np.maximum(np.array(rows), (1 - MOST_SCORE) / others)
        # A wrong label of the same task is likelier than one of all the others: half of the errors stay within it.
        within = max(len(task.labels) - 1, 1)
        wrong = (1 - score) * (0.5 / within + 0.5 / others) if place is not None else (1 - score) * 0.5 / others
        likely_V = np.full(len(task.labels), wrong)
        if place is not None:
            likely_V[place] = score
        return likely_V

    def _without(self, uri: str | None) -> list[_Task]:
        """Every task, the one of a clip that may not count without it."""
        tasks = dict(self._counted)
        if uri is not None and uri in self._task_of:
            name = self._task_of[uri]
            if clips := [clip for clip in self._of_task[name] if clip.uri != uri]:
                tasks[name] = _task(name, clips)
            else:
                del tasks[name]
        return list(tasks.values())


def _moved(task: _Task, belief_V: np.ndarray, done_V: np.ndarray, number: int) -> np.ndarray:
    """Step `number`, counted from 0: transitions times readiness times validity, as in BaGLM, and its place [V]."""
    needed_V, leading_V = task.needs_VV.sum(axis=0), task.leads_VV.sum(axis=1)
    ready_V = np.where(needed_V > 0, done_V @ task.needs_VV / np.maximum(needed_V, 1e-9), 1.0)
    valid_V = np.where(leading_V > 0, task.leads_VV @ (1 - done_V) / np.maximum(leading_V, 1e-9), 1.0)
    new_V = 1 - done_V * (1 - task.again_V)
    place_V = task.place_TV[min(number, len(task.place_TV) - 1)] ** PLACE_WEIGHT
    # An order is a habit and no law: a step that seems neither ready nor valid is held back, never ruled out.
    order_V = np.maximum(ready_V * valid_V, LEAST_ORDER) ** ORDER_WEIGHT
    moved_V: np.ndarray = (belief_V @ task.move_VV) * order_V * new_V * place_V
    total = moved_V.sum()
    return moved_V / total if total > 0 else task.start_V


def _task(name: str, clips: Sequence[KnownClip]) -> _Task:
    labels = tuple(sorted({label for clip in clips for label in clip.labels}))
    place = {label: number for number, label in enumerate(labels)}
    paths = [[place[label] for label in clip.labels] for clip in clips]
    size = len(labels)
    start_V, pairs_VV, before_VV = np.zeros(size), np.zeros((size, size)), np.zeros((size, size))
    shown_V, repeated_V = np.zeros(size), np.zeros(size)
    for path in paths:
        start_V[path[0]] += 1
        for i, j in pairwise(path):
            pairs_VV[i, j] += 1
        first = {step: path.index(step) for step in path}
        for step in first:
            shown_V[step] += 1
            repeated_V[step] += path.count(step) > 1
        for i in first:
            for j in first:
                before_VV[i, j] += first[i] < first[j]
    any_V = np.array([sum(path.count(step) for path in paths) for step in range(size)], dtype=float)
    any_V /= any_V.sum()
    more_VV = np.maximum(0.0, before_VV - before_VV.T)
    return _Task(
        name=name,
        num_clips=len(clips),
        labels=labels,
        start_V=(start_V + any_V) / (start_V.sum() + 1),
        move_VV=_witten_bell(pairs_VV, _later(before_VV, any_V)),
        needs_VV=more_VV / (shown_V[None, :] + 1),
        leads_VV=more_VV / (shown_V[:, None] + 1),
        place_TV=_places(paths, any_V),
        again_V=np.maximum(REPEATED, repeated_V / np.maximum(shown_V, 1)),
    )


def _places(paths: Sequence[Sequence[int]], any_V: np.ndarray) -> np.ndarray:
    """How much likelier each step is at each place of a clip than anywhere, places near by counted in [T, V]."""
    longest = max(map(len, paths))
    counts_TV = np.zeros((longest, len(any_V)))
    for path in paths:
        for number, step in enumerate(path):
            counts_TV[number, step] += 1
    at_T = np.arange(longest)
    kernel_TT = np.exp(-0.5 * ((at_T[:, None] - at_T[None, :]) / PLACE_SPREAD) ** 2)
    near_TV: np.ndarray = kernel_TT @ counts_TV + PLACE_PRIOR * any_V
    return near_TV / near_TV.sum(axis=1, keepdims=True) / any_V


def _later(before_VV: np.ndarray, any_V: np.ndarray) -> np.ndarray:
    """Any later step of the clips that show a step: what its next one backs off to."""
    return _witten_bell(before_VV, np.tile(any_V, (len(any_V), 1)))


def _witten_bell(counts_VV: np.ndarray, lower_VV: np.ndarray) -> np.ndarray:
    """Rows of counts as probabilities, mixed with lower ones by how many kinds of step each has seen."""
    total_V1, kinds_V1 = counts_VV.sum(axis=1, keepdims=True), (counts_VV > 0).sum(axis=1, keepdims=True)
    weight_V1 = np.divide(total_V1, total_V1 + kinds_V1, out=np.zeros_like(total_V1), where=total_V1 > 0)
    shares_VV = np.divide(counts_VV, total_V1, out=np.zeros_like(counts_VV), where=total_V1 > 0)
    mixed_VV: np.ndarray = weight_V1 * shares_VV + (1 - weight_V1) * lower_VV
    return mixed_VV


def counted_confusions(
    clips: Iterable[KnownClip], recognise: Callable[[KnownClip], Sequence[str]], *, smoothing: float = 0.5
) -> Confusions:
    """What each true step of some clips is taken for, with a little of every other label of its task added."""
    counts: dict[str, Counter[str]] = {}
    of_task: dict[str, set[str]] = {}
    tasks: dict[str, set[str]] = {}
    for clip in clips:
        of_task.setdefault(clip.task, set()).update(clip.labels)
        for label, seen in zip(clip.labels, recognise(clip), strict=True):
            counts.setdefault(label, Counter())[seen] += 1
            tasks.setdefault(label, set()).add(clip.task)
    made: dict[str, dict[str, float]] = {}
    for label, seen_counts in counts.items():
        names = sorted(set().union(*(of_task[task] for task in tasks[label])) | set(seen_counts))
        total = sum(seen_counts.values()) + smoothing * len(names)
        made[label] = {name: (seen_counts[name] + smoothing) / total for name in names}
    return made
