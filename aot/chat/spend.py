"""What calls of a chat model cost: a ledger with a row for every call that the server may charge, and sums over it.

Each writer appends to its own part and follows the parts of the others, so that a limit on cost holds for a run with
all its workers and earlier attempts. Calls in flight when the limit is reached are still paid.
"""

import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from aot.config import ChatConfig, PricesConfig
from aot.errors import GuardStop
from aot.files.parts import Part, parts_of, placed_lines
from aot.files.run_folder import RunFolder, read_rows, whole_lines
from aot.records import Record
from aot.run_records import ChatUsage, SpendSummary

_LOOK_EVERY_S = 1.0
_REPLIED = (b"ok", b"truncated", b"empty")
"""Outcomes of calls whose settings the server took."""


class SpendRow(Record):
    """One call that the server may charge."""

    model: str
    base_url: str
    purpose: str
    outcome: str
    """`ok`, or why the reply could not be used."""
    started_s: float
    """Seconds since 1970."""
    seconds: float
    usage: ChatUsage | None
    """None where the server told nothing."""
    guess: ChatUsage | None = None
    """What an untold call counts for against the limit: its prompt as estimated, and its whole cap."""
    settings: str = ""
    """Digest of the settings of the chat model (ChatConfig.digest)."""


def cost_of(usage: ChatUsage, prices: PricesConfig | None) -> float | None:
    """What `usage` costs; None where a kind of token that it has is unpriced.

    >>> cost_of(ChatUsage(prompt_tokens=1_000_000), PricesConfig(date="2026-01-31", prompt=2.5, completion=10))
    2.5
    """
    if prices is None:
        return None
    cached = prices.prompt if prices.cached_prompt is None else prices.cached_prompt
    kinds = (
        (usage.prompt_tokens - usage.cached_prompt_tokens, prices.prompt),
        (usage.cached_prompt_tokens, cached),
        (usage.completion_tokens, prices.completion),
    )
    if any(count and price is None for count, price in kinds):
        return None
    return sum(count * (price or 0.0) for count, price in kinds) / 1e6


def estimate(
    *, calls: int, prompt_tokens: float, completion_tokens: float, prices: PricesConfig | None
) -> float | None:
    """What so many calls of so many tokens each would cost, with nothing cached; None means unpriced."""
    usage = ChatUsage(prompt_tokens=round(calls * prompt_tokens), completion_tokens=round(calls * completion_tokens))
    return cost_of(usage, prices)


def spend_summary(run: RunFolder, section: ChatConfig) -> SpendSummary:
    """What the chat model of `section` has cost this run, over all writers and attempts."""
    usage, purposes, unknown, unusable = ChatUsage(), Counter[str](), 0, 0
    times: list[tuple[float, float]] = []
    for path in parts_of(run.chat_spend):
        for row in read_rows(path, SpendRow):
            if (row.model, row.base_url) != (section.model, section.base_url):
                continue
            purposes[row.purpose] += 1
            unusable += row.outcome != "ok"
            unknown += row.usage is None
            usage = usage if row.usage is None else usage + row.usage
            times.append((row.started_s, row.started_s + row.seconds))
    prices, busy_s = section.prices, _union_s(times)
    return SpendSummary(
        model=section.model,
        calls=len(times),
        calls_without_usage=unknown,
        calls_by_purpose=dict(sorted(purposes.items())),
        unusable_calls=unusable,
        usage=usage,
        cost=cost_of(usage, prices),
        currency=prices.currency if prices else "",
        price_date=prices.date if prices else "",
        busy_s=round(busy_s, 3),
        gpu_hours=None if section.gpus is None else section.gpus * busy_s / 3600,
    )


class Ledger:
    """Notes calls and stops at the limit; every method may be called from many threads."""

    def __init__(self, section: ChatConfig, folder: Path | None, *, writer: str, max_tokens: int | None = None) -> None:
        """Without a folder only this process's calls count, and nothing is written.

        `max_tokens` limits the tokens of all calls together, as `section.max_cost` limits their cost.
        """
        self._section, self._folder, self._lock = section, folder, threading.Lock()
        self._max_tokens = max_tokens
        self._held_cost, self._held_tokens = 0.0, 0
        self._writer = writer
        self._part = None if folder is None else Part(folder, writer)
        self._mine = set() if self._part is None else {self._part.path}
        self._read_up_to: dict[Path, int] = {}
        self._looked_s = -_LOOK_EVERY_S
        self.spent = 0.0
        """By this model in this run, as far as known; calls without usage at their guess."""
        self.tokens = 0
        """Of the same calls, prompts included."""
        if self._part is not None and (section.max_cost is not None or max_tokens is not None):
            self._follow(self._part.path)

    def guard(self) -> None:
        """Raises GuardStop when no further call may be paid."""
        limit = self._section.max_cost
        if limit is None:
            return
        with self._lock:
            self._follow_others()
            spent = self.spent
        if spent >= limit:
            currency = self._section.prices.currency if self._section.prices else ""
            raise GuardStop(
                f"{self._section.model} has cost this run {spent:.4g} {currency} and chat.max_cost is {limit:.4g}; "
                "what is done is kept, and the same command with a higher --max-cost goes on from here"
            )

    def reserve(self, most: ChatUsage) -> Literal["", "cost", "tokens"]:
        """Set `most` aside for a call, so that no number of calls in flight goes over a limit; empty if there is room.

        Otherwise the limit that it would break, and nothing is set aside. `release` it once the call is noted.
        """
        cost, tokens = cost_of(most, self._section.prices) or 0.0, most.prompt_tokens + most.completion_tokens
        limit = self._section.max_cost
        with self._lock:
            self._follow_others()
            # Sums of floats: ten calls at 0.1 may cost 1.0 in all.
            if limit is not None and self.spent + self._held_cost + cost > limit + 1e-9 * max(1.0, limit):
                return "cost"
            if self._max_tokens is not None and self.tokens + self._held_tokens + tokens > self._max_tokens:
                return "tokens"
            self._held_cost, self._held_tokens = self._held_cost + cost, self._held_tokens + tokens
        return ""

    def release(self, most: ChatUsage) -> None:
        """Give back what was set aside for a call that is over."""
        with self._lock:
            self._held_cost -= cost_of(most, self._section.prices) or 0.0
            self._held_tokens -= most.prompt_tokens + most.completion_tokens

    def note(self, row: SpendRow) -> None:
        """Count a call and write it down."""
        with self._lock:
            self._count(row)
            if self._part is None and self._folder is not None:
                self._part = Part(self._folder, self._writer)
                self._mine.add(self._part.path)
            if self._part is not None:
                self._part.append(row)

    def note_call(
        self, *, purpose: str, outcome: str, started_s: float, seconds: float, usage: ChatUsage | None, most: ChatUsage
    ) -> None:
        """Note a call of a model that keeps no ledger itself; without `usage` it counts as `most` against a limit."""
        self.note(
            SpendRow(
                model=self._section.model, base_url=self._section.base_url, purpose=purpose, outcome=outcome,
                started_s=started_s, seconds=seconds, usage=usage, guess=None if usage else most,
                settings=self._section.digest(),
            )
        )  # fmt: skip

    def answered(self, purpose: str) -> bool:
        """Whether a call of this purpose, with the settings that hold now, ever came to a reply in this run."""
        if self._folder is None:
            return False
        settings = self._section.digest()
        for path in parts_of(self._folder):
            for line in whole_lines(path):
                if settings.encode() in line and any(b'"outcome":"%b"' % one in line for one in _REPLIED):
                    with suppress(ValidationError):
                        row = SpendRow.model_validate_json(line)
                        if (row.settings, row.purpose) == (settings, purpose):
                            return True
        return False

    def close(self) -> None:
        """Close the file of this writer; a further row opens it again, as a chat model may that is opened anew."""
        with self._lock:
            if self._part is not None:
                self._part.close()
                self._part = None

    def _count(self, row: SpendRow) -> None:
        if (row.model, row.base_url) == (self._section.model, self._section.base_url):
            usage = row.usage or row.guess or ChatUsage()
            self.spent += cost_of(usage, self._section.prices) or 0.0
            self.tokens += usage.prompt_tokens + usage.completion_tokens

    def _follow_others(self) -> None:
        if self._folder is not None and time.monotonic() - self._looked_s >= _LOOK_EVERY_S:
            for path in parts_of(self._folder):
                if path not in self._mine:
                    self._follow(path)
            self._looked_s = time.monotonic()

    def _follow(self, path: Path) -> None:
        """Count the whole lines that a part has gained."""
        for offset, line in placed_lines(path, start=self._read_up_to.get(path, 0)):
            self._read_up_to[path] = offset + len(line)
            with suppress(ValidationError):
                self._count(SpendRow.model_validate_json(line))


def _union_s(times: list[tuple[float, float]]) -> float:
    """Seconds covered by at least one of the stretches."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(times):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total
