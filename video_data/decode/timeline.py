"""The time line of a clip from what the decoder gave out, in the order shown: pure functions of whole clock ticks.

A decoder gives pictures in the order in which they are shown. Their times may be made up (AVI has none), start again
where recordings were joined, or repeat; the order is believed before the times are.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

MAX_REORDER = 16
"""Pictures by which a coding order may differ from the order shown (H.264 and HEVC allow 16)."""
_NEAR_BITS = 10
"""A clock went round where it steps back by all but a 1,024th of its span (93 s of a transport stream)."""
MAX_GAP_S = 0.2
"""Missing pictures over a shorter time than this are noted, and do not tear a stretch in two."""
_Number = TypeVar("_Number", int, float)


def usual_step(ticks: Sequence[int], *, otherwise: int) -> int:
    """The median distance of neighbours, or `otherwise` where there are none; at least 1.

    >>> usual_step([0, 40, 80, 300], otherwise=1)
    40
    """
    # The median, since gaps must not count.
    steps = sorted(after - before for before, after in pairwise(ticks) if after > before)
    return steps[len(steps) // 2] if steps else max(1, otherwise)


class Clock:
    """Ticks of a clock that begins again at 0 after `span` of them, carried on."""

    def __init__(self, span: int | None, *, last: int | None = None) -> None:
        self._span, self._last = span, last

    def at(self, tick: int) -> int:
        """`tick`, with as many rounds of the clock added as bring it near the tick before; a jump stays one.

        >>> clock = Clock(2**33, last=2**33 - 90)
        >>> clock.at(90) - 2**33, clock.at(2**33 - 45) - 2**33, clock.at(900_000_000)
        (90, -45, 900000000)
        """
        if self._span and self._last is not None:
            # Only a jump by a whole round is one: joined recordings jump too, and keep their jump for shown_times.
            near = tick + self._span * round((self._last - tick) / self._span)
            if abs(near - self._last) <= self._span >> _NEAR_BITS:
                tick = near
        self._last = tick
        return tick


def shown_times(ticks: Sequence[int | None], *, step: int) -> tuple[list[int], list[int]]:
    """Ascending times of pictures in the order shown, and the positions at which the clock started again.

    A picture without a time comes one step after the one before it. Times that are a coding order (a local permutation
    of evenly spread times) are given out in ascending order. A single time far from both of its
    neighbours is wrong. At any other step backwards the clock has started again, and goes on one step after the last
    picture.

    >>> shown_times([0, 120, 40, 80], step=40)
    ([0, 40, 80, 120], [])
    >>> shown_times([100, 140, 0, 40], step=40)[0]
    [100, 140, 180, 220]
    >>> shown_times([0, None, 80], step=40)[0], shown_times([0, 40, 9999, 120], step=40)[0]
    ([0, 40, 80], [0, 40, 80, 120])
    """
    filled: list[int] = []
    for tick in ticks:
        filled.append(tick if tick is not None else filled[-1] + step if filled else 0)
    for position in range(1, len(filled) - 1):
        before, here, after = filled[position - 1 : position + 2]
        # One time far from both neighbours, which fit each other, is a damaged one and no new start of the clock.
        is_far = min(abs(here - before), abs(here - after)) > MAX_REORDER * step
        if is_far and before <= after <= before + 3 * step:
            filled[position] = (before + after) // 2
    if all(before <= after for before, after in pairwise(filled)):
        return filled, []
    if _is_coding_order(filled, step=step):
        return sorted(filled), []
    times: list[int] = []
    restarts: list[int] = []
    offset = 0
    for position, tick in enumerate(filled):
        # Compared with the time as stored: the one before may have been carried on already.
        if times and tick < filled[position - 1]:
            offset = times[-1] + step - tick
            restarts.append(position)
        times.append(tick + offset)
    return times, restarts


def _is_coding_order(ticks: Sequence[int], *, step: int) -> bool:
    """Whether sorting moves no picture far and leaves no two closer together than half a step."""
    order = sorted(range(len(ticks)), key=ticks.__getitem__)
    if any(abs(rank - position) > MAX_REORDER for rank, position in enumerate(order)):
        return False
    # A clock that started again may put two pictures at nearly one time; a coding order never does.
    return all(2 * (ticks[after] - ticks[before]) >= step for before, after in pairwise(order))


def joined_spans(spans: Iterable[tuple[_Number, _Number]], *, gap: _Number) -> tuple[tuple[_Number, _Number], ...]:
    """Ascending spans, of which those that are less than `gap` apart are one.

    >>> joined_spans([(5, 9), (0, 2), (8, 12)], gap=1)
    ((0, 2), (5, 12))
    """
    joined: list[tuple[_Number, _Number]] = []
    for start, end in sorted(spans):
        if joined and start - joined[-1][1] < gap:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def first_hole(spans: Sequence[tuple[float, float]], *, start_s: float, end_s: float) -> tuple[float, float] | None:
    """The first stretch of a window that `spans` leave out for longer than MAX_GAP_S, or None.

    >>> first_hole([(0.0, 2.7)], start_s=0.0, end_s=5.0), first_hole([(0.0, 2.7)], start_s=1.0, end_s=2.5)
    ((2.7, 5.0), None)
    """
    seen_s = start_s
    for low_s, high_s in [*spans, (end_s, end_s)]:
        if min(low_s, end_s) - seen_s > MAX_GAP_S:
            return seen_s, min(low_s, end_s)
        seen_s = max(seen_s, high_s)
    return None
