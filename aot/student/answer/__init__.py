"""Everything that a student says: its engine is a chat model, and `predict` asks it questions.

Other rooms open the chat model of a config section with `open_model`, whatever is behind it.
"""

from aot.chat.client import ChatModel
from aot.chat.factory import keep, open_chat
from aot.config import ChatConfig
from aot.files.run_folder import RunFolder


def open_model(section: ChatConfig, *, run: RunFolder | None, writer: str) -> ChatModel:
    """The chat model of `section`, a local one included; with a run folder its replies are cached there.

    `writer` names the files that this process appends to; each worker process opens its own.

    Raises:
        ConfigError: the model cannot be asked at all, for want of a key, a script or a folder.
    """
    if section.backend != "local":
        return open_chat(section, run=run, writer=writer)
    from aot.student.answer.engine import load_engine  # torch is an extra that a server needs none of

    return keep(load_engine(section), section, run=run, writer=writer)
