"""What is known about a clip, and frames with their true times: the plain values that the decoding room hands out.

Legend: T frames, H rows, W columns, C three colours in the order red, green, blue. Times are seconds from the first
frame shown; sizes are pixels of the frame as displayed, after rotation.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Backend = Literal["decord", "pyav"]
Verdict = Literal["complete", "partial", "refused"]


@dataclass(frozen=True)
class ClipFacts:
    """What a probe found out about one clip; a refused one has a verdict, a reason, a note and zeros."""

    duration_s: float = 0.0
    width: int = 0
    height: int = 0
    rotation_degrees: int = 0
    """Clockwise turn that was applied: 0, 90, 180 or 270."""
    num_frames_decoded: int = 0
    num_frames_declared: int | None = None
    """What the header says; None where it says nothing."""
    average_fps: float = 0.0
    variable_rate: bool = False
    times_ok: bool = False
    """Whether every frame had its own finite time."""
    container: str = ""
    codec: str = ""
    stream_index: int = -1
    """Which stream of the container was taken as the best video stream."""
    num_video_streams: int = 0
    has_audio: bool = False
    backend: Literal["decord", "pyav", ""] = ""
    """Who would read its frames."""
    verdict: Verdict = "refused"
    reason: str = ""
    """Countable reason of a refusal (errors.Reason); empty otherwise."""
    note: str = ""


@dataclass(frozen=True)
class DecodedFrames:
    """Frames of one clip with their true times."""

    frames_THWC: NDArray[np.uint8]
    times_s: tuple[float, ...]
    """Ascending unless they were asked for in another order."""
    indices: tuple[int, ...]
    """Position of each frame in the clip, in the order shown, from 0."""
    duration_s: float
    true_width: int
    true_height: int
    backend: Backend
    verdict: Literal["complete", "partial"]
    """Partial if frames that were asked for, or that the header declares, could not be decoded."""
    note: str
