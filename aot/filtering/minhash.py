"""MinHash signatures and an index of them: finds texts whose sets of word triples overlap by a given share.

A. Z. Broder, On the resemblance and containment of documents, 1997. Hashes are fixed, so the same texts give the same
answers in every process.
"""

import hashlib
import re
import zlib
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_NUMBER = re.compile(r"\d+(?:[,.:]\d+)*")

SHINGLE = 3
NUM_HASHES = 64
BAND = 8
"""Rows of one band. Texts of overlap J share one of 8 bands with probability 1-(1-J^8)^8: 99.98% at 0.95, 3% at 0.5."""

_DRAWS = np.random.Generator(np.random.PCG64(20))
_FACTORS = _DRAWS.integers(1, 2**63, size=(NUM_HASHES, 1), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_PLACES = _DRAWS.integers(1, 2**63, size=SHINGLE, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_ROWS = _DRAWS.integers(1, 2**63, size=NUM_HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_OFFSETS = _DRAWS.integers(0, 2**63, size=(NUM_HASHES, 1), dtype=np.uint64)


@dataclass(frozen=True)
class Sketch:
    """What is kept of a text."""

    signature: NDArray[np.uint32]
    bands: list[int]
    """One hash for each band of the signature, mixed with the bucket of the text."""


def plain_words(text: str) -> str:
    """`text` without the case of its letters, the width of its gaps and the marks at the ends of its words.

    >>> plain_words("What  is 12 + 7?")
    'what is 12 + 7'
    """
    words = (word.strip(".,;:!?\"'") for word in text.casefold().split())
    return " ".join(word for word in words if word)


def numbers_key(text: str) -> bytes:
    """Eight bytes that stand for the digits of `text` in order: a bucket in which only texts of the same numbers meet.

    >>> numbers_key("12 + 7") == numbers_key("7 + 12"), numbers_key("$1,200.") == numbers_key("1200")
    (False, True)
    """
    numbers = [number.replace(",", "") for number in _NUMBER.findall(text)]
    return hashlib.blake2b(" ".join(numbers).encode(), digest_size=8).digest()


def sketch(text: str, *, bucket: bytes) -> Sketch:
    """64 MinHash values over the word triples of `text`; equal texts of one bucket give equal sketches."""
    words = np.fromiter(map(_word_hash, text.split() or [""]), dtype=np.uint64)
    count = max(1, len(words) - SHINGLE + 1)
    triples = words[:count] * _PLACES[0]
    for place in range(1, min(SHINGLE, len(words))):
        triples += words[place : place + count] * _PLACES[place]
    signature = ((_FACTORS * triples + _OFFSETS) >> np.uint64(32)).min(axis=1)
    rows = (signature * _ROWS).reshape(-1, BAND).sum(axis=1)
    bands = ((rows ^ np.uint64(zlib.crc32(bucket))) * _PLACES[0]).tolist()
    return Sketch(signature.astype(np.uint32), bands)


def jaccard(a: Sketch, b: Sketch) -> float:
    """Estimated overlap of two texts' word triples, 0 to 1; standard error at most 0.06, and 0.02 near 0.97."""
    return float(np.count_nonzero(a.signature == b.signature)) / NUM_HASHES


@dataclass
class NearIndex:
    """Sketches to be found again; only texts of one bucket can meet."""

    threshold: float
    _sketches: list[NDArray[np.uint32]] = field(default_factory=list)
    _bands: dict[int, int | list[int]] = field(default_factory=dict)
    """Band hash to the sketch that has it, or to a list of them."""

    def best(self, own: Sketch) -> float:
        """The largest overlap with an indexed text of the same bucket, 0.0 when none reaches the threshold."""
        candidates = {index for band in own.bands for index in self._with_band(band)}
        overlap = max((jaccard(own, Sketch(self._sketches[index], [])) for index in candidates), default=0.0)
        return overlap if overlap >= self.threshold else 0.0

    def add(self, own: Sketch) -> None:
        """Index a text."""
        index = len(self._sketches)
        self._sketches.append(own.signature)
        for band in own.bands:
            there = self._bands.get(band)
            if there is None:
                self._bands[band] = index
            elif isinstance(there, list):
                there.append(index)
            else:
                self._bands[band] = [there, index]

    def _with_band(self, band: int) -> list[int]:
        there = self._bands.get(band)
        if there is None:
            return []
        return there if isinstance(there, list) else [there]


@lru_cache(maxsize=65536)
def _word_hash(word: str) -> int:
    return zlib.crc32(word.encode())
