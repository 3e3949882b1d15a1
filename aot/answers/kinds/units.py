"""The units that amounts are compared in, with exact factors, and the currencies.

A unit outside the table is compared by its own word, so that 5 apples are 5 apples; nothing is rounded.
"""

import re
from fractions import Fraction

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
    unit = _in_table(text)
    if unit:
        return unit
    power, base = _power_of(text)
    unit = _in_table(base) if power > 1 else None
    if unit:
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
    for name in (text, text.casefold(), _singular(text.casefold())):
        if name in _UNITS:
            return _UNITS[name]
    return None


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
