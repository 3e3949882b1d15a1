"""Procedural knowledge counted from training annotations: which task is this, and what comes next.

Within a task only its core steps count first: those that a fair share of its clips show. Next steps come from levels of
counts, each backing off to the next by how much it has seen (Witten-Bell): same core steps done, same last core step,
core steps still to do, last step of any kind in this task, last step in all tasks, all steps. The task stands before
all tasks because one label may stand for different steps of different tasks. Steps that always waited for one not yet
done are held back. Looks at no pixels.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from math import exp, log

from aot.errors import ToolError
from aot.records import ClipAnnotation, Record

SMOOTHING = 0.1
"""Added to each count in the task posterior, so that one misread step rules no task out."""
CORE_SHARE = 0.3
"""A step is core when at least this share of the task's clips show it."""
MIN_TASK_PROB = 0.01
"""Less likely tasks say nothing about the next step."""
MIN_PRECEDED = 2
"""So many clips must show one step before another, and none the reverse, before the second is said to wait."""
NOT_READY, DONE = 0.05, 0.1
"""Factors for a step that waits for one not yet done, and for one that was done."""
START = ""


class KnownClip(Record):
    """The step sequence of one training clip."""

    uri: str
    task: str
    labels: tuple[str, ...]


class NextStep(Record):
    """A step that may come next."""

    label: str
    prob: float


class Forecast(Record):
    """What procedural knowledge says about a history."""

    task: str
    task_prob: float
    candidates: tuple[NextStep, ...]
    """All known steps, likeliest first."""


class ProcedureModel(Record):
    """Step sequences of training clips, and the forecasts counted from them."""

    clips: tuple[KnownClip, ...]

    @classmethod
    def from_annotations(cls, rows: Iterable[ClipAnnotation]) -> "ProcedureModel":
        """The model of the training clips among `rows`; rows of other splits are left out."""
        return cls(clips=tuple(_known_clip(row) for row in rows if row.split == "train" and row.segments))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Every step label seen, sorted."""
        return tuple(sorted({label for clip in self.clips for label in clip.labels}))

    def forecast(self, history: Sequence[str], *, exclude_uri: str | None = None) -> Forecast:
        """Task and next steps after `history`, counted without the clip `exclude_uri` itself.

        Raises:
            ToolError: no training clip is left to count from.
        """
        clips = [clip for clip in self.clips if clip.uri != exclude_uri]
        if not clips:
            raise ToolError("no procedural knowledge: no training annotations; give data.annotations with train rows")
        by_task: dict[str, list[KnownClip]] = {clip.task: [] for clip in self.clips}
        for clip in clips:
            by_task[clip.task].append(clip)
        by_task = {task: some for task, some in by_task.items() if some}
        posterior = _task_posterior(by_task, set(history), vocabulary=len(self.labels))
        last = history[-1] if history else START
        overall = Counter(chain.from_iterable(clip.labels for clip in clips))
        everywhere = _backed_off(_followers(clips, last), _backed_off(overall, {}))
        probs: Counter[str] = Counter()
        for task, task_prob in posterior.items():
            if task_prob >= MIN_TASK_PROB:
                for label, prob in _next_in_task(by_task[task], tuple(history), everywhere).items():
                    probs[label] += task_prob * prob  # type: ignore[assignment]
        total = sum(probs.values())
        ranked = sorted(probs, key=lambda label: (-probs[label], label))
        best = min(posterior, key=lambda name: (-posterior[name], name))
        return Forecast(
            task=best,
            task_prob=posterior[best],
            candidates=tuple(NextStep(label=label, prob=probs[label] / total) for label in ranked),
        )


def procedures(rows: Iterable[ClipAnnotation]) -> dict[str, tuple[str, ...]]:
    """For each task its core steps in the order in which training clips do them, by their mean place in a clip."""
    by_task: dict[str, list[KnownClip]] = {}
    for clip in ProcedureModel.from_annotations(rows).clips:
        by_task.setdefault(clip.task, []).append(clip)
    return {task: _procedure(clips) for task, clips in sorted(by_task.items())}


def _procedure(clips: Sequence[KnownClip]) -> tuple[str, ...]:
    places: dict[str, list[float]] = {}
    for clip in clips:
        for label in set(clip.labels):
            places.setdefault(label, []).append(clip.labels.index(label) / len(clip.labels))
    core = [label for label, seen in places.items() if len(seen) >= CORE_SHARE * len(clips)]
    return tuple(sorted(core, key=lambda label: (sum(places[label]) / len(places[label]), label)))


def _known_clip(row: ClipAnnotation) -> KnownClip:
    ordered = sorted(row.segments, key=lambda segment: (segment.start_s, segment.end_s, segment.label))
    return KnownClip(uri=row.uri, task=row.task, labels=tuple(segment.label for segment in ordered))


def _task_posterior(by_task: Mapping[str, Sequence[KnownClip]], done: set[str], *, vocabulary: int) -> dict[str, float]:
    scores: dict[str, float] = {}
    for task, clips in by_task.items():
        steps = Counter(label for clip in clips for label in clip.labels)
        total = sum(steps.values()) + SMOOTHING * vocabulary
        scores[task] = log(len(clips)) + sum(log((steps[label] + SMOOTHING) / total) for label in sorted(done))
    best = max(scores.values())
    weights = {task: exp(score - best) for task, score in scores.items()}
    norm = sum(weights.values())
    return {task: weight / norm for task, weight in weights.items()}


def _followers(clips: Sequence[KnownClip], last: str) -> Counter[str]:
    """What followed `last` in these clips, core step or not."""
    showing = [clip for clip in clips if last == START or last in clip.labels]
    pairs = (pair for clip in showing for pair in zip((START, *clip.labels), clip.labels, strict=False))
    return Counter(label for before, label in pairs if before == last)


def _next_in_task(
    clips: Sequence[KnownClip], history: tuple[str, ...], everywhere: Mapping[str, float]
) -> dict[str, float]:
    shown = Counter(label for clip in clips for label in set(clip.labels))
    core = {label for label, n in shown.items() if n >= CORE_SHARE * len(clips)}
    paths = [[label for label in clip.labels if label in core] for clip in clips]
    path = [label for label in history if label in core]
    done, last = set(path), path[-1] if path else START
    same_done, same_last = Counter[str](), Counter[str]()
    for steps in paths:
        for i, label in enumerate(steps):
            same_done[label] += set(steps[:i]) == done
            same_last[label] += (steps[i - 1] if i else START) == last
    to_do = Counter({label: shown[label] for label in core - done})
    lower = _backed_off(_followers(clips, history[-1] if history else START), everywhere)
    probs = _backed_off(+same_done, _backed_off(+same_last, _backed_off(to_do, lower)))
    waiting = _waiting(paths, core, done)
    factor = {**dict.fromkeys(waiting, NOT_READY), **dict.fromkeys(history, DONE)}
    return {label: prob * factor.get(label, 1.0) for label, prob in probs.items()}


def _waiting(paths: Sequence[Sequence[str]], core: set[str], done: set[str]) -> set[str]:
    """Core steps that came after some step, not yet done, in every clip that shows both."""
    before: Counter[tuple[str, str]] = Counter()
    for steps in paths:
        first = {label: steps.index(label) for label in steps}
        before.update((a, b) for a in first for b in first if first[a] < first[b])
    return {
        later
        for earlier in core - done
        for later in core - done
        if before[earlier, later] >= MIN_PRECEDED and before[later, earlier] == 0
    }


def _backed_off(counts: Mapping[str, int], lower: Mapping[str, float]) -> dict[str, float]:
    """Shares of `counts`, mixed with the distribution `lower` by Witten-Bell; `lower` alone if nothing was counted."""
    total = sum(counts.values())
    if not total:
        return dict(lower)
    weight = total / (total + len(counts)) if lower else 1.0
    labels = sorted({*counts, *lower})
    return {label: weight * counts.get(label, 0) / total + (1 - weight) * lower.get(label, 0.0) for label in labels}
