"""The timeline of a watch: sums of each sign over stretches of time, so few that the file stays small for years."""

import math
from collections.abc import Mapping, Sequence

from aot.drift.records import Period

MOST_PERIODS = 160


class Timeline:
    """Stretches of equal length; once there are too many, all are twice as long."""

    def __init__(self, period_s: float, periods: Sequence[Period]) -> None:
        self.period_s = period_s
        self._periods = {one.start_s: one.model_dump() for one in periods}
        self._last: float | None = max(self._periods, default=None)

    def add(self, time_s: float | None, values: Mapping[str, float], *, is_traffic: bool = True) -> None:
        """Count a row with its values; one without a time goes to the last stretch."""
        start = self._start(time_s)
        period = self._periods.get(start)
        if period is None:
            period = self._periods[start] = Period(start_s=start).model_dump()
            while len(self._periods) > MOST_PERIODS:
                self._merge()
            period = self._periods[self._start(time_s)]
        self._last = period["start_s"]
        period["rows"] += is_traffic
        for name, value in values.items():
            period["counts"][name] = period["counts"].get(name, 0) + 1
            period["sums"][name] = period["sums"].get(name, 0.0) + value
            period["squares"][name] = period["squares"].get(name, 0.0) + value * value

    def mark(self, wealth: Mapping[str, float]) -> None:
        """Note the wealth of every test in the stretch of the last row."""
        if self._last is not None:
            self._periods[self._last]["wealth"] = dict(wealth)

    def means(self, name: str, since_s: float | None) -> tuple[float, float] | None:
        """The mean of a sign before a time and since; None where one of them is unknown."""
        if since_s is None:
            return None
        means = []
        for rows in ([one for start, one in self._periods.items() if start + self.period_s <= since_s],
                     [one for start, one in self._periods.items() if start + self.period_s > since_s]):  # fmt: skip
            count = sum(one["counts"].get(name, 0) for one in rows)
            if not count:
                return None
            means.append(sum(one["sums"].get(name, 0.0) for one in rows) / count)
        return means[0], means[1]

    def periods(self) -> tuple[Period, ...]:
        """By time."""
        return tuple(Period.model_validate(self._periods[start]) for start in sorted(self._periods))

    def _start(self, time_s: float | None) -> float:
        if time_s is None:
            return self._last if self._last is not None else 0.0
        return math.floor(time_s / self.period_s) * self.period_s

    def _merge(self) -> None:
        self.period_s *= 2
        old, self._periods = self._periods, {}
        for start in sorted(old):
            one, new = old[start], math.floor(start / self.period_s) * self.period_s
            there = self._periods.setdefault(new, Period(start_s=new).model_dump())
            there["rows"] += one["rows"]
            for part in ("counts", "sums", "squares"):
                for name, value in one[part].items():
                    there[part][name] = there[part].get(name, 0) + value
            there["wealth"] = one["wealth"] or there["wealth"]
