"""How right the tools were, against annotations that no tool has seen: for teacher.json, never for a decision.

The same call on the same clip counts once, however many questions made it. Times are clip seconds, boxes pixels of the
true frame.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence

from aot.records import ClipAnnotation, JsonDict, Question, Record, Segment, Step, TimeSpan, Trace, TrueBox

MIN_IOU = 0.5
MAX_GAP_S = 0.25
"""A true box is compared with the detected box nearest in time, at most this far away."""
MIN_VISIBLE = 0.5
"""Share of a true segment that must lie in the window for it to be asked for."""


class ToolAccuracy(Record):
    """One figure about one tool."""

    tool: str
    metric: str
    n: int
    share: float
    """Mean over the n cases: a share of right ones, or a mean IoU."""


class ToolScorer:
    """Collects tool results trace by trace, then gives one row for each tool and metric."""

    def __init__(self, annotations: Iterable[ClipAnnotation]) -> None:
        self._truth = {row.uri: row for row in annotations}
        self._seen: set[str] = set()
        self._cases: defaultdict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, trace: Trace, question: Question) -> None:
        """Score the calls of a trace that were not scored before."""
        truth = self._truth.get(question.media.uri) if question.media else None
        if truth is None:
            return
        for step in trace.steps:
            if step.call is None or step.result is None or step.span is None:
                continue
            key = json.dumps([truth.uri, step.call.tool, step.call.arguments], sort_keys=True)
            if key not in self._seen:
                self._seen.add(key)
                for metric, value in _cases(step, step.span, truth):
                    self._cases[step.call.tool, metric].append(value)

    def rows(self) -> tuple[ToolAccuracy, ...]:
        """A row for each tool and metric that had a case."""
        return tuple(
            ToolAccuracy(tool=tool, metric=metric, n=len(values), share=sum(values) / len(values))
            for (tool, metric), values in sorted(self._cases.items())
        )


def tool_accuracy(
    traces: Iterable[Trace], *, questions: Iterable[Question], annotations: Iterable[ClipAnnotation]
) -> tuple[ToolAccuracy, ...]:
    """Accuracy of every tool that the traces called."""
    by_id = {question.id: question for question in questions}
    scorer = ToolScorer(annotations)
    for trace in traces:
        scorer.add(trace, by_id[trace.question_id])
    return scorer.rows()


def _cases(step: Step, span: TimeSpan, truth: ClipAnnotation) -> list[tuple[str, float]]:
    assert step.call is not None
    assert step.result is not None
    result = step.result
    visible = [segment for segment in truth.segments if _visible_share(segment, span) >= MIN_VISIBLE]
    if step.call.tool == "list_steps":
        return _segment_cases(result["steps"], visible, span)
    if step.call.tool == "read_order":
        asked = [segment for segment in visible if segment.label in step.call.arguments["events"]]
        got = [row["label"] for row in result["order"]]
        return [("order_exact", float(got == [segment.label for segment in asked]))]
    if step.call.tool == "recognise_action":
        middle_s = (span.start_s + span.end_s) / 2
        labels = [segment.label for segment in visible if segment.start_s <= middle_s < segment.end_s]
        return [("top_1", float(result["label"] in labels))] if labels else []
    if step.call.tool in ("find_moments", "count_events"):
        return _moment_cases(step.call.tool, result, [s for s in visible if s.label == result["event"]])
    if step.call.tool == "detect_objects":
        return _box_cases(result, truth, span)
    return []


def _segment_cases(steps: Sequence[JsonDict], visible: Sequence[Segment], span: TimeSpan) -> list[tuple[str, float]]:
    """Recall and precision of (label, IoU >= 0.5), and whether the whole list of labels is right."""
    found = [any(_hits(step, segment, span) for step in steps) for segment in visible]
    right = [any(_hits(step, segment, span) for segment in visible) for step in steps]
    whole = [step["label"] for step in steps] == [segment.label for segment in visible]
    return [
        *(("step_recall", float(hit)) for hit in found),
        *(("step_precision", float(hit)) for hit in right),
        ("list_exact", float(whole)),
    ]


def _moment_cases(tool: str, result: JsonDict, wanted: Sequence[Segment]) -> list[tuple[str, float]]:
    ious = [
        max((_iou(row["start_s"], row["end_s"], s.start_s, s.end_s) for row in result["moments"]), default=0.0)
        for s in wanted
    ]
    cases = [("mean_iou", value) for value in ious]
    if tool == "count_events":
        cases.append(("count_exact", float(result["count"] == len(wanted))))
    return cases


def _box_cases(result: JsonDict, truth: ClipAnnotation, span: TimeSpan) -> list[tuple[str, float]]:
    """Recall over true boxes in the window; precision over detected boxes at times when the truth shows a box."""
    inside = [box for box in truth.boxes if span.start_s <= box.time_s <= span.end_s]
    cases = []
    for box in inside:
        near = [row for row in result["boxes"] if abs(row["time_s"] - box.time_s) <= MAX_GAP_S]
        best = max((_box_iou(row["box_xyxy"], box) for row in near), default=0.0)
        if box.label == result["object"]:
            cases.append(("box_recall", float(best >= MIN_IOU)))
            cases.append(("box_mean_iou", best))
        if near:
            cases.append(("box_precision", float(box.label == result["object"] and best >= MIN_IOU)))
    return cases


def _visible_share(segment: Segment, span: TimeSpan) -> float:
    length_s = segment.end_s - segment.start_s
    shared_s = min(segment.end_s, span.end_s) - max(segment.start_s, span.start_s)
    return shared_s / length_s if length_s > 0 else 0.0


def _hits(step: JsonDict, segment: Segment, span: TimeSpan) -> bool:
    start_s, end_s = max(segment.start_s, span.start_s), min(segment.end_s, span.end_s)
    return step["label"] == segment.label and _iou(step["start_s"], step["end_s"], start_s, end_s) >= MIN_IOU


def _iou(a_start_s: float, a_end_s: float, b_start_s: float, b_end_s: float) -> float:
    shared_s = min(a_end_s, b_end_s) - max(a_start_s, b_start_s)
    whole_s = max(a_end_s, b_end_s) - min(a_start_s, b_start_s)
    return max(0.0, shared_s) / whole_s if whole_s > 0 else 0.0


def _box_iou(box_xyxy: Sequence[float], truth: TrueBox) -> float:
    ax0, ay0, ax1, ay1 = box_xyxy
    bx0, by0, bx1, by1 = truth.box_xyxy
    shared = max(0.0, min(ax1, bx1) - max(ax0, bx0)) * max(0.0, min(ay1, by1) - max(ay0, by0))
    whole = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - shared
    return shared / whole if whole > 0 else 0.0
