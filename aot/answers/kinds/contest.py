r"""Compares answers as contest mathematics writes them: `x = 5` for 5, `-2 \le x \le 7` for [-2,7], 1 and 2 for 2, 1.

Asked only where the strict comparison cannot tell, for data sets that declare this convention. Each side is brought to
one value, a list, a tuple or a set of numbers; what is left is compared strictly.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from aot.answers import expressions
from aot.answers.brackets import is_enclosed, is_outside, split_at
from aot.answers.clean import undressed
from aot.answers.exact import exact_number
from aot.answers.forms import DIFFERENT, EXACT, Grade
from aot.answers.kinds import collections as groups
from aot.answers.kinds.bare import bare_number, compare_bare, may_be_algebra
from aot.answers.kinds.quantities import is_known_unit
from aot.records import Question

_MAX_CHARS = 2_000
_NAME = r"\|?\\?[A-Za-z]+'?(?:_\s?(?:\{[^{}]*\}|\w))?(?:\s?\([A-Za-z](?:,\s?[A-Za-z])*\))?\|?"
_NAMES = re.compile(
    rf"{_NAME}(?:\s?[:/]\s?{_NAME})?|\\frac\s?\{{\s?[A-Za-z]+\s?\}}\s?\{{\s?[A-Za-z]+\s?\}}|\\angle\s?[A-Za-z]+"
    rf"|[(\[]\s?{_NAME}(?:\s?[,;]\s?{_NAME})+\s?[)\]]"
)
_LINK = re.compile(r"(?<![<>!:\\])=(?!=)|\\approx(?![a-z])|\\in(?![a-z])")
_JOINED = re.compile(
    r"\s*,?\s*(?<![A-Za-z\\])(?:and|or)(?![a-z])\s*,?\s*|(?<=[)\]0-9}])(?:and|or)(?=[(\[{A-Za-z0-9\-])"
)
_RATIO = re.compile(r"([0-9]{1,9})\s?(?::|\\colon(?![a-z])|(?<=\s)to(?=\s))\s?([0-9]{1,9})")
_QUOTED = re.compile(r"\\?[\"$]")
_PROSE = re.compile(r"(?<![A-Za-z\\])[A-Za-z']{2,}[,:]?\s+[A-Za-z']{2,}(?:[,:]?\s+[A-Za-z']{2,}|\s*[\\(\[{0-9])")
_UNIT_BEHIND = re.compile(
    r"(.*(?:[0-9)}\]]|\\pi))\s*(°|(?<=\s)[A-Za-z]{2,}(?: [A-Za-z]+){0,2}(?:\s?\^\s?\{?[23]\}?|[²³])?)"
)
_Kind = Literal["one", "list", "set", "tuple", "interval"]
_OPEN = Grade("cannot_tell", "not_understood")

# Inequalities in one unknown.
_ORDER = re.compile(
    r"\s*(\\leq?(?:slant)?(?![a-z])|\\geq?(?:slant)?(?![a-z])|\\lt(?![a-z])|\\gt(?![a-z])|<=|>=|<|>)\s*"
)
_INFINITY, _MINUS_INFINITY = "\\infty", "-\\infty"
_UNEQUAL = re.compile(r"(.+?)\s*(?:\\neq?(?![a-z])|!=)\s*(.+)")
_UNKNOWN = re.compile(r"(\|?)(?:[A-Za-z]|\\[a-z]+)(?:_\s?(?:\{[^{}]*\}|\w))?(?:\s?\([A-Za-z]\))?(\|?)")
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


@dataclass(frozen=True)
class _Value:
    """An answer without the names and units around it."""

    kind: _Kind
    text: str
    """As the strict parsers read it; of a list its elements without brackets."""
    names: tuple[str, ...] = ()
    """What the elements are values of: one name for all, or one each; empty where nothing tells."""
    unit: str = ""


def compare_contest(answer: str, gold: str, question: Question) -> Grade:
    """Whether two answers are one value by the convention of contests; `cannot_tell` where that leaves it open."""
    bare, gold_bare = bare_number(answer), bare_number(gold)
    names = {_unchained(undressed(side))[1] for side in (answer, gold)} - {""}
    algebra = any(side and may_be_algebra(text, side) for text, side in ((answer, bare), (gold, gold_bare)))
    if bare and gold_bare and len(names) < 2 and not algebra:
        return compare_bare(bare, gold_bare)
    if graded := _compare_ratios(answer, gold):
        return graded
    said, meant = contest_value(answer), contest_value(gold)
    if said is None or meant is None:
        return _OPEN
    if said.unit and meant.unit and said.unit != meant.unit:
        return Grade("cannot_tell", "other_unit")
    if "=" in f"{said.text}{meant.text}" and (said.names or meant.names):
        return _OPEN  # an equation and a value with a name: y = 2x answers 2x - y = 0 as it stands
    if said.names and meant.names and sorted(said.names) != sorted(meant.names):
        return Grade("cannot_tell", "other_names")
    # x = 1, z = 3, y = 2 is the point (1, 2, 3)
    if (said.names and meant.names) or {*said.names, *meant.names} <= {"x", "y", "z"}:
        said, meant = _by_name(said), _by_name(meant)
    kinds = {said.kind, meant.kind}
    if kinds == {"tuple", "list"} or (kinds == {"tuple"} and (said.names or meant.names)):
        said, meant = _bracketed(said, "()"), _bracketed(meant, "()")
    elif kinds & {"list", "set"} and kinds <= {"list", "set", "one"}:
        said, meant = _bracketed(said, "{}"), _bracketed(meant, "{}")
    parse, compare = (groups.parse_collection, groups.compare_collections)
    if kinds == {"one"}:
        parse, compare = expressions.parse_expression, expressions.compare_expressions
    parsed = [parse(side.text, question) for side in (said, meant)]
    return compare(*parsed) if all(side.value for side in parsed) else _OPEN


def _compare_ratios(answer: str, gold: str) -> Grade | None:
    """The verdict on two ratios, or on a ratio and a fraction; 2:4 for 1:2 is open, since 2:30 may be a time too."""
    said, meant = _RATIO.fullmatch(undressed(answer).rstrip(". ")), _RATIO.fullmatch(undressed(gold).rstrip(". "))
    if said and meant:
        (a, b), (c, d) = (map(int, side.groups()) for side in (said, meant))
        if (a, b) == (c, d):
            return EXACT
        return Grade("cannot_tell", "ratio") if a * d == b * c else DIFFERENT
    ratio, other = (said, gold) if said else (meant, answer)
    value = exact_number(undressed(other).rstrip(". ")) if "/" in other or "frac" in other else None
    if not ratio or value is None or not int(ratio[2]):
        return None
    return EXACT if Fraction(int(ratio[1]), int(ratio[2])) == value else DIFFERENT


def contest_value(text: str) -> _Value | None:
    """What an answer says without names, units and joining words; None if it cannot be taken apart."""
    text = " ".join(_QUOTED.sub(" ", undressed(text)).split()).rstrip(".,; ")
    text = text[1:-1] if text[:1] == "'" == text[-1:] else text
    if text and len(text) <= _MAX_CHARS and (interval := as_interval(text)):
        return _Value("interval", interval)
    if not text or len(text) > _MAX_CHARS or _PROSE.search(_JOINED.sub(", ", text)):
        return None
    text = _JOINED.sub(", ", text)
    pieces = _split(text)
    if not pieces:
        return None
    parts = [_element(piece) for piece in pieces]
    names = tuple(name for _, name, _ in parts)
    elements = [one for element, _, _ in parts for one in _both_signs(element)]
    units = {unit for _, _, unit in parts}
    unit = units.pop() if len(units) == 1 else ""
    if len(elements) > 1:
        named = len(set(names)) > 1 and all(names) and len(elements) == len(names)
        same = tuple(sorted({name for name in names if name}))
        return _Value("tuple" if named else "list", ", ".join(elements), names if named else same, unit)
    return _Value(*_single(elements[0]), tuple(filter(None, names)), unit)


def _split(text: str) -> list[str]:
    """The elements of a list; `p=5,q=2; p=7,q=2` is one of pairs."""
    rows = split_at(text, ";")
    if not rows:
        return []
    columns = [split_at(row, ",") or [] for row in rows if row.strip()]
    if len(rows) > 1 and all(len(column) > 1 for column in columns):
        return [f"({', '.join(_element(piece)[0] for piece in column)})" for column in columns]
    return [piece.strip() for column in columns for piece in column if piece.strip()]


def _element(piece: str) -> tuple[str, str, str]:
    """A value with its name and its unit, each empty where there is none."""
    value, name = _unchained(piece)
    unit = _UNIT_BEHIND.fullmatch(value)
    if unit and is_known_unit(unit[2]):
        return unit[1].strip(), name, unit[2].replace(" ", "")
    return value, name, ""


def _unchained(text: str) -> tuple[str, str]:
    """The last member of `x = 5 + 6 = 11` and its name; an equation that is no such chain stays whole."""
    text = text.strip()
    links = [link for link in _LINK.finditer(text) if is_outside(text, link.start())]
    if not links:
        return text, ""
    starts = [0, *(link.end() for link in links)]
    ends = [*(link.start() for link in links), len(text)]
    parts = [text[start:end].strip() for start, end in zip(starts, ends, strict=True)]
    rounded = next((i for i, link in enumerate(links) if link[0] == "\\approx" and i > 0), None)
    if links[0][0] == "\\approx" and not _NAMES.fullmatch(parts[0]):
        return parts[0], ""
    parts = parts[: rounded + 1] if rounded is not None else parts
    if not all(parts):
        return text, ""
    if _NAMES.fullmatch(parts[0]):
        return parts[-1], parts[0].replace(" ", "")
    if len(parts) > 2 and _NAMES.fullmatch(parts[-2]):
        return parts[-1], parts[-2].replace(" ", "")
    return (text, "") if re.search("[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", text)) else (parts[-1], "")


def _both_signs(element: str) -> list[str]:
    r"""`1 \pm \sqrt{5}` as its two values; `(1;2)` with commas."""
    element = element.replace(";", ",")
    if "\\pm" not in element or element.startswith(("{", "\\{")):  # of a set, its elements are asked one by one
        return [element]
    return [
        re.sub(r"\\pm(?![a-z])", plus, re.sub(r"\\mp(?![a-z])", minus, element)).strip().removeprefix("+").strip()
        for plus, minus in (("+", "-"), ("-", "+"))
    ]


def _single(text: str) -> tuple[_Kind, str]:
    """What one element is by its brackets, and its text without those of a list or set."""
    text = text.replace("\\lbrace", "\\{").replace("\\rbrace", "\\}").replace("\\langle", "(").replace("\\rangle", ")")
    if "\\cup" in text:
        return "interval", text
    if not is_enclosed(text.replace("\\{", "{").replace("\\}", "}")):
        return "one", text
    if text.startswith(("{", "\\{")):
        inside = text.removeprefix("\\")[1:-1].removesuffix("\\")
        elements = [one for piece in _split(inside) for one in _both_signs(_element(piece)[0])]
        kind: _Kind = "set" if text[0] == "\\" else "list"
        return (kind, ", ".join(elements)) if elements else ("one", text)
    pieces = _split(text[1:-1])
    if len(pieces) < 2:
        return "one", text
    is_interval = text[0] + text[-1] in ("[)", "(]") or (text[0] == "[" and len(pieces) == 2)
    return "interval" if is_interval else "tuple", f"{text[0]}{', '.join(pieces)}{text[-1]}"


def _bracketed(side: _Value, brackets: str) -> _Value:
    if side.kind == "tuple" and side.text[:1] == "(" and is_enclosed(side.text) and len(side.names) < 2:
        return side
    return _Value("tuple", f"{brackets[0]}{side.text}{brackets[1]}")


def _by_name(side: _Value) -> _Value:
    elements = split_at(side.text, ",") or []
    if len(side.names) < 2 or len(elements) != len(side.names):
        return side
    paired = sorted(zip(side.names, elements, strict=True))
    return _Value("tuple", f"({', '.join(element.strip() for _, element in paired)})")


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
        named = _UNKNOWN.fullmatch(unequal[1]) and not unequal[1].startswith("|") and _is_value(unequal[2])
        return f"(-\\infty, {unequal[2]}) \\cup ({unequal[2]}, \\infty)" if named else ""
    pieces = _ORDER.split(text)
    if len(pieces) == 3:  # one end is left open: an empty order and an empty value
        is_value_first = _UNKNOWN.fullmatch(pieces[2]) and _is_value(pieces[0])
        pieces = [*pieces, "", ""] if is_value_first else ["", "", *pieces]
    if len(pieces) != 5 or not _UNKNOWN.fullmatch(pieces[2]):
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
