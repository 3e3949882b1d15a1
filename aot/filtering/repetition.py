"""Drops rationales that say the same again and again: few new n-grams, or a loop right behind itself."""

from operator import eq

from aot.filtering.subject import Subject
from aot.rationales.notation import QUOTE
from aot.rationales.text_chain import without_notes
from aot.records import Verdict

NGRAM = 4
MAX_PERIOD = 12
MIN_COPIES = 3
"""A stretch of words that stands this often in a row is a loop, however long the rest is."""
_OPERATORS = frozenset("+-*/x×÷·−–>")


def repetition(subject: Subject) -> Verdict:
    """Keeps rationales without loops. Value: the share of distinct 4-grams.

    Times and citations count as words, so that three moments of one event are no loop, and so does a quote, for whoever
    was quoted may repeat himself. Of a text chain, what operators
    join counts as one word, `5 + 5 + 5` as well as `Cid > Ann > Bob`.
    """
    if subject.is_agent_trace:
        text = QUOTE.sub(lambda quote: quote[0].replace(" ", "_"), subject.trace.rationale)
        tokens = [token.rstrip(".,") for token in text.split()]
    else:
        tokens = computed_as_one(without_notes(subject.trace.rationale).split())
    novelty = ngram_novelty(tokens)
    problem = ""
    if novelty < subject.config.min_ngram_novelty:
        problem = "low_novelty"
    elif has_loop(tokens, max_period=1 if novelty == 1.0 else MAX_PERIOD):  # a longer loop repeats some 4-gram
        problem = "loop"
    return subject.verdict("repetition", problem, value=round(novelty, 4))


def computed_as_one(tokens: list[str]) -> list[str]:
    """Tokens without their last dots and commas, those that an operator joins put together.

    >>> computed_as_one("Then 5 + 5 + 5 = 15.".split())
    ['Then', '5+5+5', '=', '15']
    """
    joined: list[str] = []
    is_open = False
    for token in tokens:
        if joined and (is_open or token in _OPERATORS) and not joined[-1].endswith((".", ",")):
            joined[-1] += token
            is_open = token in _OPERATORS
        else:
            joined.append(token)
            is_open = False
    return [token.rstrip(".,:") for token in joined]


def ngram_novelty(tokens: list[str]) -> float:
    """Share of distinct 4-grams; 1.0 for a text that is too short to have two.

    >>> ngram_novelty("a b c d a b c d a b c d".split())
    0.4444444444444444
    """
    grams = list(zip(*(tokens[start:] for start in range(NGRAM)), strict=False))
    return len(set(grams)) / len(grams) if len(grams) > 1 else 1.0


def has_loop(tokens: list[str], *, max_period: int = MAX_PERIOD) -> bool:
    """Whether some stretch of up to `max_period` words stands `MIN_COPIES` times in a row.

    >>> has_loop("we fry and fry and fry and stop".split()), has_loop("chop onion, fry onion".split())
    (True, False)
    """
    for period in range(1, max_period + 1):
        needed = period * (MIN_COPIES - 1)
        later = tokens[period:]
        if sum(map(eq, tokens, later)) >= needed and _longest_run(tokens, later) >= needed:
            return True
    return False


def _longest_run(tokens: list[str], later: list[str]) -> int:
    longest = run = 0
    for same in map(eq, tokens, later):
        run = run + 1 if same else 0
        longest = max(longest, run)
    return longest
