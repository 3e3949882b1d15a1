"""One prediction against one question: the same grader for teacher, baselines and every student.

What cannot be parsed is wrong and counted apart; nothing is ever guessed in its place.
"""

from typing import Literal

from aot.answers import grade
from aot.records import Prediction, Question, Score

State = Literal["scored", "no_answer", "failed"]


def score(prediction: Prediction, question: Question) -> Score:
    """How `prediction` did: `failed` if the attempt broke, `no_answer` if it was cut off or unreadable, else `scored`.

    The value of a time span is its intersection over union with the gold span; other answers have none.
    """
    if prediction.error:
        return _score(prediction, "failed")
    # What a cut reply says last need not be what it would have answered, even where it can be read.
    if prediction.answer is None or prediction.finish_reason == "length":
        return _score(prediction, "no_answer")
    graded = grade(prediction.answer, question)
    if graded.verdict == "cannot_tell":
        return _score(prediction, "no_answer")
    return _score(prediction, "scored", correct=graded.verdict == "right", value=graded.value)


def _score(prediction: Prediction, state: State, *, correct: bool = False, value: float | None = None) -> Score:
    who = {"question_id": prediction.question_id, "arm": prediction.arm, "mode": prediction.mode}
    return Score(**who, state=state, correct=correct, value=value)
