"""What the other modules of this folder hand to each other and to the outside: found, parsed and graded answers.

Plain data; knows nothing of how an answer is found, read or compared.
"""

from dataclasses import dataclass
from typing import Literal

MAX_ANSWER_CHARS = 10_000
"""Longer answers are `too_long`, whatever their type: nobody states an answer in ten thousand characters."""

Slot = Literal["declared", "boxed", "hashes", "said", "closing", "direct", "none"]
VerdictName = Literal["right", "wrong", "cannot_tell"]


@dataclass(frozen=True)
class FoundAnswer:
    """Where a text states its answer."""

    answer: str | None
    """None when the text states none, or several different ones."""
    slot: Slot
    r"""`declared`: after `Answer:`; `boxed`: in `\boxed{}`; `hashes`: after `####`; `said`: after `answer is`;
    `closing`: the last line, a sentence with the result; `direct`: the whole text is the answer."""


@dataclass(frozen=True)
class ParsedAnswer:
    """An answer in canonical form."""

    value: str | None
    """Two answers with equal values are the same; whether other values can still be the same is for
    `compare_answers` to say. None when unparsable."""
    reason: str = ""
    """Why it is unparsable; countable."""
    written: str = ""
    """The answer as it was written, where a comparison needs to know: digits, am or pm, brackets."""


@dataclass(frozen=True)
class Grade:
    """What an answer is worth."""

    verdict: VerdictName
    reason: str
    """Countable: such as `exact`, `iou`, `different`, or why nothing could be told."""
    value: float | None = None
    """IoU of a time span, or the score that a task's own scorer gave; None for the other types."""


EXACT, DIFFERENT = Grade("right", "exact"), Grade("wrong", "different")
