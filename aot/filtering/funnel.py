"""Counts for funnel.json: how many traces each reason dropped, and how well planted defects were caught.

Defects are planted only in traces that had verified (status ok, right answer), so precision and recall are taken over
those; natural failures are counted apart. The judge is measured alone, on every verified trace that it judged, whatever
the other filters thought of it. Nothing here feeds back into a filter.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from aot.filtering.subject import Judged
from aot.records import Verdict
from aot.run_records import (
    FaultScore,
    FaultTotals,
    FilterCount,
    Funnel,
    JudgedFault,
    JudgeTotals,
    PlantedFault,
    Share,
    ShuffleTotals,
)
from aot.wilson import wilson

Problem = tuple[str, str]
"""Filter and reason."""
Overruled = Mapping[tuple[str, int], Sequence[Verdict]]
JUDGE_FAILED = "judge_failed"
NAMED_AS = {"slip_carried": ("slip", "wrong_number"), "shuffled_steps": ("wrong_order",)}
"""Kinds of planted defects that a judge knows under other names."""


class FunnelCounter:
    """Counts traces one by one, so that a caller can stream; final once `funnel` was called."""

    def __init__(self, *, planted: Iterable[PlantedFault] = (), overruled: Overruled | None = None) -> None:
        self._planted = {(row.question_id, row.sample_index): row.fault for row in planted}
        self._overruled, self._counts = {} if overruled is None else overruled, Counter[str]()
        self._filters = Counter[str]()
        """In their order, those that drop nothing among them."""
        self._first, self._any, self._first_verified = Counter[Problem](), Counter[Problem](), Counter[Problem]()
        self._faults = Counter[str]()
        self._caught = Counter[tuple[str, Problem]]()
        self._lucky = 0.0
        self._judge = Counter[str]()
        self._judged = Counter[tuple[str, str]]()
        """What the judge did with traces with a planted defect: `planted`, `caught` or `named`, and the kind."""

    def add(self, judged: Judged) -> None:
        """Count one trace."""
        key = (judged.trace.question_id, judged.trace.sample_index)
        fault = self._planted.get(key)
        for verdict in judged.verdicts:
            self._filters[verdict.filter] += not verdict.keep
            if verdict.filter == "option_shuffle" and verdict.reason != "not_applicable":
                self._counts.update(checked=1, changed=int(not verdict.keep))
                self._lucky += verdict.value or 0.0
            elif verdict.filter == "judge":
                self._add_judgement(verdict, fault=fault)
        problems = [(verdict.filter, verdict.reason) for verdict in judged.verdicts if not verdict.keep]
        verified = judged.is_verified
        self._counts.update(traces=1, verified=int(verified), kept=int(not problems))
        self._any.update(problems)
        self._first.update(problems[:1])
        said = [*((one.filter, one.reason) for one in self._overruled.get(key, ())), *problems]
        without_judge = [problem for problem in said if problem[0] not in ("judge", "person")][:1]
        if verified:
            self._first_verified.update(without_judge)
        if fault is not None and verified:
            self._faults[fault] += 1
            self._caught.update((fault, problem) for problem in without_judge)

    def _add_judgement(self, verdict: Verdict, *, fault: str | None) -> None:
        if verdict.reason in ("not_applicable", JUDGE_FAILED):
            self._judge[verdict.reason] += 1
            return
        self._judge.update(judged=1, dropped=int(not verdict.keep))
        if fault is not None:
            names = verdict.detail.partition(":")[0].split(", ")
            is_named = any(name in names for name in (fault, *NAMED_AS.get(fault, ())))
            self._judged["planted", fault] += 1
            self._judged["caught", fault] += not verdict.keep
            self._judged["named", fault] += not verdict.keep and is_named

    def funnel(self) -> Funnel:
        """The counts so far."""
        order = list(self._filters)
        keys = sorted(self._any, key=lambda key: (order.index(key[0]), -self._first[key], key[1]))
        counts = self._counts
        shuffle = ShuffleTotals(checked=counts["checked"], changed=counts["changed"], lucky=round(self._lucky, 3))
        return Funnel(
            traces=counts["traces"],
            verified=counts["verified"],
            natural_failures=counts["traces"] - counts["verified"],
            kept=counts["kept"],
            dropped=counts["traces"] - counts["kept"],
            by_filter=dict(self._filters),
            reasons=tuple(FilterCount(filter=k[0], reason=k[1], first=self._first[k], any=self._any[k]) for k in keys),
            faults=self._totals() if self._planted else None,
            shuffle=shuffle if shuffle.checked else None,
            judge=self._judge_totals() if self._judge else None,
        )

    def _judge_totals(self) -> JudgeTotals:
        of_kind = {
            kind: [self._judged[what, kind] for what in ("planted", "caught", "named")]
            for kind in sorted({kind for _, kind in self._judged})
        }
        planted, caught = (sum(counts[place] for counts in of_kind.values()) for place in (0, 1))
        return JudgeTotals(
            judged=self._judge["judged"],
            dropped=self._judge["dropped"],
            failed=self._judge[JUDGE_FAILED],
            not_asked=self._judge["not_applicable"],
            precision=share_of(caught, self._judge["dropped"]) if planted else None,
            recall=share_of(caught, planted) if planted else None,
            kinds=tuple(
                JudgedFault(fault=kind, recall=share_of(hit, all_of), named=share_of(named, hit))
                for kind, (all_of, hit, named) in of_kind.items()
            ),
        )

    def _totals(self) -> FaultTotals:
        planted, caught = self._faults.total(), self._caught.total()
        dropped = self._first_verified.total()
        return FaultTotals(
            planted=planted,
            caught=caught,
            dropped_verified=dropped,
            precision=share_of(caught, dropped).value,
            recall=share_of(caught, planted).value,
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
            recall=share_of(caught, self._faults[fault]).value or 0.0,
            precision=share_of(of_any_kind, sum(self._first_verified[key] for key in mine)).value,
            caught_by={".".join(key): mine[key] for key in sorted(mine, key=lambda key: (-mine[key], key))},
        )


def share_of(count: int, n: int) -> Share:
    """`count` of `n` with its interval."""
    low, high = wilson(hits=count, n=n)
    return Share(count=count, n=n, value=round(count / n, 6) if n else None, low=round(low, 6), high=round(high, 6))
