"""How long to wait before a request is tried again, and when to stop trying anything: pure arithmetic."""

import random
import threading
from collections import Counter

from aot.errors import PASSING, ChatReason, GuardStop

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
STARTING_ATTEMPTS = 3
"""How often one request asks a server where nobody has ever answered."""
BREAK_AFTER = 20
"""Requests that failed one after another, with every retry, before all work stops."""


def wait_s(*, attempt: int, seed: str, asked_s: float | None) -> float:
    """Seconds before the attempt after `attempt` (counted from 1): full jitter, the same for the same seed.

    What the server asked for is a floor. See https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter

    >>> 2.0 <= wait_s(attempt=3, seed="a", asked_s=2.0) <= 4.0
    True
    """
    draw = random.Random(f"{seed}:{attempt}").random()
    highest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1))
    return draw * highest if asked_s is None else asked_s + draw * highest


class Breaker:
    """Notices that a server answers nobody any more; one object for all threads."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._row: Counter[ChatReason] = Counter()
        self._lock = threading.Lock()
        self.worked = False
        """Whether there was any good reply yet."""

    def success(self) -> None:
        """A request got a reply."""
        with self._lock:
            self.worked = True
            self._row.clear()

    def failure(self, reason: ChatReason) -> GuardStop | None:
        """A request failed for good; the stop that follows, if one does."""
        if reason not in PASSING:
            return None
        with self._lock:
            self._row[reason] += 1
            if self._row.total() < BREAK_AFTER:
                return None
            counts = ", ".join(f"{count} {one}" for one, count in self._row.most_common())
        return GuardStop(
            f"the server at {self._base_url} does not answer: {BREAK_AFTER} requests one after another failed with all "
            f"their retries ({counts}); what is done is kept, and the same command goes on once the server is well"
        )
