"""Checks a chain that puts people or things in order, `Cid > Ann > Bob`, against the comparisons of its question."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from aot.rationales.text_chain import TextChain

Pair = tuple[str, str]
"""(above, below)."""

_COMPARED = re.compile(r"\b([^\W\d]\w*+) is (?:much )?(?:(more|less) )?(\w++) than ([^\W\d]\w*+)")
_ASKED = re.compile(r"\b(?:is|are) the (?:(most|least) )?(\w++)\s?\?")
_CLAIM = re.compile(r"\b([^\W\d]\w*+) is (first|last)\b")
_LESSER = {
    "shorter": "taller", "younger": "older", "slower": "faster", "weaker": "stronger", "smaller": "bigger",
    "lighter": "heavier", "lower": "higher", "cheaper": "dearer", "poorer": "richer", "colder": "warmer",
}  # fmt: skip
"""A comparison that says who is below, to the one that says who is above."""


def order_problem(chain: TextChain, question: str, answer: str) -> tuple[str, str]:
    """What is wrong with the orders of `chain`, with a detail; two empty texts when nothing is.

    Every pair of neighbours must follow from the question. A line with a pair and an order (`Dan > Cid: Bob > Dan >
    Cid`) adds that pair; then neighbours must follow from the pairs added so far.
    """
    scale, asks_most = _question_scale(question)
    given = _given(question, scale)
    if not given:
        return "", ""
    problem = next(_problems(chain, given), None)
    if problem:
        return problem
    last = next(orders[-1] for orders in reversed(chain.orders) if orders)
    missing = {name for pair in given for name in pair} - set(last)
    if missing:
        return "order_incomplete", ", ".join(sorted(missing))
    ends = {True: last[:1], False: last[-1:], None: (last[0], last[-1])}[asks_most]
    return ("", "") if answer.strip().rstrip(".") in ends else ("result_is_not_answer", " > ".join(last))


def _question_scale(question: str) -> tuple[str, bool | None]:
    """The scale that the question asks about, and whether for its top; an empty text and None when nobody can tell."""
    asks = _ASKED.search(question)
    if not asks:
        return "", None
    if asks[1]:
        return asks[2], asks[1] == "most"
    if not asks[2].endswith("est"):
        return "", None
    word = asks[2][:-3] + "er"
    return _LESSER.get(word, word), word not in _LESSER


def _given(question: str, scale: str) -> set[Pair]:
    pairs: set[Pair] = set()
    for first, degree, word, second in _COMPARED.findall(question):
        if scale in ("", _LESSER.get(word, word)):
            is_less = degree == "less" or (not degree and word in _LESSER)
            pairs.add((second, first) if is_less else (first, second))
    return pairs


def _problems(chain: TextChain, given: set[Pair]) -> Iterator[tuple[str, str]]:
    added: set[Pair] = set()
    current: Sequence[str] = ()
    is_stepwise = any(len(orders) > 1 for orders in chain.orders)
    for line, orders in zip(chain.lines, chain.orders, strict=True):
        if len(orders) > 1 and len(orders[0]) == 2:
            above, below = orders[0]
            if (above, below) not in given:
                yield "order_not_given", f"{above} > {below}"
            added.add((above, below))
        if orders:
            current = orders[-1]
            for pair in pairwise(current):
                if not _follows(pair, given):
                    yield "order_not_given", " > ".join(pair)
                if is_stepwise and not _follows(pair, added):
                    yield "used_before_made", " > ".join(pair)
        for name, end in _CLAIM.findall(line):
            if not current or name != current[0 if end == "first" else -1]:
                yield ("used_before_made" if not current else "order_not_given"), f"{name} is {end}"


def _follows(pair: Pair, given: set[Pair]) -> bool:
    """Whether the first is above the second by any number of given pairs."""
    reached, open_names = {pair[0]}, [pair[0]]
    while open_names:
        name = open_names.pop()
        new = {below for above, below in given if above == name} - reached
        reached |= new
        open_names.extend(new)
    return pair[1] in reached and pair[0] != pair[1]
