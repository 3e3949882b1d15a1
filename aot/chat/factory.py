"""Makes the chat model that a config section describes; one in this process is made by student.answer.open_model."""

import json
from pathlib import Path

from aot.chat.cache import CachedChat, CachedReply
from aot.chat.client import ChatModel
from aot.chat.messages import Sampling
from aot.chat.scripted import RecordingChat, ScriptedChat
from aot.chat.server.keys import PORT, read_key
from aot.chat.spend import Ledger
from aot.config import ChatConfig
from aot.errors import ConfigError
from aot.files.parts import KeyedRows
from aot.files.run_folder import RunFolder


def open_chat(section: ChatConfig, *, run: RunFolder | None, writer: str, ledger: Ledger | None = None) -> ChatModel:
    """The chat model of `section`, as `keep` hands it on; student.answer.open_model opens local ones too.

    A server's calls are noted in `ledger`, or in one of the run folder.

    Raises:
        ConfigError: the model cannot be asked at all, for want of a key or a script.
    """
    if section.backend == "openai":
        key = read_key(section)
        from aot.chat.server.openai import OpenAIChat  # its packages are optional and slow to import

        ledger = ledger or Ledger(section, run.chat_spend if run else None, writer=writer)
        return keep(OpenAIChat(section, key=key, ledger=ledger), section, run=run, writer=writer)
    if section.script is None:
        raise ConfigError(f"chat.backend {section.backend} is no server and no script; open it with open_model")
    scripted = ScriptedChat(Path(section.script), model=section.model, base_url=_asked_at(section))
    return keep(scripted, section, run=run, writer=writer)


def keep(model: ChatModel, section: ChatConfig, *, run: RunFolder | None, writer: str) -> ChatModel:
    """`model` with a cache of its replies in the run folder, where there is one, and the cassette of the section.

    `writer` names the files that this process appends to; each worker process opens its own.
    """
    if run is not None and section.backend != "scripted":
        cache = KeyedRows(run.chat_replies, CachedReply, writer=writer)
        model = CachedChat(model, cache, base_url=_asked_at(section))
    if section.record is not None:
        model = RecordingChat(model, Path(section.record), base_url=_asked_at(section))
    return model


def check_chat(section: ChatConfig) -> None:
    """Look whether a chat model can be asked; asks it nothing, and loads none.

    Raises:
        ConfigError: it cannot, for want of a key or a script.
    """
    if section.backend != "local":  # which would be loaded twice
        address = section.base_url.replace(PORT, "8000")  # of a server that is started beside a later command
        open_chat(section.model_copy(update={"record": None, "base_url": address}), run=None, writer="check").close()


def sampling_of(section: ChatConfig, *, seed: int) -> Sampling:
    """How `section` wants the replies of a teacher sampled, with the seed of one of them."""
    return Sampling(
        temperature=section.temperature, top_p=section.top_p, max_tokens=section.max_tokens, seed=seed,
        top_logprobs=0 if section.logprobs else None,
    )  # fmt: skip


def _asked_at(section: ChatConfig) -> str:
    """The address, with what changes every request there: replies are stored under it."""
    changes = {"omit": sorted(section.omit), "extra_body": section.extra_body}
    fragment = json.dumps({name: value for name, value in changes.items() if value}, sort_keys=True)
    return section.base_url + (f"#{fragment}" if fragment != "{}" else "")
