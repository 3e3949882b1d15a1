"""Graded predictions sorted into cells: one arm in one mode on the questions of one group of one split.

The denominator of a cell is every question of its group, if the arm predicted any of each kind in it: a missing
prediction counts as failed and wrong. Nothing here knows which groups, comparisons or metrics a run wants.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from aot.evaluation.baselines import NEXT_KINDS
from aot.evaluation.intervals import cluster_ids, proportion
from aot.evaluation.scoring import score
from aot.rationales.cards import ABOUT_CARDS
from aot.records import Interval, MetricRow, Prediction, Question, Score

MODES = ("direct", "reason", "explain", "adaptive", "tools", "likelihood", "none")
ALL, NEXT, OPEN_BOOK = "all", "next", "open_book"
BENCHMARK_GROUPS: dict[str, dict[str, frozenset[str]]] = {
    "nextqa": {
        "C": frozenset({"CW", "CH"}),
        "T": frozenset({"TN", "TP", "TC"}),
        "TN+TP": frozenset({"TN", "TP"}),
        "D": frozenset({"DC", "DL", "DO"}),
    }
}
"""Kinds that a benchmark's own tables put together: NExT-QA's causal, temporal and descriptive questions, where what
came before (TP) counts with what comes next (TN)."""
_KIND_ORDER = (ALL, OPEN_BOOK, NEXT, *NEXT_KINDS, "before", "after", "count", "when", "present")
MIDDLE_STEPS = (3, 4)
MIDDLE = "steps=3-4"
"""Problems that no student of one-step facts can answer at once, and that are still in distribution."""
_DIGITS = 6

Group = tuple[str, tuple[Question, ...]]
"""Name and members of a group of questions."""
CellKey = tuple[str, str, str, str]
"""Arm, mode, split, kind."""


@dataclass(frozen=True)
class Graded:
    """A prediction and what the grader said."""

    prediction: Prediction
    score: Score


@dataclass(frozen=True)
class Cell:
    """What one arm in one mode did on one group of questions of one split."""

    arm: str
    mode: str
    split: str
    kind: str
    questions: tuple[Question, ...]
    graded: tuple[Graded, ...]
    """In the order of the questions."""

    @property
    def key(self) -> CellKey:
        """Arm, mode, split and kind."""
        return self.arm, self.mode, self.split, self.kind

    @cached_property
    def correct(self) -> np.ndarray:
        """1.0 for each right answer, else 0.0."""
        return np.array([g.score.correct for g in self.graded], dtype=float)

    @cached_property
    def tokens(self) -> np.ndarray:
        """Generated tokens of each reply."""
        return np.array([float(g.prediction.completion_tokens) for g in self.graded])

    @cached_property
    def clusters(self) -> np.ndarray:
        """Number of the cluster of each question."""
        return cluster_ids([q.group for q in self.questions])

    def subset(self, chosen: np.ndarray) -> "Cell":
        """The same cell with the questions where `chosen` is true only."""
        places = [i for i, take in enumerate(chosen) if take]
        questions, graded = tuple(self.questions[i] for i in places), tuple(self.graded[i] for i in places)
        return Cell(self.arm, self.mode, self.split, self.kind, questions, graded)

    def row(self, metric: str, interval: Interval, note: str = "") -> MetricRow:
        """A row of this cell."""
        return metric_row(self.key, metric, interval, note)

    def share(self, metric: str, hits: np.ndarray, note: str = "", *, among: np.ndarray | None = None) -> MetricRow:
        """The row of a share of true `hits` (n,), of all questions or of those where `among` is true."""
        if among is None:
            return self.row(metric, proportion(hits, self.clusters), note)
        return self.row(metric, proportion(hits[among], self.subset(among).clusters), note)


def metric_row(key: CellKey, metric: str, interval: Interval, note: str = "") -> MetricRow:
    """A number with its interval, rounded so that two runs write the same bytes."""
    # Adding 0.0 makes a zero of a negative zero, which a sum may be in one run and not in the next.
    value, low, high = (round(x, _DIGITS) + 0.0 for x in (interval.value, interval.low, interval.high))
    arm, mode, split, kind = key
    return MetricRow(
        arm=arm, mode=mode, split=split, kind=kind, metric=metric, value=value, low=low, high=high, n=interval.n,
        num_clusters=interval.num_clusters, note=note,
    )  # fmt: skip


def grade_all(
    questions: Sequence[Question], predictions: Sequence[Prediction]
) -> dict[tuple[str, str], dict[str, Graded]]:
    """(arm, mode) to question id to graded prediction; of two for one question the later one counts."""
    by_id = {question.id: question for question in questions}
    graded: dict[tuple[str, str], dict[str, Graded]] = {}
    for prediction in predictions:
        question = by_id.get(prediction.question_id)
        if question is not None:
            row = Graded(prediction, score(prediction, question))
            graded.setdefault((prediction.arm, prediction.mode), {})[question.id] = row
    return graded


def odd_rows(predictions: Iterable[Prediction], *, due: Mapping[tuple[str, str], Set[str]]) -> dict[str, int]:
    """How many predictions are `missing`, `doubled` or of `unknown` questions; reasons that never occur are left out.

    Args:
        predictions: what there is, of students and others.
        due: for arm and mode of each student the ids of the questions it had to answer; others may leave some out.
    """
    expected = set[str]().union(*due.values())
    rows = Counter((row.arm, row.mode, row.question_id) for row in predictions)
    counts = {
        "missing": sum((*who, question_id) not in rows for who, ids in due.items() for question_id in ids),
        "doubled": sum(count - 1 for (_, _, question_id), count in rows.items() if question_id in expected),
        "unknown": sum(count for (_, _, question_id), count in rows.items() if question_id not in expected),
    }
    return {reason: count for reason, count in counts.items() if count}


def make_cells(
    questions: Sequence[Question],
    graded: Mapping[tuple[str, str], Mapping[str, Graded]],
    *,
    order: Sequence[str],
) -> Iterator[Cell]:
    """Every cell that somebody answered: arms in the given order, then modes, splits, and the groups of each split."""
    rank = {name: index for index, name in enumerate(order)}
    splits = sorted({question.split for question in questions})
    grouped = {split: question_groups([q for q in questions if q.split == split]) for split in splits}
    for arm, mode in sorted(graded, key=lambda key: (rank.get(key[0], len(rank)), key[0], MODES.index(key[1]))):
        rows = graded[arm, mode]
        for split in splits:
            # A predictor of some kinds only, such as a next-step baseline, has no number over all kinds: unlike the
            # others it would be judged on what it was never asked. One that lost some answers keeps its denominator.
            answered = {q.kind for q in questions if q.split == split and q.id in rows}
            for kind, members in grouped[split]:
                if {q.kind for q in members} <= answered:
                    yield Cell(arm, mode, split, kind, members, tuple(_get(rows, q, arm, mode) for q in members))


def question_groups(questions: Sequence[Question]) -> list[Group]:
    """All questions, those about cards, next-step kinds, each kind, a benchmark's own groups, and those of tags."""
    kinds = {question.kind for question in questions}
    by_kind = {ALL: kinds, **{kind: {kind} for kind in kinds}}
    if kinds & set(NEXT_KINDS):
        by_kind[NEXT] = kinds & set(NEXT_KINDS)
    if open_book := {kind for kind in kinds if kind.startswith(ABOUT_CARDS)}:
        by_kind[OPEN_BOOK] = open_book
    for dataset in {question.dataset for question in questions} & set(BENCHMARK_GROUPS):
        by_kind |= {name: kinds & members for name, members in BENCHMARK_GROUPS[dataset].items() if kinds & members}
    places = {kind: place for place, kind in enumerate(_KIND_ORDER)}
    names = sorted(by_kind, key=lambda name: (places.get(name, len(places)), name))
    groups = {name: tuple(q for q in questions if q.kind in by_kind[name]) for name in names}
    return [*groups.items(), *_tag_groups(questions, taken=groups)]


def _tag_groups(questions: Sequence[Question], *, taken: Collection[str]) -> list[Group]:
    """`<tag>=<value>` for each tag, names before numbers, and `steps=3-4`."""
    groups: dict[tuple[bool, str, float, str], list[Question]] = {}
    for question in questions:
        for tag, value in question.tags.items():
            number = float(value) if isinstance(value, int) else -1.0
            groups.setdefault((number >= 0, tag, number, f"{tag}={value}"), []).append(question)
            if tag == "steps" and value in MIDDLE_STEPS:
                groups.setdefault((True, tag, math.inf, MIDDLE), []).append(question)
    return [(key[-1], tuple(groups[key])) for key in sorted(groups) if key[-1] not in taken]


def answer_rows(cell: Cell) -> Iterator[MetricRow]:
    """`accuracy`, `truncated_rate`, `unparsable_rate` and, where anything failed, `failed_rate`.

    `truncated_rate` is the share of generated replies that a cap cut off; there is none where nobody noted their end.
    """
    states = np.array([g.score.state for g in cell.graded])
    missing = sum(g.prediction.error == "missing" for g in cell.graded)
    note = f"{missing} of {len(cell.graded)} predictions are missing and count as wrong" if missing else ""
    yield cell.share("accuracy", cell.correct, note)
    # Over replies whose end is known: a likelihood or an old file has none, and no share of it was cut.
    ends = np.array([g.prediction.finish_reason for g in cell.graded])
    if replies := int((ends != "").sum()):
        note = "" if replies == len(ends) else f"over the {replies} replies whose end is known"
        yield cell.share("truncated_rate", ends == "length", note, among=ends != "")
    yield cell.share("unparsable_rate", states == "no_answer")
    if (states == "failed").any():
        yield cell.share("failed_rate", states == "failed")


def _get(rows: Mapping[str, Graded], question: Question, arm: str, mode: str) -> Graded:
    if (graded := rows.get(question.id)) is not None:
        return graded
    missing = missing_prediction(question, arm, mode)
    return Graded(missing, score(missing, question))


def missing_prediction(question: Question, arm: str, mode: str) -> Prediction:
    """What stands for an answer that is not there: it failed, and counts as wrong."""
    row = {"question_id": question.id, "arm": arm, "mode": mode, "raw_text": "", "answer": None, "error": "missing"}
    return Prediction.model_validate(row)
