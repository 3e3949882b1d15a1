"""Which moments of a clip to look at: pure functions of times in seconds, with no randomness and no file.

Times are seconds from the first frame shown. A sampler names wanted moments; `nearest_indices` turns them into
frames that exist, so a frame always keeps its true time.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence

MAX_SAMPLES = 1_000_000


def uniform_times(start_s: float, end_s: float, count: int) -> list[float]:
    """Midpoints of `count` equal slices of a window, in seconds.

    Raises:
        ValueError: the window is empty or not finite, or `count` is not positive.

    >>> uniform_times(0.0, 8.0, 4)
    [1.0, 3.0, 5.0, 7.0]
    """
    _check_window(start_s, end_s)
    if not 1 <= count <= MAX_SAMPLES:
        raise ValueError(f"count must lie in 1..{MAX_SAMPLES}, got {count}")
    slice_s = (end_s - start_s) / count
    return [start_s + (i + 0.5) * slice_s for i in range(count)]


def fps_times(start_s: float, end_s: float, fps: float) -> list[float]:
    """Moments `start_s`, `start_s + 1/fps`, ... before `end_s`, in seconds.

    Raises:
        ValueError: the window is empty or not finite, or `fps` is not positive or asks for over a million moments.

    >>> fps_times(1.0, 2.0, 4)
    [1.0, 1.25, 1.5, 1.75]
    """
    _check_window(start_s, end_s)
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps must be above 0, got {fps}")
    count = math.ceil((end_s - start_s) * fps - 1e-9)  # (1.1 - 1.0) * 10 is a little above 1
    if count > MAX_SAMPLES:
        raise ValueError(f"{fps} fps over {end_s - start_s:.1f} s are {count} moments; ask for at most {MAX_SAMPLES}")
    return [start_s + i / fps for i in range(max(1, count))]


def nearest_indices(times_s: Sequence[float], wanted_s: Sequence[float]) -> list[int]:
    """For each wanted moment the index of the nearest of the ascending `times_s`; repeats removed, order kept.

    Of two frames equally near, the earlier one is taken.

    Raises:
        ValueError: `times_s` is empty.

    >>> nearest_indices([0.0, 0.5, 1.0], [0.1, 0.2, 0.9])
    [0, 2]
    """
    if not len(times_s):
        raise ValueError("there are no frames to choose from")
    chosen: dict[int, None] = {}
    for wanted in wanted_s:
        right = bisect_left(times_s, wanted)
        if right == len(times_s) or (right > 0 and wanted - times_s[right - 1] <= times_s[right] - wanted):
            right -= 1
        chosen[right] = None
    return list(chosen)


def _check_window(start_s: float, end_s: float) -> None:
    if not (math.isfinite(start_s) and math.isfinite(end_s) and end_s > start_s):
        raise ValueError(f"the window must end after it starts, got {start_s}-{end_s} s")
