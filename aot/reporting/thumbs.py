"""Small JPEG pictures of frames, each embedded once however many steps saw it, within a budget of bytes."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from aot.errors import AotError, ConfigError, install_command

Size = tuple[int, int]
"""Width and height in pixels."""
ReadFrames = Callable[[str, Sequence[float]], tuple[Size, list[tuple[float, np.ndarray]]]]
"""Clip and wanted times in seconds -> the size of its frames as displayed, in which boxes are given, and (true time,
frame uint8 (H, W, 3) RGB) of the nearest stored frames."""

THUMB_WIDTH_PX = 160
SAME_FRAME_S = 0.02


def no_frames(uri: str, times_s: Sequence[float]) -> tuple[Size, list[tuple[float, np.ndarray]]]:
    """Frames of a run that has none."""
    raise KeyError(f"this run has no frames of {uri}")


@dataclass(frozen=True)
class Thumb:
    """One embedded picture; `id` is its anchor in the page."""

    id: str
    uri: str
    time_s: float
    href: str
    """JPEG as a data URI."""
    true_width: int
    true_height: int
    """Coordinates of boxes are given in these pixels."""


@dataclass
class ThumbBook:
    """All pictures of a report; the only mutable object here, filled while the gallery is made."""

    read_frames: ReadFrames
    budget_bytes: int
    thumbs: list[Thumb] = field(default_factory=list)
    _by_uri: dict[str, list[Thumb]] = field(default_factory=dict)
    _spent_bytes: int = 0

    def load(self, uri: str, times_s: Sequence[float]) -> str:
        """Embed the frames of `uri` at `times_s`; returns why some could not be, or an empty text."""
        embedded = self._by_uri.setdefault(uri, [])
        wanted = [t for t in sorted(set(times_s)) if not self.at(uri, t)]
        if not wanted:
            return ""
        try:
            size, frames = self.read_frames(uri, wanted)
        except (KeyError, OSError, AotError) as error:
            return f"frames of {uri} cannot be shown: {error}"
        for time_s, frame in frames:
            if self.at(uri, time_s):
                continue
            if self._spent_bytes > self.budget_bytes:
                return f"more frames are left out to keep this page under {self.budget_bytes // 2**20} MiB of pictures"
            href = jpeg_uri(frame)
            self._spent_bytes += len(href)
            thumb = Thumb(f"f{len(self.thumbs)}", uri, time_s, href, *size)
            self.thumbs.append(thumb)
            embedded.append(thumb)
        return ""

    def at(self, uri: str, time_s: float, *, within_s: float = SAME_FRAME_S) -> Thumb | None:
        """The embedded picture of `uri` that is nearest to `time_s`, if there is one so near."""
        near = [thumb for thumb in self._by_uri.get(uri, ()) if abs(thumb.time_s - time_s) <= within_s]
        return min(near, key=lambda thumb: abs(thumb.time_s - time_s), default=None)


def jpeg_uri(frame_HWC: np.ndarray) -> str:
    """`frame_HWC` (uint8, RGB) as a small JPEG data URI.

    Raises:
        ConfigError: pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ConfigError(f"the report needs pillow; install it with: {install_command('report')}") from error
    picture = Image.fromarray(frame_HWC)
    height = max(1, round(THUMB_WIDTH_PX * picture.height / picture.width))
    buffer = io.BytesIO()
    picture.resize((THUMB_WIDTH_PX, height)).save(buffer, "JPEG", quality=72)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
