"""Drops traces that would show the student what it is tested on.

With a clip, that is a question of a held-out group or an overlapping window of a held-out clip; test questions share
their wording with training questions on purpose, so text alone says nothing. Without a clip the text is all there is,
and a nearly identical held-out question is a leak: (nearly) the same words and the same numbers in the same order.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from aot.config import FilterConfig
from aot.filtering.duplicates import NearIndex, Sketch, numbers_key, plain_words, sketch
from aot.filtering.subject import Subject
from aot.records import MediaRef, Question, Verdict


@dataclass
class HeldOutIndex:
    """The test splits, ready to be asked; grows with them and not with the traces."""

    config: FilterConfig
    _ids: set[str] = field(default_factory=set)
    _groups: set[str] = field(default_factory=set)
    _windows: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """uri to held-out windows in seconds."""
    _texts: NearIndex = field(init=False)

    def __post_init__(self) -> None:
        self._texts = NearIndex(threshold=self.config.leak_jaccard)

    def add(self, questions: Iterable[Question]) -> None:
        """Hold out `questions`."""
        for question in questions:
            self._ids.add(question.id)
            self._groups.add(question.group)
            if question.media is None:
                self._texts.add(_sketch(question))
            else:
                windows = self._windows.setdefault(question.media.uri, [])
                if _window(question.media) not in windows:
                    windows.append(_window(question.media))

    def judge(self, subject: Subject) -> Verdict:
        """Keeps what no held-out question shares. Value: overlap of the text with the nearest held-out one, if any."""
        question = subject.question
        if question.id in self._ids:
            return subject.verdict("leakage", "held_out_question")
        if question.group in self._groups:
            return subject.verdict("leakage", "held_out_group", detail=question.group)
        if question.media is None:
            overlap = self._texts.best(_sketch(question))
            return subject.verdict("leakage", "held_out_text" if overlap else "", value=overlap)
        start_s, end_s = _window(question.media)
        for other_start_s, other_end_s in self._windows.get(question.media.uri, ()):
            if start_s < other_end_s and other_start_s < end_s:
                return subject.verdict("leakage", "held_out_window", detail=question.media.uri)
        return subject.verdict("leakage")


def _window(media: MediaRef) -> tuple[float, float]:
    return media.start_s, inf if media.end_s is None else media.end_s


def _sketch(question: Question) -> Sketch:
    text = " ".join((question.text, *question.choices))
    return sketch(plain_words(text), bucket=numbers_key(text))
