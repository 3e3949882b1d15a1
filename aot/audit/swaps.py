"""Counterfactual pairs of a run's own questions: names, genders or places are swapped, and answers must not change.

What may be swapped stands in words/*.txt, as data. A name becomes another one of its own kind (`name`), or one of the
other kind (`gender`, with words such as `he` and `mother`), and a place another place (`place`). The same swap is made
in the choices and in what counts as the same answer. Knows no student.
"""

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import ValidationError

from aot import seeds
from aot.records import Question

Swap = Literal["name", "gender", "place"]
SWAPS: tuple[Swap, ...] = ("name", "gender", "place")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_POSSESSIVE = "her"


@dataclass(frozen=True)
class Pair:
    """A question and the same with something swapped."""

    swap: Swap
    question: Question
    swapped: Question
    mapping: Mapping[str, str]
    """Of what was swapped, in both texts as they stand."""
    names_only: bool
    """Whether nothing but names was swapped, so that it can be compared with a swap of names of one kind."""

    def said_as(self, answer: str) -> str:
        """What an answer to the question is called in the swapped one."""
        return swap_words(answer, self.mapping)


@dataclass(frozen=True)
class Words:
    """What may be swapped."""

    names: tuple[frozenset[str], frozenset[str]]
    """Of women, and of men."""
    gendered: Mapping[str, str]
    """Both ways, in small letters."""
    places: frozenset[str]


@cache
def words() -> Words:
    """What stands in words/*.txt."""
    texts = {name: _lines(f"{name}.txt") for name in ("names", "gendered", "places")}
    women, men = (frozenset(line.split(": ", 1)[1].split()) for line in texts["names"])
    both = [line.casefold().split() for line in texts["gendered"]]
    gendered = {pair[0]: pair[1] for pair in both} | {pair[1]: pair[0] for pair in reversed(both)}
    return Words((women, men), gendered, frozenset(texts["places"]))


def _lines(name: str) -> list[str]:
    text = (files("aot.audit") / "words" / name).read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def pairs_of(questions: Sequence[Question], *, seen: Iterable[str] = (), seed: int) -> list[Pair]:
    """Every pair that the questions give, in their order; a question without a word to swap gives none.

    Args:
        questions: what is swapped.
        seen: texts that the student learned from; their names and places are swapped in, where there are at least two
            of a kind, because others may be words that it never saw.
        seed: of what is swapped in.
    """
    there = {word for text in seen for word in _WORD.findall(text)}
    pools = _Pools(*(_pool(kind, there) for kind in (*words().names, words().places)))
    return [pair for question in questions for swap in SWAPS if (pair := _pair(question, swap, pools, seed=seed))]


@dataclass(frozen=True)
class _Pools:
    """What is swapped in."""

    women: frozenset[str]
    men: frozenset[str]
    places: frozenset[str]


def _pool(kind: frozenset[str], there: Set[str]) -> frozenset[str]:
    return kind & there if len(kind & there) > 1 else kind


def _pair(question: Question, swap: Swap, pools: _Pools, *, seed: int) -> Pair | None:
    there = set(_WORD.findall(" ".join([question.text, *question.choices])))
    mapping = _mapping(there, swap, pools, seeds.hashed(seed, "swap", swap, question.id))
    if not mapping:
        return None
    changed = {
        "id": f"{question.id}#{swap}", "text": swap_words(question.text, mapping),
        "choices": tuple(swap_words(one, mapping) for one in question.choices),
        "answer": swap_words(question.answer, mapping),
    }  # fmt: skip
    try:
        swapped = Question.model_validate(question.model_dump() | changed)
    except ValidationError:  # such as an answer that was no whole word of its choice
        return None
    if len(set(swapped.choices)) < len(set(question.choices)):
        return None
    names_only = all(word in words().names[0] | words().names[1] for word in mapping)
    return Pair(swap, question, swapped, mapping, names_only)


def _mapping(there: Set[str], swap: Swap, pools: _Pools, number: int) -> dict[str, str]:
    """What is swapped for what among the words of a question; empty where nothing is, or too few words are there."""
    lists = words()
    if swap == "place":
        return _replaced(there & lists.places, pools.places, there, number) or {}
    women, men = there & lists.names[0], there & lists.names[1]
    same = swap == "name"
    of_women = _replaced(women, pools.women if same else pools.men, there, number)
    of_men = _replaced(men, pools.men if same else pools.women, there, number)
    if of_women is None or of_men is None:
        return {}
    gendered = {} if same else {word: lists.gendered[word.casefold()] for word in there if _is_gendered(word)}
    cased = {word: other.capitalize() if word[0].isupper() else other for word, other in sorted(gendered.items())}
    return of_women | of_men | cased


def _is_gendered(word: str) -> bool:
    return word.casefold() in words().gendered and word not in words().names[0] | words().names[1]


def _replaced(old: Set[str], pool: Set[str], there: Set[str], number: int) -> dict[str, str] | None:
    """Each old word with another of a pool, no two with the same one; None where the pool is too small.

    Words that stand in the text already come last: then people change places, as all are swapped at once.
    """
    free = sorted(pool - there)
    start = number % len(free) if free else 0
    back = sorted(pool & there)
    new = [*free[start:], *free[:start], *(back if free else (*back[1:], *back[:1]))]
    pairs = list(zip(sorted(old), new, strict=False))
    return None if len(pairs) < len(old) or any(one == other for one, other in pairs) else dict(pairs)


def swap_words(text: str, mapping: Mapping[str, str]) -> str:
    """`text` with whole words swapped, all at once.

    >>> swap_words("Ann gives her pen to Bob.", {"Ann": "Max", "Bob": "Sue", "her": "his"})
    'Max gives his pen to Sue.'
    """

    def one(match: re.Match[str]) -> str:
        word = match[0]
        other = mapping.get(word, word)
        if word.casefold() == _POSSESSIVE and word in mapping:
            # `her` is both `his` and `him`: before a word it tells whose, else whom.
            other = "his" if re.match(r"\s+[^\W\d_]", text[match.end() :]) else "him"
            other = other.capitalize() if word[0].isupper() else other
        return other

    return _WORD.sub(one, text)
