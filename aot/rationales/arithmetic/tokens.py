"""Cuts a line into numbers, marks and words, and reads the value of one number or time of day."""

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_DIGITS = 300
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
