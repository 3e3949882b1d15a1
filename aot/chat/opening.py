"""Makes the chat model that a config section describes."""

from pathlib import Path

from aot.chat.client import ChatModel
from aot.chat.scripted import ScriptedChat
from aot.config import ChatConfig
from aot.errors import ConfigError
from aot.runs import RunFolder


def open_chat(section: ChatConfig, *, run: RunFolder | None, writer: str) -> ChatModel:
    """The chat model of `section`; with a run folder its replies are cached and its cost is noted there.

    `writer` names the files that this process appends to.

    Raises:
        ConfigError: the model cannot be asked at all, for want of a key, a script or a folder.
    """
    if section.backend == "scripted":
        assert section.script is not None
        return ScriptedChat(Path(section.script), model=section.model, base_url=section.base_url)
    raise ConfigError(f"chat.backend {section.backend!r} is not there yet")
