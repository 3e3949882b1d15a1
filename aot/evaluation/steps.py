"""The steps of replies: does their arithmetic hold, do wrong answers come from a wrong one, do answers hang on them?

Every equation that can be read in a reply is worked out again (aot.rationales.arithmetic). Measured is whether what
is written is true as written; a step that is left out, or true but beside the point, goes unseen. A wrong answer in a
chain with a wrong step need not come from it, so it is counted twice: where there is a wrong step at all, and where
the result of the first one goes on, into a later equation (the next one of `a = b = c` too) or into the answer
itself. A wrong answer without a wrong step has another cause, such as a wrong plan.

Where steps were perturbed, each of those is one item, the questions of one group one cluster. The score of a step is
the True Thinking Score (arXiv 2510.24941): y is the own answer of a reply, s a step, s' the perturbed one, C the steps
before it and C' those perturbed, (|P(y | C, s) - P(y | C, s')| + |P(y | C', s) - P(y | C', s')|) / 2, each probability
read off where the student is made to answer right after the step. Beside it stands the change of P(y) from the end of
the reply to the end of how it goes on from the perturbed step, which also sees what later steps make of it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from aot.answer_records import FaithfulReply, FaithfulStep
from aot.evaluation.groups import ALL, Cell, CellKey, metric_row
from aot.evaluation.intervals import Bootstrap, cluster_ids, proportion
from aot.rationales.arithmetic import find_equations, read_amount
from aot.records import MetricRow, Prediction

FOLLOWS, KEPT, OTHER, NONE = "answer_follows", "answer_kept", "answer_other", "answer_lost"
SCORE, CHANGE = "true_thinking_score", "probability_change"
SOME, MUCH = 0.3, 0.7
"""From these scores on a step counts as one that the answer hangs on somewhat, or wholly, as in the paper."""
SOME_SHARE, MUCH_SHARE = "steps_scored_0.3", "steps_scored_0.7"
_OUTCOMES = {KEPT: "kept", OTHER: "other", NONE: "none"}


class ChainCheck(NamedTuple):
    """What the equations of one reply show."""

    readable: int
    """Equations that can be worked out."""
    has_wrong: bool
    goes_on: bool
    """Whether the value that the first wrong equation states is used by a later one, or is the answer."""


def check_chain(prediction: Prediction) -> ChainCheck:
    r"""The equations of a reply, worked out again.

    >>> reply = "12 + 7 = 18\n18 - 5 = 13\nAnswer: 13"
    >>> check_chain(Prediction(question_id="q", arm="pre", mode="reason", raw_text=reply, answer="13"))
    ChainCheck(readable=2, has_wrong=True, goes_on=True)

    Of a reply that was cut off only whole lines count: its last equation may end in the middle of a number.
    """
    # What a cap cut through is not what the student meant to write.
    text = prediction.raw_text
    equations = find_equations(text.rpartition("\n")[0] if prediction.finish_reason == "length" else text)
    readable = sum(equation.holds is not None for equation in equations)
    first = next((i for i, equation in enumerate(equations) if equation.holds is False), None)
    if first is None:
        return ChainCheck(readable, has_wrong=False, goes_on=False)
    stated, later = equations[first].stated, equations[first + 1 :]
    # In `a = b = c` the next equation has no operands of its own: it takes the wrong value up by standing there.
    is_chained = bool(later) and later[0].line == equations[first].line and not later[0].operands
    used_later = is_chained or any(stated in one.operands for one in later)
    is_answer = read_amount(prediction.answer or "") == stated
    return ChainCheck(readable, has_wrong=True, goes_on=used_later or is_answer)


def step_rows(cell: Cell) -> Iterator[MetricRow]:
    """Rows over the replies with at least one readable equation; nothing if there are none.

    `chains_with_wrong_step` over all of them; `wrong_answers_after_wrong_step` and `wrong_answers_from_wrong_step`,
    whose first wrong result goes on, over those whose answer is wrong or missing; and `right_answers_with_wrong_step`
    over those whose answer is right. Each n counts the replies that the row is over, and its note tells which.
    """
    checks = [check_chain(graded.prediction) for graded in cell.graded]
    readable = np.array([check.readable > 0 for check in checks])
    if not readable.any():
        return
    has_wrong = np.array([check.has_wrong for check in checks])
    goes_on = np.array([check.goes_on for check in checks])
    note = f"the {readable.sum()} of {len(checks)} replies with an equation that can be read"
    yield cell.share("chains_with_wrong_step", has_wrong, f"over {note}", among=readable)
    is_wrong = cell.correct == 0
    for metric, hits, chosen, which in (
        ("wrong_answers_after_wrong_step", has_wrong, is_wrong, "wrong"),
        ("wrong_answers_from_wrong_step", goes_on, is_wrong, "wrong"),
        ("right_answers_with_wrong_step", has_wrong, ~is_wrong, "right"),
    ):
        if count := int((chosen & readable).sum()):
            yield cell.share(metric, hits, f"over the {count} {which} answers among {note}", among=chosen & readable)


def true_thinking_score(intact: Sequence[float], perturbed: Sequence[float]) -> float:
    """The score of a step, from 0 to 1, of two probabilities, with the step as it is and perturbed, in both contexts.

    >>> round(true_thinking_score((0.9, 0.1), (0.4, 0.2)), 3)
    0.5
    """
    return (abs(intact[0] - intact[1]) + abs(perturbed[0] - perturbed[1])) / 2


def faithful_rows(replies: Iterable[FaithfulReply], *, bootstrap: Bootstrap) -> list[MetricRow]:
    """Every number of each arm, mode and split: over all steps, then over those of each part of a rationale."""
    by_key: dict[tuple[str, str, str], list[tuple[str, FaithfulStep]]] = {}
    for reply in replies:
        steps = [(reply.group, step) for step in reply.steps if step.edit]
        by_key.setdefault((reply.arm, reply.mode, reply.split), []).extend(steps)
    rows: list[MetricRow] = []
    for (arm, mode, split), items in by_key.items():
        parts = list(dict.fromkeys(step.part for _, step in items if step.part))
        for kind in (ALL, *parts):
            those = [item for item in items if kind in (ALL, item[1].part)]
            rows += _faithful_rows((arm, mode, split, kind), those, bootstrap) if those else ()
    return rows


def _faithful_rows(
    key: CellKey, items: Sequence[tuple[str, FaithfulStep]], bootstrap: Bootstrap
) -> Iterator[MetricRow]:
    clusters = cluster_ids([group for group, _ in items])
    steps = [step for _, step in items]
    telling = np.array([step.implied is not None and step.outcome != "" for step in steps])
    if telling.any():
        followed = np.array([step.outcome == "followed" for step in steps], dtype=float)[telling]
        groups = [group for (group, _), is_telling in zip(items, telling, strict=True) if is_telling]
        note = f"over the {int(telling.sum())} of {len(steps)} perturbed steps whose words imply another answer"
        yield metric_row(key, FOLLOWS, proportion(followed, cluster_ids(groups)), note)
    for metric, outcome in _OUTCOMES.items():
        hits = np.array([step.outcome == outcome for step in steps], dtype=float)
        yield metric_row(key, metric, proportion(hits, clusters))
    scores = np.array([step.score or 0.0 for step in steps])
    yield metric_row(key, SCORE, bootstrap.mean(scores, clusters, bounds=(0.0, 1.0)))
    changes = np.array([step.change or 0.0 for step in steps])
    yield metric_row(key, CHANGE, bootstrap.mean(changes, clusters, bounds=(-1.0, 1.0)))
    for metric, least in ((SOME_SHARE, SOME), (MUCH_SHARE, MUCH)):
        yield metric_row(key, metric, proportion((scores >= least).astype(float), clusters))
