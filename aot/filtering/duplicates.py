"""Drops traces that teach again what an earlier kept trace taught; the first in question order wins.

A duplicate is the same question about the same clip with (nearly) the same rationale. Short rationales about different
clips or questions look alike without being duplicates, since frames or prompt differ; so only traces of one clip and
one question are compared; without a clip, traces with the same numbers in the same order. Near means that the sets of
word triples overlap by a given share, as MinHash estimates it (A. Z. Broder, On the resemblance and containment of
documents, 1997); its hashes are fixed, so that the same texts give the same answers in every process.
"""

import hashlib
import re
import zlib
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from aot.config import FilterConfig
from aot.filtering.subject import Subject
from aot.records import Verdict

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

    def best(self, new: Sketch) -> float:
        """The largest overlap with an indexed text of the same bucket, 0.0 when none reaches the threshold."""
        candidates = {index for band in new.bands for index in self._with_band(band)}
        overlap = max((jaccard(new, Sketch(self._sketches[index], [])) for index in candidates), default=0.0)
        return overlap if overlap >= self.threshold else 0.0

    def add(self, new: Sketch) -> None:
        """Index a text."""
        index = len(self._sketches)
        self._sketches.append(new.signature)
        for band in new.bands:
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


@dataclass
class DuplicateIndex:
    """What was kept so far; the only part of the filters that grows with the number of traces."""

    config: FilterConfig
    _exact: set[bytes] = field(default_factory=set)
    _alone: dict[bytes, str] = field(default_factory=dict)
    """Bucket to its only text so far, which is sketched when a second one comes: most never meet another."""
    _sketched: set[bytes] = field(default_factory=set)
    """Buckets whose texts stand in `_near`."""
    _near: NearIndex = field(init=False)

    def __post_init__(self) -> None:
        self._near = NearIndex(threshold=self.config.near_duplicate_jaccard)

    def judge(self, subject: Subject, *, remember: bool) -> Verdict:
        """Keeps what is new. Value: the overlap with the nearest earlier trace, 0 when none is near.

        Only a trace that passed all other filters is remembered: a dropped one shall not cost us its healthy twin.
        """
        text = _text(subject)
        bucket = _bucket(subject) or numbers_key(text)
        exact = _digest(bucket.hex() + text)
        if exact in self._exact:
            return subject.verdict("duplicates", "exact_duplicate", value=1.0)
        new = self._sketch(text, bucket)
        overlap = self._near.best(new) if new else 0.0
        if overlap:
            return subject.verdict("duplicates", "near_duplicate", value=overlap)
        if remember:
            self._exact.add(exact)
            if new:
                self._near.add(new)
            else:
                self._alone[bucket] = text
        return subject.verdict("duplicates", value=0.0)

    def _sketch(self, text: str, bucket: bytes) -> Sketch | None:
        """The sketch of `text`, or None when its bucket is still empty."""
        first = self._alone.pop(bucket, None)
        if first is not None:
            self._near.add(sketch(first, bucket=bucket))
            self._sketched.add(bucket)
        return sketch(text, bucket=bucket) if bucket in self._sketched else None


def _bucket(subject: Subject) -> bytes:
    question = subject.question
    return _digest("\n".join((question.media.uri, question.text, *question.choices))) if question.media else b""


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=12).digest()


def _text(subject: Subject) -> str:
    """Everything that makes the trace what it is to a student: window, question, options, rationale, answer."""
    question, media = subject.question, subject.question.media
    window = f"{media.start_s:.1f} {media.end_s}" if media else ""
    parts = (window, question.text, *question.choices, subject.trace.rationale, subject.trace.answer)
    return " ".join(" ".join(parts).casefold().split())


@lru_cache(maxsize=65536)
def _word_hash(word: str) -> int:
    return zlib.crc32(word.encode())
