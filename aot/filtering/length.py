"""Drops rationales that are too short to reason or too long to learn."""

from aot.filtering.subject import Subject
from aot.records import Verdict


def length(subject: Subject) -> Verdict:
    """Keeps rationales of min_words to max_words. Value: the number of words."""
    num_words = len(subject.tokens)
    problem = ""
    if num_words < subject.config.min_words:
        problem = "too_short"
    elif num_words > subject.config.max_words:
        problem = "too_long"
    return subject.verdict("length", problem, value=float(num_words))
