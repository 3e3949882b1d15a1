"""Reads the prose of a chat model as the notation that the filters check: times, inflected labels, connecting English.

A label is recognised when its words stand in order, inflected and with articles between them: `chops the onion` is
`chop onion`. Connecting words claim nothing; words for things and actions are none of them, so that an object or an
action which no tool returned remains an invented word. Sentences that put labels in order are read here, too.
"""

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from itertools import pairwise

from aot.answers import NUMBER_WORDS
from aot.filtering.words import word_list
from aot.rationales.findings import Sighting, is_in_words, phrases_in
from aot.rationales.notation import CITATION, Claim
from aot.rationales.wording import phrase_key, stem
from aot.records import Step

COUNTS = {**{word: str(number) for word, number in NUMBER_WORDS.items()}, "once": "1", "twice": "2", "thrice": "3"}
CONNECTING_WORDS = word_list("connecting.txt")
INSTRUCTION_WORDS = frozenset(
    ("answer", "choose", "pick", "select", "option", "instructed", "instruction", "instructs", "told", "tells")
)


_TIME = r"(\d+(?:\.\d+)?)\s?s(?:ec(?:onds?)?)?\b"
_STRETCHES = (
    re.compile(rf"\b[Bb]etween {_TIME}\s+and\s+{_TIME}"),
    re.compile(
        rf"(?:[Ss]tart|[Bb]egin|[Bb]eg[au]n|[Oo]pen)\w* at {_TIME}\s+and\s+(?:end|finish|stop|clos)\w* at {_TIME}"
    ),
    re.compile(rf"{_TIME}\s*(?:[-\u2013\u2014]|to|until|till|through)\s*{_TIME}"),
)
_BETWEEN_WORDS = r"\s+(?:(?:of|up)\s+)?(?:(?:the|an|a|some|his|her|their|its)\s+)?"
_LETTERS = re.compile(r"[^\W\d_]{3,}")
_WORD = re.compile(r"[^\W_]+")
_CITED = re.compile(rf"(?:{CITATION.pattern}[\s,]*)+(?<=\])")
_FORWARD = re.compile(r"\b(?:before|then|followed by|precedes?|preceded|and after that|and next|later)\b")
_BACKWARD = re.compile(r"\b(?:after|follows?|followed|once|preceded by)\b")
MAX_LABEL_WORDS = 8
_NEAR_WORDS = 5
_ARTICLES = frozenset({"a", "an", "the", "his", "her", "their", "its", "some"})
_PERSONS = frozenset({"man", "woman", "boy", "girl", "person", "cook", "chef", "hand", "he", "she", "they"})
"""Stems of those who act, of whom a text goes on as `he` or `she` far from their name."""


def as_notation(text: str, labels: Iterable[str]) -> str:
    """`text` with stretches of time as `0.2s-2.4s` and each label as it was returned.

    >>> as_notation("Between 0.2s and 2.4s the cook chops the onion [1].", ["chop onion"])
    '0.2s-2.4s the cook chop onion [1].'
    """
    for pattern in _STRETCHES:
        text = pattern.sub(r"\1s-\2s", text)
    spoken, by_group = _spoken_labels(tuple(labels))
    if spoken is None:
        return text
    return spoken.sub(lambda mark: by_group[int(mark.lastgroup[1:])] if mark.lastgroup else mark[0], text)


def is_connecting(word: str) -> bool:
    """Whether a word joins claims, or says that something was asked, seen or concluded; no thing, no action of a clip.

    >>> is_connecting("observed"), is_connecting("kettle")
    (True, False)
    """
    bare = next((word[: -len(end)] for end in ("ly", "est", "er") if word.endswith(end) and len(word) > 5), word)
    return word in CONNECTING_WORDS or not _connecting_stems().isdisjoint((stem(word), stem(bare)))


@cache
def _connecting_stems() -> frozenset[str]:
    return frozenset(stem(word) for word in CONNECTING_WORDS)


def heard(steps: Iterable[Step]) -> str:
    """The sentences that steps returned whose results are texts."""
    return " ".join(phrases_in(step for step in steps if is_in_words(step)))


def joined_as_said(text: str, said: str) -> bool:
    """Whether neighbouring content words of a claim stand near each other in `said` too, if both are said at all.

    >>> joined_as_said("a man with a black plate", "A man holds a black pan, and then, much later, a blue plate")
    False
    """
    order = [stem(word) for word in _WORD.findall(said.casefold())]
    at: dict[str, list[int]] = {}
    for place, word in enumerate(order):
        at.setdefault(word, []).append(place)
    words = [word for word in _WORD.findall(text.casefold()) if word not in _ARTICLES]
    for first, second in pairwise(stem(word) if not is_connecting(word) else "" for word in words):
        if first == second or first not in at or second not in at or first in _PERSONS:
            continue
        if min(abs(i - j) for i in at[first] for j in at[second]) > _NEAR_WORDS:
            return False
    return True


@lru_cache(maxsize=64)
def _spoken_labels(labels: tuple[str, ...]) -> tuple[re.Pattern[str] | None, dict[int, str]]:
    """One pattern for all labels as they are and as they are spoken; group `l3` stands for label 3."""
    plain = [label for label in labels if label and len(label.split()) <= MAX_LABEL_WORDS]
    exact = [re.escape(label).replace(r"\ ", r"\s+") for label in plain]
    spoken = [f"(?P<l{i}>{_spoken(label)})" for i, label in enumerate(plain) if _LETTERS.search(label)]
    if not spoken:
        return None, {}
    whole = "|".join([*exact, *spoken])
    return re.compile(rf"(?<!\w)(?:{whole})(?!\w)", re.IGNORECASE), dict(enumerate(plain))


def _spoken(label: str) -> str:
    return _BETWEEN_WORDS.join(_inflected(word) for word in label.split())


def _inflected(word: str) -> str:
    if not _LETTERS.fullmatch(word):
        return re.escape(word)
    forms = {word, word + "s", word + "es", word + "ed", word + "d", word + "ing"}
    forms |= {word + word[-1] + "ed", word + word[-1] + "ing"}
    if word.endswith("e"):
        forms |= {word[:-1] + "ing"}
    if word.endswith("y"):
        forms |= {word[:-1] + "ies", word[:-1] + "ied"}
    return "(?:" + "|".join(re.escape(form) for form in sorted(forms, key=lambda form: (-len(form), form))) + ")"


def clauses(sentence: str, citations: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """The stretches of a sentence that end in citations, with these; what follows the last one rests on all.

    >>> clauses("chop onion [1] [2], then fry onion [3].", (1, 2, 3))
    [('chop onion ', (1, 2)), (', then fry onion ', (3,)), ('.', (1, 2, 3))]
    """
    stretches, end = [], 0
    for mark in _CITED.finditer(sentence):
        stretches.append((sentence[end : mark.start()], tuple(int(one[1]) for one in CITATION.finditer(mark[0]))))
        end = mark.end()
    return [*stretches, (sentence[end:], citations)] if end < len(sentence) else stretches


def places(text: str, labels: set[str]) -> list[tuple[int, str]]:
    """Where each of `labels` stands in `text`, longest label first where they overlap; in reading order."""
    unread = f" {phrase_key(text)} "
    at_places: list[tuple[int, str]] = []
    for label in sorted(labels, key=lambda one: (-len(one), one)):
        inside = f" {label} "
        while (at := unread.find(inside)) >= 0:
            at_places.append((at, label))
            unread = unread[: at + 1] + "\0" * len(label) + unread[at + 1 + len(label) :]
    return sorted(at_places)


def prose_order_problem(claim: Claim, seen: Iterable[Sighting], *, predicted: str) -> str:
    """`wrong_order` when a neighbouring pair of labels, joined by a word of order, happened the other way round.

    The label that is `predicted` has not happened; its key is empty where nothing is.
    """
    starts: dict[str, list[float]] = {}
    for one in seen:
        starts.setdefault(one.key, []).append(one.start_s)
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
