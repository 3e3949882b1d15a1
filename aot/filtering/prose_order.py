"""Whether a sentence of prose puts two findings in the order in which the tools saw them."""

import re
from itertools import pairwise

from aot.filtering.subject import Subject
from aot.rationales.notation import CITATION, Claim
from aot.rationales.wording import phrase_key

_CITED = re.compile(rf"(?:{CITATION.pattern}[\s,]*)+(?<=\])")
_FORWARD = re.compile(r"\b(?:before|then|followed by|precedes?|preceded|and after that|and next|later)\b")
_BACKWARD = re.compile(r"\b(?:after|follows?|followed|once|preceded by)\b")


def clauses(sentence: str, citations: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """The stretches of a sentence that end in citations, with these; what follows the last one rests on all.

    >>> clauses("chop onion [1] [2], then fry onion [3].", (1, 2, 3))
    [('chop onion ', (1, 2)), (', then fry onion ', (3,)), ('.', (1, 2, 3))]
    """
    found, end = [], 0
    for mark in _CITED.finditer(sentence):
        found.append((sentence[end : mark.start()], tuple(int(one[1]) for one in CITATION.finditer(mark[0]))))
        end = mark.end()
    return [*found, (sentence[end:], citations)] if end < len(sentence) else found


def places(text: str, labels: set[str]) -> list[tuple[int, str]]:
    """Where each of `labels` stands in `text`, longest label first where they overlap; in reading order."""
    rest = f" {phrase_key(text)} "
    found: list[tuple[int, str]] = []
    for label in sorted(labels, key=lambda one: (-len(one), one)):
        inside = f" {label} "
        while (at := rest.find(inside)) >= 0:
            found.append((at, label))
            rest = rest[: at + 1] + "\0" * len(label) + rest[at + 1 + len(label) :]
    return sorted(found)


def prose_order_problem(claim: Claim, subject: Subject) -> str:
    """`wrong_order` when each neighbouring pair of labels, joined by a word of order, happened the other way round."""
    starts: dict[str, list[float]] = {}
    for finding in subject.found:
        starts.setdefault(finding.key, []).append(finding.start_s)
    predicted = phrase_key(subject.trace.answer) if subject.question.kind.startswith("next") else ""
    text = f" {phrase_key(claim.sentence)} "
    stand = [one for one in places(claim.sentence, set(starts)) if one[1] != predicted]
    for index, ((at, first), (next_at, second)) in enumerate(pairwise(stand)):
        between = text[at + 1 + len(first) : next_at + 1]
        ahead = text[: at + 1] if index == 0 else ""
        order = _order(ahead, between)
        earlier, later = (first, second) if order > 0 else (second, first)
        if order and first != second and min(starts[earlier]) >= max(starts[later]):
            return "wrong_order"
    return ""


def _order(ahead: str, between: str) -> int:
    """1 when the first of two labels is said to come first, -1 when the second is, 0 when nothing is said."""
    forward, backward = _FORWARD.search(between), _BACKWARD.search(between)
    if forward and forward[0].startswith(("followed by", "precede")) and "preceded by" not in between:
        return 1
    if backward and "afterwards" not in between and "after that" not in between:
        return -1
    if forward:
        return 1
    opening = ahead.split()[-4:]
    if "after" in opening or "once" in opening:
        return 1
    return -1 if "before" in opening else 0
