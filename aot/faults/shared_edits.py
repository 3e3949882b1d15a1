"""The defects that have nothing to do with what a rationale is about: cut off, going round in a loop, garbled words."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from numpy.random import Generator

from aot.rationales.wording import phrase_key

Item = TypeVar("Item")

OPPOSITE = {"yes": "no", "no": "yes"}
"""Answers to questions that have two."""
_BROKEN = ("\ufffd\ufffd", "Ã¼Ã©", "\x00\x01", "â€œ")


def pick(items: Sequence[Item], rng: Generator) -> Item:
    """One of `items`, which must not be empty."""
    return items[int(rng.integers(len(items)))]


def other_option(options: Sequence[str], answer: str, rng: Generator) -> str | None:
    """One of `options` that says something else than `answer`; None where all say the same."""
    others = [option for option in options if phrase_key(option) != phrase_key(answer)]
    return pick(others, rng) if others else None


def beginning(text: str, rng: Generator) -> str | None:
    """The text up to the middle of a sentence, at least three tenths of it; None where there is no such place."""
    text = text.rstrip()
    places = [at for at in range(len(text) * 3 // 10, len(text)) if not text[:at].rstrip().endswith((".", "!", "?"))]
    return text[: pick(places, rng)].rstrip() if places else None


def looping(sentence: str, copies: int, rng: Generator) -> str:
    """A sentence whose last words come again and again."""
    words = sentence.rstrip(".").split()
    tail = words[-int(rng.integers(1, min(4, len(words)) + 1)) :]
    return " ".join(words + tail * copies) + "."


def garbled(
    words: Sequence[str],
    rng: Generator,
    *,
    foreign: Sequence[str],
    shuffle: Callable[[str, Generator], str],
    min_letters: int = 0,
) -> str:
    """At least three words, some of them in another language, with shuffled letters, or in a broken encoding.

    At least two words of `min_letters` must look otherwise once their letters are shuffled, or all are spoilt.
    """
    count = int(rng.integers(2, min(6, len(words)) + 1))
    at = int(rng.integers(0, len(words) - count + 1))
    old, how = words[at : at + count], int(rng.integers(3))
    if how == 0:
        new = pick(foreign, rng).split()
    elif how == 1:
        new = [shuffle(word, rng) for word in old]
        if sum(len(word) >= min_letters and word != was for word, was in zip(new, old, strict=True)) < 2:
            new = [word + "xq" for word in old]
    else:
        new = [word[:1] + pick(_BROKEN, rng) + word[2:] for word in old]
    return " ".join([*words[:at], *new, *words[at + count :]])


def shuffled_letters(word: str, rng: Generator) -> str:
    """The letters of a word in another order."""
    return "".join(rng.permutation(list(word)))
