r"""Parsers and comparisons of collections: tuples and lists in order, sets in any order, intervals with their ends.

Elements are compared as numbers, as text, and where they look like mathematics as expressions. Which kind a collection
is follows from its brackets; a bare list is in order, and takes the kind of a set or longer tuple it is compared with.
"""

import re
from dataclasses import dataclass

from aot.answers.brackets import OPEN, is_enclosed, split_at
from aot.answers.clean import undressed
from aot.answers.exact import exact_number
from aot.answers.expressions import compare_latex, tight, to_latex
from aot.answers.finding import plain
from aot.answers.forms import DIFFERENT, EXACT, Grade, ParsedAnswer
from aot.records import Question

MAX_ELEMENTS = 200
_MAX_CHARS = 4_000
_MAX_DEPTH = 20
_HALF_OPEN = ("(]", "[)")
_JOINED = re.compile(r",?\s+(?:and|or)\s+")
_ASSIGNED = re.compile(r"([A-Za-z](?:_\{?\w\}?)?)\s?=\s?(.+)", re.DOTALL)
_MAX_CASED = 2
"""Letters of a word up to which case counts: x is not X, and Red is red."""
_MATH = re.compile(r"[0-9\\+*/^=]")
_INFINITY = re.compile(r"([+-]?)\s?(?:\\infty|infinity|inf|oo)")


@dataclass(frozen=True)
class _Group:
    """A collection taken apart."""

    brackets: str
    """Two characters; empty for a bare list, `u` for a union."""
    elements: tuple[str, ...]
    """Canonical text: a fraction for a number, LaTeX for mathematics, plain words else."""
    names: tuple[str, ...]
    """What each element is the value of, as in `x = 1`; empty where nothing tells. As long as `elements`."""


def parse_collection(answer: str, question: Question) -> ParsedAnswer:
    """A collection in one canonical line, sets sorted and without repeats."""
    text = _braces(undressed(answer).rstrip(". "))
    group = _read(text) if len(text) <= _MAX_CHARS else None
    if group is None:
        return ParsedAnswer(None, "too_long" if len(text) > _MAX_CHARS else "not_a_collection")
    return ParsedAnswer(_canonical(group), written=text)


def compare_collections(answer: ParsedAnswer, gold: ParsedAnswer) -> Grade:
    """Right when kind, order (but of sets) and elements agree; missing brackets that matter are `no_brackets`."""
    if answer.value == gold.value:
        return EXACT
    said, meant = _read(answer.written), _read(gold.written)
    if said is None or meant is None:
        return Grade("cannot_tell", "not_a_collection")
    return _compare(said, meant)


def _compare(said: _Group, meant: _Group) -> Grade:
    if said.brackets != meant.brackets:
        either_matters = _ends_matter(said) or _ends_matter(meant) or "{}" in (said.brackets, meant.brackets)
        if not said.brackets and _ends_matter(meant):
            return Grade("cannot_tell", "no_brackets")
        if said.brackets and meant.brackets and either_matters:
            return Grade("wrong", "other_brackets")
        if not meant.brackets and _ends_matter(said):
            return Grade("wrong", "other_brackets") if said.brackets in _HALF_OPEN else Grade("cannot_tell", "brackets")
    if grade := _compare_names(said, meant):
        return grade
    named = len(set(meant.names) - {""}) > 1
    unordered = meant.brackets in ("{}", "u") and not named
    answers, golds = (_by_name(side) if named else list(side.elements) for side in (said, meant))
    if unordered:
        common = set(answers) & set(golds)
        answers, golds = (sorted(set(side) - common) for side in (answers, golds))
    if len(answers) != len(golds):
        return DIFFERENT
    if answers == golds:
        return EXACT
    if not meant.brackets and not named and sorted(answers) == sorted(golds):
        return Grade("cannot_tell", "other_order")
    if [answer.casefold() for answer in answers] == [gold.casefold() for gold in golds]:
        return Grade("cannot_tell", "other_case")
    pairs = [(a, g) for a, g in zip(answers, golds, strict=True) if unordered or a != g]
    ordered = not unordered or len(pairs) == 1
    if ordered:
        pairs = [inner for pair in pairs for inner in _taken_apart(*pair)]
    if not all(_MATH.search(a) and _MATH.search(g) and not _is_group(a) and not _is_group(g) for a, g in pairs):
        return DIFFERENT
    return compare_latex([a for a, _ in pairs], [g for _, g in pairs], ordered=ordered)


def _is_group(element: str) -> bool:
    return is_enclosed(element) and "; " in element


def _taken_apart(answer: str, gold: str) -> list[tuple[str, str]]:
    """The elements of two tuples in pairs, where both are tuples of one length; else the two as they are."""
    if not (_is_group(answer) and _is_group(gold) and answer[0] + answer[-1] == gold[0] + gold[-1] != "{}"):
        return [(answer, gold)]
    said, meant = split_at(answer[1:-1], ";"), split_at(gold[1:-1], ";")
    if said is None or meant is None or len(said) != len(meant):
        return [(answer, gold)]
    inner = [(a.strip(), g.strip()) for a, g in zip(said, meant, strict=True)]
    return [deeper for a, g in inner if a != g for deeper in _taken_apart(a, g)]


def _compare_names(said: _Group, meant: _Group) -> Grade | None:
    """A grade where the names settle it: those of the gold must be said, unless all its values are of one name."""
    ours, golds = set(said.names) - {""}, set(meant.names) - {""}
    if len(golds) <= 1 and (ours == golds or not ours):
        return None
    if ours != golds:
        return Grade("wrong", "other_variable") if ours and golds else Grade("cannot_tell", "names_on_one_side")
    return DIFFERENT if sorted(said.names) != sorted(meant.names) else None


def _by_name(group: _Group) -> list[str]:
    return [element for _, element in sorted(zip(group.names, group.elements, strict=True))]


def _ends_matter(group: _Group) -> bool:
    """Whether the brackets say something: of an interval, or of a pair that might be one."""
    return group.brackets in (*_HALF_OPEN, "u") or (group.brackets in ("()", "[]") and len(group.elements) == 2)


def _canonical(group: _Group) -> str:
    elements = [f"{name}={e}" if name else e for name, e in zip(group.names, group.elements, strict=True)]
    elements = sorted(set(elements)) if group.brackets in ("{}", "u") else elements
    return f"{group.brackets[:1]}{'; '.join(elements)}{group.brackets[1:]}"


def _braces(text: str) -> str:
    text = text.replace("\\{", "{").replace("\\}", "}").replace("\\varnothing", "\\emptyset")
    return "{}" if text.strip() == "\\emptyset" else text


def _read(text: str, depth: int = 0) -> _Group | None:
    whole_name, inner = _named(text)
    if not (whole_name and inner.startswith(tuple(OPEN)) and ("\\cup" in inner or is_enclosed(inner))):
        whole_name, inner = "", text.strip()
    parts = split_at(inner, "\\cup") if "\\cup" in inner else None
    if parts and len(parts) > 1:
        return _united(parts, whole_name, depth)
    brackets = ""
    if is_enclosed(inner):
        brackets, inner = inner[0] + inner[-1], inner[1:-1]
    elif depth == 0:
        inner = _JOINED.sub(", ", inner)
    if depth > _MAX_DEPTH or brackets in ("{)", "{]", "(}", "[}"):
        return None
    parts = split_at(inner, ",")
    if parts is None or len(parts) > MAX_ELEMENTS or (not brackets and not inner):
        return None
    named = [_named(part) for part in parts] if inner.strip() else []
    elements = tuple(element for _, value in named if (element := _element(value, depth)))
    names = tuple(f"{whole_name} {name}".strip() for name, _ in named)
    return _Group(brackets, elements, names) if len(elements) == len(named) else None


def _named(text: str) -> tuple[str, str]:
    """`x = 1` as x and 1; the name is empty where there is none."""
    assigned = _ASSIGNED.fullmatch(text.strip())
    return (assigned[1].replace("{", "").replace("}", ""), assigned[2].strip()) if assigned else ("", text.strip())


def _united(parts: list[str], name: str, depth: int) -> _Group | None:
    groups = [_read(part, depth + 1) for part in parts]
    if depth > _MAX_DEPTH or any(group is None or not group.brackets for group in groups):
        return None
    return _Group("u", tuple(_canonical(group) for group in groups if group), (name,) * len(groups))


def _element(text: str, depth: int) -> str | None:
    text = text.strip().strip("'\"")
    if not text:
        return None
    if is_enclosed(text):
        group = _read(text, depth + 1)
        return _canonical(group) if group else None
    if infinity := _INFINITY.fullmatch(text.casefold()):
        return f"{infinity[1].replace('+', '')}infinity"
    number = None if "=" in text else exact_number(text)
    if number is not None:
        return str(number)
    if _MATH.search(text):
        return tight(to_latex(text))
    return (text if len(text) <= _MAX_CASED else plain(text)) or None
