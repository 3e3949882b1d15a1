r"""Writes inequalities in one unknown as the interval or union that they describe: `-2 \le x < 7` as [-2, 7).

Knows text only; ends are kept as they are written.
"""

import re

_ORDER = re.compile(
    r"\s*(\\leq?(?:slant)?(?![a-z])|\\geq?(?:slant)?(?![a-z])|\\lt(?![a-z])|\\gt(?![a-z])|<=|>=|<|>)\s*"
)
_UNEQUAL = re.compile(r"(.+?)\s*(?:\\neq?(?![a-z])|!=)\s*(.+)")
_NAME = re.compile(r"(\|?)(?:[A-Za-z]|\\[a-z]+)(?:_\s?(?:\{[^{}]*\}|\w))?(?:\s?\([A-Za-z]\))?(\|?)")
_LETTER = re.compile(r"(?<![A-Za-z\\])[A-Za-df-z](?![A-Za-z])|[A-Za-z]{2,}")
_OR = re.compile(r"\s*,?\s*(?<![A-Za-z])or(?![A-Za-z])\s*")


def as_interval(text: str) -> str:
    r"""The interval that one inequality, or several joined by `or`, describes; empty if `text` is anything else.

    >>> as_interval(r"-2 \le x < 7"), as_interval(r"x > 3 or x < 1"), as_interval("x = 3")
    ('[-2, 7)', '(3, \\infty) \\cup (-\\infty, 1)', '')
    """
    parts = [_interval(part.strip()) for part in _OR.split(" ".join(text.split()))]
    return " \\cup ".join(parts) if all(parts) else ""


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
        return f"{brackets[0]}-({end}), {end}{brackets[1]}" if _is_less(order) else ""
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
