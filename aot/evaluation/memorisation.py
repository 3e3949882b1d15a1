"""How far each question is from the nearest question of training, and whether right answers keep to near ones.

Distance is 1 minus the Jaccard index of two questions' word triples (Broder 1997), a triple counted as often as it
occurs. It is measured twice: with numbers as they are (`exact`) and with every number alike (`template`), so that a
wording of training with new numbers is far in the first sense and at 0 in the second. Distances are exact: every pair
is looked at, through an index from triples to training questions. Frames are no part of it.
"""

import functools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from aot.evaluation.groups import Cell
from aot.evaluation.intervals import Bootstrap, interval_of
from aot.records import MetricRow, Question

Sense = Literal["exact", "template"]
SENSES: tuple[Sense, ...] = ("exact", "template")
EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Bins of distance: 0 itself, then up to each further edge."""
_WORD = re.compile(r"\d+(?:[.,:]\d+)*|\w+|[^\w\s]")
_SHINGLE = 3

Shingle = tuple[tuple[str, ...], int]
"""Words, and which occurrence of them in its question this is."""


class Nearest(NamedTuple):
    """Question id to its distance to the nearest question of training in each sense, and what that is measured to."""

    by_id: Mapping[str, Mapping[Sense, float]]
    note: str


def nearness(questions: Sequence[Question], training: Sequence[Question]) -> dict[str, dict[Sense, float]]:
    """Question id to its distance in each sense, 0 to 1; empty without training questions."""
    if not training:
        return {}
    texts, learned = ([_wording(question) for question in of] for of in (questions, training))
    of = {sense: nearest_distances(texts, learned, sense=sense) for sense in SENSES}
    return {one.id: {sense: float(of[sense][at]) for sense in SENSES} for at, one in enumerate(questions)}


def _wording(question: Question) -> str:
    """All words of a question; its options in the order of the alphabet, because theirs is often shuffled."""
    return "\n".join((question.text, *sorted(question.choices)))


def nearest_distances(texts: Sequence[str], learned: Sequence[str], *, sense: Sense) -> np.ndarray:
    """Distance of each of `texts` to the nearest of `learned`, (n,), each 0 to 1; `learned` must not be empty."""
    sets = list(dict.fromkeys(shingles(text, sense=sense) for text in learned))
    sizes = np.array([len(one) for one in sets], dtype=float)
    places: dict[Shingle, list[int]] = {}
    for place, one in enumerate(sets):
        for shingle in one:
            places.setdefault(shingle, []).append(place)
    index = {shingle: np.array(holders, dtype=np.int64) for shingle, holders in places.items()}

    @functools.cache  # many questions are alike once numbers are
    def distance(words: frozenset[Shingle]) -> float:
        holders = [index[shingle] for shingle in words if shingle in index]
        if not holders:
            return 1.0
        shared = np.bincount(np.concatenate(holders), minlength=len(sets))
        return 1.0 - float(np.max(shared / (len(words) + sizes - shared)))

    return np.array([distance(shingles(text, sense=sense)) for text in texts])


def shingles(text: str, *, sense: Sense) -> frozenset[Shingle]:
    """The word triples of a text in lower case, each with the number of its occurrence.

    >>> sorted(words for words, _ in shingles("Add 12 and 7.", sense="template"))
    [('#', 'and', '#'), ('add', '#', 'and'), ('and', '#', '.')]
    """
    words = _WORD.findall(text.lower())
    if sense == "template":
        words = ["#" if word[0].isdigit() else word for word in words]
    counts: Counter[tuple[str, ...]] = Counter()
    triples = []
    for start in range(max(1, len(words) - _SHINGLE + 1)):
        words_here = tuple(words[start : start + _SHINGLE])
        triples.append((words_here, counts[words_here]))
        counts[words_here] += 1
    return frozenset(triples)


def memorisation_rows(cell: Cell, near: Nearest, bootstrap: Bootstrap) -> Iterator[MetricRow]:
    """In each sense: `accuracy_at_<sense>_distance_<bin>`, and `<sense>_distance_correlation`.

    The correlation is Spearman's between distance and right (1) or wrong (0); negative means that an arm is right on
    what is near. Its interval resamples clusters and keeps the ranks of the whole sample. There is none where every
    question is as near as the others, or every answer alike.
    """
    for sense in SENSES:
        distances = np.array([near.by_id[question.id][sense] for question in cell.questions])
        for name, inside in _bins(distances):
            yield cell.share(f"accuracy_at_{sense}_distance_{name}", cell.correct, near.note, among=inside)
        if len(np.unique(distances)) > 1 and len(np.unique(cell.correct)) > 1:
            yield _correlation_row(cell, distances, f"{sense}_distance_correlation", bootstrap, near.note)


def _bins(distances: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Name and members of each bin that is not empty."""
    # Rounded, so that 1 - 0.75 falls into one bin whatever the order of the sums that made it.
    numbers = np.searchsorted(EDGES, np.round(distances, 9))
    for number in np.unique(numbers):
        name = "0" if number == 0 else f"{EDGES[number - 1]:g}-{EDGES[number]:g}"
        yield name, numbers == number


def _correlation_row(cell: Cell, distances: np.ndarray, metric: str, bootstrap: Bootstrap, note: str) -> MetricRow:
    # Ranks of the whole sample are kept in each resample: ranking anew would make another quantity of each draw.
    x, y = (_centred_ranks(values) for values in (distances, cell.correct))
    sums = bootstrap.sums_BK(np.stack([x, y, x * x, y * y, x * y, np.ones_like(x)], axis=1), cell.clusters)
    draws = _correlation(sums)
    value = float(_correlation(np.array([[0.0, 0.0, x @ x, y @ y, x @ y, float(len(x))]]))[0])
    interval = interval_of(value, draws[np.isfinite(draws)], cluster_ids=cell.clusters, bounds=(-1.0, 1.0))
    return cell.row(metric, interval, f"Spearman; negative: right on what is near; {note}")


def _correlation(sums_BK: np.ndarray) -> np.ndarray:
    """Pearson's correlation from the sums of x, y, xx, yy, xy and 1, (B,); NaN where one of them does not vary."""
    x, y, xx, yy, xy, n = sums_BK.T
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.sqrt(np.maximum(0, n * xx - x * x) * np.maximum(0, n * yy - y * y))
        correlation: np.ndarray = (n * xy - x * y) / scale
    return np.where(np.isfinite(correlation), correlation, np.nan)


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks with ties shared, minus their mean."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = ((ends - counts + ends - 1) / 2)[places]
    return np.asarray(ranks - ranks.mean())
