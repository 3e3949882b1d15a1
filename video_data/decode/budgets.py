"""How much a clip may ask for; every limit is checked from its header and packets, before a frame is decoded."""

from dataclasses import dataclass, fields
from typing import Self

from aot.errors import VideoError

MAX_TRACKS = 256


@dataclass(frozen=True)
class Budgets:
    """Limits for one clip; a value equal to a limit is accepted, anything above it refused."""

    max_file_mb: float = 4096.0
    max_pixels: int = 3840 * 2160
    """Width times height of one frame."""
    max_frames: int = 400_000
    max_duration_s: float = 4 * 3600.0
    max_streams: int = 16
    """Video streams; sound, subtitles and attached fonts cost next to nothing."""
    max_gigapixels: float = 80.0
    """Pixels of all frames together, in 10**9: what decoding costs. 1080p at 30 frames/s has them in 21 minutes."""

    @classmethod
    def of(cls, settings: object) -> Self:
        """The limits that `settings`, such as the section `frames` of a config, has as attributes of the same names."""
        return cls(**{limit.name: getattr(settings, limit.name) for limit in fields(cls)})

    def check_file(self, num_bytes: int) -> None:
        """Refuse a file of more than `max_file_mb` MB (10**6 bytes)."""
        if num_bytes > self.max_file_mb * 1e6:
            raise VideoError(
                "over_budget_bytes",
                f"the file has {num_bytes / 1e6:.1f} MB, more than max_file_mb={self.max_file_mb:g}",
            )

    def check_streams(self, count: int) -> None:
        """Refuse a container of more than `max_streams` video streams."""
        if count > self.max_streams:
            raise VideoError(
                "over_budget_streams", f"{count} video streams are more than max_streams={self.max_streams}"
            )

    def check_tracks(self, count: int) -> None:
        """Refuse a container of more than `MAX_TRACKS` streams of all kinds, each of which a demuxer makes room for."""
        if count > MAX_TRACKS:
            raise VideoError("over_budget_streams", f"{count} streams of all kinds are more than {MAX_TRACKS}")

    def check_frame_size(self, width: int, height: int) -> None:
        """Refuse frames of more than `max_pixels` pixels."""
        if width * height > self.max_pixels:
            raise VideoError(
                "over_budget_pixels",
                f"frames of {width}x{height} have {width * height} pixels, more than max_pixels={self.max_pixels}",
            )

    def check_frames(self, count: int) -> None:
        """Refuse a clip of more than `max_frames` frames."""
        if count > self.max_frames:
            raise VideoError("over_budget_frames", f"{count} frames are more than max_frames={self.max_frames}")

    def check_duration(self, duration_s: float) -> None:
        """Refuse a clip that lasts longer than `max_duration_s` seconds."""
        if duration_s > self.max_duration_s:
            raise VideoError(
                "over_budget_duration",
                f"the clip lasts {duration_s:.1f} s, more than max_duration_s={self.max_duration_s:g}",
            )

    def check_gigapixels(self, gigapixels: float) -> None:
        """Refuse a clip whose frames have more than `max_gigapixels` pixels in all."""
        if gigapixels > self.max_gigapixels:
            raise VideoError(
                "over_budget_pixels",
                f"its frames have {gigapixels:.1f} gigapixels in all, more than "
                f"max_gigapixels={self.max_gigapixels:g}; shrink or cut the clip, or allow more",
            )
