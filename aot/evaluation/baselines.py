"""Next-step predictors that look at no pixel: what every reported accuracy has to be read beside.

All counts come from training annotations. `copy_last` repeats the latest step of the gold history (the latest that is
a choice, where there are choices); `task_majority` knows the task from the annotation and says that task's most
frequent next step; `bigram_gold` follows the gold history with the most frequent successor of its last step;
`bigram_predicted` does so after the history that the teacher's `list_steps` saw. What was never counted backs off to
the most frequent next step overall; ties go to the label that sorts first, so nothing is drawn at random. Gold history
means: segments that end by the window's end.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from aot.records import ClipAnnotation, Prediction, Question, Segment, Trace

NEXT_KINDS = ("next_choice", "next_open")
BASELINES = ("copy_last", "task_majority", "bigram_predicted", "bigram_gold")
END_TOLERANCE_S = 0.05
"""A segment that ends this little after the window still counts as seen."""


@dataclass(frozen=True)
class StepCounts:
    """How often each step came next in training clips: overall, within a task, and after another step."""

    overall: Counter[str]
    by_task: Mapping[str, Counter[str]]
    after: Mapping[str, Counter[str]]


def count_steps(annotations: Iterable[ClipAnnotation]) -> StepCounts:
    """Counts over the `train` split; other splits are left out. The first step of a clip is nobody's next step."""
    overall: Counter[str] = Counter()
    by_task: defaultdict[str, Counter[str]] = defaultdict(Counter)
    after: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for annotation in annotations:
        if annotation.split != "train":
            continue
        labels = [segment.label for segment in _ordered(annotation.segments)]
        for last, following in pairwise(labels):
            overall[following] += 1
            by_task[annotation.task][following] += 1
            after[last][following] += 1
    return StepCounts(overall, dict(by_task), dict(after))


def gold_history(annotation: ClipAnnotation, end_s: float | None) -> tuple[str, ...]:
    """Annotated steps that end by `end_s` (None: the whole clip), in time order."""
    limit_s = annotation.duration_s if end_s is None else end_s
    return tuple(s.label for s in _ordered(annotation.segments) if s.end_s <= limit_s + END_TOLERANCE_S)


def seen_history(trace: Trace | None) -> tuple[str, ...]:
    """The steps that the first working `list_steps` call of a trace saw, in time order; empty if there is none."""
    for step in trace.steps if trace else ():
        if step.call is not None and step.call.tool == "list_steps" and step.status == "ok" and step.result:
            rows = sorted(step.result.get("steps", ()), key=lambda row: (row["start_s"], row["end_s"], row["label"]))
            return tuple(str(row["label"]) for row in rows)
    return ()


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
        traces: Question id to the teacher's trace; where its tools saw no step, `bigram_predicted` backs off. If there
            is no trace at all, that baseline is left out.
    """
    counts = count_steps(annotations)
    by_uri = {annotation.uri: annotation for annotation in annotations}
    predictions = []
    for question in questions:
        annotation = by_uri.get(question.media.uri) if question.media else None
        if question.kind not in NEXT_KINDS or annotation is None or question.media is None:
            continue
        gold = gold_history(annotation, question.media.end_s)
        predicted = seen_history(traces.get(question.id))
        scores = {
            "copy_last": Counter({label: position for position, label in enumerate(gold, start=1)}),
            "task_majority": counts.by_task.get(annotation.task, Counter()),
            "bigram_predicted": counts.after.get(predicted[-1], Counter()) if predicted else Counter(),
            "bigram_gold": counts.after.get(gold[-1], Counter()) if gold else Counter(),
        }
        for arm in BASELINES:
            if arm == "bigram_predicted" and not traces:
                continue
            answer = _best(question.choices, scores[arm], counts.overall)
            predictions.append(
                Prediction(question_id=question.id, arm=arm, mode="none", raw_text=answer or "", answer=answer)
            )
    return predictions


def _best(choices: Sequence[str], scores: Counter[str], backoff: Counter[str]) -> str | None:
    options = choices or sorted(set(scores) | set(backoff))
    return min(options, key=lambda label: (-scores[label], -backoff[label], label), default=None)


def _ordered(segments: Iterable[Segment]) -> list[Segment]:
    return sorted(segments, key=lambda s: (s.start_s, s.end_s, s.label))
