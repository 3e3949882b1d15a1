"""Tool `list_steps`: which known steps happen in a stretch of the clip, in time order."""

from pydantic import Field

from aot.teacher.tools.base import (
    LabelledSpan,
    Tool,
    ToolContext,
    ToolResult,
    WindowArguments,
    clamp_window,
    labelled_span,
)
from aot.teacher.tools.pixels.segmentation import find_steps, see_window


class ListStepsArguments(WindowArguments):
    """A stretch, and how closely to look."""

    fps: float | None = Field(
        default=None, gt=0, le=60, description="Frames a second to look at; all stored ones if absent."
    )


class ListStepsResult(ToolResult):
    """Steps in time order; empty when no known step was seen."""

    steps: tuple[LabelledSpan, ...]


def list_steps(arguments: ListStepsArguments, context: ToolContext) -> ListStepsResult:
    """Steps seen in the stretch; raises ToolError when it lies outside the visible window."""
    span = clamp_window(arguments.start_s, arguments.end_s, context.clip)
    seen = see_window(context.clip, context.looker, span, fps=arguments.fps)
    found = find_steps(seen, labels=context.looker.card.labels, span=span)
    return ListStepsResult(steps=tuple(labelled_span(step) for step in found))


LIST_STEPS = Tool(
    name="list_steps",
    version="1",
    description="List the steps (action and object) between start_s and end_s, with their times and scores.",
    Arguments=ListStepsArguments,
    Result=ListStepsResult,
    run=list_steps,
    source="pixels",
)
