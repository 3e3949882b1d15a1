"""What every text data set yields, and the few rules they share: groups, gold answers, and the last line of a chain.

Knows no file format and no task.
"""

import hashlib
import re
from dataclasses import dataclass

from aot.answers import grade
from aot.errors import SourceError
from aot.records import Question, Refusal
from aot.run_records import GivenRationale

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_STATED = re.compile(r"\s*(?:final\s+)?answer\s*:", re.IGNORECASE)


@dataclass(frozen=True)
class TextSource:
    """Problems with their gold answers, the worked solutions that came with them, and what was refused."""

    questions: tuple[Question, ...]
    rationales: tuple[GivenRationale, ...]
    """At most one for each question; a question without a worked solution has none."""
    refusals: tuple[Refusal, ...]


def same_text(text: str) -> str:
    """`text` without the differences of case and white space.

    >>> same_text(" How  MANY? ")
    'how many?'
    """
    return " ".join(text.casefold().split())


def same_template(text: str) -> str:
    """`text` without case, white space and the values of its numbers.

    >>> same_template("Tim has 1,200 pens and 3.5 kg.")
    'tim has # pens and # kg.'
    """
    return _NUMBER.sub("#", same_text(text))


def short_hash(*parts: object) -> str:
    """Twelve hex digits of `parts`, the same on every machine."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:12]


def with_answer_line(chain: str, answer: str) -> str:
    r"""`chain` with one step a line and the last line `Answer: X`; empty if the chain says nothing.

    A chain that states an answer in its last line keeps that line, right or wrong: filters judge it.

    >>> with_answer_line("2 + 3 = 5\n\n so 5 ", "5")
    '2 + 3 = 5\nso 5\nAnswer: 5'
    """
    lines = [line.strip() for line in chain.splitlines() if line.strip()]
    if not lines or (len(lines) == 1 and _STATED.match(lines[0])):
        return ""
    if not _STATED.match(lines[-1]):
        lines.append(f"Answer: {answer}")
    return "\n".join(lines)


def gold_problem(question: Question) -> str:
    """Why the gold answer would not count as right if it were given; empty if it would."""
    try:
        graded = grade(question.answer, question)
    except SourceError as error:
        return str(error)
    if graded.verdict == "right":
        return ""
    return f"the gold answer {question.answer!r} compared with itself as {question.answer_type}: {graded.reason}"
