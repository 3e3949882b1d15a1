"""The tools of the agent teacher, one file each; `make_tools` gives those that a config asks for."""

from aot.teacher.tools.base import Tool, ToolContext, openai_schema
from aot.teacher.tools.registry import TOOLS, make_tools

__all__ = ["TOOLS", "Tool", "ToolContext", "make_tools", "openai_schema"]
