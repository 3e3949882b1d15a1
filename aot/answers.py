"""Finds the final answer in a text, parses it by the question's answer type, and grades it.

Strict on purpose: an answer counts only in a declared slot or when it is the whole text; what cannot be parsed is
`cannot_tell` with a reason, never a guess. This module knows no rationale, no model and no filter. A further answer
type is one more parser in `_PARSERS`.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from aot.errors import SourceError
from aot.records import Question

RIGHT_IOU = 0.5
"""A time span is right when its intersection over union with the gold span reaches this."""

_SLOT = re.compile(r"\b(?:final\s+)?answer\s?:", re.IGNORECASE)
_SAID = re.compile(r"\b(?:final\s+)?answer\s+is\b\s?:?", re.IGNORECASE)
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s?s\s?-\s?([0-9]+(?:\.[0-9]+)?)\s?s")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?")
_LETTER = re.compile(r"\(?\s?([A-Za-z])\s?\)?[.:)]?")
_LETTER_AND_TEXT = re.compile(r"(?:\(([A-Za-z])\)|([A-Za-z])[.:)])\s*(\S.*)")
_SENTENCE_BREAK = re.compile(r"[.!?]\s+\S")
_ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_TEENS = ("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NUMBER_WORDS: dict[str, int] = {
    **{word: value for value, word in enumerate((*_ONES, *_TEENS))},
    **{ten: 10 * value for value, ten in enumerate(_TENS, start=2)},
    **{f"{ten} {one}": 10 * t + o for t, ten in enumerate(_TENS, 2) for o, one in enumerate(_ONES[1:10], 1)},
    "once": 1,
    "twice": 2,
    "thrice": 3,
    "none": 0,
    "never": 0,
}


@dataclass(frozen=True)
class FoundAnswer:
    """Where a text states its answer."""

    answer: str | None
    """None when the text states none, or several different ones."""
    slot: Literal["declared", "direct", "none"]
    """`declared`: after `Answer:`; `direct`: the whole text is the answer."""


@dataclass(frozen=True)
class ParsedAnswer:
    """An answer in canonical form."""

    value: str | None
    """Two answers are the same when their values are equal; None when unparsable."""
    reason: str = ""
    """Why it is unparsable; countable."""


@dataclass(frozen=True)
class Grade:
    """What an answer is worth."""

    verdict: Literal["right", "wrong", "cannot_tell"]
    reason: str
    """Countable: `exact`, `iou`, `different`, or why nothing could be told."""
    value: float | None = None
    """IoU of a time span; None for the other types."""


def find_answer(text: str) -> FoundAnswer:
    """The stated answer of a model's text.

    >>> find_answer("Gather: ... Answer: fry onion").answer
    'fry onion'
    >>> find_answer("A person fries. Then the person eats.").slot
    'none'
    """
    slots = _SLOT.split(text)[1:] or _SAID.split(text)[1:]
    declared = [slot.strip(" \t").partition("\n")[0].strip() for slot in slots]
    if declared:
        different = {_plain(answer) for answer in declared}
        only = declared[-1] if len(different) == 1 and declared[-1] else None
        return FoundAnswer(only, "declared" if only else "none")
    bare = text.strip()
    if not bare or "\n" in bare or _SENTENCE_BREAK.search(_without_letter(bare)):
        return FoundAnswer(None, "none")
    return FoundAnswer(bare, "direct")


def parse_answer(answer: str | None, question: Question) -> ParsedAnswer:
    """`answer` in the canonical form of the question's type."""
    if answer is None or not answer.strip(" \t\r\n.()"):
        return ParsedAnswer(None, "empty")
    return _PARSERS[question.answer_type](answer, question)


def grade(answer: str | None, question: Question) -> Grade:
    """Whether `answer` is the gold answer of `question`.

    Raises:
        SourceError: the gold answer itself cannot be parsed by the question's type.
    """
    gold = _parse_gold(question)
    if gold.value is None:
        raise SourceError(
            f"question {question.id!r}: gold answer {question.answer!r} is no {question.answer_type} ({gold.reason}); "
            "mend the answer or its answer_type in the questions file"
        )
    parsed = parse_answer(answer, question)
    if parsed.value is None:
        return Grade("cannot_tell", parsed.reason)
    if question.answer_type == "span":
        overlap = iou(*_span_times(parsed.value), *_span_times(gold.value))
        return Grade("right" if overlap >= RIGHT_IOU else "wrong", "iou", overlap)
    return Grade("right", "exact") if parsed.value == gold.value else Grade("wrong", "different")


def iou(a_start_s: float, a_end_s: float, b_start_s: float, b_end_s: float) -> float:
    """Intersection over union of two time spans; 0 when they do not touch.

    >>> iou(0.0, 2.0, 1.0, 3.0)
    0.3333333333333333
    """
    shared = min(a_end_s, b_end_s) - max(a_start_s, b_start_s)
    whole = max(a_end_s, b_end_s) - min(a_start_s, b_start_s)
    return max(0.0, shared) / whole if whole > 0 else 0.0


def _parse_gold(question: Question) -> ParsedAnswer:
    """The gold answer; of a choice it is always the text of an option, even where that text is a letter."""
    if question.answer_type == "choice":
        return ParsedAnswer(_plain(question.answer))
    return parse_answer(question.answer, question)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(". ")


def _without_letter(text: str) -> str:
    found = _LETTER_AND_TEXT.fullmatch(text)
    return found[3] if found else text


def _parse_text(answer: str, question: Question) -> ParsedAnswer:
    return ParsedAnswer(_plain(answer))


def _parse_choice(answer: str, question: Question) -> ParsedAnswer:
    """An option by its exact text, its letter, or both when they agree; the value is the option's plain text."""
    options = [_plain(choice) for choice in question.choices]
    named: set[str] = {option for option in options if option == _plain(answer)}
    letter = _LETTER.fullmatch(answer.strip())
    both = _LETTER_AND_TEXT.fullmatch(answer.strip())
    if letter:
        named |= _option_of(letter[1], options)
    elif both and not named:
        by_letter = _option_of(both[1] or both[2], options)
        by_text = {option for option in options if option == _plain(both[3])}
        if not by_text:
            return ParsedAnswer(None, "not_an_option")
        if by_letter != by_text:
            return ParsedAnswer(None, "letter_contradicts_text")
        named = by_text
    if len(named) == 1:
        return ParsedAnswer(named.pop())
    if named or _count_options(answer, options) > 1:
        return ParsedAnswer(None, "several_options")
    return ParsedAnswer(None, "not_an_option")


def _option_of(letter: str, options: list[str]) -> set[str]:
    index = ord(letter.upper()) - ord("A")
    return {options[index]} if index < len(options) else set()


def _count_options(answer: str, options: list[str]) -> int:
    text = _plain(answer)
    by_text = {option for option in options if re.search(rf"(?<!\w){re.escape(option)}(?!\w)", text)}
    letters = (
        set(re.findall(r"\b([A-Z])\b", answer))
        if re.fullmatch(r"[\sA-Z,/&.()]*(?:and|or)?[\sA-Z,/&.()]*", answer)
        else set()
    )
    return max(len(by_text), len(letters))


def _parse_integer(answer: str, question: Question) -> ParsedAnswer:
    text = _plain(answer).replace("-", " ").strip() if not _NUMBER.match(answer.strip()) else _plain(answer)
    text = re.sub(r"\s(?:times?)$", "", text)
    if text in NUMBER_WORDS:
        return ParsedAnswer(str(NUMBER_WORDS[text]))
    if _NUMBER.fullmatch(text):
        number = float(text.replace(",", ""))
        if math.isfinite(number):
            return ParsedAnswer(str(int(number)) if number == int(number) else str(number))
    several = len(_NUMBER.findall(text)) + sum(word in NUMBER_WORDS for word in text.split()) > 1
    return ParsedAnswer(None, "several_numbers" if several else "not_a_number")


def _parse_yes_no(answer: str, question: Question) -> ParsedAnswer:
    text = _plain(answer)
    if text in ("yes", "no"):
        return ParsedAnswer(text)
    words = set(re.findall(r"\w+", text))
    return ParsedAnswer(None, "several_options" if {"yes", "no"} <= words else "not_yes_or_no")


def _parse_span(answer: str, question: Question) -> ParsedAnswer:
    text = _plain(answer)
    found = _SPAN.fullmatch(text)
    if not found:
        return ParsedAnswer(None, "several_spans" if len(_SPAN.findall(text)) > 1 else "not_a_span")
    start_s, end_s = float(found[1]), float(found[2])
    if not (math.isfinite(end_s) and start_s <= end_s):
        return ParsedAnswer(None, "reversed_span")
    return ParsedAnswer(f"{start_s}s-{end_s}s")


def _span_times(value: str) -> tuple[float, float]:
    start, _, end = value.partition("-")
    return float(start.rstrip("s")), float(end.rstrip("s"))


_PARSERS: dict[str, Callable[[str, Question], ParsedAnswer]] = {
    "choice": _parse_choice,
    "text": _parse_text,
    "integer": _parse_integer,
    "yes_no": _parse_yes_no,
    "span": _parse_span,
}
