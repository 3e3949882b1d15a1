"""Tool `find_moments`: when a given step happens; the moments that `count_events` counts, too."""

from pydantic import Field

from aot.teacher.tools.base import Moment, Tool, ToolContext, ToolResult, WindowArguments, clamp_window, rounded_s
from aot.teacher.tools.pixels.names import known_name
from aot.teacher.tools.pixels.segmentation import find_steps, see_window


class EventArguments(WindowArguments):
    """A step to look for in a stretch."""

    event: str = Field(min_length=1, description="Label of the step to look for, such as `chop onion`.")
    min_score: float = Field(default=0.0, ge=0, le=1, description="Leave out moments that score less.")


class FindMomentsResult(ToolResult):
    """Moments in time order; empty when the step was not seen."""

    event: str
    moments: tuple[Moment, ...]


def event_moments(arguments: EventArguments, context: ToolContext) -> FindMomentsResult:
    """When the step happens; raises ToolError for a step that the card does not know."""
    labels = context.looker.card.labels
    event = known_name(arguments.event, labels, what="step")
    span = clamp_window(arguments.start_s, arguments.end_s, context.clip)
    steps = find_steps(see_window(context.clip, context.looker, span), labels=labels, span=span)
    moments = tuple(
        Moment(start_s=rounded_s(step.start_s), end_s=rounded_s(step.end_s), score=round(step.score, 2))
        for step in steps
        if step.label == event and step.score >= arguments.min_score
    )
    return FindMomentsResult(event=event, moments=moments)


FIND_MOMENTS = Tool(
    name="find_moments",
    version="1",
    description="Find when a step happens between start_s and end_s.",
    Arguments=EventArguments,
    Result=FindMomentsResult,
    run=event_moments,
    source="pixels",
)
