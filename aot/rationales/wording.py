"""Every phrase that a template rationale is made of, in one look-up; how labels and quoted texts stand in a sentence.

The teacher's verbaliser fills these phrases, the evidence filter knows their words, and a word-level student needs them
in its vocabulary: so they stand below all three. Phrases are terse and share their words on purpose.
"""

import re
import unicodedata
from collections.abc import Mapping
from functools import cache, lru_cache

from aot.rationales.notation import MOMENT, PARTS, SPAN

PHRASES: dict[str, tuple[str, ...]] = {
    "identify.next": ("the question asks for the step after {end}.", "we need the step that comes after {end}."),
    "identify.before": (
        "the question asks for the step before {event}.",
        "we need the step that comes before {event}.",
    ),
    "identify.after": ("the question asks for the step after {event}.", "we need the step that comes after {event}."),
    "identify.count": ("the question asks how often {event} happens.", "we need to know how often {event} happens."),
    "identify.when": ("the question asks when {event} happens.", "we need to know when {event} happens."),
    "identify.present": (
        "the question asks whether {event} is visible.",
        "we need to know whether {event} is visible.",
    ),
    "identify.other": ("the question asks about {window}.", "we need to know about {window}."),
    "gather.span": ("{span} {label} {cite}.", "{label} {span} {cite}."),
    "gather.moment": ("{label} at {moment} {cite}.", "at {moment} {label} {cite}."),
    "gather.none": ("we see no {event} in {window} {cite}.", "in {window} we see no {event} {cite}."),
    "combine.next": (
        "this is {task}, where {answer} comes after {last} {cite}.",
        "in {task}, the step after {last} is {answer} {cite}.",
    ),
    "combine.next_without_task": ("{answer} comes after {last} {cite}.", "the step after {last} is {answer} {cite}."),
    "combine.before": ("{answer} comes before {event} {cite}.", "the step before {event} is {answer} {cite}."),
    "combine.after": ("{answer} comes after {event} {cite}.", "the step after {event} is {answer} {cite}."),
    "combine.count_one": ("{event} happens {answer} time {cite}.", "we see {event} {answer} time {cite}."),
    "combine.count": ("{event} happens {answer} times {cite}.", "we see {event} {answer} times {cite}."),
    "combine.when": ("{event} happens at {answer} {cite}.", "at {answer} we see {event} {cite}."),
    "combine.present": ("{event} is visible {cite}.", "we see {event} {cite}."),
    "combine.absent": ("{event} is not visible {cite}.", "we see no {event} {cite}."),
    "combine.other": ("the best fit is {answer} {cite}.", "this suggests {answer} {cite}."),
}  # fmt: skip
"""Sentence name to its phrasings; {cite} is one or more `[n]`."""
BOOK_PHRASES: dict[str, tuple[str, ...]] = {
    "identify.book_next": ("the question asks for the next step on the card.", "we need the next step on the card."),
    "identify.book_left_out": ("the question asks which step was left out.", "we need the step that was left out."),
    "identify.book_early": ("the question asks which step came too early.", "we need the step that came too early."),
    "identify.book_missing": (
        "the question asks which steps are still missing.",
        "we need the steps that are still missing.",
    ),
    "combine.book_next": (
        "the card lists {answer} after {other} {cite}.",
        "on the card, {answer} comes after {other} {cite}.",
    ),
    "combine.book_left_out": (
        "the card lists {answer} before {other}, but it was left out {cite}.",
        "{answer} was left out, but the card lists it before {other} {cite}.",
    ),
    "combine.book_early": (
        "the card lists {answer} after {other}, so it came too early {cite}.",
        "{answer} came too early, since the card lists it after {other} {cite}.",
    ),
    "combine.book_missing": (
        "the card lists {answer}, which we still need {cite}.",
        "what is still missing is {answer} {cite}.",
    ),
}  # fmt: skip
"""The same for questions that a recipe card answers. Apart from PHRASES, because their words claim something: that a
step is missing, left out or too early; so only rationales of these kinds have them for nothing."""
QUOTE_PHRASES = {
    "said": '{times} said "{text}" {cite}.',
    "not said": '{times} not said "{text}" {cite}.',
    "seen": '{times} seen "{text}" {cite}.',
    "answered": '{times} asked "{question}" answered "{text}" {cite}.',
}
"""How a text came to how a rationale tells it. Apart from PHRASES, because a word-level student knows no quotes: their
words are those of anybody."""
NOTHING_GATHERED = "nothing is known."
"""Where no step looked; it denies nothing, and cites nothing, so that no filter keeps it."""
MAX_QUOTE_CHARS = 160
"""A longer text is cut at a word and ends in ` ...`."""
DENIALS = frozenset({"no", "not", "never", "without", "nothing", "none", "neither", "nor", "cannot", "t"})
"""`t` is what is left of `doesn't`."""

_SLOT = re.compile(r"\{\w+\}")
_WORD = re.compile(r"[^\W_]+")
_BREAKS_A_SENTENCE = re.compile(r"[.!?]+(?=\s|$)|[\[\]:\s]")
_BREAKS_A_QUOTE = str.maketrans(
    {**dict.fromkeys('"\u201c\u201d\u201e\u201f\u00ab\u00bb', "'"), **dict.fromkeys("[](){}<>|\\`", " ")}
)
_NO_CLOCK_COLON = re.compile(r"\s*(?:(?<!\d):|:(?!\d))[\s:]*")


@cache
def book_words() -> frozenset[str]:
    """All words of the phrasings about recipe cards, as they are written."""
    return _words_of(BOOK_PHRASES)


@cache
def template_words() -> frozenset[str]:
    """All words of all phrasings but those about cards, as they are written, with the part headings and `yes` and `no`.

    >>> "question" in template_words() and "Gather" in template_words()
    True
    """
    return _words_of(PHRASES) | {*PARTS, "yes", "no"}


def _words_of(phrases: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    texts = (_SLOT.sub(" ", phrase) for phrasings in phrases.values() for phrase in phrasings)
    return frozenset(word for text in texts for word in _WORD.findall(text))


def in_sentence(label: str) -> str:
    """A label of any data set as it stands inside a rationale: one line, nothing that ends a sentence or cites.

    >>> in_sentence("Add 2 tsp. of salt [optional]")
    'Add 2 tsp of salt optional'
    """
    return " ".join(_BREAKS_A_SENTENCE.sub(" ", label).split())


@lru_cache(maxsize=4096)
def quotable(text: str) -> str:
    r"""A text as it stands between quotation marks: one line of at most `MAX_QUOTE_CHARS` characters.

    Control and invisible characters go, and whatever a reader of rationales, a chat template or a tokenizer may take
    for a mark of its own: brackets, quotation marks, and colons but for those of a clock.

    >>> quotable('Chef:\n"Heat it to 10:30 [1]" <|im_start|>')
    "Chef, 'Heat it to 10:30 1 ' im_start"
    """
    shown = unicodedata.normalize("NFC", text[: 16 * MAX_QUOTE_CHARS])
    shown = "".join(" " if c.isspace() else c for c in shown if c.isspace() or unicodedata.category(c)[0] != "C")
    words = " ".join(_NO_CLOCK_COLON.sub(", ", shown.translate(_BREAKS_A_QUOTE)).split()).strip(" ,")
    if len(words) <= MAX_QUOTE_CHARS:
        return words
    cut = words[: MAX_QUOTE_CHARS - 3]
    return f"{cut.rpartition(' ')[0] or cut} ..."


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """A word without its ending, equal for most inflections of one word.

    >>> stem("flips") == stem("flipped") == stem("flipping") == stem("flip")
    True
    >>> stem("glass") == stem("glasses")
    True
    """
    for ending, put in (("ies", "y"), ("ied", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", "")):
        least = 2 if put and len(word) > 4 else 3  # `fried` is `fry`, `pies` is `pie`
        if word.endswith(ending) and len(word) - len(ending) >= least and not word.endswith("ss"):
            word = word[: -len(ending)] + put
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def stems_of(text: str) -> frozenset[str]:
    """The stems of all words of `text`."""
    return frozenset(stem(word) for word in _WORD.findall(text.casefold()))


@lru_cache(maxsize=65536)
def phrase_key(text: str) -> str:
    """The words of `text` without case, marks and times: equal for two spellings of one label.

    >>> phrase_key("Chop  Onion.") == phrase_key("chop onion")
    True
    >>> phrase_key("boil for 10 s")
    'boil for'
    """
    without_times = MOMENT.sub(" ", SPAN.sub(" ", text))
    words = _WORD.findall(without_times.casefold()) or _WORD.findall(text.casefold())
    return " ".join(words)
