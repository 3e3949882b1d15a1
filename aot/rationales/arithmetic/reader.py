"""Reads one expression exactly: sums and products of signed numbers, percentages, times of day and parentheses.

Bounded in depth and in the size of every value; what it cannot read is None.
"""

from fractions import Fraction

from aot.rationales.arithmetic.tokens import Amount, Token, amount_of, is_letter

MAX_DEPTH = 40
MAX_BITS = 8192
"""Of any intermediate value, numerator and denominator together."""
_OPERATORS = {
    "×": "*", "·": "*", "x": "*", "times": "*", "of": "*", "÷": "/", "divided by": "/", "−": "-", "–": "-",
    "plus": "+", "minus": "-",
}  # fmt: skip


class _Unreadable(Exception):
    """An expression is not arithmetic that we read."""


def evaluated(tokens: tuple[Token, ...]) -> Amount | None:
    """The value of an expression, None where it cannot be read."""
    try:
        return _Reader(tokens).whole()
    except _Unreadable:
        return None


class _Reader:
    """Reads one expression from left to right: sums of products of signed numbers and parentheses."""

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self.tokens_of = [token for token in tokens if token.kind != "currency"]
        self._has_clock = any(token.kind == "clock" for token in tokens)
        self._at = 0

    def whole(self) -> Amount:
        """The value of all tokens together."""
        value = self._sum(0)
        if self._at < len(self.tokens_of):
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
            amount = amount_of(self.tokens_of[self._at - 1])
            if amount is None:
                raise _Unreadable
            return amount
        value = self._sum(depth + 1)
        if self._kind() != "close":
            raise _Unreadable
        self._at += 1
        return value

    def _with_unit(self, value: Amount) -> Amount:
        token = self.tokens_of[self._at]
        self._at += 1
        if token.kind == "percent":
            return _multiplied(value, Amount(Fraction(1, 100)), divide=False)
        if is_letter(token):
            raise _Unreadable
        in_hours = self._has_clock and token.text.casefold() in ("hour", "hours", "hr", "hrs")
        return _multiplied(value, Amount(Fraction(60)), divide=False) if in_hours else value

    def _kind(self) -> str:
        return self.tokens_of[self._at].kind if self._at < len(self.tokens_of) else ""

    def _sign(self) -> str:
        if self._kind() not in ("sign", "spoken"):
            return ""
        text = self.tokens_of[self._at].text.casefold()
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
