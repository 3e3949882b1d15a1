"""Counts the answer checker's own mistakes on a table of cases, with 95% intervals by answer type.

A false positive is judged right though it is not; a false negative is not judged right though it is. Pure counting:
nothing is printed here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from aot.answers.cases import Case
from aot.answers.finding import find_answer
from aot.answers.forms import Grade
from aot.answers.grading import grade
from aot.wilson import wilson


@dataclass(frozen=True)
class Outcome:
    """A case and what the checker said of it."""

    case: Case
    grade: Grade

    @property
    def false_positive(self) -> bool:
        """Judged right though it is not."""
        return self.grade.verdict == "right" != self.case.expected

    @property
    def false_negative(self) -> bool:
        """Right, and not judged so."""
        return self.case.expected == "right" != self.grade.verdict


@dataclass(frozen=True)
class Rate:
    """How many of how many, with the Wilson score interval (Wilson 1927)."""

    count: int
    n: int

    @property
    def share(self) -> float:
        """Count over n; 0 of none is 0."""
        return self.count / self.n if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the share; from 0 to 1 when nothing was counted."""
        return wilson(hits=self.count, n=self.n)


def judge(cases: Sequence[Case]) -> list[Outcome]:
    """Every case with its grade, in order."""
    return [
        Outcome(case, grade(find_answer(case.said).answer if case.form == "reply" else case.said, case.question))
        for case in cases
    ]


def false_positives(outcomes: Sequence[Outcome]) -> Rate:
    """Of the answers that are not right, how many were judged right."""
    not_right = [outcome for outcome in outcomes if outcome.case.expected != "right"]
    return Rate(sum(outcome.false_positive for outcome in not_right), len(not_right))


def false_negatives(outcomes: Sequence[Outcome]) -> Rate:
    """Of the right answers, how many were not judged right."""
    right = [outcome for outcome in outcomes if outcome.case.expected == "right"]
    return Rate(sum(outcome.false_negative for outcome in right), len(right))
