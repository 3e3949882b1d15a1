"""Two sets of graded answers to the same questions: what flipped, by how much, in which kinds, and at what cost.

`before` and `after` are the two sides; differences are after minus before. Nothing here knows where answers come from.
"""

from collections.abc import Iterator, Sequence

from aot.answer_records import Comparison, Flip, GroupResult, TokenCost
from aot.evaluation.groups import ALL, Cell, Graded, answer_rows, question_groups
from aot.evaluation.intervals import Bootstrap, proportion
from aot.evaluation.paired import compare
from aot.evaluation.spending import token_rows
from aot.records import Question

EVERY_SPLIT = "all splits"
EXAMPLES = 5


def compare_answers(
    questions: Sequence[Question], before: Sequence[Graded], after: Sequence[Graded], *, bootstrap: Bootstrap
) -> Comparison:
    """Both sides on `questions`, which must not be empty; `before` and `after` stand in their order."""
    sides = _cell(EVERY_SPLIT, ALL, questions, before), _cell(EVERY_SPLIT, ALL, questions, after)
    flips = [
        Flip(
            question_id=question.id, split=question.split, kind=question.kind, text=question.text, gold=question.answer,
            before=one.prediction.answer, after=two.prediction.answer,
        )
        for question, one, two in zip(questions, before, after, strict=True)
        if one.score.correct != two.score.correct
    ]  # fmt: skip
    gained = {q.id for q, two in zip(questions, after, strict=True) if two.score.correct}
    return Comparison(
        groups=tuple(_group_results(*sides, bootstrap)),
        wrong_to_right=tuple([flip for flip in flips if flip.question_id in gained][:EXAMPLES]),
        right_to_wrong=tuple([flip for flip in flips if flip.question_id not in gained][:EXAMPLES]),
        tokens_before=_token_cost(sides[0], bootstrap),
        tokens_after=_token_cost(sides[1], bootstrap),
    )


def _group_results(before: Cell, after: Cell, bootstrap: Bootstrap) -> Iterator[GroupResult]:
    yield _result(before, after, bootstrap)
    one, two = ({g.prediction.question_id: g for g in cell.graded} for cell in (before, after))
    for split in sorted({question.split for question in before.questions}):
        inside = [question for question in before.questions if question.split == split]
        for kind, members in question_groups(inside):
            first, second = (_cell(split, kind, members, [side[q.id] for q in members]) for side in (one, two))
            yield _result(first, second, bootstrap)


def _result(before: Cell, after: Cell, bootstrap: Bootstrap) -> GroupResult:
    paired = compare(after.correct, before.correct, before.clusters, bootstrap)
    return GroupResult(
        split=before.split,
        kind=before.kind,
        n=len(before.questions),
        before=proportion(before.correct, before.clusters),
        after=proportion(after.correct, after.clusters),
        difference=paired.difference,
        wrong_to_right=paired.wins,
        right_to_wrong=paired.losses,
        p_mcnemar=paired.p_mcnemar,
        p_clustered=paired.p_clustered,
    )


def _cell(split: str, kind: str, questions: Sequence[Question], graded: Sequence[Graded]) -> Cell:
    return Cell("", "", split, kind, tuple(questions), tuple(graded))


def _token_cost(cell: Cell, bootstrap: Bootstrap) -> TokenCost:
    costs = (*token_rows(cell, bootstrap), *answer_rows(cell))
    by_metric = {row.metric: row.interval for row in costs}
    return TokenCost(
        per_question=by_metric.get("tokens_mean"),
        per_correct=by_metric.get("tokens_per_correct"),
        truncated_rate=by_metric.get("truncated_rate"),
    )
