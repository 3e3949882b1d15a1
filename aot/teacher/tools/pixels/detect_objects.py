"""Tool `detect_objects`: where an object is in the frames of a stretch, as boxes in pixels of the true frame.

What only a single frame shows, with neither neighbour agreeing, is taken for noise and left out.
"""

from collections.abc import Iterable

from pydantic import Field

from aot.records import Finding
from aot.teacher.tools.base import Tool, ToolContext, ToolPart, ToolResult, WindowArguments, clamp_window, rounded_s
from aot.teacher.tools.clipview import ClipView
from aot.teacher.tools.pixels.looks import Found
from aot.teacher.tools.pixels.steps import known_name

MAX_BOXES = 24
"""Longer lists are thinned evenly."""


class DetectObjectsArguments(WindowArguments):
    """An object to look for in a stretch."""

    object: str = Field(min_length=1, description="Name of the object to look for, such as `onion`.")
    min_score: float = Field(default=0.4, ge=0, le=1, description="Leave out boxes that score less.")

    @property
    def sought(self) -> tuple[str, ...]:
        """The object."""
        return (self.object,)


class SeenBox(ToolPart):
    """The object in one frame."""

    time_s: float
    box_xyxy: tuple[float, float, float, float]
    """Pixels of the true frame: left, top, right, bottom."""
    score: float


class DetectObjectsResult(ToolResult):
    """At most one box for a frame, in time order; empty when the object was not seen."""

    object: str
    boxes: tuple[SeenBox, ...]

    def findings(self, arguments: DetectObjectsArguments) -> tuple[Finding, ...]:
        """The boxes, each at its time."""
        return tuple(
            Finding(
                kind="object",
                label=self.object,
                spans_s=((one.time_s, one.time_s),),
                box_xyxy=one.box_xyxy,
                score=one.score,
            )
            for one in self.boxes
        )


def seen_in(name: str, clip: ClipView, boxes: Iterable[tuple[int, Found | None]]) -> DetectObjectsResult:
    """The result of an object that was seen, or not, in the frames at these positions of a clip."""
    seen = [
        SeenBox(
            time_s=rounded_s(clip.times_s[position]),
            box_xyxy=clip.true_box(one.box_xyxy),
            score=round(min(1.0, one.score), 2),
        )
        for position, one in boxes
        if one is not None
    ]
    every = -(-len(seen) // MAX_BOXES) or 1
    return DetectObjectsResult(object=name, boxes=tuple(seen[::every]))


def detect_objects(arguments: DetectObjectsArguments, context: ToolContext) -> DetectObjectsResult:
    """Boxes of the object; raises ToolError for an object that the card does not know."""
    name = known_name(arguments.object, context.looker.card.objects, what="object")
    clip = context.clip
    positions = clip.positions(clamp_window(arguments.start_s, arguments.end_s, clip))
    boxes_T = [look.objects.get(name) for look in context.looker.look(clip, positions)]
    sure = [one if one is not None and one.score >= arguments.min_score else None for one in boxes_T]
    agree = [len(sure) == 1 or any(sure[max(0, i - 1) : i] + sure[i + 1 : i + 2]) for i in range(len(sure))]
    return seen_in(name, clip, ((p, one if ok else None) for p, one, ok in zip(positions, sure, agree, strict=True)))


DETECT_OBJECTS = Tool(
    name="detect_objects",
    version="1",
    description="Find an object in the frames between start_s and end_s: times, boxes in pixels, scores.",
    Arguments=DetectObjectsArguments,
    Result=DetectObjectsResult,
    run=detect_objects,
    source="pixels",
)
