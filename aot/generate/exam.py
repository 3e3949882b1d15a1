"""An exam for the pixel tools: the same kinds of call on a sample of annotated clips, whatever the planner asks for.

A planner calls some tools only where others failed, so figures taken from its traces would be about hard cases. Results
go to teacher.json and never into a decision. What is asked depends on (seed, clip) only.
"""

import zlib
from collections.abc import Iterable, Iterator

import numpy as np

from aot.errors import ToolError
from aot.generate.tool_accuracy import ToolAccuracy, ToolScorer
from aot.records import ClipAnnotation, MediaRef, ToolCall
from aot.teacher.clip_shelf import ClipShelf
from aot.teacher.executor import call_tool
from aot.teacher.parts import Parts
from aot.teacher.tools.base import ToolContext

EXAM_CLIPS = 48
"""Annotated clips that are looked at."""


def examine(annotations: Iterable[ClipAnnotation], shelf: ClipShelf, kit: Parts) -> tuple[ToolAccuracy, ...]:
    """How right each pixel tool is on at most EXAM_CLIPS of the annotated clips that are stored."""
    stored = set(shelf.store.uris())
    clips = [row for row in annotations if row.uri in stored and row.segments]
    clips.sort(key=lambda row: zlib.crc32(f"{kit.seed}:exam:{row.uri}".encode()))
    scorer = ToolScorer()
    for truth in clips[:EXAM_CLIPS]:
        try:
            clip = shelf.view(MediaRef(uri=truth.uri))
        except ToolError:
            continue
        context = ToolContext(clip=clip, looker=kit.looker, procedure=kit.procedure)
        for index, call in enumerate(exam_calls(truth, end_s=clip.end_s, seed=kit.seed), start=1):
            scorer.add(call_tool(call, context, kit, index=index).step, truth)
    return scorer.rows(seed=kit.seed)


def exam_calls(truth: ClipAnnotation, *, end_s: float, seed: int) -> Iterator[ToolCall]:
    """One call of each pixel tool: about the whole clip, and about one of its steps."""
    rng = np.random.default_rng([seed, zlib.crc32(f"exam:{truth.uri}".encode())])
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
