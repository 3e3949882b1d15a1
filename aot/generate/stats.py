"""What the teacher's work yielded and cost: published as teacher.json, the one file that may hold wall times.

A trace counts as verified when it came to an end with the gold answer; filters judge later. Traces are read once, and a
few words are held of each. What a run has no figure for is left out: tools where none was called, agreement where no
question has two answers.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field, SerializeAsAny

from aot.answers import compare_answers, verifies
from aot.answers.finding import plain
from aot.chat.spend import SpendSummary, spend_summary
from aot.config import ChatConfig
from aot.evaluation.intervals import Bootstrap, StoredInterval, cluster_ids, proportion
from aot.files.run_folder import RunFolder
from aot.files.traces import SettingsRows, rows_by_settings
from aot.generate.failures import FailedTraces, FailureCounter
from aot.generate.solve import TRAIN
from aot.records import Question, Record, Trace

log = logging.getLogger(__name__)
ALL = "all"
_BOOTSTRAP = Bootstrap(samples=1000, seed=0)


class Agreement(Record):
    """How far the samples of a question agree, over questions with at least two readable answers.

    Agreement is the share of a question's answers that say what most of them say. How far it tells right from wrong is
    printed beside it, because a model may be sure and wrong.
    """

    n: int
    """Such questions."""
    mean: StoredInterval
    """Mean share of the answers that say the same as most of them."""
    plurality_right: StoredInterval
    """Share of questions whose most frequent answer is the gold answer; of equally frequent ones the first counts."""
    when_right: float | None
    """Mean agreement where the most frequent answer is right; None where that never happened."""
    when_wrong: float | None


class YieldRow(Record):
    """How many questions of one split and kind got a trace that comes to the gold answer."""

    split: str
    kind: str
    n: int
    pass_at_1: StoredInterval
    pass_at_k: StoredInterval | None
    """None where questions got one attempt only: outside the training split no gold answer may pick among several."""
    attempts: float | None = None
    """Mean attempts at a question; None where every attempt is a row."""
    agreement: Agreement | None = None
    """None where no question has two readable answers."""


class ToolCost(Record):
    """How often a tool was called, and how long it took."""

    tool: str
    calls: int
    failed: int
    mean_ms: float


class TeacherStats(Record):
    """The content of teacher.json."""

    planner: str
    questions: int
    candidates: int | None
    """k: attempts at each training question until one verified; None where every attempt is a row."""
    samples: int | None
    """Traces of all questions together; None where each question has one."""
    train_traces: int
    train_failed: int
    """Those of the training traces that came to no answer."""
    train_verified: int
    """Training questions with a trace that comes to the gold answer; the filters keep some of their traces."""
    seconds_per_verified_trace: float | None
    """Worker seconds of all attempts at training questions for each verified one; None where nobody took the time."""
    status: dict[str, int]
    """Traces by status; failed ones by the boundary where they failed."""
    yields: tuple[YieldRow, ...]
    tool_accuracy: tuple[SerializeAsAny[Record], ...] | None = None
    """Of an exam, against annotations; empty where there are none."""
    tool_cost: tuple[ToolCost, ...] | None
    failures: dict[str, int] = Field(default_factory=dict)
    """Failed traces by boundary and reason, where there is one."""
    failed_traces: tuple[FailedTraces, ...] = ()
    """The same with countable reasons for all, and an example of each."""
    prompts: dict[str, str] | None = None
    """Content hash of each prompt file of a chat teacher."""
    model_turns: int | None = None
    """Turns of the teacher's model that the traces of questions keep; None where they have none."""
    model_turns_with_logprobs: int | None = None
    """Those among them that came with log-probabilities, as chat.logprobs asks for."""
    spend: SpendSummary | None = None
    """What the chat model that plans, solves and writes has cost this run."""
    vision_spend: SpendSummary | None = None
    """The same of the chat model that looks, where it is another one."""
    chat_settings: tuple[SettingsRows, ...] = ()
    """The rows by the settings of the chat models that made them; those may be mended between two lives of a run."""
    gpu_hours_per_thousand_chains: float | None = None
    """Of training questions with a verified trace; None where `chat.gpus` is not given."""

    def as_json(self) -> str:
        """The file, without what this run has no figure for."""
        left_out: dict[str, Any] = {name: True for name in _OPTIONAL if getattr(self, name) is None}
        of_rows = {name for name in ("attempts", "agreement") if all(getattr(row, name) is None for row in self.yields)}
        return self.model_dump_json(indent=1, exclude={**left_out, "yields": {"__all__": of_rows}})


_OPTIONAL = (
    "candidates", "samples", "seconds_per_verified_trace", "tool_accuracy", "tool_cost", "prompts", "vision_spend",
    "model_turns", "model_turns_with_logprobs",
)  # fmt: skip


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
        log.info(summary.line(stats.train_verified))
    hours = [summary.gpu_hours_per_thousand(stats.train_verified) for summary in spent.values()]
    stated = [one for one in hours if one is not None]
    settings = rows_by_settings(run) if spent else ()
    return stats.model_copy(
        update={**spent, "chat_settings": settings, "gpu_hours_per_thousand_chains": sum(stated) if stated else None}
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
