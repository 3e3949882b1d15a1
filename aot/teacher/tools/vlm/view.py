"""Shows frames of a stretch to a chat model and reads its JSON reply; knows no single tool.

Each frame follows a text part with its time. What the model says is data: read as JSON, checked, shortened, and never
followed. A reply without usable JSON, with a time outside the stretch, or to a request whose images were dropped on
the way is a ToolError.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from aot.chat.client import ChatModel
from aot.chat.messages import ChatReply, ChatRequest, ImagePart, Message, Sampling, message
from aot.chat.prompts import Prompt
from aot.errors import PASSING, ChatError, ToolError
from aot.records import JsonDict, TimeSpan
from aot.teacher.tools.base import EDGE_S, ToolContext, rounded_s
from aot.teacher.tools.clipview import ClipView, Frames

MAX_FRAMES = 16
MAX_SIDE_PX = 512
JPEG_QUALITY = 90
LONGEST_TOKEN = 5
"""Characters of our English a token at most, on average; more would make the least prompt too large."""
PIXELS_PER_TOKEN = 8192
"""Of an image, at most: the models known spend a token on 784 to 3,136 pixels."""
_MAX_REPLY, _MAX_OBJECTS = 40_000, 100


@dataclass(frozen=True)
class Vision:
    """A chat model that sees images."""

    model: ChatModel
    max_tokens: int = 1024


@dataclass(frozen=True)
class Look:
    """What one look is for."""

    purpose: str
    prompt: Prompt
    schema: JsonDict
    """Of the reply; its required fields are what the reply is recognised by."""
    slots: Mapping[str, str]
    """Besides start_s and end_s; text from outside stands in data slots."""


def look(vision: Vision, look_for: Look, *, span: TimeSpan, context: ToolContext) -> JsonDict:
    """The JSON object that the model answers with, its required fields present and nothing else checked.

    Raises:
        ToolError: the request was refused, images did not arrive, or a reply without that object.
        ChatError: no reply for a reason that passes, or that may be a setting.
        ConfigError: nobody will get a reply.
        GuardStop: the cost limit is reached.
    """
    request = look_request(look_for, span=span, clip=context.clip, max_tokens=vision.max_tokens)
    try:
        reply = vision.model.reply(request)
    except ChatError as error:
        if (
            error.reason in PASSING or error.unproven
        ):  # the question will be asked again, instead of answered without this look
            raise
        raise ToolError(f"the vision model gave no reply ({error.reason}): {error}"[:300]) from error
    if reply.usage is not None:
        context.usage.append(reply.usage)
    if reply.key:
        context.reply_keys.append(reply.key)
    check_images_arrived(request, reply)
    return json_object(reply.text, fields=tuple(look_for.schema["required"]))


def look_request(look_for: Look, *, span: TimeSpan, clip: ClipView, max_tokens: int) -> ChatRequest:
    """The prompt, then at most `MAX_FRAMES` frames of `span`, each after its time.

    Raises:
        ToolError: the stretch holds no stored frame.
    """
    slots = {**look_for.slots, "start_s": f"{span.start_s:.1f}", "end_s": f"{span.end_s:.1f}"}
    parts: list[str | ImagePart] = [look_for.prompt.fill(slots)]
    for position in clip.positions(span, most=MAX_FRAMES):
        time_s = clip.times_s[position]
        parts += [f"t={round(time_s, 2)}s", ImagePart(data=jpeg(clip.frames_THWC[position]), time_s=round(time_s, 3))]
    return ChatRequest(
        messages=(message("user", *parts),),
        sampling=Sampling(temperature=0.0, max_tokens=max_tokens),
        json_schema=look_for.schema,
        prompt_digest=look_for.prompt.digest,
        purpose=look_for.purpose,
    )


def jpeg(frame_HWC: Frames) -> bytes:
    """An RGB frame as a JPEG file, its longest side at most `MAX_SIDE_PX`."""
    height, width = frame_HWC.shape[:2]
    scale = MAX_SIDE_PX / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        frame_HWC = np.asarray(cv2.resize(frame_HWC, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, encoded = cv2.imencode(".jpg", frame_HWC[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return bytes(encoded.tobytes())


def check_images_arrived(request: ChatRequest, reply: ChatReply) -> None:
    """Raises ToolError if the server counted fewer prompt tokens than this text with its images can have.

    A count of zero, like no count, says nothing.
    """
    counted = reply.usage.prompt_tokens if reply.usage else 0
    images = sum(isinstance(part, ImagePart) for one in request.messages for part in one.parts)
    least = least_prompt_tokens(request.messages)
    if 0 < counted < least:
        raise ToolError(
            f"the server counted {counted} prompt tokens for a text with {images} images, which are at least {least}: "
            "it dropped the images or cannot see; serve a vision-language model under chat.model or vision_chat.model"
        )


def least_prompt_tokens(messages: tuple[Message, ...]) -> int:
    """A low estimate of the tokens of text and images, at least one for each image."""
    characters = sum(len(one.text) for one in messages)
    parts = [part for one in messages for part in one.parts if isinstance(part, ImagePart)]
    return characters // LONGEST_TOKEN + sum(max(1, _pixels(part.data) // PIXELS_PER_TOKEN) for part in parts)


def json_object(text: str, *, fields: tuple[str, ...]) -> JsonDict:
    """The last JSON object in `text` that has all `fields`, whatever stands around it.

    Raises:
        ToolError: there is none.

    >>> json_object('Sure: {"answer": "a pan"} Done.', fields=("answer",))
    {'answer': 'a pan'}
    """
    decoder = json.JSONDecoder()
    best: JsonDict | None = None
    spoken = text[-_MAX_REPLY:]
    start = spoken.find("{")
    for _ in range(_MAX_OBJECTS):
        if start < 0:
            break
        end = start + 1
        try:
            row, end = decoder.raw_decode(spoken, start)
            best = row if all(name in row for name in fields) else best
        except (ValueError, RecursionError):
            pass
        start = spoken.find("{", end)
    if best is None:
        raise ToolError(f"the vision model's reply holds no JSON object with {', '.join(fields)}: {text[:80]!r}")
    return best


def text_said(value: Any, *, what: str, most: int) -> str:  # noqa: ANN401 - whatever came
    """A text of a reply in one line of at most `most` characters; raises ToolError if it is none or empty."""
    if isinstance(value, str):
        text = " ".join("".join(c if c.isprintable() else " " for c in value).split())
        if text:
            return text if len(text) <= most else text[: most - 3].rstrip() + "..."
    raise ToolError(f"the vision model gave no text as {what}, but {str(value)[:80]!r}")


def rows_said(value: Any, *, what: str, most: int) -> list[JsonDict]:  # noqa: ANN401 - whatever came
    """A list of objects of a reply, cut to `most`; raises ToolError if it is none."""
    rows = [] if value is None else value
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ToolError(f"the vision model gave no list of objects as {what}, but {str(value)[:80]!r}")
    return rows[:most]


def score_said(value: Any) -> float:  # noqa: ANN401 - whatever came
    """A score of a reply, 0 to 1; raises ToolError if it is none."""
    score = _number(value)
    if score is None or not 0 <= score <= 1:
        raise ToolError(f"the vision model gave no score from 0 to 1, but {str(value)[:80]!r}")
    return round(score, 3)


def span_said(row: JsonDict, *, span: TimeSpan) -> tuple[float, float]:
    """Start and end of a row of a reply with one decimal, inside `span`.

    Raises:
        ToolError: they are no times, in the wrong order, or outside.
    """
    start_s, end_s = _number(row.get("start_s")), _number(row.get("end_s"))
    if start_s is None or end_s is None or end_s < start_s:
        stretch = f"{row.get('start_s')!r} to {row.get('end_s')!r}"[:80]
        raise ToolError(f"the vision model gave no stretch of time, but {stretch}")
    if start_s < span.start_s - EDGE_S or end_s > span.end_s + EDGE_S:
        raise ToolError(
            f"the vision model spoke of {start_s:.1f}-{end_s:.1f} s, outside {span.start_s:.1f}-{span.end_s:.1f} s "
            "which it was shown"
        )
    return rounded_s(max(start_s, span.start_s)), rounded_s(min(end_s, span.end_s))


def _number(value: Any) -> float | None:  # noqa: ANN401 - whatever came
    """A finite number, also one written as text such as `3.2s`."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value.strip().removesuffix("s") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _pixels(jpeg_file: bytes) -> int:
    frame = cv2.imdecode(np.frombuffer(jpeg_file, np.uint8), cv2.IMREAD_GRAYSCALE)
    return 0 if frame is None else int(frame.size)
