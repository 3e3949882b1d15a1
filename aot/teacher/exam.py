"""An exam for the pixel tools: how right they are on annotated clips, in calls of the same kinds for every planner.

A planner calls some tools only where others failed, so figures taken from its traces would be about hard cases. Results
go to teacher.json and never into a decision. What is asked depends on (seed, clip) only. Times are clip seconds, boxes
pixels of the true frame.
"""

import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from aot import seeds
from aot.answers import iou
from aot.errors import ToolError
from aot.evaluation.intervals import Bootstrap, cluster_ids, proportion
from aot.rationales.findings import Sighting, sightings
from aot.rationales.wording import phrase_key
from aot.records import ClipAnnotation, MediaRef, Segment, Step, TimeSpan, ToolCall, TrueBox
from aot.run_records import ToolAccuracy
from aot.teacher.bench import Parts
from aot.teacher.clip_shelf import ClipShelf
from aot.teacher.executor import call_tool, context_of

MIN_IOU = 0.5
MAX_GAP_S = 0.25
"""A true box is compared with the detected box nearest in time, at most this far away."""
MIN_VISIBLE = 0.5
"""Share of a true segment that must lie in the window for it to be asked for."""
EXAM_CLIPS = 48
"""Annotated clips that are looked at."""


def examine(annotations: Iterable[ClipAnnotation], shelf: ClipShelf, parts: Parts) -> tuple[ToolAccuracy, ...]:
    """How right each pixel tool is on at most EXAM_CLIPS of the annotated clips that are stored."""
    stored = set(shelf.store.uris())
    clips = [row for row in annotations if row.uri in stored and row.segments]
    clips.sort(key=lambda row: zlib.crc32(f"{parts.seed}:exam:{row.uri}".encode()))
    scorer = ToolScorer()
    for truth in clips[:EXAM_CLIPS]:
        try:
            clip = shelf.view(MediaRef(uri=truth.uri))
        except ToolError:
            continue
        context = context_of(parts, clip)
        for index, call in enumerate(exam_calls(truth, end_s=clip.end_s, seed=parts.seed), start=1):
            scorer.add(call_tool(call, context, parts, index=index).step, truth)
    return scorer.rows(seed=parts.seed)


def exam_calls(truth: ClipAnnotation, *, end_s: float, seed: int) -> Iterator[ToolCall]:
    """One call of each pixel tool: about the whole clip, and about one of its steps."""
    rng = seeds.rng(seed, "exam", truth.uri)
    segment = truth.segments[int(rng.integers(len(truth.segments)))]
    events = [str(label) for label in rng.permutation(sorted({s.label for s in truth.segments}))[:3]]
    whole = {"start_s": 0.0, "end_s": end_s}
    part = {"start_s": segment.start_s, "end_s": min(segment.end_s, end_s)}
    objects = sorted({box.label for box in truth.boxes if part["start_s"] <= box.time_s <= part["end_s"]})
    yield ToolCall(tool="list_steps", arguments=whole)
    yield ToolCall(tool="read_order", arguments={**whole, "events": events})
    yield ToolCall(tool="find_moments", arguments={**whole, "event": segment.label})
    yield ToolCall(tool="count_events", arguments={**whole, "event": segment.label})
    if part["end_s"] > part["start_s"]:
        yield ToolCall(tool="recognise_action", arguments=part)
        for name in objects:
            yield ToolCall(tool="detect_objects", arguments={**part, "object": name})


class ToolScorer:
    """Collects finished calls, then gives one row for each tool and metric. A failed call is a case of its own."""

    def __init__(self) -> None:
        self._cases: defaultdict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)

    def add(self, step: Step, truth: ClipAnnotation) -> None:
        """Score one call against the truth of its clip."""
        if step.call is None:
            return
        failed = step.status != "ok" or step.span is None
        self._cases[step.call.tool, "call_failed"].append((float(failed), truth.uri))
        if step.status == "ok" and step.span is not None:
            for metric, value in _cases(step, step.call.tool, step.span, truth):
                self._cases[step.call.tool, metric].append((value, truth.uri))

    def rows(self, *, seed: int) -> tuple[ToolAccuracy, ...]:
        """A row for each tool and metric that had a case; `seed` is that of the bootstrap of mean IoUs."""
        return tuple(_row(tool, metric, cases, seed=seed) for (tool, metric), cases in sorted(self._cases.items()))


def _row(tool: str, metric: str, cases: Sequence[tuple[float, str]], *, seed: int) -> ToolAccuracy:
    values, clusters = np.array([value for value, _ in cases]), cluster_ids([uri for _, uri in cases])
    if metric.endswith("iou"):
        interval = Bootstrap(samples=1000, seed=seed).mean(values, clusters, bounds=(0.0, 1.0))
    else:
        interval = proportion(values, clusters)
    return ToolAccuracy(tool=tool, metric=metric, share=interval, n=interval.n, clips=interval.num_clusters)


def _cases(step: Step, tool: str, span: TimeSpan, truth: ClipAnnotation) -> list[tuple[str, float]]:
    """What a call is measured by; which figures a tool has depends on what it promises, so this goes by its name."""
    visible = [segment for segment in truth.segments if _visible_share(segment, span) >= MIN_VISIBLE]
    seen, sought = sightings([step]), {phrase_key(name) for name in step.sought}
    if tool == "list_steps":
        return _segment_cases(seen, visible, span)
    if tool == "read_order":
        wanted = [segment.label for segment in visible if phrase_key(segment.label) in sought]
        return [("order_exact", float([one.label for one in seen] == wanted))]
    if tool == "recognise_action":
        middle_s = (span.start_s + span.end_s) / 2
        labels = [segment.label for segment in visible if segment.start_s <= middle_s < segment.end_s]
        return [("top_1", float(any(one.label in labels for one in seen)))] if labels else []
    if tool in ("find_moments", "count_events"):
        return _moment_cases(step, seen, [one for one in visible if phrase_key(one.label) in sought])
    if tool == "detect_objects":
        return _box_cases(step, sought, truth, span)
    return []


def _segment_cases(seen: Sequence[Sighting], visible: Sequence[Segment], span: TimeSpan) -> list[tuple[str, float]]:
    """Recall and precision of (label, IoU >= 0.5), and whether the whole list of labels is right."""
    hits = [any(_hits(one, segment, span) for one in seen) for segment in visible]
    right = [any(_hits(one, segment, span) for segment in visible) for one in seen]
    whole = [one.label for one in seen] == [segment.label for segment in visible]
    return [
        *(("step_recall", float(hit)) for hit in hits),
        *(("step_precision", float(hit)) for hit in right),
        ("list_exact", float(whole)),
    ]


def _moment_cases(step: Step, seen: Sequence[Sighting], wanted: Sequence[Segment]) -> list[tuple[str, float]]:
    ious = [max((iou(one.start_s, one.end_s, s.start_s, s.end_s) for one in seen), default=0.0) for s in wanted]
    counts = [one.count for one in step.findings if one.count is not None]
    return [
        *(("mean_iou", value) for value in ious),
        *(("count_exact", float(count == len(wanted))) for count in counts),
    ]


def _box_cases(step: Step, sought: set[str], truth: ClipAnnotation, span: TimeSpan) -> list[tuple[str, float]]:
    """Recall over true boxes in the window; precision over detected boxes at times when the truth shows a box."""
    inside = [box for box in truth.boxes if span.start_s <= box.time_s <= span.end_s]
    boxes = [(one.box_xyxy, at_s) for one in step.findings if one.box_xyxy for at_s, _ in one.spans_s]
    cases = []
    for box in inside:
        near = [box_xyxy for box_xyxy, at_s in boxes if abs(at_s - box.time_s) <= MAX_GAP_S]
        best = max((_box_iou(box_xyxy, box) for box_xyxy in near), default=0.0)
        is_sought = phrase_key(box.label) in sought
        if is_sought:
            cases.append(("box_recall", float(best >= MIN_IOU)))
            cases.append(("box_mean_iou", best))
        if near:
            cases.append(("box_precision", float(is_sought and best >= MIN_IOU)))
    return cases


def _visible_share(segment: Segment, span: TimeSpan) -> float:
    length_s = segment.end_s - segment.start_s
    shared_s = min(segment.end_s, span.end_s) - max(segment.start_s, span.start_s)
    return shared_s / length_s if length_s > 0 else 0.0


def _hits(seen: Sighting, segment: Segment, span: TimeSpan) -> bool:
    start_s, end_s = max(segment.start_s, span.start_s), min(segment.end_s, span.end_s)
    return seen.label == segment.label and iou(seen.start_s, seen.end_s, start_s, end_s) >= MIN_IOU


def _box_iou(box_xyxy: Sequence[float], truth: TrueBox) -> float:
    ax0, ay0, ax1, ay1 = box_xyxy
    bx0, by0, bx1, by1 = truth.box_xyxy
    shared = max(0.0, min(ax1, bx1) - max(ax0, bx0)) * max(0.0, min(ay1, by1) - max(ay0, by0))
    whole = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - shared
    return shared / whole if whole > 0 else 0.0
