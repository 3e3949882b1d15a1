"""Drops traces that teach again what an earlier kept trace taught; the first in question order wins.

A duplicate is the same question about the same clip with (nearly) the same rationale. Short rationales about different
clips or questions look alike without being duplicates, since frames or prompt differ; so only traces of one clip and
one question are compared; without a clip, traces with the same numbers in the same order.
"""

import hashlib
from dataclasses import dataclass, field

from aot.config import FilterConfig
from aot.filtering.minhash import NearIndex, Sketch, numbers_key, sketch
from aot.filtering.subject import Subject
from aot.records import Verdict


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
        own = self._sketch(text, bucket)
        overlap = self._near.best(own) if own else 0.0
        if overlap:
            return subject.verdict("duplicates", "near_duplicate", value=overlap)
        if remember:
            self._exact.add(exact)
            if own:
                self._near.add(own)
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
