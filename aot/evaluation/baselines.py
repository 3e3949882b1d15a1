"""Next-step predictors that look at no pixel: what every reported accuracy has to be read beside.

All counts come from training annotations. `copy_last` repeats the latest step of the gold history (the latest that is
a choice, where there are choices); the others know the task from the annotation, because one label may stand for
different steps of different tasks. `task_majority` says the task's most frequent next step; `bigram_gold` follows the
gold history with the most frequent successor, in this task, of its last step, and `trigram_gold` with that of its last
two; `bigram_predicted` and `trigram_predicted` do so after the history that the teacher saw when it first looked for
whatever happens. What was never counted backs off: from two steps to one, from the task to all tasks, and to the most
frequent next step overall;
ties go to the label that sorts first, so nothing is drawn at random. Gold history means the annotated steps before the
asked one, as the official pairs of a data set have them; where no pair is told, those that start before the window
ends, and the last of them may still be running.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from heapq import nsmallest
from typing import Literal, NamedTuple

from aot.rationales.findings import first_listing, sightings
from aot.records import ClipAnnotation, Prediction, Question, Segment, Trace

NEXT_KINDS = ("next_choice", "next_open")
BASELINES = ("copy_last", "task_majority", "bigram_predicted", "bigram_gold", "trigram_predicted", "trigram_gold")
PREDICTED = ("bigram_predicted", "trigram_predicted")
"""Baselines that need the teacher's traces."""
START_TOLERANCE_S = 0.05
"""A step that starts this little before the window's end is not seen yet."""


Order = Literal[1, 2]
Tail = tuple[str | None, tuple[str, ...]]
"""A task, or None for all of them, and the last one or two steps."""


class StepCounts(NamedTuple):
    """How often each step came next in training clips: overall, within a task, and after the last steps."""

    overall: Counter[str]
    by_task: Mapping[str, Counter[str]]
    after: Mapping[Tail, Counter[str]]


def count_steps(annotations: Iterable[ClipAnnotation]) -> StepCounts:
    """Counts over the `train` split; other splits are left out. The first step of a clip is nobody's next step."""
    overall: Counter[str] = Counter()
    by_task: defaultdict[str, Counter[str]] = defaultdict(Counter)
    after: defaultdict[Tail, Counter[str]] = defaultdict(Counter)
    for annotation in annotations:
        if annotation.split != "train":
            continue
        labels = [segment.label for segment in _ordered(annotation.segments)]
        # The first step follows nothing that was seen, and would be learned as the successor of any history.
        for place, following in enumerate(labels[1:], start=1):
            overall[following] += 1
            by_task[annotation.task][following] += 1
            for tail in _tails(labels[:place], order=2):
                after[annotation.task, tail][following] += 1
                after[None, tail][following] += 1
    return StepCounts(overall, dict(by_task), dict(after))


def gold_history(annotation: ClipAnnotation, question: Question) -> tuple[str, ...]:
    """Annotated steps before the one that `question` asks about, in time order.

    Those that start before the window ends, where the question does not tell how many there are.
    """
    ordered = _ordered(annotation.segments)
    if question.steps_before is not None:
        return tuple(segment.label for segment in ordered[: question.steps_before])
    end_s = question.media.end_s if question.media else None
    limit_s = annotation.duration_s if end_s is None else end_s
    return tuple(segment.label for segment in ordered if segment.start_s < limit_s - START_TOLERANCE_S)


def seen_history(trace: Trace | None) -> tuple[str, ...]:
    """The steps that the first working look at whatever happens saw, in time order; empty if there is none."""
    listing = first_listing(trace.steps) if trace else None
    return tuple(one.label for one in sightings([listing])) if listing else ()


def baseline_predictions(
    *,
    questions: Sequence[Question],
    annotations: Sequence[ClipAnnotation],
    traces: Mapping[str, Trace],
) -> list[Prediction]:
    """What each baseline says to each next-step question whose clip is annotated; mode `none`.

    Args:
        questions: Any questions; other kinds are passed over.
        annotations: All splits; counts come from `train`, gold histories from the question's own clip.
        traces: Question id to the teacher's trace; where its tools saw no step, the predicted history is empty. If
            there is no trace at all, the baselines that need one are left out.
    """
    ranked = baseline_rankings(questions=questions, annotations=annotations, traces=traces, top=1)
    rows = (((arm, question_id), next(iter(labels), None)) for (arm, question_id), labels in ranked.items())
    return [
        Prediction(question_id=i, arm=arm, mode="none", raw_text=said or "", answer=said) for (arm, i), said in rows
    ]


def baseline_rankings(
    *,
    questions: Sequence[Question],
    annotations: Sequence[ClipAnnotation],
    traces: Mapping[str, Trace],
    top: int,
) -> dict[tuple[str, str], list[str]]:
    """Baseline and question id to its `top` likeliest next steps, best first; as `baseline_predictions` otherwise."""
    counts = count_steps(annotations)
    # What no level counted is ordered by the overall counts, so its first `top` labels stand for all of it.
    leaders = best_labels(list(counts.overall), [counts.overall], top=top)
    by_uri = {annotation.uri: annotation for annotation in annotations}
    ranked: dict[tuple[str, str], list[str]] = {}
    for question in questions:
        annotation = by_uri.get(question.media.uri) if question.media else None
        if question.kind not in NEXT_KINDS or annotation is None or question.media is None:
            continue
        # Both histories are needed: what the tools missed is the teacher's limit, not the baseline's.
        gold = gold_history(annotation, question)
        predicted = seen_history(traces.get(question.id))
        task = annotation.task
        levels = {
            "copy_last": [Counter({label: position for position, label in enumerate(gold, start=1)})],
            "task_majority": [counts.by_task.get(task, Counter())],
            "bigram_predicted": successors(counts, task, predicted, order=1),
            "bigram_gold": successors(counts, task, gold, order=1),
            "trigram_predicted": successors(counts, task, predicted, order=2),
            "trigram_gold": successors(counts, task, gold, order=2),
        }
        for arm in BASELINES:
            if arm in PREDICTED and not traces:
                continue
            options = question.choices or sorted(set(leaders).union(*levels[arm]))
            ranked[arm, question.id] = best_labels(options, [*levels[arm], counts.overall], top=top)
    return ranked


def successors(counts: StepCounts, task: str, history: Sequence[str], *, order: Order) -> list[Counter[str]]:
    """What followed the end of `history` in training: in this task and then in all, the longest end first."""
    tails = _tails(history, order=order)
    return [counts.after.get((scope, tail), Counter()) for scope in (task, None) for tail in tails]


def _tails(history: Sequence[str], *, order: Order) -> list[tuple[str, ...]]:
    """The last steps of `history`, up to `order` of them, the longest first."""
    return [tuple(history[-length:]) for length in range(min(order, len(history)), 0, -1)]


def best_labels(options: Sequence[str], levels: Sequence[Counter[str]], *, top: int) -> list[str]:
    """The `top` options by the first level that counts one more often than another."""
    return nsmallest(top, options, key=lambda label: (*(-level[label] for level in levels), label))


def _ordered(segments: Iterable[Segment]) -> list[Segment]:
    return sorted(segments, key=lambda s: (s.start_s, s.end_s, s.label))
