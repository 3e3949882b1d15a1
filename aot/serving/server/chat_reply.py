"""Replies in the shape of OpenAI's chat completions, whole or as events; what this project adds stands in `aot`."""

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from aot.answer_records import AbstainReason, MadeCall, Routing
from aot.chat.messages import ChatReply
from aot.errors import ChatError
from aot.records import TokenLogprob
from aot.review_records import ReviewOut
from aot.run_records import ChatUsage
from aot.serving.disclosure import Origin

DONE = b"data: [DONE]\n\n"
_NUMBERS = random.Random()
"""Of its own, since seeding the common one would make ids repeat; a call of the system for each costs more than it."""


class ChoiceProb(BaseModel):
    """One allowed answer with its calibrated probability."""

    choice: str
    probability: float


class AotOut(BaseModel):
    """What this project tells besides; plain clients look past it."""

    model: str
    """Who gave the answer."""
    mode: str
    """How the student was asked: `decide` where it chose, `none` where messages went through as they were."""
    answer: str | None = None
    """Read from the reply, where it can be."""
    confidence: float | None = None
    choices: list[ChoiceProb] = []
    abstained: AbstainReason = ""
    detail: str = ""
    calls: list[MadeCall] = []
    """In mode `tools`: those that the server carried out before the answer."""
    reasons: list[str] = []
    """In mode `tools`: whatever was odd about them."""
    frame_times_s: list[float] = []
    seconds: float = 0.0
    contract_version: str | None = None
    contract_digest: str | None = None
    escalated: bool = False
    cost: float | None = None
    routing: Routing | None = None
    """How a cascade came to the answer, and what it promises; None without one."""
    review: ReviewOut | None = None
    """How far the review by a person is; None where none is required."""
    origin: Origin
    """Where the answer comes from."""
    disclosure: str
    """The same for people."""


@dataclass
class Completion:
    """One reply on its way to a client."""

    model: str
    """As the client named it."""
    fingerprint: str | None = None
    id: str = field(default_factory=lambda: f"chatcmpl-{_NUMBERS.getrandbits(128):032x}")
    created: int = field(default_factory=lambda: int(time.time()))
    with_usage: bool = False
    """Whether a streamed reply ends with its count of tokens."""
    refusal: str | None = None
    """Why there is no content, where a person has to look first or has rejected it."""
    note: str = ""
    """Put behind the text of the reply, which is not part of what the model wrote."""

    def whole(self, reply: ChatReply, *, finish: str, content: str | None, aot: AotOut) -> dict[str, Any]:
        """The body of a reply that is not streamed."""
        message: dict[str, Any] = {"role": "assistant", "content": self._noted(content), "refusal": self.refusal}
        if reply.reasoning:
            message["reasoning_content"] = reply.reasoning
        if reply.tool_calls:
            message["tool_calls"] = self._calls(reply)
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": _logprobs(reply, content)}
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": usage_row(reply.usage),
            "aot": aot.model_dump(),
        }

    def piece(self, **delta: Any) -> bytes:  # noqa: ANN401 - fields of a delta
        """An event with some more of the reply."""
        return self._event([{"index": 0, "delta": delta, "finish_reason": None, "logprobs": None}])

    def end(self, reply: ChatReply, *, finish: str, unsent: str | None, content: str | None, aot: AotOut) -> bytes:
        """The last events: what was not sent yet, why it ended, the count of tokens, and DONE."""
        logprobs = _logprobs(reply, content)
        unsent = self._noted(unsent or "") if content else unsent
        delta: dict[str, Any] = {"content": unsent} if unsent or logprobs else {}
        if reply.tool_calls:
            delta["tool_calls"] = [{"index": k, **call} for k, call in enumerate(self._calls(reply))]
        if reply.reasoning:
            delta["reasoning_content"] = reply.reasoning
        if self.refusal is not None:
            delta["refusal"] = self.refusal
        events = b""
        if delta:
            events = self._event([{"index": 0, "delta": delta, "finish_reason": None, "logprobs": logprobs}])
        last = {"index": 0, "delta": {}, "finish_reason": finish, "logprobs": None}
        events += self._event([last], aot=aot.model_dump())
        if self.with_usage:
            row = {**self._head("chat.completion.chunk"), "choices": [], "usage": usage_row(reply.usage)}
            events += _sent(row)
        return events + DONE

    def _noted(self, text: str | None) -> str | None:
        return text if text is None else text + self.note

    def _calls(self, reply: ChatReply) -> list[dict[str, Any]]:
        """With names of their own, since a conversation may hold the calls of several replies."""
        tail = self.id[-8:]
        return [
            {"id": f"call_{tail}_{k}", "type": "function", "function": {"name": one.name, "arguments": one.arguments}}
            for k, one in enumerate(reply.tool_calls)
        ]

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:  # noqa: ANN401 - what stands beside
        usage = {"usage": None} if self.with_usage else {}
        return _sent({**self._head("chat.completion.chunk"), "choices": choices, **usage, **more})

    def _head(self, kind: str) -> dict[str, Any]:
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return {**head, "system_fingerprint": self.fingerprint}


def error_event(body: dict[str, Any]) -> bytes:
    """The events of a reply that failed while it was sent."""
    return _sent(body) + DONE


def usable(error: ChatError) -> tuple[ChatReply, str] | None:
    """What came before a reply was cut off, or a reply of nothing, with the finish reason; None for other failures."""
    if not isinstance(error.so_far, ChatReply):
        return None
    return error.so_far, "stop" if error.reason == "empty" else "length"


def until_stop(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """The text before the first of the stop texts, and whether one came.

    >>> until_stop("one two three", ("three", "two"))
    ('one ', True)
    """
    at = min((place for stop in stops if (place := text.find(stop)) >= 0), default=-1)
    return (text, False) if at < 0 else (text[:at], True)


def safe_length(text: str, stops: Sequence[str]) -> int:
    """How much of an unfinished text may be sent: not the beginning of a stop text at its end.

    >>> safe_length("one tw", ("two",))
    4
    """
    sizes = (n for stop in stops for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n]))
    return len(text) - max(sizes, default=0)


def usage_row(usage: ChatUsage | None) -> dict[str, Any]:
    """Tokens in OpenAI's shape; zeros where a server behind this one told none."""
    spent = usage or ChatUsage()
    return {
        "prompt_tokens": spent.prompt_tokens,
        "completion_tokens": spent.completion_tokens,
        "total_tokens": spent.prompt_tokens + spent.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": spent.cached_prompt_tokens},
        "completion_tokens_details": {"reasoning_tokens": spent.reasoning_tokens},
    }


def _logprobs(reply: ChatReply, content: str | None) -> dict[str, Any] | None:
    """Of the tokens of the text: without the one that ends the turn, nor those behind a stop text."""
    if not reply.logprobs:
        return None
    tokens, text = [], ""
    for one in reply.logprobs:
        if content is not None and len(text.strip()) >= len(content.strip()):
            break
        text += one.token
        tokens.append(one)
    return {"content": [_token(one) for one in tokens], "refusal": None}


def _token(one: TokenLogprob) -> dict[str, Any]:
    tops = [{"token": token, "logprob": value, "bytes": _bytes(token)} for token, value in one.top]
    return {"token": one.token, "logprob": one.logprob, "bytes": _bytes(one.token), "top_logprobs": tops}


def _bytes(token: str) -> list[int]:
    return list(token.encode("utf-8", "replace"))


def _sent(row: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"
