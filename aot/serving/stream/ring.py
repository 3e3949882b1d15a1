"""The frames of a stream that a prompt may show: checked, bounded in number, and picked by the rule of training.

Frames are kept at the rate of the training store, and of these a prompt shows as many as in training, spread evenly
from the first to the newest one. While they are few, every new one is put behind those before; once they are as many
as a prompt may show, they are picked anew, a few fewer, and grow again at wider steps. Knows no threads, no model and
no torch. Legend: H rows, W columns, C three colours in the order red, green, blue.
"""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from aot.served_records import FrameRule
from video_data.decode.sampling import nearest_indices, uniform_times

Refusal = Literal["not_an_array", "wrong_shape", "wrong_dtype", "bad_time", "out_of_order", "future"]
REFUSALS: tuple[str, ...] = get_args(Refusal)
FrameOutcome = Literal["taken", "near_duplicate", "identical"] | Refusal
"""What became of a frame: it was taken, it looks like the newest one, its bytes are those of the newest one; or why it
was refused."""
FUTURE_S = 0.05
"""So far ahead of the clock the time of a frame may be: two clocks of one machine are never quite equal."""
RING_PER_FRAME = 4
"""So many frames are kept for each that a prompt shows: an even choice is then off by an eighth of a step at most."""
_CELLS_HW = (12, 16)
_SAMPLED_HW = (96, 128)


@dataclass(eq=False)
class HeldFrame:
    """One frame as it was observed."""

    number: int
    """Of all frames of a stream, from 1 on."""
    time_s: float
    pixels_HWC: np.ndarray
    """uint8; as it came, or already scaled as in training."""
    seen_until_s: float
    """When the last frame came that looked like it."""
    cells: np.ndarray
    """Mean colours of parts of the picture, which near duplicates share."""
    size_hw: tuple[int, int]
    """As it came."""


@dataclass(frozen=True)
class PickedFrames:
    """What a prompt shows of a stream."""

    frames: tuple[HeldFrame, ...]
    """Ascending; the last one is the newest that was observed."""
    keep: int
    """So many of the first ones stay in the next prompts, until frames are picked anew."""
    start_s: float
    """Time 0 of the prompt, in seconds of the stream's clock."""


class FrameRing:
    """The frames of one episode after another; one caller at a time."""

    def __init__(self, rule: FrameRule, *, window_s: float | None, near_duplicate: float) -> None:
        """Starts empty.

        Args:
            rule: of training.
            window_s: at most the last so many seconds are shown, and at least about three quarters of them; None shows
                an episode from its beginning.
            near_duplicate: a frame is like another one where no part of the picture differs by more in its mean
                colour, in levels of 255.
        """
        self.counts: Counter[FrameOutcome] = Counter()
        self.capacity = RING_PER_FRAME * rule.num_frames
        self._num_frames, self._fps, self._window_s = rule.num_frames, rule.stored_fps, window_s
        self._near, self._number = near_duplicate, 0
        self.clear()

    def clear(self) -> None:
        """Begin a new episode: no frame of the one before is shown again."""
        self._ring: list[HeldFrame] = []
        self._kept: list[HeldFrame] = []
        self.newest: HeldFrame | None = None
        self.last_came_s: float | None = None
        """When the last frame came that was not refused, in seconds of the clock."""
        self.last_outcome: FrameOutcome | None = None
        """Of the last frame; None where none has come."""
        self._start_s, self._shown_from_s = 0.0, 0.0
        self._step_s = self._spacing_s = 1 / self._fps
        self._last_time_s = -math.inf
        self._last_HWC = self._last_cells = np.empty(0)

    @property
    def num_held(self) -> int:
        """Different frames that are held in memory."""
        return len({one.number for one in (*self._ring, *self._kept, *([self.newest] if self.newest else ()))})

    def offer(self, frame: Any, time_s: Any, *, now_s: float) -> FrameOutcome:  # noqa: ANN401 - whatever a driver gives
        """What became of a frame; it is copied if it is taken, and nothing is raised whatever it is.

        Args:
            frame: uint8 H, W, C; all frames of an episode have one size.
            time_s: when it was taken, in seconds of the clock.
            now_s: what the clock shows.
        """
        outcome = self._refusal(frame, time_s, now_s) or self._take(frame, float(time_s))
        self.counts[outcome] += 1
        self.last_outcome = outcome
        if outcome not in REFUSALS:
            self.last_came_s = now_s
        return outcome

    def shown(self) -> PickedFrames | None:
        """What a prompt shows now; None where no frame has come."""
        newest = self.newest
        if newest is None:
            return None
        if self._num_frames == 1:
            return PickedFrames((newest,), 0, self._from_s(newest.time_s, share=1.0))
        for one in self._ring:
            # Cameras are not exact: of two moments of the grid the frames may be nearer than the moments.
            if not self._kept or one.time_s >= self._kept[-1].time_s + self._spacing_s - self._step_s / 2:
                self._kept.append(one)
        most = self._num_frames - (not self._kept or self._kept[-1] is not newest)
        span_s = newest.time_s - self._shown_from_s
        if len(self._kept) > most or (self._window_s is not None and span_s > self._window_s):
            self._pick_anew(newest.time_s)
        kept = self._kept
        frames = kept if kept and kept[-1] is newest else [*kept, newest]
        return PickedFrames(tuple(frames), len(kept), self._shown_from_s)

    def _refusal(self, frame: Any, time_s: Any, now_s: float) -> Refusal | None:  # noqa: ANN401
        if not isinstance(frame, np.ndarray):
            return "not_an_array"
        if frame.dtype != np.uint8:  # such as floats from 0 to 1, or with NaN: their scale would be a guess
            return "wrong_dtype"
        if frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
            return "wrong_shape"
        if self.newest is not None and self.newest.size_hw != frame.shape[:2]:
            return "wrong_shape"
        if isinstance(time_s, bool) or not isinstance(time_s, int | float | np.number) or not math.isfinite(time_s):
            return "bad_time"
        if time_s > now_s + FUTURE_S:
            return "future"
        return "out_of_order" if time_s <= self._last_time_s else None

    def _take(self, frame_HWC: np.ndarray, time_s: float) -> FrameOutcome:
        self._last_time_s, newest = time_s, self.newest
        cells = _cells(frame_HWC)
        # All bytes are worth a look only where a few of them are the same.
        if np.array_equal(cells, self._last_cells) and np.array_equal(frame_HWC, self._last_HWC):
            return "identical"
        # Always a copy, of which nobody else has a reference: drivers write the next frame into the same memory.
        self._last_HWC, self._last_cells = frame_HWC.copy(), cells
        if newest is not None and self._near > 0 and float(np.abs(cells - newest.cells).max()) <= self._near:
            newest.seen_until_s = time_s
            return "near_duplicate"
        self._number += 1
        height, width = frame_HWC.shape[:2]
        made = HeldFrame(self._number, time_s, self._last_HWC, time_s, cells, (height, width))
        if newest is None:
            self._start_s = self._shown_from_s = time_s
        self.newest = made
        if not self._ring or self._slot(time_s) > self._slot(self._ring[-1].time_s):
            self._ring.append(made)
            self._bound(time_s)
        return "taken"

    def _slot(self, time_s: float) -> int:
        """Which moment of the training store's grid a frame stands for: the last one before it."""
        return math.floor((time_s - self._start_s) / self._step_s + 1e-3)

    def _bound(self, time_s: float) -> None:
        if self._window_s is not None:
            oldest_s = time_s - self._window_s
            self._ring = [one for one in self._ring if one.time_s >= oldest_s]
        if len(self._ring) > self.capacity:  # every second one is enough from now on
            self._ring, self._step_s = self._ring[::2], 2 * self._step_s

    def _pick_anew(self, end_s: float) -> None:
        """Fewer frames, as training picks them from a window, so that some more have room before the next time."""
        count = max(1, self._num_frames - max(1, self._num_frames // 4))
        # A part of the window only, too, so that it is never longer than it may be when it has grown.
        start_s = self._shown_from_s = self._from_s(end_s, share=count / self._num_frames)
        seen = [one for one in self._ring if one.time_s >= start_s]
        self._kept, self._spacing_s = [], self._step_s
        if seen and end_s > start_s:
            times_s = [one.time_s for one in seen]
            self._kept = [seen[i] for i in nearest_indices(times_s, uniform_times(start_s, end_s, count))]
            self._spacing_s = max(self._step_s, (end_s - start_s) / count)

    def _from_s(self, end_s: float, *, share: float) -> float:
        """Where what is shown begins: with the episode, or this share of the window ago."""
        return self._start_s if self._window_s is None else max(self._start_s, end_s - share * self._window_s)


def _cells(frame_HWC: np.ndarray) -> np.ndarray:
    """Mean colours [at most 12, at most 16, 3] of the parts of a picture, from some of its pixels."""
    height, width = frame_HWC.shape[:2]
    sampled = frame_HWC[:: max(1, height // _SAMPLED_HW[0]), :: max(1, width // _SAMPLED_HW[1])]
    rows, columns = (max(1, size // cells) for size, cells in zip(sampled.shape[:2], _CELLS_HW, strict=True))
    tall, wide = min(_CELLS_HW[0], sampled.shape[0]) * rows, min(_CELLS_HW[1], sampled.shape[1]) * columns
    parts = sampled[:tall, :wide].reshape(tall // rows, rows, wide // columns, columns, 3)
    return parts.mean(axis=(1, 3), dtype=np.float32)
