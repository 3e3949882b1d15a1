"""Images and clips of a request: data URLs and files under allowed folders. No address is ever opened.

Sizes are looked at before anything is unpacked. What is wrong with a path is told in the client's words, and the same
way whether the file is missing or lies elsewhere.
"""

import base64
import binascii
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from aot.chat.messages import ImagePart, Message, TextPart
from aot.chat.pictures import unpacked
from aot.errors import ChatError, SourceError, VideoError
from aot.served_records import FrameRule
from aot.serving.frames import ClipShelf, ShownFrames, Window
from aot.serving.server.errors import ApiError, bad
from aot.serving.server.limits import Limits

_BEGINNINGS: dict[str, Literal["image/jpeg", "image/png"]] = {
    "data:image/png;base64": "image/png", "data:image/jpeg;base64": "image/jpeg", "data:image/jpg;base64": "image/jpeg",
}  # fmt: skip


_TIME = re.compile(r"t=\d+(\.\d+)?s\s*$")
"""As `format_time` writes it before a picture, in a request and in rows of training."""


@dataclass(frozen=True)
class ClipWindow:
    """A clip under an allowed folder, and the part of it that is asked about."""

    path: Path
    """Resolved."""
    start_s: float = 0.0
    end_s: float | None = None


def check_count(number: int, *, limits: Limits, param: str = "messages") -> None:
    """Raises ApiError where a request shows so many images that it is refused."""
    if number > limits.max_images:
        raise bad(f"{number} images; at most {limits.max_images} are taken", param=param)


def check_times(message: Message) -> None:
    """Refuse several images of which one has no time, by `time_s` or in the text just before it."""
    timed = [b for a, b in pairwise(message.parts) if isinstance(a, TextPart) and _TIME.search(a.text)]
    count = sum(isinstance(part, ImagePart) for part in message.parts)
    if count > 1 and sum(isinstance(one, ImagePart) for one in timed) < count:
        raise untimed(count)


def untimed(count: int) -> ApiError:
    """What a client is told of so many images without times."""
    return bad(
        f'{count} images came without times, which the student reads beside them; put "time_s", the second at which it '
        "was seen, beside the image_url of each",
        param="messages",
    )


def read_image(url: str, *, limits: Limits, time_s: float | None = None) -> ImagePart:
    """The picture in a data URL, still encoded.

    Raises:
        ApiError: it is no data URL of a PNG or JPEG, or has more pixels than are taken.
    """
    from PIL import Image

    beginning, comma, text = url.partition(",")
    mime = _BEGINNINGS.get(beginning.strip().lower().replace(" ", ""))
    if mime is None or not comma:
        raise bad(
            "an image must come as data:image/png;base64,... or data:image/jpeg;base64,...; addresses are never opened",
            param="messages", code="invalid_image_url",
        )  # fmt: skip
    try:
        data = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:  # reads its head only
            width, height, kind = *picture.size, picture.format
    except Image.DecompressionBombError:
        words = f"an image has far more pixels than the {limits.max_pixels:,} that are taken at most"
        raise bad(words, param="messages", code="image_too_large") from None
    except (binascii.Error, ValueError, OSError, SyntaxError):
        raise bad("an image could not be read: it is no base64 of a whole PNG or JPEG file", param="messages",
                  code="invalid_image") from None  # fmt: skip
    if width * height > limits.max_pixels:
        raise bad(f"an image has {width} x {height} pixels; at most {limits.max_pixels:,} are taken", param="messages",
                  code="image_too_large")  # fmt: skip
    return ImagePart(data=data, mime="image/png" if kind == "PNG" else "image/jpeg", time_s=time_s)


def size_of(image: ImagePart) -> tuple[int, int]:
    """Width and height in pixels, as the picture's head says."""
    from PIL import Image

    with Image.open(io.BytesIO(image.data), formats=("PNG", "JPEG")) as picture:
        return picture.size


def pixels_of(image: ImagePart) -> np.ndarray:
    """The picture unpacked: uint8 (height, width, 3), RGB.

    Raises:
        ApiError: it is damaged.
    """
    try:
        return np.asarray(unpacked(image.data))
    except ChatError:
        raise bad("an image is damaged; send the whole file", param="messages", code="invalid_image") from None


def find_clip(
    path: str,
    *,
    allow: Sequence[Path],
    limits: Limits,
    shelf: ClipShelf | None,
    start_s: float = 0.0,
    end_s: float | None = None,
) -> ClipWindow:
    """The clip at a path under one of the allowed folders, links followed.

    Only its frames tell how long a clip is: without `end_s` they lie on the shelf afterwards.

    Raises:
        ApiError: there is none, the path is an address, or the window is none, too long, or of a clip that is unusable.
    """
    if not allow:
        raise bad("this server takes no clips; start it with --allow FOLDER", param="messages", code="no_clips")
    if "://" in path or path.startswith("file:"):
        raise bad("a clip is given by its path under an allowed folder; addresses are never opened", param="messages",
                  code="invalid_path")  # fmt: skip
    ends = [] if end_s is None else [end_s]
    if not all(math.isfinite(one) for one in (start_s, *ends)) or start_s < 0 or any(one <= start_s for one in ends):
        raise bad("the window of a clip must begin at 0 s or later and end after it begins", param="messages")
    if ends and end_s is not None and end_s - start_s > limits.max_clip_s:
        raise bad(
            f"the window lasts {end_s - start_s:g} s; at most {limits.max_clip_s:g} s are taken", param="messages"
        )
    window = ClipWindow(_resolved(path, allow), start_s, end_s)
    if end_s is None and shelf is not None:
        _check_length(window, shelf, limits=limits)
    return window


def _resolved(path: str, allow: Sequence[Path]) -> Path:
    for folder in allow:
        try:
            whole = (folder / path).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):
            continue
        if whole.is_relative_to(folder) and whole.is_file():
            return whole
    raise bad("there is no clip at this path under an allowed folder", param="messages", code="clip_missing")


def _check_length(window: ClipWindow, shelf: ClipShelf, *, limits: Limits) -> None:
    try:
        duration_s = shelf.frames(window.path).duration_s
    except VideoError as error:
        raise unusable(error) from None
    if duration_s - window.start_s > limits.max_clip_s:
        raise bad(
            f"the clip lasts {duration_s:.2f} s and windows up to {limits.max_clip_s:g} s are taken; "
            "give start_s and end_s inside",
            param="messages",
        )


def read_clip(window: ClipWindow, rule: FrameRule, shelf: ClipShelf) -> list[ImagePart]:
    """The frames of a clip that `ask` would show, as lossless pictures with their times.

    Raises:
        ApiError: it cannot be decoded, or the window lies outside of it.
    """
    shown = ShownFrames(rule, shelf)
    try:
        return shown.pictures(shown.add_clip(window.path, Window(window.start_s, window.end_s)))
    except VideoError as error:
        raise unusable(error) from None
    except SourceError as error:
        raise bad(f"the window of the clip cannot be shown ({error})", param="messages", code="clip_unusable") from None


def unusable(error: VideoError, *, param: str = "messages") -> ApiError:
    """What a client is told of a clip that was refused."""
    return bad(f"the clip cannot be used ({error.reason}): {error.message}", param=param, code="clip_unusable")
