"""Does the arithmetic of a chain hold, and do wrong answers come from a wrong step?

Every equation that can be read in a reply is worked out again (aot.rationales.arithmetic). Measured is whether what
is written is true as written; a step that is left out, or true but beside the point, goes unseen. A wrong answer in a
chain with a wrong step need not come from it, so it is counted twice: where there is a wrong step at all, and where
the result of the first one goes on, into a later equation (the next one of `a = b = c` too) or into the answer
itself. A wrong answer without a wrong step has another cause, such as a wrong plan.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from aot.evaluation.groups import Cell
from aot.rationales.arithmetic import find_equations, read_amount
from aot.records import MetricRow, Prediction


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
