"""The tools of the agent teacher, one file each; `TOOLS` is the only list of them."""

from typing import Any

from aot.teacher.tools.base import Tool, ToolContext, openai_schema
from aot.teacher.tools.count_events import COUNT_EVENTS
from aot.teacher.tools.detect_objects import DETECT_OBJECTS
from aot.teacher.tools.find_moments import FIND_MOMENTS
from aot.teacher.tools.list_steps import LIST_STEPS
from aot.teacher.tools.propose_next import PROPOSE_NEXT
from aot.teacher.tools.read_order import READ_ORDER
from aot.teacher.tools.recognise_action import RECOGNISE_ACTION

__all__ = ["TOOLS", "Tool", "ToolContext", "openai_schema"]

TOOLS: dict[str, Tool[Any, Any]] = {
    tool.name: tool
    for tool in (
        LIST_STEPS,
        FIND_MOMENTS,
        DETECT_OBJECTS,
        RECOGNISE_ACTION,
        COUNT_EVENTS,
        READ_ORDER,
        PROPOSE_NEXT,
    )
}
