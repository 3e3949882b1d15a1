r"""Parsers and comparisons of plain numbers: integer, decimal, fraction, number, percent.

All compare by exact value; whether a decimal that only rounds to the gold is right, nobody can tell. A number with
anything besides it (a unit, a second number, "about") is never trimmed to fit.
"""

import re
from fractions import Fraction

from aot.answers.clean import undressed
from aot.answers.exact import NUMBER_WORDS, exact_number, why_no_number
from aot.answers.finding import plain
from aot.answers.forms import DIFFERENT, Grade, ParsedAnswer
from aot.records import Question

_PERCENT_SIGN = re.compile(r"\s?(?:%|percent|per cent|pct\.?)$", re.IGNORECASE)
_HYPHENED = re.compile(r"(?<=[0-9])-(?=([0-9]+)/([0-9]+)$)")
_TIMES = re.compile(r"\stimes?$", re.IGNORECASE)


def parse_integer(answer: str, question: Question) -> ParsedAnswer:
    """A whole number in digits or words, `twice` and `3 times` too; 36.0 is 36, and a value with a part is kept."""
    text = _TIMES.sub("", " ".join(undressed(answer).split()).rstrip(". "))
    word = NUMBER_WORDS.get(plain(text)) if text[:1].isalpha() else None
    if word is not None:
        return ParsedAnswer(str(word))
    if "/" in text or "\\frac" in text:
        return ParsedAnswer(None, "several_numbers")
    return _parsed(exact_number(text), text)


def parse_number(answer: str, question: Question) -> ParsedAnswer:
    """A number of any form by its exact value: 0.5, 1/2, 50e-2, one half, and 3-1/2 as carpenters write 3 1/2."""
    text = undressed(answer)
    text = _HYPHENED.sub(" ", text.rstrip(". ")) if "/" in text and "-" in text else text
    return _parsed(exact_number(text), text)


def parse_percent(answer: str, question: Question) -> ParsedAnswer:
    """A number of per cent, with or without its sign: a bare 50 is 50%, and so 0.5 is half a per cent."""
    text = undressed(answer).rstrip(". ")
    number, signs = _PERCENT_SIGN.subn("", text)
    if not signs and not re.search("[0-9]", text):
        return ParsedAnswer(None, "not_a_percentage")
    return _parsed(exact_number(number), text)


def compare_percents(answer: ParsedAnswer, gold: ParsedAnswer) -> Grade:
    """Whether a bare 0.5 for 50% is a half or half a per cent, nobody can tell."""
    bare = not _PERCENT_SIGN.search(answer.written.rstrip(". "))
    part = bare and 100 * Fraction(answer.value or 0) == Fraction(gold.value or 0)
    return Grade("cannot_tell", "percent_or_part") if part else DIFFERENT


def compare_decimals(answer: ParsedAnswer, gold: ParsedAnswer) -> Grade:
    """A more exact answer that rounds to the gold is `rounds_to_gold`.

    Nobody can tell whether the gold was rounded: 0.125 is an eighth or the short form of 0.1254.
    """
    digits = _digits_after_point(gold.written)
    more_exact = not _is_decimal(answer.written) or _digits_after_point(answer.written) > digits
    scale = 10**digits
    rounded = _round_half_away(Fraction(answer.value or 0) * scale)
    if not digits or not more_exact or rounded != Fraction(gold.value or 0) * scale:
        return DIFFERENT
    return Grade("cannot_tell", "rounds_to_gold")


def _parsed(value: Fraction | None, text: str) -> ParsedAnswer:
    return ParsedAnswer(None, why_no_number(text)) if value is None else ParsedAnswer(str(value), written=text)


def _is_decimal(text: str) -> bool:
    return re.fullmatch(r"[+-]?\s?[0-9,]*\.?[0-9]*", text) is not None


def _digits_after_point(text: str) -> int:
    return len(text.rstrip(". ").partition(".")[2]) if _is_decimal(text) else 0


def _round_half_away(value: Fraction) -> int:
    doubled = abs(value) * 2 + 1
    whole = int(doubled) // 2
    return -whole if value < 0 else whole
