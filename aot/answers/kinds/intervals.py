r"""Writes inequalities in one unknown as the interval or union that they describe: `-2 \le x < 7` as [-2, 7).

Knows text only; ends are kept as they are written.
"""

import re

from aot.answers.exact import exact_number

_ORDER = re.compile(
    r"\s*(\\leq?(?:slant)?(?![a-z])|\\geq?(?:slant)?(?![a-z])|\\lt(?![a-z])|\\gt(?![a-z])|<=|>=|<|>)\s*"
)
_INFINITY, _MINUS_INFINITY = "\\infty", "-\\infty"
_UNEQUAL = re.compile(r"(.+?)\s*(?:\\neq?(?![a-z])|!=)\s*(.+)")
_NAME = re.compile(r"(\|?)(?:[A-Za-z]|\\[a-z]+)(?:_\s?(?:\{[^{}]*\}|\w))?(?:\s?\([A-Za-z]\))?(\|?)")
_LETTER = re.compile(r"(?<![A-Za-z\\])[A-Za-df-z](?![A-Za-z])|[A-Za-z]{2,}")
_OR = re.compile(r"\s*,?\s*(?<![A-Za-z])or(?![A-Za-z])\s*")

_AND = re.compile(r"\s*,?\s*(?<![A-Za-z])and(?![A-Za-z])\s*")
_BUILT = re.compile(
    r"\\?\{\s?(?:[A-Za-z]|\\[a-z]+)(?:\s?\\in\s?(?:\\mathbb\s?\{?R\}?|R))?\s?(?:\\mid(?![a-z])|\\colon(?![a-z])|[:|])"
    r"(?P<body>[^:{}]+?)\\?\}"
)
"""A set by its condition: {x : 2 < x < 5}."""
_REALS = re.compile(
    r"(?:[A-Za-z]\s?\\in\s?)?(?:\\mathbb\s?\{?\s?R\s?\}?|all real numbers|all reals|all real numbers x)"
    r"(?:\s?(?:\\setminus|\\backslash)\s?\\?\{\s?([-0-9./]+)\s?\\?\})?",
    re.IGNORECASE,
)
_OUTWARD = re.compile(r"([\[\]])([^\[\],;]+)[,;]\s?([^\[\],;]+)([\[\]])")
"""An interval whose open ends are written with brackets turned outward: ]2, 5[."""


def as_interval(text: str) -> str:
    r"""The interval that one inequality, or several joined by `or`, describes; empty if `text` is anything else.

    >>> as_interval(r"-2 \le x < 7"), as_interval(r"x > 3 or x < 1"), as_interval("x = 3")
    ('[-2, 7)', '(3, \\infty) \\cup (-\\infty, 1)', '')
    """
    text = " ".join(text.split())
    if built := _BUILT.fullmatch(text):
        text = built["body"]
    if reals := _REALS.fullmatch(text):
        but = reals[1]
        return f"(-\\infty, {but}) \\cup ({but}, \\infty)" if but else "(-\\infty, \\infty)"
    if (ends := _OUTWARD.fullmatch(text)) and ends[1] + ends[4] != "[]":
        return f"{'[' if ends[1] == '[' else '('}{ends[2]}, {ends[3]}{']' if ends[4] == ']' else ')'}"
    parts = [_shared(part.strip()) for part in _OR.split(text)]
    return " \\cup ".join(parts) if all(parts) else ""


def _shared(text: str) -> str:
    """What one inequality describes, or two joined by `and` of which each gives one end."""
    parts = [_interval(part) for part in _AND.split(text)]
    if len(parts) != 2:
        return parts[0] if len(parts) == 1 else ""
    below, above = sorted(parts, key=lambda part: part.endswith("\\infty)"))
    low, high = above.partition(", ")[0], below.partition(", ")[2]
    one_end_each = above.endswith(", \\infty)") and below.startswith("(-\\infty, ") and "\\cup" not in above + below
    start, end = exact_number(low[1:]), exact_number(high[:-1])
    return f"{low}, {high}" if one_end_each and start is not None and end is not None and start < end else ""


def _interval(text: str) -> str:
    if unequal := _UNEQUAL.fullmatch(text):
        named = _NAME.fullmatch(unequal[1]) and not unequal[1].startswith("|") and _is_value(unequal[2])
        return f"(-\\infty, {unequal[2]}) \\cup ({unequal[2]}, \\infty)" if named else ""
    pieces = _ORDER.split(text)
    if len(pieces) == 3:  # one end is left open: an empty order and an empty value
        is_value_first = _NAME.fullmatch(pieces[2]) and _is_value(pieces[0])
        pieces = [*pieces, "", ""] if is_value_first else ["", "", *pieces]
    if len(pieces) != 5 or not _NAME.fullmatch(pieces[2]):
        return ""
    ends = [(pieces[0], pieces[1]), (pieces[4], pieces[3])]
    is_less = {order.startswith(("\\l", "<")) for _, order in ends if order}
    if len(is_less) > 1 or not all(_is_value(value) for value, order in ends if order):
        return ""
    (low, first), (high, second) = ends if is_less == {True} else reversed(ends)
    return _between(low, high, opens="[" if _or_equal(first) else "(", closes="]" if _or_equal(second) else ")",
                    is_absolute=pieces[2].startswith("|"))  # fmt: skip


def _between(low: str, high: str, *, opens: str, closes: str, is_absolute: bool) -> str:
    """What lies between two ends, of which an empty one is infinite; of an absolute value below zero, too."""
    above = f"{opens}{low or _MINUS_INFINITY}, {high or _INFINITY}{closes}"
    if not is_absolute:
        return above
    mirrored = "[" if closes == "]" else "("
    if not low:
        return f"{mirrored}-({high}), {high}{closes}"
    end = f"-{low}" if high else f"-({low})"
    return f"{mirrored}-{high or _INFINITY}, {end}{']' if opens == '[' else ')'} \\cup {above}"


def _is_value(text: str) -> bool:
    return bool(text) and not _LETTER.search(re.sub(r"\\[A-Za-z]+", "", text)) and "|" not in text and "=" not in text


def _or_equal(order: str) -> bool:
    return order.endswith("=") or "e" in order
