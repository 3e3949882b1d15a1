"""What is known about a clip, and frames with their true times: the plain values that the decoding room hands out.

Legend: T frames, H rows, W columns, C three colours in the order red, green, blue. Times are seconds on the container's
clock, from where its sound or its pictures begin, whichever is earlier: the clock of subtitles and annotations too.
Sizes are pixels of the frame as displayed: upright, and with square pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

Backend = Literal["decord", "pyav"]
"""Who decoded; stores made by earlier versions name decord."""
Spans = tuple[tuple[float, float], ...]
"""Stretches of a clip as (start_s, end_s), ascending."""
Verdict = Literal["complete", "partial", "refused"]
Announce = Callable[[float], None]
"""Called with the gigapixels of a clip before they are decoded."""
MAX_OUTPUT_BYTES = 2_000_000_000
"""Of all the frames that are handed out at once."""


@dataclass(frozen=True)
class ClipFacts:
    """What a probe found out about one clip; a refused one has a verdict, a reason, a note and zeros."""

    duration_s: float = 0.0
    width: int = 0
    height: int = 0
    rotation_degrees: int = 0
    """Clockwise turn that was applied: 0, 90, 180 or 270."""
    is_mirrored: bool = False
    """Whether left and right were exchanged before that turn."""
    pixel_aspect: float = 1.0
    """Width of a stored pixel by its height; shown ones are square."""
    transfer: Literal["sdr", "pq", "hlg"] = "sdr"
    """Transfer curve of the stored pictures; the HDR ones are converted to BT.709."""
    has_alpha: bool = False
    container_start_s: float = 0.0
    """What the container's own clock shows at our time 0."""
    first_frame_s: float = 0.0
    """When the first picture is shown; above 0 where sound begins before it."""
    num_frames_decoded: int = 0
    """Undamaged ones."""
    num_frames_declared: int | None = None
    """What the header says; None where it says nothing."""
    average_fps: float = 0.0
    variable_rate: bool = False
    times_ok: bool = False
    """Whether every frame has its own time, and the clock never starts again."""
    container: str = ""
    codec: str = ""
    stream_index: int = -1
    """Which stream of the container was read."""
    num_video_streams: int = 0
    has_audio: bool = False
    backend: Literal["decord", "pyav", ""] = ""
    verdict: Verdict = "refused"
    """Partial if anything that the file declares did not come out undamaged."""
    spans_s: Spans = ()
    """Stretches in which pictures came out undamaged."""
    reason: str = ""
    """Countable reason of a refusal (errors.Reason); empty otherwise."""
    note: str = ""


@dataclass(frozen=True)
class DecodedFrames:
    """Frames of one clip with their true times."""

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)
    frames_THWC: NDArray[np.uint8]
    times_s: tuple[float, ...]
    """Ascending unless they were asked for in another order."""
    indices: tuple[int, ...]
    """Position of each frame in the clip, in the order shown, from 0."""
    duration_s: float
    true_width: int
    true_height: int
    backend: Backend
    verdict: Verdict
    """That of the whole clip, whichever frames were asked for."""
    spans_s: Spans
    """Stretches of the clip in which pictures came out undamaged."""
    note: str
    sha256: str = ""
    """Digest of the file, where the frames are meant to be stored."""
    frames_crc32: tuple[int, ...] = ()
    """Checksum of each frame, there too."""
