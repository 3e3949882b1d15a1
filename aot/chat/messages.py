"""What is sent to a chat model and what comes back; no backend, no socket, no file.

A `ChatRequest` holds everything that can change the reply, and its digest is what replies are stored under. Images are
bytes of an encoded picture, with the time of the frame where it has one.
"""

import base64
import hashlib
import json
from typing import Any, Literal

from pydantic import Field, field_serializer, field_validator

from aot.display import storable
from aot.records import JsonDict, Record, TokenLogprob, Turn, TurnPurpose, WrittenCall
from aot.run_records import ChatUsage


class ImagePart(Record):
    """A picture inside a message."""

    data: bytes
    """Of a JPEG or PNG file."""
    mime: Literal["image/jpeg", "image/png"] = "image/jpeg"
    time_s: float | None = None
    """Time of the frame in its clip; a text part before the image tells it to the model."""

    @field_serializer("data")
    def _as_text(self, data: bytes) -> str:
        return base64.b64encode(data).decode()

    @field_validator("data", mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:  # noqa: ANN401 - whatever came
        return base64.b64decode(data) if isinstance(data, str) else data


class TextPart(Record):
    """A piece of text inside a message."""

    text: str


class Message(Record):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    parts: tuple[TextPart | ImagePart, ...] = ()
    tool_calls: tuple[WrittenCall, ...] = ()
    """Of an assistant."""
    tool_call_id: str = ""
    """Of a tool message: which call it answers."""

    @property
    def text(self) -> str:
        """All text parts, joined by line breaks."""
        return "\n".join(part.text for part in self.parts if isinstance(part, TextPart))


def message(role: Literal["system", "user", "assistant", "tool"], *parts: str | ImagePart) -> Message:
    """A message of text and pictures, in order."""
    return Message(role=role, parts=tuple(TextPart(text=one) if isinstance(one, str) else one for one in parts))


WATERMARK_TOKENS = 200
"""Free text of more tokens is to carry a watermark by the EU's code of practice, as summaries of it say."""


class Sampling(Record):
    """How a reply is drawn."""

    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 1024
    seed: int | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    """Alternatives to tell beside the log-probability of each token; None asks for no log-probabilities at all."""

    @property
    def takes_watermark(self) -> bool:
        """Whether a reply carries the watermark of whoever serves it: a sampled one that may be long."""
        return self.temperature > 0 and self.max_tokens > WATERMARK_TOKENS


class ChatRequest(Record):
    """One question to a chat model."""

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    tools: tuple[JsonDict, ...] = ()
    """In OpenAI function-calling format."""
    tool_choice: Literal["auto", "none", "required"] = "auto"
    json_schema: JsonDict | None = None
    """What the reply shall look like, where the server can hold it to that."""
    sample_index: int = 0
    """Tells equal requests apart: each is another draw."""
    prompt_digest: str = ""
    """Content hash of the prompt files that the messages were made from."""
    purpose: str = ""
    """Such as plan, solve, judge: for counting only, not part of the digest."""

    def digest(self, *, model: str, base_url: str) -> str:
        """32 hex digits over everything that the reply depends on."""
        body = self.model_dump(mode="json", exclude={"purpose"})
        text = json.dumps([model, base_url, body], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class ChatReply(Record):
    """What a chat model said: text, thinking or tool calls, and never nothing."""

    text: str = ""
    reasoning: str = ""
    """What came in a reasoning field of its own, whatever its name; think tags inside `text` are left there."""
    tool_calls: tuple[WrittenCall, ...] = ()
    finish_reason: Literal["stop", "tool_calls"] = "stop"
    """Cut-off and filtered replies are errors (aot.errors.ChatError), not replies."""
    model: str = ""
    """As the server named itself."""
    usage: ChatUsage | None = None
    """None where the server told nothing."""
    logprobs: tuple[TokenLogprob, ...] = ()
    token_ids: tuple[int, ...] = Field(default=(), exclude_if=lambda ids: not ids)
    """Of the reply, its end token included, where the model tells them."""
    key: str = Field(default="", exclude_if=lambda key: not key)
    """Under which the reply is stored, so that a trace can name it; empty where replies are not kept."""

    def turn(self, purpose: TurnPurpose) -> Turn:
        """The reply as a trace keeps it, fit to be stored as UTF-8."""
        calls = [one.model_copy(update={"arguments": storable(one.arguments)}) for one in self.tool_calls]
        return Turn(
            role="assistant",
            purpose=purpose,
            text=storable(self.text),
            reasoning=storable(self.reasoning),
            calls=tuple(calls),
            key=self.key,
            logprobs=self.logprobs,
        )
