"""The body of a chat completion as OpenAI's clients send it, made into what a model is asked.

Fields that nobody here knows are let pass; those that would change the reply and are not supported are refused by name.
Extensions: a content part `{"type": "video", "video": {path, start_s, end_s}}`, `time_s` beside an image, and an object
`aot` with `mode`, `kind` and `disclose`.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from aot.chat.messages import ChatRequest, ImagePart, Message, Sampling, TextPart, WrittenCall
from aot.errors import SourceError
from aot.rationales.notation import format_time
from aot.records import PromptMode
from aot.served_records import StudentContract
from aot.serving.frames import checked_times
from aot.serving.media import ClipWindow, check_count, check_times, read_image, size_of
from aot.serving.server.errors import ApiError, bad
from aot.serving.server.limits import Limits
from aot.student.rows.prompts import MODE_SUFFIX

SpokenMode = PromptMode | Literal["none"]
Text = Field(max_length=1_000_000)
_MOST_TOOLS, _MOST_STOPS = 128, 4


class Loose(BaseModel):
    """A part of a body: fields that are not known are let pass."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class ImageUrl(Loose):
    """An image, as a data URL."""

    url: str


class VideoPath(Loose):
    """A clip under an allowed folder, and the window that is asked about."""

    path: str = Field(max_length=4096)
    start_s: float = Field(default=0.0, ge=0, strict=True)
    end_s: float | None = Field(default=None, strict=True)


class ContentPart(Loose):
    """Text, an image or a clip inside a message."""

    type: str
    text: str | None = None
    image_url: ImageUrl | str | None = None
    video: VideoPath | None = None
    time_s: float | None = Field(default=None, strict=True)
    """Of an image: when it was seen, in seconds; told to the model as in training."""


class CalledFunction(Loose):
    """Name and arguments of a call."""

    name: str
    arguments: str = "{}"


class CallIn(Loose):
    """A tool call in the message of an assistant."""

    id: str = ""
    function: CalledFunction


class MessageIn(Loose):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    tool_calls: list[CallIn] | None = None
    tool_call_id: str | None = None


class StreamOptions(Loose):
    """Of a streamed reply."""

    include_usage: bool = False


class AotIn(Loose):
    """What this project adds to a request."""

    mode: str | None = Field(default=None, max_length=40)
    """How the student is asked, as in training; `none` sends the messages as they are."""
    kind: str = Field(default="", max_length=200)
    """Of the question, which its calibration goes by."""
    disclose: bool = Field(default=False, strict=True)
    """Whether a sentence behind the text says where it comes from, too."""


class ChatBody(Loose):
    """A chat completion."""

    model: str = Field(max_length=500)
    messages: list[MessageIn] = Field(min_length=1, max_length=1000)
    stream: bool | None = Field(default=False, strict=True)
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1, strict=True)  # or `true` would be one token
    max_completion_tokens: int | None = Field(default=None, ge=1, strict=True)
    temperature: float | None = Field(default=None, ge=0, le=2, strict=True)
    top_p: float | None = Field(default=None, gt=0, le=1, strict=True)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63, strict=True)
    n: int | None = Field(default=None, strict=True)
    stop: str | list[str] | None = None
    logprobs: bool | None = Field(default=None, strict=True)
    top_logprobs: int | None = Field(default=None, ge=0, le=20, strict=True)
    tools: list[dict[str, Any]] | None = Field(default=None, max_length=_MOST_TOOLS)
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    functions: list[Any] | None = None
    function_call: Any = None
    audio: Any = None
    modalities: list[str] | None = None
    prediction: Any = None
    web_search_options: Any = None
    aot: AotIn = Field(default_factory=AotIn)

    @property
    def is_question(self) -> bool:
        """Whether this is one message of a user without tools, as questions of training are."""
        return len(self.messages) == 1 and self.messages[0].role == "user" and not self.tools


@dataclass(frozen=True)
class ChatAsk:
    """A body that was found sound, without the frames of its clips."""

    body: ChatBody
    choices: tuple[str, ...] = ()
    """Where the reply shall be one of a closed set."""
    choice_key: str = ""
    """The property of the reply's object that holds the choice; empty where the reply is the bare string."""
    stops: tuple[str, ...] = ()
    mode: SpokenMode = "none"
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: Literal["auto", "none", "required"] = "auto"

    @property
    def has_media(self) -> bool:
        """Whether images or clips have to be read."""
        return any(part.type != "text" for one in self.body.messages for part in parts_of(one))

    @property
    def question(self) -> str:
        """The text of the last message of a user."""
        texts = (_text(one) for one in reversed(self.body.messages) if one.role == "user")
        return next(texts, "")


def read_body(body: ChatBody, *, name: str, contract: StudentContract | None, limits: Limits) -> ChatAsk:
    """What is asked, once everything that can be said about it without its images was looked at.

    Raises:
        ApiError: another model, or something that is not supported.
    """
    if body.model != name:
        words = f"there is no model {body.model[:100]!r} here; this server has {name!r}"
        raise ApiError(404, words, code="model_not_found", param="model")
    _refuse_unsupported(body)
    most = body.max_completion_tokens or body.max_tokens or 1
    if most > limits.max_new_tokens:
        raise bad(f"a reply of {most} tokens is asked for; at most {limits.max_new_tokens}", param="max_tokens")
    stops = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    if len(stops) > _MOST_STOPS or not all(stops):
        raise bad(f"stop takes at most {_MOST_STOPS} texts, none of them empty", param="stop")
    choices, key = _choices(body.response_format, limits=limits)
    tools, tool_choice = _tools(body)
    if choices and (tools or body.logprobs or stops):
        raise bad("a choice is decided, not written; leave out tools, logprobs and stop", param="response_format")
    mode = _default_mode(body, contract)
    if body.aot.mode is not None:
        taught: list[SpokenMode] = [*contract.modes, "none"] if contract else ["none"]
        if body.aot.mode not in taught:
            words = f"aot.mode is {body.aot.mode!r}; this model was taught: {', '.join(taught)}"
            raise bad(words, param="aot.mode")
        mode = taught[taught.index(body.aot.mode)]
    _check_messages(body.messages, needs_user=contract is not None)
    return ChatAsk(body, choices, key, stops, mode, tools, tool_choice)


def _default_mode(body: ChatBody, contract: StudentContract | None) -> SpokenMode:
    """How a question asks to be answered by its last words, as those of training do; else as the student was taught."""
    if contract is None or not body.is_question:
        return "none"
    text = _text(body.messages[-1]).rstrip()
    return next((mode for mode in contract.modes if text.endswith(MODE_SUFFIX[mode])), contract.modes[0])


def chat_request(
    ask: ChatAsk,
    *,
    contract: StudentContract | None,
    limits: Limits,
    clip: Callable[[VideoPath], list[ImagePart]],
) -> ChatRequest:
    """What the model is asked; `clip` gives the frames of a clip.

    Raises:
        ApiError: an image or a clip cannot be used, or there are too many.
    """
    body = ask.body
    messages = [_message(one, limits=limits, clip=clip) for one in body.messages]
    for one in messages:
        _check_images(images_of(one), of_one_size=contract is not None)
        if contract is not None and ask.mode != "none":
            check_times(one)
    check_count(sum(len(images_of(one)) for one in messages), limits=limits)
    if ask.mode != "none":
        messages = _in_mode(messages, MODE_SUFFIX[ask.mode])
    most = limits.max_new_tokens
    if contract:
        long = ask.mode in ("reason", "adaptive", "none")
        most = min(most, contract.max_rationale_tokens if long else contract.max_answer_tokens)
    temperature = body.temperature or 0.0
    return ChatRequest(
        messages=tuple(messages),
        sampling=Sampling(
            temperature=temperature,
            top_p=body.top_p or 1.0,
            max_tokens=body.max_completion_tokens or body.max_tokens or most,
            seed=random.getrandbits(31) if body.seed is None and temperature else body.seed,
            top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        ),
        tools=ask.tools,
        tool_choice=ask.tool_choice,
        json_schema=(body.response_format or {})["json_schema"]["schema"] if ask.choices else None,
    )


def images_of(message: Message) -> list[ImagePart]:
    """The pictures of a message, in order."""
    return [part for part in message.parts if isinstance(part, ImagePart)]


def clip_of(ask: ChatAsk, find: Callable[[VideoPath], ClipWindow]) -> ClipWindow | None:
    """The one clip of a question, or None where it has none."""
    parts = [part for one in ask.body.messages for part in parts_of(one) if part.type == "video" and part.video]
    return find(parts[0].video) if len(parts) == 1 and parts[0].video else None


def _refuse_unsupported(body: ChatBody) -> None:
    if body.n not in (None, 1):
        raise bad("n must be 1; send the request again for another reply", param="n")
    if body.top_logprobs is not None and not body.logprobs:
        raise bad("top_logprobs needs logprobs: true", param="top_logprobs")
    for name in ("presence_penalty", "frequency_penalty", "logit_bias"):
        if getattr(body, name):
            raise bad(f"{name} is not supported; leave it out", param=name)
    for name in ("functions", "function_call", "audio", "prediction", "web_search_options"):
        if getattr(body, name) is not None:
            raise bad(f"{name} is not supported; leave it out", param=name)
    if body.modalities not in (None, ["text"]):
        raise bad("modalities must be ['text']", param="modalities")


def _check_messages(messages: Sequence[MessageIn], *, needs_user: bool) -> None:
    said = [one for one in messages if one.role == "user"]
    if needs_user and not said:
        raise bad("a message of the user is needed; its text is the question", param="messages")
    for one in said:
        if not _text(one).strip() and all(part.type in ("text", "input_text") for part in parts_of(one)):
            raise bad("a message of the user is empty; write the question in its content", param="messages")


def _check_images(images: Sequence[ImagePart], *, of_one_size: bool) -> None:
    """Refuse what Python's `ask` would refuse, however the reply is to be made."""
    times_s = [image.time_s for image in images if image.time_s is not None]
    if times_s and len(times_s) < len(images):
        raise bad(
            f"{len(times_s)} of {len(images)} images have a time_s; give one to each of them, or to none",
            param="messages",
        )
    try:
        checked_times(times_s, count=len(times_s))
    except SourceError as error:
        raise bad(f"the times of images: {error.args[0]}", param="messages") from None
    sizes = list(dict.fromkeys(map(size_of, images))) if of_one_size and len(images) > 1 else []
    if len(sizes) > 1:
        (width, height), (other_width, other_height) = sizes[:2]
        words = f"one image has {width}x{height} pixels and another {other_width}x{other_height}"
        raise bad(f"the images of one question must have one size; {words}", param="messages")


def _choices(form: dict[str, Any] | None, *, limits: Limits) -> tuple[tuple[str, ...], str]:
    """The closed set that a response format names, and the property that holds the choice; empty for plain text."""
    if form is None or form.get("type") == "text":
        return (), ""
    wanted = form.get("json_schema")
    schema = wanted.get("schema") if form.get("type") == "json_schema" and isinstance(wanted, dict) else None
    key = ""
    if isinstance(schema, dict) and isinstance(schema.get("properties"), dict) and len(schema["properties"]) == 1:
        ((key, schema),) = schema["properties"].items()
    listed = schema.get("enum") if isinstance(schema, dict) else None
    if not isinstance(listed, list) or not listed or not all(isinstance(one, str) and one.strip() for one in listed):
        raise bad(
            'response_format is supported as {"type": "text"} and as a json_schema whose schema is an enum of texts '
            "(or an object with one such property), which is answered with a probability for each",
            param="response_format",
        )
    if len(listed) > limits.max_choices:
        raise bad(f"{len(listed)} choices; at most {limits.max_choices} are taken", param="response_format")
    if len(listed) < 2:
        words = "an enum of one text leaves nothing to decide; give two or more, or leave response_format out"
        raise bad(words, param="response_format")
    if len(set(listed)) < len(listed):
        raise bad("a choice stands twice in the enum; name each once", param="response_format")
    return tuple(listed), str(key)


def _tools(body: ChatBody) -> tuple[tuple[dict[str, Any], ...], Literal["auto", "none", "required"]]:
    tools = tuple(body.tools or ())
    names = []
    for tool in tools:
        function = tool.get("function")
        if (
            tool.get("type") != "function"
            or not isinstance(function, dict)
            or not isinstance(function.get("name"), str)
        ):
            raise bad('a tool looks like {"type": "function", "function": {"name": ...}}', param="tools")
        names.append(function["name"])
    choice = body.tool_choice
    if isinstance(choice, dict):
        function = choice.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if name not in names:
            raise bad("tool_choice names a tool that is not among tools", param="tool_choice")
        return tuple(tool for tool in tools if tool["function"]["name"] == name), "required"
    if choice == "auto" or choice is None:
        return tools, "auto"
    if choice == "none":
        return tools, "none"
    if choice == "required" and tools:
        return tools, "required"
    raise bad("tool_choice is auto, none, required (with tools), or names a function", param="tool_choice")


def _message(one: MessageIn, *, limits: Limits, clip: Callable[[VideoPath], list[ImagePart]]) -> Message:
    parts: list[TextPart | ImagePart] = []
    for part in parts_of(one):
        if part.type in ("text", "input_text") and part.text is not None:
            parts.append(TextPart(text=part.text))
        elif part.type == "image_url" and part.image_url is not None:
            url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
            parts += _timed(read_image(url, limits=limits, time_s=part.time_s))
        elif part.type == "video" and part.video is not None:
            parts += [piece for frame in clip(part.video) for piece in _timed(frame)]
        else:
            raise bad(
                f"a content part of type {part.type[:40]!r} is not supported or lacks its content; "
                "text, image_url (a data URL) and video (a path) are",
                param="messages",
            )
    calls = tuple(
        WrittenCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
        for call in one.tool_calls or ()
    )
    role = "system" if one.role == "developer" else one.role
    if role != "user" and any(isinstance(part, ImagePart) for part in parts):
        raise bad("images and clips stand in messages of the user", param="messages")
    return Message(role=role, parts=tuple(parts), tool_calls=calls, tool_call_id=one.tool_call_id or "")


def parts_of(one: MessageIn) -> Sequence[ContentPart]:
    """The parts of a message; a text alone is one."""
    if one.content is None:
        return ()
    return [ContentPart(type="text", text=one.content)] if isinstance(one.content, str) else one.content


def _timed(image: ImagePart) -> list[TextPart | ImagePart]:
    """A picture behind its time, as rows of training show it."""
    return [image] if image.time_s is None else [TextPart(text=f"t={format_time(image.time_s)}"), image]


def _text(one: MessageIn) -> str:
    return "\n".join(part.text for part in parts_of(one) if part.text is not None)


def _in_mode(messages: list[Message], suffix: str) -> list[Message]:
    """The messages with the words behind the last one's text that ask for a mode, unless they stand there."""
    last = messages[-1]
    at = max((i for i, part in enumerate(last.parts) if isinstance(part, TextPart)), default=-1)
    part = last.parts[at] if at >= 0 else TextPart(text="")
    assert isinstance(part, TextPart)
    if part.text.rstrip().endswith(suffix):
        return messages
    whole = TextPart(text=f"{part.text} {suffix}".lstrip())
    parts = (*last.parts[:at], whole, *last.parts[at + 1 :]) if at >= 0 else (*last.parts, whole)
    return [*messages[:-1], last.model_copy(update={"parts": parts})]
