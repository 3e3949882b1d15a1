r"""Writes inequalities in one unknown as the interval or union that they describe: `-2 \le x < 7` as [-2, 7).

Knows text only; ends are kept as they are written.
"""

import re

from aot.answers.exact import exact_number

_ORDER = re.compile(
    r"\s*(\\leq?(?:slant)?(?![a-z])|\\geq?(?:slant)?(?![a-z])|\\lt(?![a-z])|\\gt(?![a-z])|<=|>=|<|>)\s*"
)
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
    if len(pieces) == 3:
        left, order, right = pieces
        if _NAME.fullmatch(right) and _is_value(left):
            left, order, right = right, _turned(order), left
        if not (_NAME.fullmatch(left) and _is_value(right)):
            return ""
        return _one_end(left, order, right)
    if len(pieces) != 5 or not _NAME.fullmatch(pieces[2]) or not (_is_value(pieces[0]) and _is_value(pieces[4])):
        return ""
    low, first, name, second, high = pieces
    if _is_less(first) != _is_less(second):
        return ""
    if not _is_less(first):
        low, first, second, high = high, _turned(second), _turned(first), low
    return _between(name, (low, "[" if _or_equal(first) else "("), (high, "]" if _or_equal(second) else ")"))


def _one_end(name: str, order: str, end: str) -> str:
    if name.startswith("|"):
        brackets = "[]" if _or_equal(order) else "()"
        if not _is_less(order):
            return f"(-\\infty, -({end}){brackets[1]} \\cup {brackets[0]}{end}, \\infty)"
        return f"{brackets[0]}-({end}), {end}{brackets[1]}"
    if _is_less(order):
        return f"(-\\infty, {end}{']' if _or_equal(order) else ')'}"
    return f"{'[' if _or_equal(order) else '('}{end}, \\infty)"


def _between(name: str, low: tuple[str, str], high: tuple[str, str]) -> str:
    above = f"{low[1]}{low[0]}, {high[0]}{high[1]}"
    if not name.startswith("|"):
        return above
    closing, opening = ("]" if low[1] == "[" else ")"), ("[" if high[1] == "]" else "(")
    return f"{opening}-{high[0]}, -{low[0]}{closing} \\cup {above}"


def _is_value(text: str) -> bool:
    return bool(text) and not _LETTER.search(re.sub(r"\\[A-Za-z]+", "", text)) and "|" not in text and "=" not in text


def _is_less(order: str) -> bool:
    return order.startswith(("\\l", "<"))


def _or_equal(order: str) -> bool:
    return order.endswith("=") or "e" in order


def _turned(order: str) -> str:
    return {"\\l": "\\g", "\\g": "\\l"}.get(order[:2], "") + order[2:] if order[0] == "\\" else order.translate(_FLIP)


_FLIP = str.maketrans("<>", "><")
