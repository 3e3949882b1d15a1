"""The part of a clip that one question may see: its stored frames with their true times, and nothing outside.

Arrays are uint8 THWC RGB. Stored frames may be smaller than true ones; boxes are scaled up here and nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aot.errors import ToolError
from aot.records import TimeSpan

Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ClipView:
    """Stored frames of one clip between `start_s` and `end_s`."""

    uri: str
    sha256: str
    """Of the video file."""
    frames_THWC: Frames
    times_s: tuple[float, ...]
    """True times of the frames, ascending."""
    indices: tuple[int, ...]
    """Index of each frame among all stored frames of the clip."""
    start_s: float
    end_s: float
    true_width: int
    true_height: int

    def __post_init__(self) -> None:
        if not len(self.frames_THWC) == len(self.times_s) == len(self.indices):
            raise ValueError(f"{len(self.frames_THWC)} frames, {len(self.times_s)} times, {len(self.indices)} indices")

    def positions(self, span: TimeSpan, *, fps: float | None = None, most: int | None = None) -> list[int]:
        """Positions in this view of the frames inside `span`, thinned to about `fps` frames a second and to `most`.

        Raises:
            ToolError: no stored frame lies inside.
        """
        inside = [i for i, t in enumerate(self.times_s) if span.start_s - 1e-6 <= t <= span.end_s + 1e-6]
        if not inside:
            inside = self._nearest(span)
        kept: list[int] = []
        for position in inside:
            if fps is None or not kept or self.times_s[position] - self.times_s[kept[-1]] >= 0.98 / fps:
                kept.append(position)
        return kept if most is None else spread(kept, most=most)

    def true_box(self, box_xyxy: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """A box in pixels of a stored frame as pixels of the true frame, one decimal."""
        stored_height, stored_width = self.frames_THWC.shape[1:3]
        x_scale, y_scale = self.true_width / stored_width, self.true_height / stored_height
        x0, y0, x1, y1 = box_xyxy
        return round(x0 * x_scale, 1), round(y0 * y_scale, 1), round(x1 * x_scale, 1), round(y1 * y_scale, 1)

    def _nearest(self, span: TimeSpan) -> list[int]:
        """A stretch between two frames is seen through the frame next to its middle, if that is near."""
        middle_s = (span.start_s + span.end_s) / 2
        nearest = min(range(len(self.times_s)), key=lambda i: abs(self.times_s[i] - middle_s), default=None)
        if nearest is None or abs(self.times_s[nearest] - middle_s) > 1.0:
            raise ToolError(
                f"no stored frame between {span.start_s:.1f} and {span.end_s:.1f} s; ask for a longer stretch"
            )
        return [nearest]


def spread(positions: Sequence[int], *, most: int) -> list[int]:
    """At most `most` of the positions, evenly spaced, first and last among them.

    >>> spread([4, 5, 6, 7, 8], most=3)
    [4, 6, 8]
    """
    if len(positions) <= most:
        return list(positions)
    if most < 2:
        return [positions[len(positions) // 2]][:most]
    return [positions[round(i * (len(positions) - 1) / (most - 1))] for i in range(most)]


def clip_view(
    *,
    uri: str,
    sha256: str,
    frames_THWC: Frames,
    times_s: tuple[float, ...],
    duration_s: float,
    start_s: float,
    end_s: float | None,
    true_width: int,
    true_height: int,
) -> ClipView:
    """A view of all stored frames `frames_THWC` of a clip, cut to the window [start_s, end_s].

    Raises:
        ToolError: the window lies outside the clip or holds no frame.
    """
    last_s = max(duration_s, times_s[-1] if times_s else 0.0)
    if end_s is None or end_s > last_s:
        end_s = last_s
    keep = [i for i, t in enumerate(times_s) if start_s - 1e-6 <= t <= end_s + 1e-6]
    if not keep:
        raise ToolError(
            f"{uri}: no stored frame between {start_s:.1f} and {end_s:.1f} s of a clip of {duration_s:.1f} s"
        )
    return ClipView(
        uri=uri,
        sha256=sha256,
        frames_THWC=frames_THWC[keep[0] : keep[-1] + 1],
        times_s=tuple(float(times_s[i]) for i in keep),
        indices=tuple(keep),
        start_s=start_s,
        end_s=end_s,
        true_width=true_width,
        true_height=true_height,
    )
