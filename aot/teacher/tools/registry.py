"""The tools that a run offers, as its config chooses them: what stands behind each name, and nothing about planning.

Tools that need a model are made here, once for each worker; the models themselves are loaded at their first call.
"""

from pathlib import Path

from aot.config import ClipTeacher, HfConfig
from aot.errors import ConfigError
from aot.teacher.tools.base import AnyTool
from aot.teacher.tools.book import RecipeBook
from aot.teacher.tools.look_up_recipe import recipe_tool
from aot.teacher.tools.pixels.detect_objects import DETECT_OBJECTS
from aot.teacher.tools.pixels.steps import COUNT_EVENTS, FIND_MOMENTS, LIST_STEPS, READ_ORDER, RECOGNISE_ACTION
from aot.teacher.tools.propose_next import PROPOSE_AFTER_DOUBT, PROPOSE_NEXT
from aot.teacher.tools.search_subtitles import subtitle_tool
from aot.teacher.tools.vlm.tools import chat_tools
from aot.teacher.tools.vlm.view import Vision

TOOLS: dict[str, AnyTool] = {
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
"""The tools that need no model."""
ONLY_PIXELS = (LIST_STEPS, COUNT_EVENTS, READ_ORDER)


def make_tools(
    teacher: ClipTeacher,
    *,
    vision: Vision | None = None,
    clips_root: Path | None = None,
    book: RecipeBook | None = None,
) -> dict[str, AnyTool]:
    """The tools that `teacher.tools` asks for, by name.

    Args:
        teacher: section of a config.
        vision: the chat model behind tools that show it frames.
        clips_root: folder that the uris of clips start from; subtitles are looked for there.
        book: recipe cards; without one none can be looked up.

    Raises:
        ConfigError: a tool lacks the model or folder that it needs.
    """
    choice = teacher.tools
    tools: list[AnyTool] = list(ONLY_PIXELS) if choice.pixel_tools else []
    if choice.find_moments == "pixels":
        tools.append(FIND_MOMENTS)
    if choice.detect_objects == "pixels":
        tools.append(DETECT_OBJECTS)
    if choice.recognise_action == "pixels":
        tools.append(RECOGNISE_ACTION)
    tools += _hf_tools(choice.behind("hf"), teacher.hf)
    if names := choice.behind("chat"):
        if vision is None:
            raise ConfigError(f"teacher.tools.{names[0]}: chat needs a section `vision_chat` or `chat` with a model")
        made = chat_tools(vision)
        tools += [made[name] for name in names]
    if choice.behind("file"):
        if clips_root is None:
            raise ConfigError("teacher.tools.subtitles: file needs a folder of clips; set data.root, or `off`")
        tools.append(subtitle_tool(clips_root))
    tools.append(PROPOSE_AFTER_DOUBT if choice.propose_next == "bayes" else PROPOSE_NEXT)
    if book is not None:
        tools.append(recipe_tool(book))
    return {tool.name: tool for tool in tools}


def _hf_tools(names: tuple[str, ...], config: HfConfig) -> list[AnyTool]:
    # torch and transformers are optional and slow to import.
    made: list[AnyTool] = []
    if "detect_objects" in names:
        from aot.teacher.tools.models.detect import hf_detector

        made.append(hf_detector(config))
    if "find_moments" in names:
        from aot.teacher.tools.models.moments import hf_moments

        made.append(hf_moments(config))
    return made
