"""Counts the answer checker's own mistakes on a table of cases, with 95% intervals by answer type.

A false positive is judged right though it is not; a false negative is not judged right though it is. The table is
cases.jsonl: one answer, or one reply, a line, with the verdict that a careful marker gives it. Nothing is printed here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

from aot.answers.finding import find_answer
from aot.answers.forms import Grade, VerdictName
from aot.answers.grading import grade
from aot.files.jsonl import parse_json
from aot.records import Question
from aot.wilson import wilson


@dataclass(frozen=True)
class Case:
    """One answer to one question, and the verdict it deserves."""

    question: Question
    said: str
    expected: VerdictName
    form: Literal["answer", "reply"] = "answer"
    """Whether `said` is the answer itself, or a reply in which it must first be found."""


def all_cases() -> list[Case]:
    """Every case, in the order of the table."""
    lines = resources.files("aot.answers").joinpath("cases.jsonl").read_text(encoding="utf-8").splitlines()
    return [_case(parse_json(line), number=number) for number, line in enumerate(lines, start=1)]


def _case(row: dict[str, Any], *, number: int) -> Case:
    form: Literal["answer", "reply"] = row.pop("form", "answer")
    said, expected, gold = row.pop("said"), row.pop("expected"), row.pop("gold")
    kind = row["answer_type"]
    fixed = {"id": str(number), "dataset": "cases", "split": "test", "kind": kind, "text": "?", "group": kind}
    return Case(Question.model_validate({**fixed, **row, "answer": gold}), said, expected, form)


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
