"""Counts for funnel.json: how many traces each reason dropped, and how well planted defects were caught.

Defects are planted only in traces that had verified (status ok, right answer), so precision and recall are taken over
those; natural failures are counted apart. The judge is measured alone, on every verified trace that it judged, whatever
the other filters thought of it. Nothing here feeds back into a filter.
"""

from collections import Counter
from collections.abc import Iterable

from aot.filtering.subject import Judged
from aot.records import PlantedFault, Verdict
from aot.run_records import FaultScore, FaultTotals, FilterCount, Funnel, JudgedFault, JudgeTotals, Share, ShuffleTotals
from aot.wilson import wilson

JUDGE_FAILED = "judge_failed"
NAMED_AS = {"slip_carried": ("slip", "wrong_number"), "shuffled_steps": ("wrong_order",)}
"""Kinds of planted defects that a judge knows under other names."""


class _CheckCounter:
    """Counts traces that were tried with other options, and what the judge did."""

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
            precision=_share_of(caught, self._judged["dropped"]) if planted else None,
            recall=_share_of(caught, planted) if planted else None,
            kinds=tuple(
                JudgedFault(
                    fault=fault,
                    recall=_share_of(self._caught[fault], self._planted[fault]),
                    named=_share_of(self._named[fault], self._caught[fault]),
                )
                for fault in sorted(self._planted)
            ),
        )


class FunnelCounter:
    """Counts traces one by one, so that a caller can stream; final once `funnel` was called."""

    def __init__(self, *, planted: Iterable[PlantedFault] = ()) -> None:
        self._planted = {(row.question_id, row.sample_index): row.fault for row in planted}
        self._order: dict[str, int] = {}
        self._counts: Counter[str] = Counter()
        self._first: Counter[tuple[str, str]] = Counter()
        self._any: Counter[tuple[str, str]] = Counter()
        self._filters: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._caught: Counter[tuple[str, tuple[str, str]]] = Counter()
        self._first_verified: Counter[tuple[str, str]] = Counter()
        self._checks = _CheckCounter()

    def add(self, judged: Judged) -> None:
        """Count one trace."""
        for verdict in judged.verdicts:
            self._order.setdefault(verdict.filter, len(self._order))
        problems = [(verdict.filter, verdict.reason) for verdict in judged.verdicts if not verdict.keep]
        verified = judged.is_verified
        self._counts.update(traces=1, verified=int(verified), kept=int(not problems))
        self._any.update(problems)
        self._filters.update(name for name, _ in problems)
        if problems:
            self._first[problems[0]] += 1
        without_judge = [problem for problem in problems if problem[0] != "judge"]
        if without_judge:
            self._first_verified[without_judge[0]] += int(verified)
        fault = self._planted.get((judged.trace.question_id, judged.trace.sample_index))
        self._checks.add(judged, fault=fault)
        if fault is not None and verified:
            self._faults[fault] += 1
            if without_judge:
                self._caught[fault, without_judge[0]] += 1

    def funnel(self) -> Funnel:
        """The counts so far."""
        keys = sorted(self._any, key=lambda key: (self._order[key[0]], -self._first[key], key[1]))
        traces, kept, verified = self._counts["traces"], self._counts["kept"], self._counts["verified"]
        return Funnel(
            traces=traces,
            verified=verified,
            natural_failures=traces - verified,
            kept=kept,
            dropped=traces - kept,
            by_filter={name: self._filters[name] for name in self._order},
            reasons=tuple(FilterCount(filter=k[0], reason=k[1], first=self._first[k], any=self._any[k]) for k in keys),
            faults=self._totals() if self._planted else None,
            shuffle=self._checks.shuffle(),
            judge=self._checks.judge(),
        )

    def _totals(self) -> FaultTotals:
        planted, caught = self._faults.total(), self._caught.total()
        dropped = self._first_verified.total()
        return FaultTotals(
            planted=planted,
            caught=caught,
            dropped_verified=dropped,
            precision=_share(caught, dropped),
            recall=_share(caught, planted),
            kinds=tuple(self._score(fault) for fault in sorted(self._faults)),
        )

    def _score(self, fault: str) -> FaultScore:
        mine = {key: count for (kind, key), count in self._caught.items() if kind == fault}
        of_any_kind = sum(count for (_, key), count in self._caught.items() if key in mine)
        caught = sum(mine.values())
        return FaultScore(
            fault=fault,
            planted=self._faults[fault],
            caught=caught,
            recall=_share(caught, self._faults[fault]) or 0.0,
            precision=_share(of_any_kind, sum(self._first_verified[key] for key in mine)),
            caught_by={".".join(key): mine[key] for key in sorted(mine, key=lambda key: (-mine[key], key))},
        )


def funnel(judged: Iterable[Judged], *, planted: Iterable[PlantedFault] = ()) -> Funnel:
    """The funnel of a finished stream of judged traces."""
    counter = FunnelCounter(planted=planted)
    for one in judged:
        counter.add(one)
    return counter.funnel()


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def _share_of(count: int, n: int) -> Share:
    low, high = wilson(hits=count, n=n)
    return Share(count=count, n=n, value=round(count / n, 6) if n else None, low=round(low, 6), high=round(high, 6))
