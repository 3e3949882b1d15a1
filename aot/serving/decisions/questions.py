"""Typed questions: each with a closed set of answers, checked before any model sees it.

    next_step = choice("What is the next step?", ("wash rice", "peel onion"))
    safe = yes_no("Is the stove off?")
    urgency = score("How urgent is it?", low=1, high=5)

Knows no model: what a student cannot read or tell apart is found when it is asked.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aot.errors import SourceError
from aot.serving.domain import MOST_CHOICES, text_of

QuestionType = Literal["choice", "yes_no", "score"]
MOST_LEVELS = 101
"""Of a scale, such as 0 to 100."""


@dataclass(frozen=True)
class TypedQuestion:
    """One question with a closed set of answers; made by `choice`, `yes_no` and `score`."""

    text: str
    """May be empty where the state that it is about says what is to be decided."""
    choices: tuple[str, ...]
    """What the student might say."""
    type: QuestionType = "choice"
    descriptions: tuple[str, ...] = ()
    """What each of them means; shown behind it, where not empty."""
    values: tuple[float, ...] = ()
    """Of a score: what each level counts."""
    kind: str = ""
    """Of the student's training questions, which calibration goes by; empty: the general one."""

    @property
    def shown(self) -> tuple[str, ...]:
        """The choices as a prompt shows them."""
        meanings = self.descriptions or ("",) * len(self.choices)
        return tuple(f"{said}: {means}" if means else said for said, means in zip(self.choices, meanings, strict=True))

    def check(self) -> None:
        """Look it over.

        Raises:
            SourceError: there are no choices, too many, two are the same, or one says nothing.
        """
        choices = self.choices
        if not choices:
            raise SourceError("a question without choices; give those that may be answered")
        if len(choices) > MOST_CHOICES:
            raise SourceError(
                f"{len(choices):,} choices were given; at most {MOST_CHOICES:,} can be decided between: ask in rounds"
            )
        for place, one in enumerate(choices):
            text_of(one, f"choice {place}")
        if len(set(choices)) < len(choices):
            twice = next(one for place, one in enumerate(choices) if one in choices[:place])
            raise SourceError(f"{twice[:60]!r} is given twice; give each choice once")
        if self.descriptions and len(self.descriptions) != len(choices):
            count = len(self.descriptions)
            raise SourceError(f"{len(choices)} choices came with {count} descriptions; give one for each")
        for words in (self.text, *self.descriptions):
            if words.strip():
                text_of(words, "text")


def choice(text: str, choices: Sequence[str], *, descriptions: Sequence[str] = (), kind: str = "") -> TypedQuestion:
    """A question with these answers.

    Raises:
        SourceError: they cannot be decided between.
    """
    if isinstance(choices, str):
        raise SourceError("choices must be a list of texts, got one text")
    question = TypedQuestion(text, tuple(choices), "choice", tuple(descriptions), kind=kind)
    question.check()
    return question


def yes_no(text: str, *, yes: str = "", no: str = "", kind: str = "") -> TypedQuestion:
    """A question with the answers yes and no, and what these mean where that is given."""
    return TypedQuestion(text, ("yes", "no"), "yes_no", (yes, no) if yes or no else (), kind=kind)


def score(
    text: str, *, low: float = 0, high: float = 10, step: float = 1, levels: Sequence[str] = (), kind: str = ""
) -> TypedQuestion:
    """A question with a number from `low` to `high` in equal steps, or with levels in words, the lowest first.

    The student says the number of a level in words, counted from 0, and is shown what it means.

    Raises:
        SourceError: the scale has no end, too many levels, or steps that do not end at `high`.
    """
    if levels:
        if len(levels) > MOST_LEVELS:
            raise SourceError(f"a scale of {len(levels)} levels; at most {MOST_LEVELS} can be scored")
        names, values = tuple(map(str, range(len(levels)))), tuple(map(float, range(len(levels))))
        return TypedQuestion(text, names, "score", tuple(levels), values, kind)
    if not all(map(math.isfinite, (low, high, step))) or step <= 0 or high <= low:
        raise SourceError(f"a scale from {low} to {high} in steps of {step}; low must be under high, the step over 0")
    steps = (high - low) / step
    if steps > MOST_LEVELS - 1 or abs(steps - round(steps)) > 1e-6:
        raise SourceError(
            f"a scale from {low} to {high} in steps of {step} has {steps + 1:.6g} levels; at most {MOST_LEVELS} can be "
            "scored, and the last one must be the highest: take another step"
        )
    values = tuple(float(f"{low + i * step:.9g}") for i in range(round(steps) + 1))
    return TypedQuestion(text, tuple(f"{value:.9g}" for value in values), "score", values=values, kind=kind)
