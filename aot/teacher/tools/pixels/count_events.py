"""Tool `count_events`: how often a step happens, with the moments that were counted."""

from aot.teacher.tools.base import Moment, Tool, ToolContext, ToolResult
from aot.teacher.tools.pixels.find_moments import EventArguments, event_moments


class CountEventsResult(ToolResult):
    """The count and its evidence."""

    event: str
    count: int
    moments: tuple[Moment, ...]


def count_events(arguments: EventArguments, context: ToolContext) -> CountEventsResult:
    """How often the step happens; raises ToolError for a step that the card does not know."""
    found = event_moments(arguments, context)
    return CountEventsResult(event=found.event, count=len(found.moments), moments=found.moments)


COUNT_EVENTS = Tool(
    name="count_events",
    version="1",
    description="Count how often a step happens between start_s and end_s.",
    Arguments=EventArguments,
    Result=CountEventsResult,
    run=count_events,
    source="pixels",
)
