"""Parsers and comparisons of amounts: money, quantities with a unit, durations.

An answer without its unit or currency is never assumed to mean the gold's. Units are converted exactly; one outside the
table is compared by its own word, so that 5 apples are 5 apples. This module rounds nothing and knows no exchange rate.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from aot.answers.clean import undressed
from aot.answers.exact import exact_number
from aot.answers.forms import DIFFERENT, Grade, ParsedAnswer
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

_TABLE: dict[str, dict[str, str]] = {
    "length": {  # metres; the international inch is 2.54 cm exactly
        "nm nanometer nanometre": "0.000000001", "um µm μm micrometer micrometre": "0.000001",
        "mm millimeter millimetre": "0.001", "cm centimeter centimetre": "0.01", "dm decimeter decimetre": "0.1",
        "m meter metre": "1", "km kilometer kilometre": "1000", "Mm megameter megametre": "1000000",
        "in inch inches": "0.0254", "ft foot feet": "0.3048", "yd yard": "0.9144", "mi mile": "1609.344",
    },
    "mass": {  # kilograms; the avoirdupois pound is 0.45359237 kg exactly
        "mg milligram": "0.000001", "g gram gramme": "0.001", "kg kilogram kilo": "1", "Mg megagram": "1000",
        "t tonne": "1000", "lb pound": "0.45359237", "oz ounce": "0.028349523125",
    },
    "time": {  # seconds
        "ms millisecond": "0.001", "s sec second": "1", "min minute": "60", "h hr hour": "3600", "d day": "86400",
        "wk week": "604800", "fortnight": "1209600",
    },
    "months": {"month mo": "1", "yr year": "12", "decade": "120", "century centuries": "1200"},
    "length^3": {  # cubic metres
        "ml mL milliliter millilitre": "0.000001", "cl cL centiliter centilitre": "0.00001",
        "dl dL deciliter decilitre": "0.0001", "l L liter litre": "0.001", "ML megaliter megalitre": "1000",
    },
    "length per time": {"kph kmh": "5/18", "mph": "0.44704"},
    "celsius": {"°C degC degree_celsius celsius": "1"},
    "fahrenheit": {"°F degF degree_fahrenheit fahrenheit": "1"},
    "angle": {"° deg degree": "1"},
}  # fmt: skip
_UNITS = {
    name.replace("_", " "): (dimension, Fraction(factor))
    for dimension, units in _TABLE.items()
    for names, factor in units.items()
    for name in names.split()
}
_POWERS = {"square": 2, "sq": 2, "sq.": 2, "cubic": 3, "squared": 2, "cubed": 3}
_POWER_MARK = re.compile(r"\s?(?:\^\s?\{?([23])\}?|([²³])|(?<=[a-z])([23]))$")
_UNKNOWN = re.compile(r"[^\W\d_]+(?:[ -][^\W\d_]+){0,3}")
_JOINING_WORDS = frozenset({"or", "and", "to", "by", "minus", "plus", "about", "of"})

CURRENCIES: dict[str, str] = {
    "$": "$", "us$": "$", "usd": "$", "dollar": "$", "dollars": "$", "buck": "$", "bucks": "$",
    "€": "€", "eur": "€", "euro": "€", "euros": "€", "£": "£", "gbp": "£", "pound": "£", "pounds": "£",
    "¥": "¥", "jpy": "¥", "yen": "¥", "₹": "₹", "inr": "₹", "rs": "₹", "rs.": "₹", "rupee": "₹", "rupees": "₹",
    "chf": "chf", "cad": "c$", "c$": "c$", "aud": "a$", "a$": "a$", "cny": "cny", "yuan": "cny",
}  # fmt: skip
SMALL_COINS: dict[str, str] = {
    "cent": "$", "cents": "$", "¢": "$", "euro cent": "€", "euro cents": "€", "penny": "£", "pence": "£", "p": "£",
}  # fmt: skip
"""A hundredth of which currency; a bare cent is the dollar's."""


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
        number, after = words[1], words[2].casefold().removeprefix("us ")
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
    if amount := _quantity(text, minutes=False):
        return ParsedAnswer(f"{amount.value} {amount.dimension}")
    return ParsedAnswer(None, "no_unit" if exact_number(text) is not None else "not_a_quantity")


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
    if amount and amount.dimension in ("time", "months"):
        return ParsedAnswer(f"{amount.value} {amount.dimension}")
    return ParsedAnswer(None, "no_unit" if exact_number(text) is not None else "not_a_duration")


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
    if single := _single(text, minutes=minutes):
        return single
    glued = re.sub(r"(?<=[a-z])(?=[0-9])", " ", text) if minutes else text
    pieces = [_single(piece, minutes=minutes) for piece in _UNIT_THEN_DIGIT.split(glued)]
    amounts = [piece for piece in pieces if piece]
    if not 2 <= len(pieces) == len(amounts) or any(piece.value < 0 for piece in amounts):
        return None
    if len({piece.dimension for piece in amounts}) > 1:
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


def unit_of(text: str) -> tuple[str, Fraction] | None:
    """Dimension of a unit and its factor to the dimension's base unit; None if `text` cannot be a unit.

    >>> unit_of("cm"), unit_of("square meters")
    (('length', Fraction(1, 100)), ('length^2', Fraction(1, 1)))
    """
    text = " ".join(text.replace("degrees ", "degree ").split()).rstrip(".")
    above, per, below = _split_per(text)
    if per:
        top, bottom = unit_of(above), unit_of(below)
        return None if top is None or bottom is None else (f"{top[0]} per {bottom[0]}", top[1] / bottom[1])
    if unit := _in_table(text):
        return unit
    power, base = _power_of(text)
    if power > 1 and (unit := _in_table(base)):
        return f"{unit[0]}^{power}", unit[1] ** power
    words = text.casefold()
    if not _UNKNOWN.fullmatch(text) or _JOINING_WORDS & set(words.split()):
        return None
    return _singular(words), Fraction(1)


def is_known_unit(text: str) -> bool:
    """Whether `text` is a unit of the table, a power of one, an angle, a share of a hundred or a bare `units`."""
    words = text.casefold().removeprefix("square ").removeprefix("cubic ").removeprefix("sq ")
    if words in ("unit", "units", "percent", "°") or (words in CURRENCIES and len(words) > 1):
        return True
    return unit_of(text) is not None and (_in_table(text) or _in_table(_power_of(text)[1])) is not None


def _in_table(text: str) -> tuple[str, Fraction] | None:
    names = (text, text.casefold(), _singular(text.casefold()))
    return next((_UNITS[name] for name in names if name in _UNITS), None)


def _split_per(text: str) -> tuple[str, str, str]:
    for mark in (" per ", " / ", "/"):
        above, separator, below = text.partition(mark)
        if separator and above and below:
            return above.strip(), separator, below.strip()
    return text, "", ""


def _power_of(text: str) -> tuple[int, str]:
    first, _, base = text.partition(" ")
    if first.casefold() in _POWERS and base:
        return _POWERS[first.casefold()], base
    before, _, last = text.rpartition(" ")
    if last.casefold() in _POWERS and before:
        return _POWERS[last.casefold()], before
    mark = _POWER_MARK.search(text)
    if mark:
        return int((mark[1] or mark[2] or mark[3]).translate({0xB2: "2", 0xB3: "3"})), text[: mark.start()]
    return 1, text


def _singular(word: str) -> str:
    if word.endswith(("xes", "ches", "shes", "sses")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word
