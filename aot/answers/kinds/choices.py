"""Parsers of answers from a closed list, of time spans of a clip, and of short text.

A letter or an option counts only when it is all that the answer says; which option a choice names is never guessed.
"""

import math
import re

from aot.answers.clean import undressed
from aot.answers.finding import LETTER_AND_TEXT, plain
from aot.answers.forms import Grade, ParsedAnswer
from aot.records import Question

RIGHT_IOU = 0.5
"""A time span is right when its intersection over union with the gold span reaches this."""

_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s?s\s?-\s?([0-9]+(?:\.[0-9]+)?)\s?s")
_LETTER = re.compile(r"\(?\s?([A-Za-z])\s?\)?[.:)]?")
_OTHER_LETTER = re.compile(r"\b[A-J]\b|(?<!\w)\(\s?[A-Ja-j]\s?\)|(?<![\w(])[A-Ja-j]\)|\b(?:and|or)\s+[A-Ja-j]\b")
_NEGATION = re.compile(r"n't\b|n’t\b|\b(?:no|not|never|nor|neither|wrong|incorrect|false|instead)\b", re.IGNORECASE)
_JOINING = re.compile(r"(?:and|or|but|then)\b|[,;/&]", re.IGNORECASE)
_OPTION = re.compile(r"(?:option|choice)\s+", re.IGNORECASE)
_MAX_LISTED_CHARS = 200
"""Longer text is no list of letters and no time span; the patterns for those take time square in the length."""
_THERE_IS_NONE = re.compile(
    r"(?:there (?:is|are) )?(no (?:[a-z]+ )?)(solution|answer|value|root|integer)s?(?: exists?)?"
)


def iou(a_start_s: float, a_end_s: float, b_start_s: float, b_end_s: float) -> float:
    """Intersection over union of two time spans; 0 when they do not touch.

    >>> iou(0.0, 2.0, 1.0, 3.0)
    0.3333333333333333
    """
    shared = min(a_end_s, b_end_s) - max(a_start_s, b_start_s)
    whole = max(a_end_s, b_end_s) - min(a_start_s, b_start_s)
    return max(0.0, shared) / whole if whole > 0 else 0.0


def compare_spans(answer: ParsedAnswer, gold: ParsedAnswer) -> Grade:
    """Right when the intersection over union of the two spans reaches RIGHT_IOU."""
    overlap = iou(*_span_times(answer.value or ""), *_span_times(gold.value or ""))
    return Grade("right" if overlap >= RIGHT_IOU else "wrong", "iou", overlap)


def parse_text(answer: str, question: Question) -> ParsedAnswer:
    r"""Short text; case, spaces, the last dot and its dress do not count: `\text{even}` is even.

    `There are no solutions` is `no solution`.
    """
    text = plain(undressed(answer))
    if text in ("\\emptyset", "\\varnothing"):
        return ParsedAnswer("no solution")
    none = _THERE_IS_NONE.fullmatch(text)
    return ParsedAnswer(f"{none[1]}{none[2]}" if none else text)


def parse_letter(answer: str, question: Question) -> ParsedAnswer:
    """One letter, as in B, (B), B. or option B, or a closed letter with its option's text, as in B) fry onion.

    Where the question tells no choices, that text may be any that holds no other letter and denies nothing.
    """
    text = _OPTION.sub("", undressed(answer), count=1)
    letter = _LETTER.fullmatch(text)
    if letter:
        return ParsedAnswer(letter[1].upper())
    labelled = LETTER_AND_TEXT.fullmatch(text)
    if labelled:
        return _labelled((labelled[1] or labelled[2]).upper(), labelled[3], question)
    several = len(re.findall(r"\b[A-Z]\b", text)) > 1
    return ParsedAnswer(None, "several_options" if several else "not_a_letter")


def _labelled(letter: str, text: str, question: Question) -> ParsedAnswer:
    options = [plain(choice) for choice in question.choices]
    if options and {plain(text)} == _option_of(letter, options):
        return ParsedAnswer(letter)
    if _OTHER_LETTER.search(text) or _NEGATION.search(text) or _JOINING.match(text):
        return ParsedAnswer(None, "several_options")
    return ParsedAnswer(None, "letter_contradicts_text") if options else ParsedAnswer(letter)


def parse_choice(answer: str, question: Question) -> ParsedAnswer:
    """An option by its exact text, its letter, or both when they agree; the value is the option's plain text.

    Where letters count (`Question.answer_index`), the value is the letter, and a text that several options share names
    none of them.
    """
    options, letters_count = [plain(choice) for choice in question.choices], question.answer_index is not None
    values = list(question.option_answers) if letters_count else options
    answer = answer if plain(answer) in options else undressed(answer)
    named = {value for value, option in zip(values, options, strict=True) if option == plain(answer)}
    if alone := _LETTER.fullmatch(answer.strip()):
        named = _option_of(alone[1], values) | (set() if letters_count else named)
    elif (both := LETTER_AND_TEXT.fullmatch(answer.strip())) and not named:
        if plain(both[3]) not in options:
            return ParsedAnswer(None, "not_an_option")
        if _option_of(both[1] or both[2], options) != {plain(both[3])}:
            return ParsedAnswer(None, "letter_contradicts_text")
        named = _option_of(both[1] or both[2], values)
    if len(named) == 1:
        return ParsedAnswer(named.pop())
    several = named or _count_options(answer, options) > 1
    return ParsedAnswer(None, "several_options" if several else "not_an_option")


def _option_of(letter: str, options: list[str]) -> set[str]:
    index = ord(letter.upper()) - ord("A")
    return {options[index]} if index < len(options) else set()


def _count_options(answer: str, options: list[str]) -> int:
    text = plain(answer)
    by_text = {option for option in options if re.search(rf"(?<!\w){re.escape(option)}(?!\w)", text)}
    letters = (
        set(re.findall(r"\b([A-Z])\b", answer))
        if len(answer) <= _MAX_LISTED_CHARS and re.fullmatch(r"[\sA-Z,/&.()]*(?:and|or)?[\sA-Z,/&.()]*", answer)
        else set()
    )
    return max(len(by_text), len(letters))


def parse_yes_no(answer: str, question: Question) -> ParsedAnswer:
    """Yes or no alone; true or false instead where the gold answer is one of them, and never mixed."""
    text = plain(undressed(answer))
    pair = {"true", "false"} if plain(question.answer) in ("true", "false") else {"yes", "no"}
    if text in pair:
        return ParsedAnswer(text)
    words = set(re.findall(r"\w+", text))
    return ParsedAnswer(None, "several_options" if pair <= words else "not_yes_or_no")


def parse_span(answer: str, question: Question) -> ParsedAnswer:
    """Start and end of a time span in seconds, as in 2.0s-4.0s."""
    text = plain(answer)
    if len(text) > _MAX_LISTED_CHARS:
        return ParsedAnswer(None, "not_a_span")
    span = _SPAN.fullmatch(text)
    if not span:
        return ParsedAnswer(None, "several_spans" if len(_SPAN.findall(text)) > 1 else "not_a_span")
    start_s, end_s = float(span[1]), float(span[2])
    if not (math.isfinite(end_s) and start_s <= end_s):
        return ParsedAnswer(None, "reversed_span")
    return ParsedAnswer(f"{start_s}s-{end_s}s")


def _span_times(value: str) -> tuple[float, float]:
    start, _, end = value.removesuffix("s").partition("s-")  # a start of 1e-05 has a dash of its own
    return float(start), float(end)
