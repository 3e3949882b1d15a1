"""Every phrase that a template rationale is made of, in one look-up; and how a label is written inside a sentence.

The teacher's verbaliser fills these phrases, the evidence filter knows their words, and a word-level student needs them
in its vocabulary: so they stand below all three. Phrases are terse and share their words on purpose.
"""

import re
from functools import cache, lru_cache

from aot.rationale import MOMENT, PARTS, SPAN

PHRASES: dict[str, tuple[str, ...]] = {
    "identify.next": ("the next step after {end} is asked.", "asked is the next step after {end}."),
    "identify.before": ("the step before {event} is asked.", "asked is the step before {event}."),
    "identify.after": ("the step after {event} is asked.", "asked is the step after {event}."),
    "identify.count": ("how often {event} happens is asked.", "asked is how often {event} happens."),
    "identify.when": ("when {event} happens is asked.", "asked is when {event} happens."),
    "identify.present": ("whether {event} is there is asked.", "asked is whether {event} is there."),
    "identify.other": ("what fits in {window} is asked.", "asked is what fits in {window}."),
    "gather.span": ("{span} {label} {cite}.", "{label} {span} {cite}."),
    "gather.moment": ("{label} at {moment} {cite}.", "at {moment} {label} {cite}."),
    "gather.none": ("no {event} in {window} {cite}.", "in {window} no {event} {cite}."),
    "combine.next": (
        "{task} fits, after {last} comes {answer} {cite}.",
        "{task} fits, {answer} comes after {last} {cite}.",
    ),
    "combine.next_without_task": ("after {last} comes {answer} {cite}.", "{answer} comes after {last} {cite}."),
    "combine.before": ("before {event} is {answer} {cite}.", "{answer} is before {event} {cite}."),
    "combine.after": ("after {event} is {answer} {cite}.", "{answer} is after {event} {cite}."),
    "combine.count_one": ("{event} happens {answer} time {cite}.", "{answer} time {event} happens {cite}."),
    "combine.count": ("{event} happens {answer} times {cite}.", "{answer} times {event} happens {cite}."),
    "combine.when": ("{event} happens in {answer} {cite}.", "in {answer} {event} happens {cite}."),
    "combine.present": ("{event} is there {cite}.", "there is {event} {cite}."),
    "combine.absent": ("{event} is not there {cite}.", "there is no {event} {cite}."),
    "combine.other": ("{answer} fits {cite}.", "what fits is {answer} {cite}."),
}  # fmt: skip
"""Sentence name to its phrasings; {cite} is one or more `[n]`."""

_SLOT = re.compile(r"\{\w+\}")
_WORD = re.compile(r"[^\W_]+")
_BREAKS_A_SENTENCE = re.compile(r"[.!?]+(?=\s|$)|[\[\]:\s]")


@cache
def template_words() -> frozenset[str]:
    """All words of all phrasings as they are written, with the part headings and `yes` and `no`.

    >>> "asked" in template_words() and "Gather" in template_words()
    True
    """
    texts = [_SLOT.sub(" ", phrase) for phrasings in PHRASES.values() for phrase in phrasings]
    return frozenset(word for text in (*texts, *PARTS, "yes no") for word in _WORD.findall(text))


def in_sentence(label: str) -> str:
    """A label of any data set as it stands inside a rationale: one line, nothing that ends a sentence or cites.

    >>> in_sentence("Add 2 tsp. of salt [optional]")
    'Add 2 tsp of salt optional'
    """
    return " ".join(_BREAKS_A_SENTENCE.sub(" ", label).split())


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
