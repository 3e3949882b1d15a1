"""Finds the equations of a text, line by line, and tells whether their sides agree.

They agree exactly, rounded, in per cent, or on the dial of a clock.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from aot.rationales.arithmetic.tokens import (
    PART_WORDS,
    Amount,
    Side,
    Token,
    amount_of,
    computes,
    evaluate,
    evaluated,
    is_number,
    left_side,
    right_side,
    tokens_of,
)

MAX_LINE = 20_000
"""A longer line is not read; it counts as one unreadable equation if it has an equals sign."""
_NOTE = re.compile(r"<<([^<>\n]*)>>")
_BULLET = re.compile(r"\s*(?:[-*•]|\d{1,3}[.)])\s+(?=\S)")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s?\{(\d{1,300})\}\s?\{(\d{1,300})\}")
_LATEX = {"\\times": " * ", "\\cdot": " * ", "\\div": " / ", "\\%": "%", "\\$": "$", "\\!": "", "\\,": ""}
_HALF_DAY_MINUTES = 12 * 60
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


@dataclass(frozen=True)
class Equation:
    """One equality with something to compute on its left side."""

    text: str
    line: int
    """Counted from 0."""
    left: Amount | None
    """The true value of the left side; None when it cannot be read."""
    stated: Amount | None
    """The value of the right side."""
    holds: bool | None
    """None when nobody can tell."""
    operands: tuple[Amount, ...]
    """The numbers of the left side as they are written; empty for the second equality of `a = b = c`."""
    result: Amount | None
    """The right side if it is a single number."""


@dataclass(frozen=True)
class StepCheck:
    """How many equations a text has, and how many of them do not hold."""

    equations: int
    wrong: int
    unreadable: int
    first_wrong: Equation | None = None

    @property
    def right_share(self) -> float | None:
        """The share of readable equations that hold; None when there is none."""
        readable = self.equations - self.unreadable
        return (readable - self.wrong) / readable if readable else None


def check_text(text: str) -> StepCheck:
    r"""How the equations of `text` check.

    >>> check = check_text("12 + 7 = 19.\n19 - 5 = 15.\nx + 2 = 17")
    >>> check.equations, check.wrong, check.unreadable, check.first_wrong.text
    (3, 1, 1, '19 - 5 = 15')
    """
    return check_equations(find_equations(text))


def check_equations(equations: Sequence[Equation]) -> StepCheck:
    """How many of `equations` there are, do not hold, and cannot be read."""
    wrong = [one for one in equations if one.holds is False]
    unreadable = sum(one.holds is None for one in equations)
    return StepCheck(len(equations), len(wrong), unreadable, wrong[0] if wrong else None)


def find_equations(text: str) -> list[Equation]:
    """Every equation of `text` in order; where a line has calculator notes `<<48/2=24>>`, those instead of its prose.

    >>> [(one.text, one.holds) for one in find_equations("Half is 48/2 = <<48/2=24>>24. 24 + 1 = 24")]
    [('48/2=24', True)]
    >>> [one.holds for one in find_equations("10/3 = 3.33, 9:40 + 35 minutes = 10:15, 20% of $1,500 = $300 = 299")]
    [True, True, True]
    """
    equations: list[Equation] = []
    for number, line in enumerate(text.split("\n")):
        if "=" not in line and "≈" not in line:
            continue
        if len(line) > MAX_LINE:
            equations.append(Equation(line[:80], number, None, None, None, (), None))
            continue
        notes = _NOTE.findall(line)
        if notes:
            equations.extend(one for note in notes for one in _equations(_plain(note), number))
        else:
            equations.extend(_line_equations(line, number))
    return equations


def find_amounts(text: str) -> list[Amount]:
    """Every number and time of day of `text` in order, without its sign; one of over MAX_DIGITS digits is left out.

    >>> [str(one.value) for one in find_amounts("At 9:40 he pays $1,200.50 for 3 pens.")]
    ['580', '2401/2', '3']
    """
    tokens = (token for line in text.split("\n") for token in tokens_of(_NOTE.sub(" ", line[:MAX_LINE])))
    amounts = (amount_of(token) for token in tokens if token.kind in ("number", "clock"))
    return [amount for amount in amounts if amount is not None]


def read_amount(text: str) -> Amount | None:
    """The value of a text that is one number, time or expression, with or without a unit; None for any other.

    >>> read_amount("$1,200").value, read_amount("9:40").is_clock, read_amount("Ann")
    (Fraction(1200, 1), True, None)
    """
    tokens = tokens_of(text.strip().rstrip(".")) if len(text) <= MAX_LINE else []
    return evaluated(tuple(tokens)) if tokens else None


def calculated(text: str) -> Amount:
    """The value of an expression.

    >>> calculated("48 / (6 - 2)").value
    Fraction(12, 1)

    Raises:
        ToolError: it cannot be read, divides by zero, or becomes too large; says which.
    """
    return evaluate(tuple(tokens_of(text)))


def _line_equations(line: str, number: int) -> list[Equation]:
    """Those of a line without notes; a dash in front may be a bullet or a minus, so either may make the first hold."""
    bullet = _BULLET.match(line)
    equations = list(_equations(_plain(line[bullet.end() :] if bullet else line), number))
    if bullet and "-" in bullet[0] and equations and equations[0].holds is False:
        signed = next(_equations(_plain(line), number), equations[0])
        equations[0] = signed if signed.holds else equations[0]
    return equations


def _plain(line: str) -> str:
    """`line` with the simplest LaTeX written plainly."""
    if "\\" in line:
        line = _LATEX_FRACTION.sub(r"(\1/\2)", line)
        for old, new in _LATEX.items():
            line = line.replace(old, new)
    return line


def _equations(line: str, number: int) -> Iterator[Equation]:
    tokens = tokens_of(line)
    signs = [at for at, token in enumerate(tokens) if token.kind == "equals"]
    previous: tuple[Token, ...] = ()
    for at in signs:
        left, right = left_side(tokens, at), right_side(tokens, at)
        is_chained = bool(left.tokens) and left.tokens == previous
        previous = right.tokens
        if computes(left):
            shown = right.tokens or (tokens[at],)
            text = line[left.tokens[0].start : shown[-1].end]
            yield _equation(text, number, left, right, is_chained=is_chained)


def _equation(text: str, line: int, left: Side, right: Side, *, is_chained: bool) -> Equation:
    numbers = [token for token in right.tokens if is_number(token)]
    is_single = len(numbers) == 1 and not any(token.text in "*/×÷" for token in right.tokens)
    true = evaluated(left.tokens) if left.is_clean else None
    stated = evaluated(right.tokens) if right.is_clean else None
    holds = None
    if true is not None and stated is not None:
        holds = _agree(true, stated, left.tokens, right.tokens, is_single=is_single)
        shown = (*left.tokens, *right.tokens, *right.beside)
        if holds is False and (_units_may_differ(shown) or _is_ambiguous(left.tokens, true)):
            holds = None
    amounts = [] if is_chained else [amount_of(token) for token in left.tokens if is_number(token)]
    operands = tuple(amount for amount in amounts if amount is not None)
    return Equation(text, line, true, stated, holds, operands, stated if is_single else None)


def _agree(
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
        return any((true.value - reading) % _HALF_DAY_MINUTES == 0 for reading in (stated.value, stated.value * 60))
    if not is_single or not any(token.text.casefold() in _INEXACT for token in left):
        return False
    written = next(token.text for token in right if is_number(token))
    scale = Fraction(1)
    if any(token.kind == "percent" for token in right):  # 20% of 50 = 10%, where 10 is meant
        scale = Fraction(100)
    elif _is_in_percent(left):
        scale = Fraction(1, 100)
    return any(_rounds_to(true.value, stated.value * each, written, each) for each in {Fraction(1), scale})


def _units_may_differ(tokens: tuple[Token, ...]) -> bool:
    """Whether units may explain why two sides differ: `3 hours + 30 minutes = 3.5 hours`, `2 * 3 dozen = 72`."""
    words = [token.text.casefold() for token in tokens if token.kind in ("word", "per")]
    names = {re.split(r"[/\s]", word)[-1].rstrip("s") for word in words}
    names |= {"dollar" for token in tokens if token.kind == "currency"}
    return bool(names & (_SCALES | PART_WORDS | {"of"})) or len(names & _MEASURES) > 1


def _is_ambiguous(tokens: tuple[Token, ...], value: Amount) -> bool:
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
    half_days = (true.value - stated.value) / _HALF_DAY_MINUTES
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
    return pow(10, value.denominator.bit_length(), value.denominator) == 0  # no prime factors but 2 and 5
