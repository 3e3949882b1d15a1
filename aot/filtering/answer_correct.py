"""Drops traces whose final answer is not the gold answer."""

from aot.answers import grade
from aot.filtering.subject import Subject
from aot.records import Verdict


def answer_correct(subject: Subject) -> Verdict:
    """Keeps right answers; `answer_wrong` and `answer_unclear_*` are counted apart. Value: the IoU of a time span."""
    graded = grade(subject.trace.answer, subject.question)
    if graded.verdict == "right":
        return subject.verdict("answer_correct", value=graded.value)
    problem = "answer_wrong" if graded.verdict == "wrong" else f"answer_unclear_{graded.reason}"
    return subject.verdict("answer_correct", problem, value=graded.value, detail=subject.trace.answer[:200])
