"""Parsers and comparisons of amounts: money, quantities with a unit, durations.

An answer without its unit or currency is never assumed to mean the gold's. This module converts units exactly and
knows no exchange rate.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from aot.answers.clean import undressed
from aot.answers.exact import exact_number
from aot.answers.forms import DIFFERENT, Grade, ParsedAnswer
from aot.answers.kinds.units import CURRENCIES, SMALL_COINS, unit_of
from aot.records import Question

_MAX_CHARS = 400
_AROUND = re.compile(r"([-+]?)\s?([A-Za-z]{0,3}[$€£¥₹]|[A-Za-z]{2,3}\.?(?=[\s0-9]))?\s?(.*[^\s$€£¥₹¢]|)\s?([$€£¥₹¢]?)")
_TRAILING_WORDS = re.compile(r"(.*?)\s?((?:euro |us )?[A-Za-z]+)", re.IGNORECASE)
_GLUED = re.compile(r"(?<=[0-9])(?=(?!e[+-]?[0-9])[A-Za-z°µμ])|(?<=[0-9]/)$", re.IGNORECASE)
_UNIT_THEN_DIGIT = re.compile(r"(?<=[a-z.,])\s*(?:,|\band\b|\s)\s*(?=[0-9])|\s*,?\s+and\s+|\s*,\s+(?=an?\s|[a-z]+\s)")
_HALF = re.compile(r"^half\s+(?:an?|of an?)\s+")
_AND_A_HALF = re.compile(r"^(\S+) ([a-z]+) and a half$")
_CLOCK_LIKE = re.compile(r"(?:([0-9]+) days?, )?([0-9]{1,5}):([0-5][0-9]):([0-5][0-9](?:\.[0-9]{1,9})?)")
_TWO_PARTS = re.compile(r"([0-9]{1,5}):([0-5][0-9])")


@dataclass(frozen=True)
class _Amount:
    """So much of one dimension."""

    dimension: str
    value: Fraction
    """In the base unit."""
    unit: Fraction
    """The smallest unit it was written in, in the base unit."""


def parse_money(answer: str, question: Question) -> ParsedAnswer:
    """An amount with its currency as sign, code or word; the value begins with the currency, empty if none is given."""
    text = undressed(answer).rstrip(". ")
    parts = _AROUND.fullmatch(text) if len(text) <= _MAX_CHARS else None
    if not parts:
        return ParsedAnswer(None, "not_money")
    sign, before, number, after = parts[1], (parts[2] or "").casefold(), parts[3], parts[4]
    words = _TRAILING_WORDS.fullmatch(number)
    amount = exact_number(number)
    if amount is None and words and not after:
        number, after = words[1], words[2].casefold()
        after = after.removeprefix("us ") if after.startswith("us ") else after
        amount = exact_number(number)
    if before and after in SMALL_COINS:
        return ParsedAnswer(None, "not_money")
    currencies = {CURRENCIES.get(name, SMALL_COINS.get(name, "?")) for name in (before, after) if name}
    if amount is None or len(currencies) > 1 or "?" in currencies or (sign and number.startswith(("-", "+"))):
        return ParsedAnswer(None, "not_money")
    amount = -amount if sign == "-" else amount
    amount = amount / 100 if after in SMALL_COINS else amount
    return ParsedAnswer(f"{currencies.pop() if currencies else ''} {amount}")


def compare_money(answer: ParsedAnswer, gold: ParsedAnswer) -> Grade:
    """Where only one of the two tells its currency, nobody can tell."""
    currency, _, amount = (answer.value or "").partition(" ")
    gold_currency, _, gold_amount = (gold.value or "").partition(" ")
    if gold_currency and not currency:
        return Grade("cannot_tell", "no_currency")
    if gold_currency and currency != gold_currency:
        return Grade("wrong", "other_currency")
    is_only_there = amount == gold_amount and currency and not gold_currency
    return Grade("cannot_tell", "currency_not_in_gold") if is_only_there else DIFFERENT


def parse_quantity(answer: str, question: Question) -> ParsedAnswer:
    """A number with its unit, in the base unit of its dimension; a bare number is `no_unit`.

    Several are summed where each has a smaller unit than the one before: 5 ft 6 in, and not 3 apples and 4 apples.
    """
    text = _spaced(undressed(answer))
    amount = _quantity(text, minutes=False)
    if amount is None:
        return ParsedAnswer(None, "no_unit" if exact_number(text) is not None else "not_a_quantity")
    return ParsedAnswer(f"{amount.value} {amount.dimension}")


def compare_quantities(answer: ParsedAnswer, gold: ParsedAnswer) -> Grade:
    """Another dimension is `other_unit`.

    There are three tons, so that a ton is compared with tons only.
    """
    dimensions = {(side.value or "").partition(" ")[2] for side in (answer, gold)}
    if dimensions == {"ton", "mass"}:
        return Grade("cannot_tell", "which_ton")
    return Grade("wrong", "other_unit") if len(dimensions) > 1 else DIFFERENT


def parse_duration(answer: str, question: Question) -> ParsedAnswer:
    """A length of time in seconds (years in months): `1 h 30 min`, `1:30:00`, `half an hour`.

    `1:30` may be hours or minutes, so that its value keeps its form.
    """
    text = _spaced(undressed(answer)).casefold().rstrip(". ")
    if clock := _CLOCK_LIKE.fullmatch(text):
        days, hours, minutes = (int(group or 0) for group in clock.groups()[:3])
        return ParsedAnswer(f"{days * 86400 + hours * 3600 + minutes * 60 + Fraction(clock[4])} time")
    if two := _TWO_PARTS.fullmatch(text):
        return ParsedAnswer(f"{int(two[1])}:{two[2]}")
    text = _AND_A_HALF.sub(lambda both: f"{'one' if both[1] in ('a', 'an') else both[1]} and a half {both[2]}", text)
    amount = _quantity(_HALF.sub("1/2 ", text), minutes=True)
    if amount is None or amount.dimension not in ("time", "months"):
        return ParsedAnswer(None, "no_unit" if exact_number(text) is not None else "not_a_duration")
    return ParsedAnswer(f"{amount.value} {amount.dimension}")


def compare_durations(answer: ParsedAnswer, gold: ParsedAnswer) -> Grade:
    """`1:30` can be compared only with its like."""
    ambiguous = [":" in (side.value or "") for side in (answer, gold)]
    return Grade("cannot_tell", "hours_or_minutes") if ambiguous[0] != ambiguous[1] else DIFFERENT


def _spaced(text: str) -> str:
    return " ".join(_GLUED.sub(" ", text[: _MAX_CHARS + 1]).split())


def _quantity(text: str, *, minutes: bool) -> _Amount | None:
    """`5 ft 6 in` and the like as one; None unless the pieces share a dimension and each has a smaller unit."""
    if len(text) > _MAX_CHARS:
        return None
    single = _single(text, minutes=minutes)
    if single:
        return single
    glued = re.sub(r"(?<=[a-z])(?=[0-9])", " ", text) if minutes else text
    pieces = [_single(piece, minutes=minutes) for piece in _UNIT_THEN_DIGIT.split(glued)]
    if len(pieces) < 2 or None in pieces:
        return None
    amounts = [piece for piece in pieces if piece]
    if len({piece.dimension for piece in amounts}) > 1 or any(piece.value < 0 for piece in amounts):
        return None
    if any(later.unit >= earlier.unit for earlier, later in pairwise(amounts)):
        return None
    return _Amount(amounts[0].dimension, sum((piece.value for piece in amounts), Fraction(0)), amounts[-1].unit)


def _single(text: str, *, minutes: bool) -> _Amount | None:
    words = text.strip().split(" ")
    for split in range(len(words) - 1, 0, -1):
        number = " ".join(words[:split])
        value = Fraction(1) if number.casefold() in ("a", "an") else exact_number(number)
        if value is not None:
            name = " ".join(words[split:])
            unit = unit_of("min" if minutes and name == "m" else name)
            return _Amount(unit[0], unit[1] * value, unit[1]) if unit else None
    return None
