"""Reads the prose of a chat model as the notation that the filters check: times, inflected labels, connecting English.

A label is recognised when its words stand in order, inflected and with articles between them: `chops the onion` is
`chop onion`. Connecting words claim nothing; words for things and actions are none of them, so that an object or an
action which no tool returned remains an invented word. Sentences that put labels in order are read here, too.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from itertools import pairwise

from aot.answers import NUMBER_WORDS
from aot.filtering.words import word_list
from aot.filtering.words.spoken import join_moments, read_times, short_forms
from aot.rationales.findings import Sighting, is_in_words, phrases_in
from aot.rationales.notation import CITATION, MOMENT, Claim
from aot.rationales.wording import DENIALS, phrase_key, stem
from aot.records import Span, Step

COUNTS = {**{word: str(number) for word, number in NUMBER_WORDS.items()}, "once": "1", "twice": "2", "thrice": "3"}
CONNECTING_WORDS = word_list("connecting.txt")
INSTRUCTION_WORDS = frozenset(
    ("answer", "choose", "pick", "select", "option", "instructed", "instruction", "instructs", "told", "tells")
)


_BETWEEN_WORDS = r"\s+(?:(?:of|up)\s+)?(?:(?:the|an|a|some|his|her|their|its)\s+)?"
_PASSIVE = (
    r"(?:['\u2019]s)?(?:\s+(?:is|are|was|were|be|been|being|gets?|got|getting|has|have|had|should|must|will|can|then|also|"
    r"again|now|first|next|finally|lastly|to|as it|that|which|starts?|began|begins|both)){1,5}\s+"
)
_IRREGULAR = {
    verb: forms.split()
    for verb, forms in (
        line.split(": ")
        for line in """beat: beaten
bend: bent
break: broke broken
bring: brought
buy: bought
draw: drew drawn
drink: drank drunk
drive: drove driven
eat: ate eaten
feed: fed
freeze: froze frozen
get: got
give: gave given
go: went gone
grind: ground
hang: hung
hold: held
lay: laid
make: made
ride: rode ridden
run: ran
see: saw seen
sew: sewn
shake: shook shaken
sing: sang sung
stick: stuck
sweep: swept
swim: swam
take: took taken
tear: tore torn
throw: threw thrown
wear: wore worn
wind: wound
write: wrote written""".splitlines()
    )
}
_PARTICLES = frozenset({"up", "on", "off", "out", "down", "in", "over", "away"})
_LETTERS = re.compile(r"[^\W\d_]{3,}")
_WORD = re.compile(r"[^\W_]+")
WORD_OR_MARK = re.compile(r"[^\W_]+|[,;:.()]")
_CITED = re.compile(rf"(?:{CITATION.pattern}[\s,]*)+(?<=\])")
_FORWARD = re.compile(
    r"\b(?:before|then|followed by|leads? (?:in)?to|precedes?|preceded|(?:and|only) after that|and next|later|"
    r"afterwards?|subsequently)\b"
)
_OF_THE_LAST = re.compile(r"\b(?:before|after) (?:that|this|it|which|them|these|those|doing so)\b")
_BACKWARD = re.compile(r"\b(?:after|follows?|followed|once|preceded by)\b")
_FIRST_OR_LAST = re.compile(r"\b(?:is|was|comes?|came|being) (?:the )?(?:very )?(first|last)\b")
_TIMES_BEFORE = re.compile(rf"{MOMENT.pattern} (?:comes?|came|happen\w*|occur\w*|is|was) before [^.]*?{MOMENT.pattern}")
MAX_LABEL_WORDS = 8
_ABSTRACT = ("ly", "ness", "ability", "ibility", "arity", "ivity", "ality")
"""Endings of words that say how, and of qualities."""
_CONCRETE = frozenset(
    {"butterfly", "firefly", "dragonfly", "horsefly", "assembly", "monopoly", "harness", "witness", "wilderness"}
)
_NEAR_WORDS, _BACK_WORDS = 7, 2
_ARTICLES = frozenset({"a", "an", "the", "his", "her", "their", "its", "some"})
_PERSONS = frozenset({"man", "woman", "boy", "girl", "person", "cook", "chef", "hand", "he", "she", "they"})
"""Stems of those who act, of whom a text goes on as `he` or `she` far from their name."""
_PRONOUNS = frozenset({"he", "she", "they"})
_KINDS = {**dict.fromkeys(("man", "boy", "he"), "male"), **dict.fromkeys(("woman", "girl", "she"), "female")}
_DOING = frozenset(
    map(
        stem,
        [
            "hold",
            "put",
            "stand",
            "take",
            "give",
            "go",
            "run",
            "turn",
            "leave",
            "drop",
            "fall",
            "carry",
            "bring",
            "use",
            "pick",
            "lie",
        ],
    )
)
"""Stems of connecting words that are also what somebody does in a clip."""


def as_notation(text: str, labels: Iterable[str], spans: Sequence[Span] = ()) -> str:
    """`text` with stretches of time as `0.2s-2.4s`, labels as they were returned, citations as `[1]`, denials as `not`.

    >>> as_notation("Between 0.2s and 2.4s the cook chops the onion (step 1).", ["chop onion"])
    '0.2s-2.4s the cook chop onion [1].'
    >>> as_notation("The onion's been chopped at 0.2s and nowhere else.", ["chop onion"])
    'The chop onion at 0.2s.'

    Args:
        text: words of anybody.
        labels: what the steps name.
        spans: when the steps saw something, and looked: what a rough time may stand for.
    """
    text = read_times(short_forms(text), spans)
    spoken, by_group = _spoken_labels(tuple(labels))
    if spoken is not None:
        text = spoken.sub(lambda mark: by_group[int(mark.lastgroup[1:])] if mark.lastgroup else mark[0], text)
    if not spans:
        return text
    keys = set(labels)
    return join_moments(text, spans, lambda clause: len({label for _, label in places(clause, keys)}))


def cited_on(claims: Iterable[Claim]) -> tuple[Claim, ...]:
    """`claims` that say anything; who cites nothing rests on what the next of its part cites, or the one before."""
    whole = list(claims)
    for order in (range(len(whole) - 2, -1, -1), range(1, len(whole))):
        for at in order:
            near = whole[at + 1] if order.step < 0 else whole[at - 1]
            if not whole[at].citations and near.citations and near.part == whole[at].part != "Identify":
                whole[at] = replace(whole[at], citations=near.citations)
    return tuple(one for one in whole if one.text or one.spans_s or one.moments_s or one.quotes)


def is_connecting(word: str) -> bool:
    """Whether a word joins claims, or says that something was asked, seen or concluded; no thing, no action of a clip.

    >>> is_connecting("observed"), is_connecting("kettle")
    (True, False)
    """
    bare = next((word[: -len(end)] for end in ("ly", "est") if word.endswith(end) and len(word) > 5), word)
    if not CONNECTING_WORDS.isdisjoint((word, bare, f"{bare}e")) or stem(word) in _connecting_stems():
        return True
    return len(word) == 1 or (len(word) > 6 and word.endswith(_ABSTRACT) and word not in _CONCRETE)


@cache
def _connecting_stems() -> frozenset[str]:
    return frozenset(stem(word) for word in CONNECTING_WORDS)


def heard(steps: Iterable[Step]) -> str:
    """The sentences that steps returned whose results are texts."""
    return " ".join(phrases_in(step for step in steps if is_in_words(step)))


def joined_as_said(text: str, said: str) -> bool:
    """Whether neighbouring content words of a claim stand near each other in `said` too, if both are said at all.

    Who does something must be the one of whom that is said, or `he`, `she` or `they` who may be.

    >>> joined_as_said("a man with a black plate", "A man holds a black pan, and then, much later, a blue plate")
    False
    >>> joined_as_said("the boy plays", "A girl plays the piano while a boy claps")
    False
    """
    order = [stem(word) for word in _WORD.findall(said.casefold())]
    at: dict[str, list[int]] = {}
    for place, word in enumerate(order):
        at.setdefault(word, []).append(place)
    words = [word for word in WORD_OR_MARK.findall(text.casefold()) if word not in _ARTICLES]
    kept = [
        stem(word) if word[0].isalnum() and (not is_connecting(word) or stem(word) in _DOING) else "" for word in words
    ]
    for first, second in pairwise(kept):
        if first == second or first not in at or second not in at:
            continue
        if first in _PERSONS:
            if not any(_may_be(first, _person_before(order, place)) for place in at[second]):
                return False
        elif not any(-_BACK_WORDS <= j - i <= _NEAR_WORDS for i in at[first] for j in at[second]):
            return False
    return True


def _person_before(order: list[str], place: int) -> str:
    return next((word for word in reversed(order[:place]) if word in _PERSONS and word != "hand"), "")


def _may_be(person: str, other: str) -> bool:
    """Whether two words may stand for one person, as `girl` and `she`."""
    kinds = [_KINDS.get(word, "any") for word in (person, other)]
    named = {person, other} - _PRONOUNS
    return "any" in kinds or (kinds[0] == kinds[1] and len(named) < 2)


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
    """How a label may be said: its words in order, or of verb and object the passive, `the onion is being chopped`."""
    words = [word for word in label.split() if word not in _ARTICLES] or label.split()
    plain = _BETWEEN_WORDS.join(map(_inflected, words))
    verb = words[:2] if len(words) > 2 and words[1] in _PARTICLES else words[:1]
    thing = words[len(verb) :]
    if not thing or not all(_LETTERS.fullmatch(word) for word in (verb[0], *thing)):
        return plain
    done = r"\s+".join([_inflected(verb[0]), *verb[1:]])
    doing = r"\s+".join([_inflected(verb[0], bare=False), *verb[1:]])
    object_ = r"\s+(?:the\s+|an?\s+)?".join(map(_inflected, thing))
    return rf"{plain}|{object_}(?:{_PASSIVE}{done}|(?:['\u2019]s)?\s+{doing})"


def _inflected(word: str, *, bare: bool = True) -> str:
    """Any form of a word; without `bare` of a verb only those that stand behind a noun."""
    if not _LETTERS.fullmatch(word):
        return re.escape(word)
    forms = {word, *_IRREGULAR.get(word, ()), word + "s", word + "es", word + "ed", word + "d", word + "ing"}
    forms |= {word + word[-1] + "ed", word + word[-1] + "ing"}
    if word.endswith("e"):
        forms |= {word[:-1] + "ing"}
    if word.endswith("y"):
        forms |= {word[:-1] + "ies", word[:-1] + "ied"}
    if not bare:
        forms -= {word}
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
    if _ends_problem(text, stand, starts) or any(
        float(m[1]) > float(m[2]) for m in _TIMES_BEFORE.finditer(claim.sentence)
    ):
        return "wrong_order"
    for index, ((at, first), (next_at, second)) in enumerate(pairwise(stand)):
        between = text[at + 1 + len(first) : next_at + 1]
        ahead = text[: at + 1] if index == 0 else ""
        order = _order(ahead, between)
        earlier, later = (first, second) if order > 0 else (second, first)
        if order and first != second and min(starts[earlier]) >= max(starts[later]):
            return "wrong_order"
    return ""


def _ends_problem(text: str, stand: list[tuple[int, str]], starts: dict[str, list[float]]) -> bool:
    """Whether the one label of a sentence is said to be the first or the last, and is not."""
    said = _FIRST_OR_LAST.findall(text)
    if len({label for _, label in stand}) != 1 or len(said) != 1:
        return False
    label_s, all_s = starts[stand[0][1]], [start_s for one in starts.values() for start_s in one]
    return min(label_s) > min(all_s) if said[0] == "first" else max(label_s) < max(all_s)


def _order(ahead: str, between: str) -> int:
    """1 when the first of two labels is said to come first, -1 when the second is, 0 when nothing is said."""
    forward, backward = _FORWARD.search(between), _BACKWARD.search(between)
    if forward and forward[0].startswith(("followed by", "precede")) and "preceded by" not in between:
        return 1
    if backward and "afterwards" not in between and "after that" not in between:
        return -1
    if forward:
        return 1
    opening = _OF_THE_LAST.sub(" ", ahead).split()[-4:]
    if "after" in opening or "once" in opening:
        return 1
    return -1 if "before" in opening else 0


def denied_options(claim: Claim, options: Iterable[str]) -> set[str]:
    """Those of `options` that stand behind the last denial of a claim: `the piano and not the drums`."""
    keys, text = {phrase_key(option) for option in options}, f" {phrase_key(claim.text)} "
    behind = max(text.rfind(f" {word} ") for word in DENIALS)
    return {label for at, label in places(claim.text, keys) if at > behind}
