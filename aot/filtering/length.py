"""Drops rationales that are too short to reason or too long to learn."""

from aot.filtering.subject import Subject
from aot.records import Verdict


def length(subject: Subject) -> Verdict:
    """Keeps rationales of min_words to max_words. Value: the number of words.

    A text chain with an equation or an order may be as short as it likes: `12 + 7 = 19.` says all there is to say.
    """
    num_words = len(subject.tokens)
    problem = ""
    is_terse = not subject.is_agent_trace and subject.chain.is_formal
    if num_words < subject.config.min_words and not is_terse:
        problem = "too_short"
    elif num_words > subject.config.max_words:
        problem = "too_long"
    return subject.verdict("length", problem, value=float(num_words))
