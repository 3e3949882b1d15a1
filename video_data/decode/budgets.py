"""How much a clip may ask for, and what of it is stored.

Every limit is checked from the header and the packets of a clip, before a frame is decoded.
"""

from dataclasses import dataclass, fields
from typing import ClassVar, Self

from aot.errors import VideoError, VideoReason

_REFUSALS: dict[str, tuple[VideoReason, str]] = {
    "max_file_mb": ("over_budget_bytes", "the file has {value:.1f} MB, more than max_file_mb={limit:g}"),
    "max_pixels": (
        "over_budget_pixels",
        "frames of {width}x{height} have {value} pixels, more than max_pixels={limit}",
    ),
    "max_frames": ("over_budget_frames", "{value} frames are more than max_frames={limit}"),
    "max_duration_s": ("over_budget_duration", "the clip lasts {value:.1f} s, more than max_duration_s={limit:g}"),
    "max_streams": ("over_budget_streams", "{value} video streams are more than max_streams={limit}"),
    "max_tracks": ("over_budget_streams", "{value} streams of all kinds are more than {limit}"),
    "max_gigapixels": (
        "over_budget_pixels",
        "its frames have {value:.1f} gigapixels in all, more than max_gigapixels={limit:g}; "
        "shrink or cut the clip, or allow more",
    ),
}
"""Countable reason and words for what is above each limit."""


@dataclass(frozen=True)
class Budgets:
    """Limits for one clip; a value equal to a limit is accepted, anything above it refused."""

    max_file_mb: float = 4096.0
    """In 10**6 bytes."""
    max_pixels: int = 3840 * 2160
    """Width times height of one frame."""
    max_frames: int = 400_000
    max_duration_s: float = 4 * 3600.0
    max_streams: int = 16
    """Video streams; sound, subtitles and attached fonts cost next to nothing."""
    max_gigapixels: float = 80.0
    """Pixels of all frames together, in 10**9: what decoding costs. 1080p at 30 frames/s has them in 21 minutes."""
    max_tracks: ClassVar[int] = 256
    """Streams of all kinds, for each of which a demuxer makes room."""

    @classmethod
    def of(cls, settings: object) -> Self:
        """The limits that `settings`, such as the section `frames` of a config, has as attributes of the same names."""
        return cls(**{limit.name: getattr(settings, limit.name) for limit in fields(cls)})

    def check(self, **values: float) -> None:
        """Refuse a value above the limit of its name, such as `max_frames`; other values are for the words only."""
        for name, value in values.items():
            if name in _REFUSALS and value > (limit := getattr(self, name)):
                reason, words = _REFUSALS[name]
                raise VideoError(reason, words.format(value=value, limit=limit, **values))

    def check_frame_size(self, width: int, height: int) -> None:
        """Refuse frames of more than `max_pixels` pixels."""
        self.check(max_pixels=width * height, width=width, height=height)


@dataclass(frozen=True)
class Sampling:
    """Which frames of a clip are stored, and what reading it may cost."""

    fps: float
    """For each second those nearest to 0, 1/fps, 2/fps, ..."""
    max_stored_frames: int
    """A clip that would give more is sampled evenly instead."""
    max_side_px: int
    """Frames are scaled down to this longest side."""
    time_limit_s: float
    """For each attempt at a small clip; it grows with the clip (see sandbox.py)."""
    budgets: Budgets
    stream: int | None = None
    """Index in the container of the video stream to read; None takes the best of each clip."""

    @classmethod
    def of(cls, settings: object, *, stream: int | None) -> Self:
        """What `settings`, such as the section `frames` of a config, has as attributes of the same names."""
        names = ("fps", "max_stored_frames", "max_side_px", "time_limit_s")
        values = {name: getattr(settings, name) for name in names}
        return cls(**values, budgets=Budgets.of(settings), stream=stream)
