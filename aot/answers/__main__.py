"""`python -m aot.answers`: the answer checker's own mistakes on a table of cases, with 95% intervals by answer type.

The table is cases.jsonl: one answer, or one reply in which it must first be found, a line, with the verdict that a
careful marker gives it. Exits with 1 if any wrong answer was judged right, or 2% or more of the right ones were not.
"""

import sys
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

from aot.answers.finding import find_answer
from aot.answers.forms import Grade, VerdictName
from aot.answers.grading import grade
from aot.files.jsonl import parse_json
from aot.records import Question
from aot.wilson import wilson

MAX_MISSED = 0.02


class Outcome(NamedTuple):
    """A case of the table, and what the checker said of it."""

    question: Question
    said: str
    expected: VerdictName
    grade: Grade

    @property
    def is_amiss(self) -> bool:
        """Whether it was judged right though it is not, or is right and was not judged so."""
        return (self.grade.verdict == "right") != (self.expected == "right")


def judged_cases() -> list[Outcome]:
    """Every case with its grade, in the order of the table."""
    lines = resources.files("aot.answers").joinpath("cases.jsonl").read_text(encoding="utf-8").splitlines()
    return [_judged(line, id=str(number)) for number, line in enumerate(lines, start=1)]


def _judged(line: str, *, id: str) -> Outcome:
    row = parse_json(line)
    form, said, expected, kind = row.pop("form", "answer"), row.pop("said"), row.pop("expected"), row["answer_type"]
    fixed = {"id": id, "dataset": "cases", "split": "test", "kind": kind, "text": "?", "group": kind}
    question = Question.model_validate({"answer": row.pop("gold"), **fixed, **row})
    return Outcome(question, said, expected, grade(find_answer(said).answer if form == "reply" else said, question))


def by_worth(outcomes: Sequence[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """The answers that are not right, among which false positives are, and those that are, with false negatives."""
    return [one for one in outcomes if one.expected != "right"], [one for one in outcomes if one.expected == "right"]


def main() -> int:
    """Print the table; the exit status."""
    outcomes = judged_cases()
    print(f"{'type':<12}{'n':>5}   {'judged right, but not right':<32}{'right, but not judged so':<32}")
    for kind in sorted({one.question.answer_type for one in outcomes}):
        print(_line(kind, [one for one in outcomes if one.question.answer_type == kind]))
    print(_line("all", outcomes))
    wrong, right = by_worth(outcomes)
    _list("judged right, but not right:", [one for one in wrong if one.is_amiss])
    _list("right, but not judged so:", missed := [one for one in right if one.is_amiss])
    others = [one for one in outcomes if one.grade.verdict != one.expected and not one.is_amiss]
    _list("wrong and cannot_tell taken for each other (no error in a score):", others)
    failed = any(one.is_amiss for one in wrong) or len(missed) >= MAX_MISSED * len(right)
    print("failed: at most 0 and under 2% are allowed" if failed else "passed")
    return int(failed)


def _line(name: str, outcomes: Sequence[Outcome]) -> str:
    wrong, right = map(_rate, by_worth(outcomes))
    return f"{name:<12}{len(outcomes):>5}   {wrong:<32}{right:<32}".rstrip()


def _rate(outcomes: Sequence[Outcome]) -> str:
    count, n = sum(one.is_amiss for one in outcomes), len(outcomes)
    low, high = wilson(hits=count, n=n)
    return f"{count}/{n} = {count / max(n, 1):.1%} [{low:.1%}, {high:.1%}]"


def _list(title: str, outcomes: Sequence[Outcome]) -> None:
    if outcomes:
        print(title)
    for question, said, expected, verdict in outcomes:
        print(
            f"  {question.answer_type}: gold {question.answer!r}, said {said!r}: "
            f"{verdict.verdict} ({verdict.reason}), should be {expected}"
        )


if __name__ == "__main__":
    sys.exit(main())
