"""Cuts a line into numbers, marks and words, tells which of them belong to an equals sign, and reads one side exactly.

What is read are sums and products of signed numbers, percentages, times of day and parentheses, bounded in depth and in
the size of every value; what cannot be read is None.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from aot.errors import ToolError

MAX_DIGITS = 300
MAX_TOKENS = 400
"""In one side of an equation."""
MAX_DEPTH = 40
MAX_BITS = 8192
"""Of any intermediate value, numerator and denominator together."""
_OPERATORS = {
    "×": "*", "·": "*", "x": "*", "times": "*", "of": "*", "÷": "/", "divided by": "/", "−": "-", "–": "-",
    "plus": "+", "minus": "-",
}  # fmt: skip
_CLEAN_BREAKS = frozenset(",.;:?!\"'…•")
"""Marks that part a sentence; beside any other one, such as `^`, a number means more than it says."""
PART_WORDS = frozenset({
    "half", "third", "quarter", "fourth", "fifth", "double", "twice", "triple", "thrice", "square", "squared", "sqrt",
})  # fmt: skip
_NO_UNITS = frozenset({"and", "or", "so", "is", "are", "was", "then", "but", "which", "because", "has", "have", "that"})
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


@dataclass(frozen=True)
class Amount:
    """A number, or a time of day in minutes from midnight."""

    value: Fraction
    is_clock: bool = False


@dataclass(frozen=True)
class Token:
    """A piece of a line: its kind (a group of the pattern above), its text, and where it stands."""

    kind: str
    text: str
    start: int
    end: int


def tokens_of(line: str) -> list[Token]:
    """The pieces of a line in order; nothing but white space is left out."""
    return [Token(str(mark.lastgroup), mark[0], *mark.span()) for mark in _TOKEN.finditer(line)]


def is_number(token: Token) -> bool:
    """Whether the token is a number or a time of day."""
    return token.kind in ("number", "clock")


def is_letter(token: Token) -> bool:
    """Whether the token is a single letter, which may stand for a number."""
    return token.kind in ("word", "per") and len(re.split(r"[/\s]", token.text)[-1]) == 1


def amount_of(token: Token) -> Amount | None:
    """The value of a number or time; None for a code such as 0730, and for more than MAX_DIGITS digits."""
    if token.kind == "clock":
        hours, _, minutes = token.text.partition(":")
        suffix = minutes[2:].strip().casefold()
        hour = int(hours) % 12 + 12 * suffix.startswith("p") if suffix else int(hours)
        return Amount(Fraction(hour * 60 + int(minutes[:2])), is_clock=True) if hour <= 24 else None
    if len(token.text) > MAX_DIGITS or (token.text[0] == "0" and token.text[1:2].isdigit()):
        return None  # too long, or a code such as 0730
    whole, _, part = token.text.replace(",", "").partition(".")
    return Amount(Fraction(int(f"{whole}{part}"), 10 ** len(part)) if part else Fraction(int(whole)))


@dataclass(frozen=True)
class Side:
    """One side of an equals sign."""

    tokens: tuple[Token, ...]
    is_clean: bool
    """False where what stands beside it makes it mean something else."""
    beside: tuple[Token, ...] = ()
    """The word behind a right side, which may be its unit."""


def computes(side: Side) -> bool:
    """Whether there is something to compute; a sign in front is no computation, unless something is hidden there."""
    later = side.tokens[side.is_clean :]
    computed = any(token.kind in ("sign", "spoken") or is_letter(token) for token in later)
    computed |= any(is_number(a) and b.kind == "open" for a, b in pairwise(side.tokens))
    return computed and any(map(is_number, side.tokens))


def left_side(tokens: list[Token], at: int) -> Side:
    """What stands before the equals sign at `at`, as far back as it is arithmetic."""
    start, depth = at, 0
    while start > 0 and at - start <= MAX_TOKENS:
        token = tokens[start - 1]
        depth += (token.kind == "close") - (token.kind == "open")
        if depth < 0 or not _belongs(tokens, start - 1):
            break
        start -= 1
    used = tuple(tokens[start:at])
    start -= start > 1 and tokens[start - 1].text.casefold() == "of"  # to the word of `half of 48 + 2`
    before = tokens[start - 1] if start else None
    is_sign = bool(used) and used[0].kind in ("sign", "spoken")
    if len(used) > MAX_TOKENS or (before is not None and not _parts(before)):
        return Side(used, False)
    if used and before is not None and before.kind == "word":
        return Side(used, not is_sign and before.text.casefold().rstrip("s") not in PART_WORDS)
    return Side(used, not is_sign or used[0].text in "-−–")


def right_side(tokens: list[Token], at: int) -> Side:
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
    hides_letter = any(is_letter(token) and token.text not in "aAI" for token in beside)
    is_clean = after is None or (_parts(after) and not hides_letter)
    return Side(tuple(tokens[at + 1 : end]), is_clean and end - at <= MAX_TOKENS, beside)


def _belongs(tokens: list[Token], at: int) -> bool:
    """Whether the token is part of an expression: a number, a mark of arithmetic, or the unit of what precedes it."""
    token = tokens[at]
    if token.kind == "spoken" and token.text.casefold() == "of":
        return at > 0 and (is_number(tokens[at - 1]) or tokens[at - 1].kind in ("percent", "close"))
    if token.text.casefold() in _NO_UNITS:
        return False
    if token.kind != "word":
        return token.kind not in ("equals", "relation", "other")
    before, after = at - 1, at + 1
    while before >= 0 and tokens[before].kind == "word" and at - before < 3:
        before -= 1
    while after < len(tokens) and tokens[after].kind == "word" and after - at < 3:
        after += 1
    follows = before >= 0 and (is_number(tokens[before]) or tokens[before].kind in ("percent", "close", "per"))
    return follows and after < len(tokens) and tokens[after].kind in ("sign", "spoken", "equals", "close", "per")


def _parts(token: Token) -> bool:
    """Whether an expression may end beside this token and still mean what it says."""
    return token.kind != "other" or token.text in _CLEAN_BREAKS


class _Unreadable(ToolError):
    """An expression is not arithmetic that we read."""

    def __init__(self, why: str = "") -> None:
        """`why` may say what is wrong with it besides its form."""
        super().__init__(why or "not arithmetic; give numbers or times of day, + - * / and parentheses: (12 + 7) / 2")


def evaluated(tokens: tuple[Token, ...]) -> Amount | None:
    """The value of an expression, None where it cannot be read."""
    try:
        return evaluate(tokens)
    except _Unreadable:
        return None


def evaluate(tokens: tuple[Token, ...]) -> Amount:
    """The value of an expression.

    Raises:
        ToolError: it cannot be read, divides by zero, or becomes too large; says which.
    """
    return _Reader(tokens).whole()


class _Reader:
    """Reads one expression from left to right: sums of products of signed numbers and parentheses."""

    def __init__(self, tokens: tuple[Token, ...]) -> None:
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
        if kind not in ("number", "clock", "open"):
            raise _Unreadable
        if depth > MAX_DEPTH:
            raise _Unreadable(f"parentheses in more than {MAX_DEPTH} others")
        self._at += 1
        if kind != "open":
            amount = amount_of(self._tokens[self._at - 1])
            if amount is None:
                raise _Unreadable("a number with too many digits, or a code that begins with 0")
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
        if is_letter(token):
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
        raise _Unreadable("two times of day have no sum, and a number minus a time no value")
    value = a.value - b.value if negative else a.value + b.value
    return Amount(_bounded(value), is_clock=a.is_clock != b.is_clock)


def _multiplied(a: Amount, b: Amount, *, divide: bool) -> Amount:
    if a.is_clock or b.is_clock:
        raise _Unreadable("a time of day cannot be multiplied or divided")
    if divide and not b.value:
        raise _Unreadable("division by zero")
    return Amount(_bounded(a.value / b.value if divide else a.value * b.value))


def _bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
        raise _Unreadable("a value on the way is too large")
    return value
