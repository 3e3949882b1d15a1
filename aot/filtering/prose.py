"""Reads the prose of a chat model as the notation that the filters check: times, inflected labels, connecting English.

A label is recognised when its words stand in order, inflected and with articles between them: `chops the onion` is
`chop onion`. Connecting words claim nothing; words for things and actions are none of them, so that an object or an
action which no tool returned remains an invented word.
"""

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from itertools import pairwise

from aot.answers import NUMBER_WORDS
from aot.filtering.connecting_words import CONNECTING_WORDS
from aot.rationales.findings import is_text, phrases_in
from aot.rationales.wording import stem
from aot.records import Step

COUNTS = {**{word: str(number) for word, number in NUMBER_WORDS.items()}, "once": "1", "twice": "2", "thrice": "3"}
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
    spoken, known = _spoken_labels(tuple(labels))
    if spoken is None:
        return text
    return spoken.sub(lambda mark: known[int(mark.lastgroup[1:])] if mark.lastgroup else mark[0], text)


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
    return " ".join(phrases_in(step for step in steps if is_text(step)))


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
