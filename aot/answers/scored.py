"""Grades answers that only the scorer of a reasoning-gym task can judge, in a worker process.

The question's state holds the task's name and the item it was drawn from. Knows no task by name.
"""

import re
import unicodedata

from aot.answers.forms import Grade, ParsedAnswer
from aot.answers.workers import ask_worker
from aot.errors import SourceError
from aot.records import Question

MAX_SCORED_CHARS = 2_000
_CODE = re.compile(r"__|\blambda\b|\bimport\b|\b(?:eval|exec|open|getattr|globals|compile|breakpoint|input)\s?\(")


def parse_scored(answer: str, question: Question) -> ParsedAnswer:
    """The answer as it is; code, and text too long for the scorers, is refused because some of them evaluate it.

    Python reads names in their NFKC form, and so does this.
    """
    text = answer.strip()
    if len(text) > MAX_SCORED_CHARS:
        return ParsedAnswer(None, "too_long")
    return ParsedAnswer(None, "code") if _CODE.search(unicodedata.normalize("NFKC", text)) else ParsedAnswer(text)


def grade_scored(answer: ParsedAnswer, question: Question) -> Grade:
    """Right when the task's own scorer gives it 1; the score is the value.

    Raises:
        SourceError: the question's state does not hold the task and its item.
    """
    task, entry = question.state.get("task"), question.state.get("entry")
    if not isinstance(task, str) or not isinstance(entry, dict) or "answer" not in entry:
        raise SourceError(
            f"question {question.id!r}: a scored answer needs state {{'task': name, 'entry': {{question, answer, "
            f"metadata}}}}, got the keys {sorted(question.state)}; write the questions file again"
        )
    reply = ask_worker("scores", {"task": task, "entry": entry, "answer": answer.value})
    if reply.reason:
        return Grade("cannot_tell", reply.reason)
    return Grade("right" if reply.value == 1.0 else "wrong", "task_score", reply.value)
