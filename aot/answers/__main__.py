"""`python -m aot.answers`: the answer checker's error rates on its own case table.

Exits with 1 if any wrong answer was judged right, or 2% or more of the right answers were not.
"""

import sys
from collections.abc import Sequence

from aot.answers.error_rates import Outcome, Rate, all_cases, false_negatives, false_positives, judge

MAX_FALSE_NEGATIVES = 0.02


def main() -> int:
    """Print the table; the exit status."""
    outcomes = judge(all_cases())
    print(f"{'type':<12}{'n':>5}   {'judged right, but not right':<32}{'right, but not judged so':<32}")
    for kind in sorted({outcome.case.question.answer_type for outcome in outcomes}):
        print(_line(kind, [outcome for outcome in outcomes if outcome.case.question.answer_type == kind]))
    print(_line("all", outcomes))
    _list("judged right, but not right:", [outcome for outcome in outcomes if outcome.false_positive])
    _list("right, but not judged so:", [outcome for outcome in outcomes if outcome.false_negative])
    others = [outcome for outcome in outcomes if outcome.grade.verdict != outcome.case.expected]
    others = [outcome for outcome in others if not (outcome.false_positive or outcome.false_negative)]
    _list("wrong and cannot_tell taken for each other (no error in a score):", others)
    failed = false_positives(outcomes).count > 0 or false_negatives(outcomes).share >= MAX_FALSE_NEGATIVES
    print("failed: at most 0 and under 2% are allowed" if failed else "passed")
    return int(failed)


def _line(name: str, outcomes: Sequence[Outcome]) -> str:
    shown = (_shown(false_positives(outcomes)), _shown(false_negatives(outcomes)))
    return f"{name:<12}{len(outcomes):>5}   {shown[0]:<32}{shown[1]:<32}".rstrip()


def _shown(rate: Rate) -> str:
    low, high = rate.interval
    return f"{rate.count}/{rate.n} = {rate.share:.1%} [{low:.1%}, {high:.1%}]"


def _list(title: str, outcomes: Sequence[Outcome]) -> None:
    if outcomes:
        print(title)
    for outcome in outcomes:
        case, grade = outcome.case, outcome.grade
        print(
            f"  {case.question.answer_type}: gold {case.question.answer!r}, said {case.said!r}: "
            f"{grade.verdict} ({grade.reason}), should be {case.expected}"
        )


if __name__ == "__main__":
    sys.exit(main())
