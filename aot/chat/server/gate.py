"""How many calls may be in flight: found while running, by what the server does.

`Knee` is the arithmetic and knows no clock: it doubles the limit while throughput rises with it, settles where it does
not, steps down to what was accepted when calls are turned away, shrinks on errors, and tries a little more from time
to time. `Gate` lets calls wait for their turn, and keeps everybody waiting while the server asks for it.
"""

import asyncio
import math
import time
from collections import deque
from contextlib import suppress
from typing import Literal

Outcome = Literal["ok", "rejected", "failed", "neutral"]
START = 8
_WORTH_IT = 0.3
"""Share of the added calls that must show up as added throughput for growth to go on."""
_LONGEST_HOLD = 64
_CAREFUL = 1.25
"""Growth at one step once the knee was met."""


class Knee:
    """The limit on calls in flight."""

    def __init__(self, *, most: int) -> None:
        self.most = most
        self.limit = min(START, most)
        self._free_growth = min(START, most - self.limit)
        """Successes at the start that each let one more call in, before anything can be measured."""
        self._growth = 2.0
        self._hold = 0
        """Measured windows to sit still before the next try to grow."""
        self._next_hold = 2
        self._before: tuple[int, float, float] | None = None
        """Limit, calls a second and seconds a call before the last growth; None while not trying."""
        self._credit = 1.0
        """Faults to put down to chance: one in five calls tells nothing about how many are in flight."""
        self._errors_to_ignore = self._count = self._skip = 0
        self._latency_sum = 0.0
        self._restart()

    def success(self, *, latency_s: float, waiting: bool) -> None:
        """A call came back; `waiting` says whether others wait for a turn, without which nothing is learned."""
        self._credit = min(3.0, self._credit + 0.25)
        if not waiting:
            self._restart()
            return
        if self._free_growth > 0:
            self._free_growth -= 1
            self._set(self.limit + 1)
            return
        if self._skip > 0:  # calls from before the last change tell nothing about it
            self._skip -= 1
            return
        self._count += 1
        self._latency_sum += latency_s
        enough = self.limit if self._growth > _CAREFUL else max(2 * self.limit, 16)
        if self._count >= enough:
            # Little's law gives the rate; counting calls by the clock goes wrong where they come in bursts.
            latency_s = max(self._latency_sum / self._count, 1e-6)
            self._weigh(rate=self.limit / latency_s, latency_s=latency_s)

    def rejected(self, *, others: int) -> None:
        """A call was turned away for too many, while `others` were in flight: those are what the server takes."""
        if self._is_chance():
            return
        self._set(min(self.limit, max(1, others)))
        self._growth, self._free_growth = _CAREFUL, 0
        if self._before is not None:
            self._before, self._hold = None, self._next_hold
            self._next_hold = min(_LONGEST_HOLD, self._next_hold * 2)
        else:
            self._hold = max(self._hold, 1)

    def failed(self) -> None:
        """A call ended in a time-out or an error of the server; counts once for all calls of one round."""
        if self._errors_to_ignore > 0:
            self._errors_to_ignore -= 1
            return
        if self._is_chance():
            return
        before = self.limit
        self._set(max(1, math.floor(self.limit * 0.7)))
        self._errors_to_ignore = before
        self._growth, self._before, self._hold, self._free_growth = 1.5, None, 1, 0

    def _is_chance(self) -> bool:
        if self._credit < 1:
            return False
        self._credit -= 1
        return True

    def _weigh(self, *, rate: float, latency_s: float) -> None:
        """End a window of measurement: go on growing, settle, or sit still."""
        self._errors_to_ignore = 0
        if self._before is not None:
            old_limit, old_rate, old_latency_s = self._before
            self._before = None
            if rate / old_rate - 1 < _WORTH_IT * (self.limit / old_limit - 1):
                if self._growth > _CAREFUL:  # a long step may have gone far beyond what this rate needs
                    old_limit = max(old_limit, math.ceil(rate * old_latency_s * 1.1))
                self._set(min(self.limit, old_limit))
                self._hold, self._growth = self._next_hold, _CAREFUL
                self._next_hold = min(_LONGEST_HOLD, self._next_hold * 2)
                return
            self._growth, self._next_hold = min(2.0, self._growth * 1.25), 2
        if self._hold > 0:
            self._hold -= 1
            self._restart()
        elif self.limit < self.most:
            self._before = (self.limit, rate, latency_s)
            self._set(min(self.most, max(self.limit + 1, int(self.limit * self._growth))))
        else:
            self._restart()

    def _set(self, limit: int) -> None:
        changed = limit != self.limit
        self.limit = limit
        self._restart(skip=limit if changed else 0)

    def _restart(self, *, skip: int = 0) -> None:
        self._count, self._latency_sum = 0, 0.0
        self._skip = max(skip, 1)


class Gate:
    """Turns for calls; lives in one event loop."""

    def __init__(self, *, most: int) -> None:
        self.knee = Knee(most=most)
        self.in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._paused_until_s = 0.0
        self._probing = False
        """Whether the server asked to be left alone: then one call goes first, and the others once it was answered."""
        self._timer: asyncio.TimerHandle | None = None

    def has_room(self) -> bool:
        """Whether a call may go at once."""
        return self.in_flight < self._limit() and time.monotonic() >= self._paused_until_s

    async def enter(self, *, first: bool = False) -> None:
        """Wait for a turn; `first` goes before those who have not been tried yet."""
        if self.has_room() and (first or not self._waiting):
            self.in_flight += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if first else self._waiting.append)(turn)
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave("neutral", latency_s=0.0)
            else:
                with suppress(ValueError):
                    self._waiting.remove(turn)
            raise

    def leave(self, outcome: Outcome, *, latency_s: float) -> None:
        """End a turn and learn from how it went."""
        self.in_flight -= 1
        if outcome in ("ok", "neutral"):
            self._probing = False
        if outcome == "ok":
            waiting = bool(self._waiting) and time.monotonic() >= self._paused_until_s
            self.knee.success(latency_s=latency_s, waiting=waiting)
        elif outcome == "rejected":
            self.knee.rejected(others=self.in_flight)
        elif outcome == "failed":
            self.knee.failed()
        self._let_in()

    def pause(self, seconds: float) -> None:
        """Keep everybody from starting for some time, as the server asked."""
        self._probing = True
        self._paused_until_s = max(self._paused_until_s, time.monotonic() + seconds)

    def _let_in(self) -> None:
        while self._waiting and self.in_flight < self._limit():
            left_s = self._paused_until_s - time.monotonic()
            if left_s > 0:
                if self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(left_s, self._wake)
                return
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self.in_flight += 1

    def _limit(self) -> int:
        return 1 if self._probing else self.knee.limit

    def _wake(self) -> None:
        self._timer = None
        self._probing = self.in_flight == 0
        self._let_in()
