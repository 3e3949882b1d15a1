"""The teacher that takes the worked solutions which came with a data set, as they are."""

from collections.abc import Mapping

from aot.answers import find_answer
from aot.records import Question, Trace, TraceError
from text_cot.teacher.procedural import chain_trace

TEACHER = "given"


def take(question: Question, solutions: Mapping[str, str], *, config_digest: str) -> Trace:
    """The given solution of `question` as a trace; a failed one where there is none, or none with a readable answer."""
    text = solutions.get(question.id, "").strip()
    if not text:
        return failed(question.id, "source", "the data set gives no solution", config_digest=config_digest)
    *lines, last = text.split("\n")
    answer = find_answer(last).answer
    if not lines or answer is None:
        return failed(
            question.id, "parse", "the solution states no answer in its last line", config_digest=config_digest
        )
    return chain_trace(
        question.id, tuple(lines), answer, teacher=TEACHER, sample_index=0, config_digest=config_digest
    )  # fmt: skip


def failed(question_id: str, boundary: str, message: str, *, config_digest: str) -> Trace:
    """The row of an attempt that gave no chain."""
    error = TraceError(boundary=boundary, message=message)
    return Trace(
        question_id=question_id, sample_index=0, teacher=TEACHER, status="failed", error=error,
        config_digest=config_digest,
    )  # fmt: skip
