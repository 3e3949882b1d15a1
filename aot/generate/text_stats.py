"""What a text teacher's work yielded: published as teacher.json. Reads traces once and holds a few words of each.

Agreement is the share of a question's answers that say what most of them say. How far it tells right from wrong is
printed beside it, because a model may be sure and wrong.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from pydantic import Field

from aot.answers import compare_answers, verifies
from aot.answers.finding import plain
from aot.chat.spend import SpendSummary
from aot.evaluation.intervals import Bootstrap, Interval, cluster_ids, proportion
from aot.files.traces import SettingsRows
from aot.generate.failures import FailedTraces, FailureCounter
from aot.records import Question, Record, Trace
from text_cot.prepare import TRAIN

ALL = "all"
_BOOTSTRAP = Bootstrap(samples=1000, seed=0)


class Share(Record):
    """A share or mean with its 95% interval."""

    value: float
    low: float
    high: float


class Agreement(Record):
    """How far the samples of a question agree, over questions with at least two readable answers."""

    n: int
    """Such questions."""
    mean: Share
    """Mean share of the answers that say the same as most of them."""
    plurality_right: Share
    """Share of questions whose most frequent answer is the gold answer; of equally frequent ones the first counts."""
    when_right: float | None
    """Mean agreement where the most frequent answer is right; None where that never happened."""
    when_wrong: float | None


class TextYield(Record):
    """How many questions of one split and kind got a chain that ends in the gold answer."""

    split: str
    kind: str
    n: int
    pass_at_1: Share
    pass_at_k: Share
    agreement: Agreement | None = None
    """None where no question has two readable answers."""


class TextTeacherStats(Record):
    """The content of teacher.json in a text run."""

    planner: str
    questions: int
    samples: int
    """Chains of all questions together."""
    train_traces: int
    train_failed: int
    """Those of the training chains that came to no answer."""
    train_verified: int
    """Training questions with a chain that ends in the gold answer; the filters keep some of their chains."""
    status: dict[str, int]
    """Traces by status; failed ones by the boundary where they failed."""
    failures: dict[str, int] = Field(default_factory=dict)
    """Failed traces by boundary and reason, where there is one."""
    failed_traces: tuple[FailedTraces, ...] = ()
    """The same with countable reasons for all, and an example of each."""
    yields: tuple[TextYield, ...]
    prompts: dict[str, str] = Field(default_factory=dict)
    """Content hash of each prompt file of a chat teacher."""
    spend: SpendSummary | None = None
    """What the chat model has cost this run; None without one."""
    chat_settings: tuple[SettingsRows, ...] = ()
    """The rows by the settings of the chat model that made them; those may be mended between two lives of a run."""
    gpu_hours_per_thousand_chains: float | None = None
    """Of chains that came to an end; None where `chat.gpus` is not given."""


class _Outcome(NamedTuple):
    """All that is remembered of one question."""

    group: str
    hits: tuple[bool, ...]
    """Whether each sample verifies."""
    agreement: float | None
    plurality_right: bool


class Tally:
    """Counts the traces of one question after the other."""

    def __init__(self) -> None:
        self._outcomes: defaultdict[tuple[str, str], list[_Outcome]] = defaultdict(list)
        self._status: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._failed = FailureCounter()
        self.samples = self.failed = self.refused = 0

    def add(self, question: Question, traces: Sequence[Trace]) -> None:
        """Count a question with all its traces, in the order of their samples."""
        for trace in traces:
            self.samples += 1
            self.failed += trace.status != "ok"
            self._failed.add(trace, is_training=question.split == TRAIN)
            name: str = trace.status
            if trace.error is not None:
                name = f"{trace.status}_{trace.error.boundary}"
                self.refused += trace.error.boundary == "chat"
                self._failures[":".join(filter(None, (trace.error.boundary, trace.error.reason)))] += 1
            self._status[name] += 1
        hits = tuple(verifies(trace, question) for trace in traces)
        agreement, winner = agree(question, traces)
        outcome = _Outcome(question.group, hits, agreement, winner is not None and hits[winner])
        self._outcomes[question.split, question.kind].append(outcome)

    def stats(self, *, planner: str) -> TextTeacherStats:
        """What was counted."""
        groups = dict(self._outcomes)
        for split in {split for split, _ in self._outcomes}:
            groups[split, ALL] = [one for key, some in self._outcomes.items() if key[0] == split for one in some]
        return TextTeacherStats(
            planner=planner,
            questions=sum(map(len, self._outcomes.values())),
            samples=self.samples,
            train_traces=self._failed.training,
            train_failed=self._failed.training_failed,
            train_verified=sum(any(one.hits) for one in groups.get((TRAIN, ALL), ())),
            status=dict(sorted(self._status.items())),
            failures=dict(sorted(self._failures.items())),
            failed_traces=self._failed.groups(),
            yields=tuple(_yield_row(key, outcomes) for key, outcomes in sorted(groups.items())),
        )


def text_teacher_stats(solved: Iterable[tuple[Question, Sequence[Trace]]], *, planner: str) -> TextTeacherStats:
    """Yield of the teacher over all its traces; reads them once."""
    tally = Tally()
    for question, traces in solved:
        tally.add(question, traces)
    return tally.stats(planner=planner)


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
    if plain(answer) == plain(other):
        return True
    return compare_answers(answer, other, question).verdict == "right"


def _yield_row(key: tuple[str, str], outcomes: list[_Outcome]) -> TextYield:
    clusters = cluster_ids([one.group for one in outcomes])

    def share(hits: list[bool]) -> Share:
        return _share(proportion(np.array(hits, dtype=float), clusters))

    return TextYield(
        split=key[0], kind=key[1], n=len(outcomes),
        pass_at_1=share([bool(one.hits) and one.hits[0] for one in outcomes]),
        pass_at_k=share([any(one.hits) for one in outcomes]), agreement=_agreement(outcomes),
    )  # fmt: skip


def _agreement(outcomes: list[_Outcome]) -> Agreement | None:
    rated = [(one.agreement, one) for one in outcomes if one.agreement is not None]
    if not rated:
        return None
    clusters = cluster_ids([one.group for _, one in rated])
    values = np.array([value for value, _ in rated])
    right = np.array([one.plurality_right for _, one in rated])
    return Agreement(
        n=len(rated),
        mean=_share(_BOOTSTRAP.mean(values, clusters, bounds=(0.0, 1.0))),
        plurality_right=_share(proportion(right.astype(float), clusters)),
        when_right=float(values[right].mean()) if right.any() else None,
        when_wrong=float(values[~right].mean()) if not right.all() else None,
    )


def _share(interval: Interval) -> Share:
    return Share(value=interval.value, low=interval.low, high=interval.high)
