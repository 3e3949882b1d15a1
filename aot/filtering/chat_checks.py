"""Counts for funnel.json of two checks on chat teachers: options in another order, and a judge's own hits and misses.

The judge is measured alone, on every verified trace that it judged, whatever the other filters thought of it.
"""

from collections import Counter

from aot.filtering.subject import Judged
from aot.records import Record, Verdict
from aot.wilson import wilson

JUDGE_FAILED = "judge_failed"
NAMED_AS = {"slip_carried": ("slip", "wrong_number"), "shuffled_steps": ("wrong_order",)}
"""Kinds of planted defects that a judge knows under other names."""


class Share(Record):
    """A count out of n with Wilson's 95% interval."""

    count: int
    n: int
    value: float | None
    """None when n is 0."""
    low: float
    high: float


class ShuffleTotals(Record):
    """What became of answers when the options stood in another order."""

    checked: int
    """Traces that were tried again at least once."""
    changed: int
    lucky: float
    """How many of the checked ones would have passed, had each answer been drawn at random: the sum of 1/m^c over m
    options and c checks."""


class JudgedFault(Record):
    """How often the judge dropped traces with one kind of planted defect, and how often it named that kind."""

    fault: str
    recall: Share
    named: Share
    """Of those dropped: the share for which the defect was called by its name."""


class JudgeTotals(Record):
    """What the judge did, and how well on planted defects."""

    judged: int
    dropped: int
    failed: int
    """Asked about, without a usable reply: these are kept by nobody's word."""
    not_asked: int
    """Traces without a right answer, which are dropped anyway."""
    precision: Share | None
    """Of the traces that the judge dropped: the share with a planted defect. None when nothing was planted."""
    recall: Share | None
    kinds: tuple[JudgedFault, ...]


class CheckCounter:
    """Counts traces one by one."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lucky = 0.0
        self._judged: Counter[str] = Counter()
        self._planted: Counter[str] = Counter()
        self._caught: Counter[str] = Counter()
        self._named: Counter[str] = Counter()

    def add(self, judged: Judged, *, fault: str | None) -> None:
        """Count one trace; `fault` is what was planted in it."""
        for verdict in judged.verdicts:
            if verdict.filter == "option_shuffle" and verdict.reason != "not_applicable":
                self._counts.update(checked=1, changed=int(not verdict.keep))
                self._lucky += verdict.value or 0.0
            elif verdict.filter == "judge":
                self._add_judgement(verdict, fault=fault)

    def _add_judgement(self, verdict: Verdict, *, fault: str | None) -> None:
        if verdict.reason in ("not_applicable", JUDGE_FAILED):
            self._judged[verdict.reason] += 1
            return
        self._judged.update(judged=1, dropped=int(not verdict.keep))
        if fault is not None:
            self._planted[fault] += 1
            if not verdict.keep:
                self._caught[fault] += 1
                named = verdict.detail.partition(":")[0].split(", ")
                self._named[fault] += int(any(name in named for name in (fault, *NAMED_AS.get(fault, ()))))

    def shuffle(self) -> ShuffleTotals | None:
        """The counts so far; None when nothing was checked."""
        if not self._counts["checked"]:
            return None
        return ShuffleTotals(
            checked=self._counts["checked"], changed=self._counts["changed"], lucky=round(self._lucky, 3)
        )

    def judge(self) -> JudgeTotals | None:
        """The counts so far; None when no judge was asked."""
        if not self._judged:
            return None
        caught, planted = self._caught.total(), self._planted.total()
        return JudgeTotals(
            judged=self._judged["judged"],
            dropped=self._judged["dropped"],
            failed=self._judged[JUDGE_FAILED],
            not_asked=self._judged["not_applicable"],
            precision=_share(caught, self._judged["dropped"]) if planted else None,
            recall=_share(caught, planted) if planted else None,
            kinds=tuple(
                JudgedFault(
                    fault=fault,
                    recall=_share(self._caught[fault], self._planted[fault]),
                    named=_share(self._named[fault], self._caught[fault]),
                )
                for fault in sorted(self._planted)
            ),
        )


def _share(count: int, n: int) -> Share:
    low, high = wilson(hits=count, n=n)
    return Share(count=count, n=n, value=round(count / n, 6) if n else None, low=round(low, 6), high=round(high, 6))
