"""What the teacher's work yielded and cost: published as teacher.json, the one file that may hold wall times.

A trace counts as verified when it came to an end with the gold answer; filters judge later. Traces are read once, and a
few words are held of each. What a run has no figure for is left out: tools where none was called, agreement where no
question has two answers.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from aot.answers import compare_answers, verifies
from aot.answers.finding import plain
from aot.chat.spend import spend_summary
from aot.config import ChatConfig
from aot.display import counted
from aot.evaluation.intervals import Bootstrap, cluster_ids, proportion
from aot.files.run_folder import RunFolder
from aot.files.traces import rows_by_settings
from aot.generate.failures import FailureCounter
from aot.generate.solve import TRAIN
from aot.records import Question, Trace
from aot.run_records import (
    Agreement,
    SpendSummary,
    TeacherStats,
    ToolCost,
    YieldRow,
)

log = logging.getLogger(__name__)
ALL = "all"
_BOOTSTRAP = Bootstrap(samples=1000, seed=0)


class _Outcome(NamedTuple):
    """All that is remembered of one question."""

    group: str
    hits: tuple[bool, ...]
    """Whether each trace verifies."""
    attempts: int
    """Up to the first of them."""
    agreement: float | None
    plurality_right: bool


class Tally:
    """Counts the traces of one question after the other."""

    def __init__(self) -> None:
        self._outcomes: defaultdict[tuple[str, str], list[_Outcome]] = defaultdict(list)
        self._status: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._failed = FailureCounter()
        self._calls: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0, 0.0])
        """Calls, failed ones and seconds of each tool."""
        self._train_s, self._planner = 0.0, ""
        self._turns = self._turns_with_logprobs = 0
        self.samples = self.failed = self.refused = 0

    def add(self, question: Question, traces: Sequence[Trace]) -> None:
        """Count a question with all its traces, in the order of their samples."""
        for trace in traces:
            self._add_trace(trace, is_training=question.split == TRAIN)
        hits = tuple(verifies(trace, question) for trace in traces)
        agreement, winner = agree(question, traces)
        first = traces[0].sample_index + 1 if traces else 0
        outcome = _Outcome(question.group, hits, first, agreement, winner is not None and hits[winner])
        self._outcomes[question.split, question.kind].append(outcome)

    def _add_trace(self, trace: Trace, *, is_training: bool) -> None:
        self.samples += 1
        self.failed += trace.status != "ok"
        self._failed.add(trace, is_training=is_training)
        name: str = trace.status
        if trace.error is not None:
            name = f"{trace.status}_{trace.error.boundary}"
            self.refused += trace.error.boundary == "chat"
            self._failures[":".join(filter(None, (trace.error.boundary, trace.error.reason)))] += 1
        self._status[name] += 1
        self._train_s += trace.usage.seconds if is_training else 0.0
        self._planner = trace.teacher
        said = [turn for turn in trace.turns if turn.role == "assistant"]
        self._turns += len(said)
        self._turns_with_logprobs += sum(bool(turn.logprobs) for turn in said)
        for step in trace.steps:
            if step.call is not None:
                tool = self._calls[step.call.tool]
                tool[0], tool[1], tool[2] = tool[0] + 1, tool[1] + (step.status == "failed"), tool[2] + step.duration_s

    def stats(self, *, tries: int | None) -> TeacherStats:
        """What was counted; `tries` at a question with one row, None where every attempt is a row."""
        groups = dict(self._outcomes)
        for split in {split for split, _ in self._outcomes}:
            groups[split, ALL] = [one for key, some in self._outcomes.items() if key[0] == split for one in some]
        verified = sum(any(one.hits) for one in groups.get((TRAIN, ALL), ()))
        return TeacherStats(
            planner=self._planner,
            questions=sum(map(len, self._outcomes.values())),
            candidates=tries,
            samples=self.samples if tries is None else None,
            train_traces=self._failed.training,
            train_failed=self._failed.training_failed,
            train_verified=verified,
            seconds_per_verified_trace=self._train_s / verified if verified and self._train_s else None,
            status=dict(sorted(self._status.items())),
            failures=dict(sorted(self._failures.items())),
            failed_traces=self._failed.groups(),
            yields=tuple(_yield_row(key, some, one_row=tries is not None) for key, some in sorted(groups.items())),
            tool_cost=tuple(
                ToolCost(tool=tool, calls=int(calls), failed=int(failed), mean_ms=1000 * seconds / calls)
                for tool, (calls, failed, seconds) in sorted(self._calls.items())
            )
            or None,
            model_turns=self._turns or None,
            model_turns_with_logprobs=self._turns_with_logprobs if self._turns else None,
        )


def with_spend(stats: TeacherStats, run: RunFolder, sections: Iterable[ChatConfig | None]) -> TeacherStats:
    """`stats` with what the chat models of the run have cost so far: the one that thinks, and the one that looks."""
    names = ("spend", "vision_spend")
    spent = {name: spend_summary(run, section) for name, section in zip(names, sections, strict=True) if section}
    for summary in spent.values():
        log.info(_spend_line(summary, summary.gpu_hours_per_thousand(stats.train_verified)))
    hours = [summary.gpu_hours_per_thousand(stats.train_verified) for summary in spent.values()]
    stated = [one for one in hours if one is not None]
    settings = rows_by_settings(run) if spent else ()
    return stats.model_copy(
        update={**spent, "chat_settings": settings, "gpu_hours_per_thousand_chains": sum(stated) if stated else None}
    )


def _spend_line(spent: SpendSummary, hours: float | None) -> str:
    usage, in_hours = spent.usage, "" if hours is None else f", {hours:.3g} GPU-hours per thousand chains"
    dated = f"{spent.currency} at prices of {spent.price_date}"
    priced = "unpriced" if spent.cost is None else f"{spent.cost:.4g} {dated}"
    return (
        f"chat model {spent.model}: {counted(spent.calls, 'call')}, {usage.prompt_tokens} prompt and "
        f"{usage.completion_tokens} completion tokens, {priced}{in_hours}"
    )


def agree(question: Question, traces: Sequence[Trace]) -> tuple[float | None, int | None]:
    """The share of readable answers that say what most of them say, and the place of the first trace that says it.

    Answers are compared by the type of the question, so that `1/2` and `0.5` are one vote. None and None where fewer
    than two samples have an answer.
    """
    answered = [place for place, trace in enumerate(traces) if trace.status == "ok"]
    if len(answered) < 2:
        return None, None
    votes: dict[int, int] = {}
    for place in answered:
        same = next((first for first in votes if _same(traces[place].answer, traces[first].answer, question)), place)
        votes[same] = votes.get(same, 0) + 1
    winner = max(votes, key=lambda first: votes[first])
    return votes[winner] / len(answered), winner


def _same(answer: str, other: str, question: Question) -> bool:
    return plain(answer) == plain(other) or compare_answers(answer, other, question).verdict == "right"


def _yield_row(key: tuple[str, str], outcomes: list[_Outcome], *, one_row: bool) -> YieldRow:
    clusters = cluster_ids([one.group for one in outcomes])
    at_1 = [one.hits[:1] == (True,) and (not one_row or one.attempts == 1) for one in outcomes]
    at_k = [any(one.hits) for one in outcomes]
    split, kind = key
    return YieldRow(
        split=split,
        kind=kind,
        n=len(outcomes),
        pass_at_1=proportion(np.array(at_1, dtype=float), clusters),
        pass_at_k=proportion(np.array(at_k, dtype=float), clusters) if split == TRAIN or not one_row else None,
        attempts=sum(one.attempts for one in outcomes) / len(outcomes) if one_row else None,
        agreement=_agreement(outcomes),
    )


def _agreement(outcomes: list[_Outcome]) -> Agreement | None:
    rated = [(one.agreement, one) for one in outcomes if one.agreement is not None]
    if not rated:
        return None
    clusters = cluster_ids([one.group for _, one in rated])
    values = np.array([value for value, _ in rated])
    right = np.array([one.plurality_right for _, one in rated])
    return Agreement(
        n=len(rated),
        mean=_BOOTSTRAP.mean(values, clusters, bounds=(0.0, 1.0)),
        plurality_right=proportion(right.astype(float), clusters),
        when_right=float(values[right].mean()) if right.any() else None,
        when_wrong=float(values[~right].mean()) if not right.all() else None,
    )
