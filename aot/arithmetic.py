"""Finds the equations of a text and checks each one exactly: `48/2 = 24`, `10:20 + 50 minutes = 11:10`, GSM8K notes.

It knows no question and no answer, and nothing of algebra: a letter that stands for a number, a power or LaTeX beyond
plain fractions makes an equation unreadable, never wrong. Nothing is evaluated by Python, nothing raises on any text,
and the time is linear in its length.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

MAX_DIGITS = 300
MAX_LINE = 20_000
"""A longer line is not read; it counts as one unreadable equation if it has an equals sign."""
MAX_TOKENS = 400
"""In one side of an equation."""
MAX_DEPTH = 40
MAX_BITS = 8192
"""Of any intermediate value, numerator and denominator together."""
DAY_MINUTES = 24 * 60

_NOTE = re.compile(r"<<([^<>\n]*)>>")
_BULLET = re.compile(r"\s*(?:[-*•]|\d{1,3}[.)])\s+(?=\S)")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s?\{(\d{1,300})\}\s?\{(\d{1,300})\}")
_LATEX = {"\\times": " * ", "\\cdot": " * ", "\\div": " / ", "\\%": "%", "\\$": "$", "\\!": "", "\\,": ""}
_TOKEN = re.compile(
    r"(?P<clock>(?<![\d:.])\d{1,2}:[0-5]\d(?![\d:])(?:\s?[ap]\.?m\b\.?)?)"
    r"|(?P<number>\d+(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"|(?P<per>/\s?(?:an?\s)?[A-Za-z]+)"
    r"|(?P<spoken>(?:[xX]|times|plus|minus|of|divided by)(?=\s{0,3}[\d.$(]))"
    r"|(?P<word>[^\W\d_]+(?:['’-][^\W\d_]+)*)"
    r"|(?P<relation>[<>!=]=|=>|[<>≠≤≥])"
    r"|(?P<equals>[=≈])"
    r"|(?P<sign>[-+*/×÷·−–])"
    r"|(?P<open>\()|(?P<close>\))|(?P<percent>%)|(?P<currency>[$€£])|(?P<other>\S)",
    re.IGNORECASE,
)
_OPERATORS = {
    "×": "*", "·": "*", "x": "*", "times": "*", "of": "*", "÷": "/", "divided by": "/", "−": "-", "–": "-",
    "plus": "+", "minus": "-",
}  # fmt: skip
_INEXACT = frozenset({"*", "×", "·", "x", "times", "of", "/", "÷", "divided by", "%"})
"""What may leave decimals to be rounded away; sums need no rounding."""
_CLEAN_BREAKS = frozenset(",.;:?!\"'…•")
"""Marks that part a sentence; beside any other one, such as `^`, a number means more than it says."""
_PARTS = frozenset({
    "half", "third", "quarter", "fourth", "fifth", "double", "twice", "triple", "thrice", "square", "squared", "sqrt",
})  # fmt: skip
_NO_UNITS = frozenset({"and", "or", "so", "is", "are", "was", "then", "but", "which", "because", "has", "have", "that"})
_SCALES = frozenset({"dozen", "hundred", "thousand", "million", "billion", "k", "m", "bn"})
_MEASURES = frozenset({
    "second", "sec", "minute", "min", "hour", "hr", "day", "week", "month", "year", "inch", "inche", "foot", "feet",
    "yard", "mile", "cm", "mm", "km", "meter", "metre", "gram", "kg", "kilogram", "pound", "lb", "ounce", "oz", "ton",
    "cent", "dollar", "quarter", "dime", "nickel", "penny", "euro", "liter", "litre", "ml", "gallon", "quart", "pint",
    "cup",
})  # fmt: skip


@dataclass(frozen=True)
class Amount:
    """A number, or a time of day in minutes from midnight."""

    value: Fraction
    is_clock: bool = False


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


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class _Side:
    """One side of an equals sign."""

    tokens: tuple[_Token, ...]
    is_clean: bool
    """False where what stands beside it makes it mean something else."""
    beside: tuple[_Token, ...] = ()
    """The word behind a right side, which may be its unit."""


class _Unreadable(Exception):
    """An expression is not arithmetic that we read."""


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
    found: list[Equation] = []
    for number, line in enumerate(text.split("\n")):
        if "=" not in line and "≈" not in line:
            continue
        if len(line) > MAX_LINE:
            found.append(Equation(line[:80], number, None, None, None, (), None))
            continue
        notes = _NOTE.findall(line)
        for part in notes or [_BULLET.sub("", line, count=1) if _BULLET.match(line) else line]:
            found.extend(_equations(_plain(part), number))
    return found


def find_amounts(text: str) -> list[Amount]:
    """Every number and time of day of `text` in order, without its sign; one of over MAX_DIGITS digits is left out.

    >>> [str(one.value) for one in find_amounts("At 9:40 he pays $1,200.50 for 3 pens.")]
    ['580', '2401/2', '3']
    """
    tokens = (token for line in text.split("\n") for token in _tokens(_NOTE.sub(" ", line[:MAX_LINE])))
    amounts = (_amount(token) for token in tokens if token.kind in ("number", "clock"))
    return [amount for amount in amounts if amount is not None]


def read_amount(text: str) -> Amount | None:
    """The value of a text that is one number, time or expression, with or without a unit; None for any other.

    >>> read_amount("$1,200").value, read_amount("9:40").is_clock, read_amount("Ann")
    (Fraction(1200, 1), True, None)
    """
    tokens = _tokens(text.strip().rstrip(".")) if len(text) <= MAX_LINE else []
    return _evaluated(tuple(tokens)) if tokens else None


def _plain(line: str) -> str:
    """`line` with the simplest LaTeX written plainly."""
    if "\\" in line:
        line = _LATEX_FRACTION.sub(r"(\1/\2)", line)
        for old, new in _LATEX.items():
            line = line.replace(old, new)
    return line


def _tokens(line: str) -> list[_Token]:
    return [_Token(str(found.lastgroup), found[0], *found.span()) for found in _TOKEN.finditer(line)]


def _equations(line: str, number: int) -> Iterator[Equation]:
    tokens = _tokens(line)
    signs = [at for at, token in enumerate(tokens) if token.kind == "equals"]
    previous: tuple[_Token, ...] = ()
    for at in signs:
        left, right = _left_side(tokens, at), _right_side(tokens, at)
        is_chained = bool(left.tokens) and left.tokens == previous
        previous = right.tokens
        if _computes(left):
            shown = right.tokens or (tokens[at],)
            text = line[left.tokens[0].start : shown[-1].end]
            yield _equation(text, number, left, right, is_chained=is_chained)


def _computes(side: _Side) -> bool:
    """Whether there is something to compute; a sign in front is no computation, unless something is hidden there."""
    later = side.tokens[side.is_clean :]
    computed = any(token.kind in ("sign", "spoken") or _is_letter(token) for token in later)
    computed |= any(_is_number(a) and b.kind == "open" for a, b in pairwise(side.tokens))
    return computed and any(map(_is_number, side.tokens))


def _equation(text: str, line: int, left: _Side, right: _Side, *, is_chained: bool) -> Equation:
    numbers = [token for token in right.tokens if _is_number(token)]
    is_single = len(numbers) == 1 and not any(token.text in "*/×÷" for token in right.tokens)
    true = _evaluated(left.tokens) if left.is_clean else None
    stated = _evaluated(right.tokens) if right.is_clean else None
    holds = None
    if true is not None and stated is not None:
        holds = _agree(true, stated, left.tokens, right.tokens, is_single=is_single)
        shown = (*left.tokens, *right.tokens, *right.beside)
        if holds is False and (_units_may_differ(shown) or _is_ambiguous(left.tokens, true)):
            holds = None
    amounts = [] if is_chained else [_amount(token) for token in left.tokens if _is_number(token)]
    operands = tuple(amount for amount in amounts if amount is not None)
    return Equation(text, line, true, stated, holds, operands, stated if is_single else None)


def _left_side(tokens: list[_Token], at: int) -> _Side:
    """What stands before the equals sign at `at`, as far back as it is arithmetic."""
    start, depth = at, 0
    while start > 0 and at - start <= MAX_TOKENS:
        token = tokens[start - 1]
        depth += (token.kind == "close") - (token.kind == "open")
        if depth < 0 or not _belongs(tokens, start - 1):
            break
        start -= 1
    own = tuple(tokens[start:at])
    start -= start > 1 and tokens[start - 1].text.casefold() == "of"  # to the word of `half of 48 + 2`
    before = tokens[start - 1] if start else None
    is_sign = bool(own) and own[0].kind in ("sign", "spoken")
    if len(own) > MAX_TOKENS or (before is not None and not _parts(before)):
        return _Side(own, False)
    if own and before is not None and before.kind == "word":
        return _Side(own, not is_sign and before.text.casefold().rstrip("s") not in _PARTS)
    return _Side(own, not is_sign or own[0].text in "-−–")


def _right_side(tokens: list[_Token], at: int) -> _Side:
    """What stands behind the equals sign at `at`, as far as it is arithmetic."""
    end, depth = at + 1, 0
    while end < len(tokens) and end - at <= MAX_TOKENS:
        token = tokens[end]
        depth += (token.kind == "open") - (token.kind == "close")
        if depth < 0 or not _belongs(tokens, end) or token.text.casefold() in ("of", "divided by"):
            break
        end += 1
    after = tokens[end] if end < len(tokens) else None
    while end > at + 1 and tokens[end - 1].kind in ("sign", "currency"):
        end -= 1
    beside = (after,) if after is not None and after.kind == "word" else ()
    hides_letter = any(_is_letter(token) and token.text not in "aAI" for token in beside)
    is_clean = after is None or (_parts(after) and not hides_letter)
    return _Side(tuple(tokens[at + 1 : end]), is_clean and end - at <= MAX_TOKENS, beside)


def _belongs(tokens: list[_Token], at: int) -> bool:
    """Whether the token is part of an expression: a number, a mark of arithmetic, or the unit of what precedes it."""
    token = tokens[at]
    if token.kind == "spoken" and token.text.casefold() == "of":
        return at > 0 and (_is_number(tokens[at - 1]) or tokens[at - 1].kind in ("percent", "close"))
    if token.text.casefold() in _NO_UNITS:
        return False
    if token.kind != "word":
        return token.kind not in ("equals", "relation", "other")
    before, after = at - 1, at + 1
    while before >= 0 and tokens[before].kind == "word" and at - before < 3:
        before -= 1
    while after < len(tokens) and tokens[after].kind == "word" and after - at < 3:
        after += 1
    follows = before >= 0 and (_is_number(tokens[before]) or tokens[before].kind in ("percent", "close", "per"))
    return follows and after < len(tokens) and tokens[after].kind in ("sign", "spoken", "equals", "close", "per")


def _parts(token: _Token) -> bool:
    """Whether an expression may end beside this token and still mean what it says."""
    return token.kind != "other" or token.text in _CLEAN_BREAKS


def _is_number(token: _Token) -> bool:
    return token.kind in ("number", "clock")


def _is_letter(token: _Token) -> bool:
    """Whether the token is a single letter, which may stand for a number."""
    return token.kind in ("word", "per") and len(re.split(r"[/\s]", token.text)[-1]) == 1


def _units_may_differ(tokens: tuple[_Token, ...]) -> bool:
    """Whether units may explain why two sides differ: `3 hours + 30 minutes = 3.5 hours`, `2 * 3 dozen = 72`."""
    words = [token.text.casefold() for token in tokens if token.kind in ("word", "per")]
    names = {re.split(r"[/\s]", word)[-1].rstrip("s") for word in words}
    names |= {"dollar" for token in tokens if token.kind == "currency"}
    return bool(names & (_SCALES | _PARTS | {"of"})) or len(names & _MEASURES) > 1


def _is_ambiguous(tokens: tuple[_Token, ...], value: Amount) -> bool:
    """Whether people write this for something else: `25 / 1/3` for 25 divided by a third, `1/4 = 15` for a part."""
    kinds = [token.text if token.kind == "sign" else token.kind for token in tokens]
    fraction = ["number", "/", "number"]
    by_fraction = any(kinds[at : at + 4] == ["/", *fraction] for at in range(len(kinds)))
    return by_fraction or (kinds == fraction and value.value < 1)


def _agree(
    true: Amount, stated: Amount, left: tuple[_Token, ...], right: tuple[_Token, ...], *, is_single: bool
) -> bool | None:
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
    written = next(token.text for token in right if _is_number(token))
    has_percent = any(token.kind == "percent" for token in (*left, *right))
    scales = (Fraction(1), Fraction(100), Fraction(1, 100)) if has_percent else (Fraction(1),)
    return any(_rounds_to(true.value, stated.value * scale, written, scale) for scale in scales)


def _is_time(true: Amount, stated: Amount, shown: tuple[_Token, ...]) -> bool:
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
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def _amount(token: _Token) -> Amount | None:
    if token.kind == "clock":
        hours, _, minutes = token.text.partition(":")
        suffix = minutes[2:].strip().casefold()
        hour = int(hours) % 12 + 12 * suffix.startswith("p") if suffix else int(hours)
        return Amount(Fraction(hour * 60 + int(minutes[:2])), is_clock=True) if hour <= 24 else None
    if len(token.text) > MAX_DIGITS or (token.text[0] == "0" and token.text[1:2].isdigit()):
        return None  # too long, or a code such as 0730
    whole, _, part = token.text.replace(",", "").partition(".")
    return Amount(Fraction(int(f"{whole}{part}"), 10 ** len(part)) if part else Fraction(int(whole)))


def _evaluated(tokens: tuple[_Token, ...]) -> Amount | None:
    try:
        return _Reader(tokens).whole()
    except _Unreadable:
        return None


class _Reader:
    """Reads one expression from left to right: sums of products of signed numbers and parentheses."""

    def __init__(self, tokens: tuple[_Token, ...]) -> None:
        self._tokens = [token for token in tokens if token.kind != "currency"]
        self._has_clock = any(token.kind == "clock" for token in tokens)
        self._at = 0

    def whole(self) -> Amount:
        """The value of all tokens together."""
        value = self._sum(0)
        if self._at < len(self._tokens):
            raise _Unreadable
        return value

    def _sum(self, depth: int) -> Amount:
        value = self._product(depth)
        while (sign := self._sign()) in ("+", "-"):
            self._at += 1
            value = _added(value, self._product(depth), negative=sign == "-")
        return value

    def _product(self, depth: int) -> Amount:
        value = self._factor(depth)
        while (sign := self._sign()) in ("*", "/") or self._kind() == "open":
            self._at += sign in ("*", "/")
            value = _multiplied(value, self._factor(depth), divide=sign == "/")
        return value

    def _factor(self, depth: int) -> Amount:
        negative = False
        while (sign := self._sign()) in ("+", "-"):
            negative ^= sign == "-"
            self._at += 1
        value = self._primary(depth)
        while self._kind() in ("percent", "word", "per"):
            value = self._with_unit(value)
        if negative and value.is_clock:
            raise _Unreadable
        return Amount(-value.value) if negative else value

    def _primary(self, depth: int) -> Amount:
        kind = self._kind()
        if kind not in ("number", "clock", "open") or depth > MAX_DEPTH:
            raise _Unreadable
        self._at += 1
        if kind != "open":
            amount = _amount(self._tokens[self._at - 1])
            if amount is None:
                raise _Unreadable
            return amount
        value = self._sum(depth + 1)
        if self._kind() != "close":
            raise _Unreadable
        self._at += 1
        return value

    def _with_unit(self, value: Amount) -> Amount:
        token = self._tokens[self._at]
        self._at += 1
        if token.kind == "percent":
            return _multiplied(value, Amount(Fraction(1, 100)), divide=False)
        if _is_letter(token):
            raise _Unreadable
        in_hours = self._has_clock and token.text.casefold() in ("hour", "hours", "hr", "hrs")
        return _multiplied(value, Amount(Fraction(60)), divide=False) if in_hours else value

    def _kind(self) -> str:
        return self._tokens[self._at].kind if self._at < len(self._tokens) else ""

    def _sign(self) -> str:
        if self._kind() not in ("sign", "spoken"):
            return ""
        text = self._tokens[self._at].text.casefold()
        return _OPERATORS.get(text, text)


def _added(a: Amount, b: Amount, *, negative: bool) -> Amount:
    if b.is_clock and (negative != a.is_clock):  # a time minus a time is minutes; two times have no sum
        raise _Unreadable
    value = a.value - b.value if negative else a.value + b.value
    return Amount(_bounded(value), is_clock=a.is_clock != b.is_clock)


def _multiplied(a: Amount, b: Amount, *, divide: bool) -> Amount:
    if a.is_clock or b.is_clock or (divide and not b.value):
        raise _Unreadable
    return Amount(_bounded(a.value / b.value if divide else a.value * b.value))


def _bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
        raise _Unreadable
    return value
