"""The tools of teachers and students, one file each; registry.py makes those that a config asks for.

Nothing here imports a package of video: tools of text need none.
"""

from aot.teacher.tools.base import AnyTool, Tool, ToolContext, openai_schema

__all__ = ["AnyTool", "Tool", "ToolContext", "openai_schema"]
