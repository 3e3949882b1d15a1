"""Servers behind this one: any number that speak the chat-completions API, asked in turn, those that fail left out.

Each is asked as the project's teachers are (aot.chat), with one attempt; the second attempt goes to the next of them.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from aot.chat.client import ChatModel
from aot.chat.factory import open_chat
from aot.chat.messages import ChatReply, ChatRequest
from aot.config import ChatConfig
from aot.errors import PASSING, ChatError, ConfigError, GuardStop
from aot.serving.server.limits import Limits

log = logging.getLogger(__name__)
DOWN_S = 5.0
"""How long a back end that failed is asked only where no other can be."""


@dataclass
class _BackEnd:
    """One server, and how it fares."""

    section: ChatConfig
    chat: ChatModel | None = None
    down_until_s: float = 0.0


class BackEnds:
    """A chat model over several servers of the same model."""

    def __init__(self, sections: Sequence[ChatConfig]) -> None:
        """Opens them all.

        Raises:
            ConfigError: an address is none, or a key is missing.
        """
        self.name = sections[0].model
        self._all = [_BackEnd(section, open_chat(section, run=None, writer="serve")) for section in sections]
        self._turn, self._lock = 0, threading.Lock()

    def reply(self, request: ChatRequest) -> ChatReply:
        """The reply of the first that gives one, beginning with the one whose turn it is.

        Raises:
            ChatError: the request is at fault, or none of them answers.
        """
        last: ChatError | None = None
        for one in self._in_turn():
            try:
                return self._opened(one).reply(request)
            except ChatError as error:
                if error.reason not in PASSING:
                    raise
                last = error
            except (ConfigError, GuardStop) as error:  # a client that met such an error answers nobody any more
                self._close(one)
                last = ChatError(str(error.args[0]), reason="connection")
            self._rest_from(one, last)
        assert last is not None
        raise last

    def close(self) -> None:
        """Close the connections to all."""
        for one in self._all:
            self._close(one)

    def _in_turn(self) -> list[_BackEnd]:
        with self._lock:
            start = self._turn
            self._turn = (self._turn + 1) % len(self._all)
        now_s = time.monotonic()
        return sorted(self._all[start:] + self._all[:start], key=lambda one: max(0.0, one.down_until_s - now_s))

    def _opened(self, one: _BackEnd) -> ChatModel:
        with self._lock:
            if one.chat is None:
                one.chat = open_chat(one.section, run=None, writer="serve")
            return one.chat

    def _close(self, one: _BackEnd) -> None:
        with self._lock:
            chat, one.chat = one.chat, None
        if chat is not None:
            chat.close()

    def _rest_from(self, one: _BackEnd, error: ChatError) -> None:
        if error.reason != "rate_limited":
            log.warning("the back end %s failed (%s); others are asked", one.section.base_url, error.reason)
        one.down_until_s = time.monotonic() + DOWN_S


def open_back_ends(urls: Sequence[str], *, model: str | None, key_env: str, limits: Limits) -> BackEnds:
    """The servers at `urls` as one chat model; without a name, of the model that the first of them names first.

    Raises:
        ConfigError: an address is none, a key is missing, or no name was given and no server tells one.
    """
    sections = [_section(url, model=model or "-", key_env=key_env, limits=limits) for url in urls]
    if model is None:
        name = _first_model(sections)
        sections = [section.model_copy(update={"model": name}) for section in sections]
    return BackEnds(sections)


def _section(url: str, *, model: str, key_env: str, limits: Limits) -> ChatConfig:
    return ChatConfig(
        model=model, base_url=url, api_key_env=key_env, max_attempts=1, raise_tokens=1.0,
        max_concurrency=limits.max_batch, attempt_timeout_s=limits.reply_s, deadline_s=limits.reply_s,
        max_prompt_tokens=limits.max_prompt_tokens,
    )  # fmt: skip


def _first_model(sections: Sequence[ChatConfig]) -> str:
    import openai

    from aot.chat.server.keys import read_key

    for section in sections:
        key = read_key(section)
        try:
            with openai.OpenAI(base_url=section.base_url, api_key=key.reveal(), max_retries=0, timeout=10.0) as client:
                return str(next(iter(client.models.list())).id)
        except (openai.OpenAIError, StopIteration):
            log.warning("the back end %s names no model", section.base_url)
    raise ConfigError(f"none of the {len(sections)} back ends names its model; start them, or give --model NAME")
