"""Tool `read_order`: in which order some steps happen."""

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
from aot.teacher.tools.pixels.names import known_name
from aot.teacher.tools.pixels.segmentation import find_steps, see_window


class ReadOrderArguments(WindowArguments):
    """Steps to look for in a stretch."""

    events: tuple[str, ...] = Field(min_length=1, description="Labels of the steps to put in order.")


class ReadOrderResult(ToolResult):
    """Each sighting of one of the steps, in time order; empty when none was seen."""

    order: tuple[LabelledSpan, ...]


def read_order(arguments: ReadOrderArguments, context: ToolContext) -> ReadOrderResult:
    """The order of the steps; raises ToolError for a step that the card does not know."""
    labels = context.looker.card.labels
    events = {known_name(event, labels, what="step") for event in arguments.events}
    span = clamp_window(arguments.start_s, arguments.end_s, context.clip)
    steps = find_steps(see_window(context.clip, context.looker, span), labels=labels, span=span)
    return ReadOrderResult(order=tuple(labelled_span(step) for step in steps if step.label in events))


READ_ORDER = Tool(
    name="read_order",
    version="1",
    description="Put steps in the order in which they happen between start_s and end_s.",
    Arguments=ReadOrderArguments,
    Result=ReadOrderResult,
    run=read_order,
    source="pixels",
)
