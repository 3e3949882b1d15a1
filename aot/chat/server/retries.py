"""How long to wait before a request is tried again, and when to stop trying anything: pure arithmetic."""

import random
import threading
from collections import Counter
from collections.abc import Callable

from aot.errors import PASSING, ChatReason, GuardStop

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
STARTING_ATTEMPTS = 3
"""How often one request asks a server where nobody has ever answered."""
BREAK_AFTER = 20
"""Requests that failed one after another, with every retry, before all work stops."""
REFUSED_ALIKE = 5
"""Requests that a server refused for the same reason, and answered none, before all work stops."""


def wait_s(*, attempt: int, seed: str, asked_s: float | None) -> float:
    """Seconds before the attempt after `attempt` (counted from 1): full jitter, the same for the same seed.

    What the server asked for is a floor. See https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter

    >>> 2.0 <= wait_s(attempt=3, seed="a", asked_s=2.0) <= 4.0
    True
    """
    share = random.Random(f"{seed}:{attempt}").random()
    highest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1))
    return share * highest if asked_s is None else asked_s + share * highest


class Breaker:
    """Notices that a server answers nobody any more, or refuses everybody; one object for all threads."""

    def __init__(self, base_url: str, *, answered_before: Callable[[str], bool] = lambda purpose: False) -> None:
        """`answered_before` tells whether an earlier process got a reply for a purpose with the same settings."""
        self._base_url, self._answered_before = base_url, answered_before
        self._row: Counter[ChatReason] = Counter()
        self._refused: dict[str, Counter[str]] = {}
        """By purpose: refusals of a kind, as long as nothing was answered."""
        self._taken: dict[str, bool] = {}
        """By purpose: whether the settings are such that something was answered."""
        self._lock = threading.Lock()
        self.worked = False
        """Whether there was any good reply yet."""

    def success(self, purpose: str = "") -> None:
        """A request got a reply."""
        with self._lock:
            self.worked = self._taken[purpose] = True
            self._row.clear()

    def settings_work(self, purpose: str) -> bool:
        """Whether a request of this purpose with these settings was ever answered, in this process or before."""
        with self._lock:
            if purpose not in self._taken:
                self._taken[purpose] = self._answered_before(purpose)
            return self._taken[purpose]

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

    def refusal(self, purpose: str, kind: str, message: str) -> GuardStop | None:
        """A request itself was not accepted; the stop that follows where none ever was, so that a setting is wrong."""
        if self.settings_work(purpose):
            return None
        with self._lock:
            kinds = self._refused.setdefault(purpose, Counter())
            kinds[kind] += 1
            if kinds[kind] < REFUSED_ALIKE and kinds.total() < BREAK_AFTER:
                return None
            count = kinds.total()
        return GuardStop(
            f"the server refused each of the first {count} requests, the last one so: {message}; {MENDING}"
        )


MENDING = (
    "what is done is kept, and none of these counts as refused: mend the settings of chat (temperature, top_p, "
    "max_tokens, omit, extra_body, stream: docs/chat.md), which may change in this run folder, and run the same "
    "command again"
)
