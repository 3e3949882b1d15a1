r"""Compares answers as contest mathematics writes them: `x = 5` for 5, `-2 \le x \le 7` for [-2,7], 1 and 2 for 2, 1.

Asked only where the strict comparison cannot tell, for data sets that declare this convention. Each side is brought to
one value, a list, a tuple or a set of numbers; what is left is compared strictly.
"""

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from aot.answers import expressions
from aot.answers.brackets import is_enclosed, is_outside, split_at
from aot.answers.clean import undressed
from aot.answers.exact import exact_number
from aot.answers.forms import DIFFERENT, EXACT, Grade
from aot.answers.kinds import collections as groups
from aot.answers.kinds.bare import bare_number, compare_bare, may_be_algebra
from aot.answers.kinds.intervals import as_interval
from aot.answers.kinds.units import is_known_unit
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


@dataclass(frozen=True)
class _Value:
    """An answer without the names and units around it."""

    kind: Literal["one", "list", "set", "tuple", "interval"]
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
        return Grade("cannot_tell", "not_understood")
    if said.unit and meant.unit and said.unit != meant.unit:
        return Grade("cannot_tell", "other_unit")
    if "=" in f"{said.text}{meant.text}" and (said.names or meant.names):
        return _OPEN  # an equation and a value with a name: y = 2x answers 2x - y = 0 as it stands
    if said.names and meant.names:
        if sorted(said.names) != sorted(meant.names):
            return Grade("cannot_tell", "other_names")
        said, meant = _by_name(said), _by_name(meant)
    elif {*said.names, *meant.names} <= {"x", "y", "z"}:  # x = 1, z = 3, y = 2 is the point (1, 2, 3)
        said, meant = _by_name(said), _by_name(meant)
    kinds = {said.kind, meant.kind}
    if kinds == {"tuple", "list"} or (kinds == {"tuple"} and (said.names or meant.names)):
        said, meant = _bracketed(said, "()"), _bracketed(meant, "()")
    elif kinds & {"list", "set"} and kinds <= {"list", "set", "one"}:
        said, meant = _bracketed(said, "{}"), _bracketed(meant, "{}")
    if kinds == {"one"}:
        parsed = [expressions.parse_expression(side.text, question) for side in (said, meant)]
        return expressions.compare_expressions(*parsed) if all(side.value for side in parsed) else _OPEN
    parsed = [groups.parse_collection(side.text, question) for side in (said, meant)]
    return groups.compare_collections(*parsed) if all(side.value for side in parsed) else _OPEN


def _compare_ratios(answer: str, gold: str) -> Grade | None:
    """The verdict on two ratios, or on a ratio and a fraction; 2:4 for 1:2 is open, since 2:30 may be a time too."""
    said, meant = _RATIO.fullmatch(undressed(answer).rstrip(". ")), _RATIO.fullmatch(undressed(gold).rstrip(". "))
    if said and meant:
        same = (int(said[1]), int(said[2])) == (int(meant[1]), int(meant[2]))
        proportional = int(said[1]) * int(meant[2]) == int(said[2]) * int(meant[1])
        return EXACT if same else Grade("cannot_tell", "ratio") if proportional else DIFFERENT
    ratio, other = (said, gold) if said else (meant, answer)
    value = exact_number(undressed(other).rstrip(". ")) if "/" in other or "frac" in other else None
    if not ratio or value is None or not int(ratio[2]):
        return None
    return EXACT if Fraction(int(ratio[1]), int(ratio[2])) == value else DIFFERENT


_OPEN = Grade("cannot_tell", "not_understood")


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
    return replace(_single(elements[0], unit), names=tuple(name for name in names if name))


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


def _single(text: str, unit: str) -> _Value:
    text = text.replace("\\lbrace", "\\{").replace("\\rbrace", "\\}").replace("\\langle", "(").replace("\\rangle", ")")
    inside = text[1:-1].removesuffix("\\") if text[:1] == "{" else text[2:-1].removesuffix("\\")
    is_group = is_enclosed(text.replace("\\{", "{").replace("\\}", "}"))
    if "\\cup" in text or not is_group:
        return _Value("interval" if "\\cup" in text else "one", text, (), unit)
    if text[:1] == "{" or text[:2] == "\\{":
        elements = [one for piece in _split(inside) for one in _both_signs(_element(piece)[0])]
        kind: Literal["set", "list"] = "set" if text[:1] == "\\" else "list"
        return _Value(kind, ", ".join(elements), (), unit) if elements else _Value("one", text, (), unit)
    pieces = _split(text[1:-1])
    if len(pieces) < 2:
        return _Value("one", text, (), unit)
    kind_of = "interval" if text[0] + text[-1] in ("[)", "(]") or (text[0] == "[" and len(pieces) == 2) else "tuple"
    return _Value("interval" if kind_of == "interval" else "tuple", f"{text[0]}{', '.join(pieces)}{text[-1]}", (), unit)


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
