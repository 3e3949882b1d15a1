"""Tells whether two sides of an equation agree: exactly, rounded, in per cent, on the dial of a clock."""

import re
from fractions import Fraction

from aot.rationales.arithmetic.tokens import PART_WORDS, Amount, Token, is_number

DAY_MINUTES = 24 * 60

_TIMES = frozenset({"*", "×", "·", "x", "times", "of"})
_INEXACT = _TIMES | {"/", "÷", "divided by", "%"}
"""What may leave decimals to be rounded away; sums need no rounding."""
_SCALES = frozenset({"dozen", "hundred", "thousand", "million", "billion", "k", "m", "bn"})
_MEASURES = frozenset({
    "second", "sec", "minute", "min", "hour", "hr", "day", "week", "month", "year", "inch", "inche", "foot", "feet",
    "yard", "mile", "cm", "mm", "km", "meter", "metre", "gram", "kg", "kilogram", "pound", "lb", "ounce", "oz", "ton",
    "cent", "dollar", "quarter", "dime", "nickel", "penny", "euro", "liter", "litre", "ml", "gallon", "quart", "pint",
    "cup",
})  # fmt: skip


def agree(
    true: Amount, stated: Amount, left: tuple[Token, ...], right: tuple[Token, ...], *, is_single: bool
) -> bool | None:
    """Whether the true value of the left side is what the right side states; None where they cannot be compared.

    `is_single` says that the right side is one number, which may be rounded.
    """
    if stated.is_clock:
        return _is_time(true, stated, (*left, *right)) if true.is_clock else None
    if true.is_clock:
        return None
    if true.value == stated.value:
        return True
    if any(token.kind == "clock" for token in left):  # the difference of two times, in minutes or hours, on a dial
        return any((true.value - reading) % (DAY_MINUTES // 2) == 0 for reading in (stated.value, stated.value * 60))
    if not is_single or not any(token.text.casefold() in _INEXACT for token in left):
        return False
    written = next(token.text for token in right if is_number(token))
    scale = Fraction(1)
    if any(token.kind == "percent" for token in right):  # 20% of 50 = 10%, where 10 is meant
        scale = Fraction(100)
    elif _is_in_percent(left):
        scale = Fraction(1, 100)
    return any(_rounds_to(true.value, stated.value * each, written, each) for each in {Fraction(1), scale})


def units_may_differ(tokens: tuple[Token, ...]) -> bool:
    """Whether units may explain why two sides differ: `3 hours + 30 minutes = 3.5 hours`, `2 * 3 dozen = 72`."""
    words = [token.text.casefold() for token in tokens if token.kind in ("word", "per")]
    names = {re.split(r"[/\s]", word)[-1].rstrip("s") for word in words}
    names |= {"dollar" for token in tokens if token.kind == "currency"}
    return bool(names & (_SCALES | PART_WORDS | {"of"})) or len(names & _MEASURES) > 1


def is_ambiguous(tokens: tuple[Token, ...], value: Amount) -> bool:
    """Whether people write this for something else: `25 / 1/3` for 25 divided by a third, `1/4 = 15` for a part."""
    kinds = [token.text if token.kind == "sign" else token.kind for token in tokens]
    fraction = ["number", "/", "number"]
    by_fraction = any(kinds[at : at + 4] == ["/", *fraction] for at in range(len(kinds)))
    return by_fraction or (kinds == fraction and value.value < 1)


def _is_in_percent(left: tuple[Token, ...]) -> bool:
    """Whether a side counts in per cent, so that `%` may be left out of its result.

    A sum of percentages does, `100% - 20%`; a quotient does, `3 / 4 * 100%`; a share, `20% of 50`, does not.
    """
    marks = [token.text.casefold() for token in left]
    if "/" in marks or "÷" in marks:
        is_times_all = marks[-3:-1] in ([sign, "100"] for sign in _TIMES) and marks[-1] == "%"
        factors = marks[:-3] if is_times_all else marks
        return "%" in marks and not _TIMES & set(factors)
    return sum(map(is_number, left)) == marks.count("%") and not _TIMES & set(marks)


def _is_time(true: Amount, stated: Amount, shown: tuple[Token, ...]) -> bool:
    """Whether two times of day are the same.

    They are read on a dial of twelve hours where no hour above 12 is stated, or only one of them says am or pm.
    """
    half_days = (true.value - stated.value) / (DAY_MINUTES // 2)
    suffixes = {"m" in token.text.casefold() for token in shown if token.kind == "clock"}
    on_a_dial = len(suffixes) > 1 or (stated.value < 13 * 60 and suffixes == {False})
    return half_days.denominator == 1 and (half_days.numerator % 2 == 0 or on_a_dial)


def _rounds_to(true: Fraction, stated: Fraction, written: str, scale: Fraction) -> bool:
    """Whether a value rounds to what is written; to a whole number only if its decimals never end.

    Decimals that never end may also be cut: 2/3 is 0.67 or 0.66, and 17/3 is 5 with something left over.
    """
    if true == stated:
        return True
    digits, endless = len(written.partition(".")[2]), not _ends(true)
    units_off = abs(true - stated) / scale * 10**digits
    is_cut = endless and units_off < 1 and abs(stated) < abs(true)
    return is_cut or ((digits > 0 or endless) and units_off * 2 <= 1)


def _ends(value: Fraction) -> bool:
    """Whether the decimals of `value` come to an end."""
    remaining = value.denominator
    for prime in (2, 5):
        while remaining % prime == 0:
            remaining //= prime
    return remaining == 1
