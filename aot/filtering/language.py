"""Drops garbled text: broken characters, a script nobody asked in, few real words, the same words again and again."""

import re
import unicodedata
from functools import lru_cache
from operator import eq

from aot.filtering.flow import is_strict
from aot.filtering.subject import Subject
from aot.filtering.words import word_list
from aot.rationales.notation import QUOTE, without_quotes
from aot.rationales.text_chain import without_notes
from aot.records import Verdict

_BROKEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f\ufffd\ue000-\uf8ff\ufdd0-\ufdef\u200b-\u200f\u202a-\u202e]"
    r"|Ã[\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|â€|ï»¿"  # UTF-8 read as Latin-1; `NÃO` is Portuguese
)
_WORD_LIKE = re.compile(
    r"(?=[^\d\W]*[aeiouyAEIOUY])[A-Za-z]+(?:['’-][A-Za-z]+)*"  # a Latin word has a vowel
    r"|[^\W\d_a-zA-Z][^\W\d_]*"  # a word in letters beyond ASCII
    r"|[+-]?\d[\d.,:/]*(?:s|%)?(?:-\d[\d.,]*s?)?"  # a number, time or time span
    r"|\[\d+\]|[^\w\s]|[A-Za-z]"  # a citation, mark or single letter
)
_MATHEMATICS = re.compile(r"[\d\\${}^_=+*/<>|]")
_LETTERS = re.compile(r"[^\W\d_]+")
_HEADINGS = frozenset({"solution", "explanation", "reasoning", "verification"})
"""Words that chat models head their chains with, which solutions by people lack."""
COMMON_WORDS = word_list("common.txt")
_COMMON_STEMS = frozenset(word.rstrip("s") for word in COMMON_WORDS | _HEADINGS)
MAX_STRANGE = 0.15
"""A larger share of unknown words is garbled; one in a thousand of GSM8K's own solutions has it."""
MIN_ENGLISH = 1 / 3
FEW_WORDS = 12
_EDGE = ".,;:!?()\"'"
NGRAM = 4
MAX_PERIOD = 16
MIN_COPIES = 3
"""A stretch of words that stands this often in a row is a loop, however long the rest is."""
_OPERATORS = frozenset("+-*/x×÷·−–>")


def language(subject: Subject) -> Verdict:
    """Keeps text in the script of its question. Value: the share of tokens that look like words, numbers or marks.

    In a text chain, mathematics in any notation counts as marks. What a video rationale quotes may be in any language,
    but not broken: the evidence filter holds it to the words that were returned.
    """
    text = subject.trace.rationale
    words = subject.tokens if subject.chain.lines else without_quotes(text).split()
    tokens = [bare for token in words if (bare := token.strip(_EDGE))]
    like_words = sum(map(_is_word_like, tokens))
    if subject.chain.lines:
        like_words += sum(not _is_word_like(token) and bool(_MATHEMATICS.search(token)) for token in tokens)
    ratio = like_words / len(tokens) if tokens else 0.0
    problem, detail = "", ""
    if broken := _BROKEN.search(text):
        problem, detail = "broken_characters", repr(broken[0])
    elif not text.isascii() and (foreign := _scripts(text) - _scripts_shown(subject)):
        problem, detail = "foreign_script", ", ".join(sorted(foreign))
    elif ratio < subject.config.min_word_ratio:
        problem = "few_words"
    elif strange := _strange_words(subject):
        problem, detail = "unknown_words", ", ".join(strange)[:200]
    return subject.verdict("language", problem, value=round(ratio, 4), detail=detail)


def _strange_words(subject: Subject) -> list[str]:
    """Words that are neither common nor of the question, where an English chain of equations has too many of them.

    One is too many in a chain that is written in equations or orders alone. Other prose, LaTeX, and questions in
    another language are left alone.
    """
    chain = subject.chain
    words = _words(without_notes("\n".join(chain.lines)))
    if not words:
        return []
    in_question = _words(subject.question.text)
    is_english = sum(word in COMMON_WORDS for word in in_question) >= MIN_ENGLISH * len(in_question)
    computes = chain.is_formal or "=" in subject.trace.rationale or len(words) <= FEW_WORDS
    if not computes or not is_english or "\\" in subject.trace.rationale:
        return []
    in_answer = _words(" ".join((subject.trace.answer, *subject.question.choices)))
    stems = _COMMON_STEMS.union(word.rstrip("s") for word in (*in_question, *in_answer))
    strange = [word for word in words if word.rstrip("s") not in stems]
    is_terse = chain.is_formal and (not chain.equations or is_strict(subject))
    return strange if is_terse or len(strange) > MAX_STRANGE * len(words) else []


def _words(text: str) -> list[str]:
    return [word for word in _LETTERS.findall(text.casefold()) if len(word) > 1]


@lru_cache(maxsize=65536)
def _is_word_like(token: str) -> bool:
    return _WORD_LIKE.fullmatch(token) is not None


def _scripts_shown(subject: Subject) -> set[str]:
    return _scripts(" ".join([subject.question.text, *subject.question.choices, *subject.phrases])) | {"LATIN"}


def _scripts(text: str) -> set[str]:
    letters = {char for char in text if ord(char) > 127 and char.isalpha()}
    return {unicodedata.name(char, "UNKNOWN").split()[0] for char in letters}


def repetition(subject: Subject) -> Verdict:
    """Keeps rationales without loops. Value: the share of distinct 4-grams.

    Times and citations count as words, so that three moments of one event are no loop, and so does a quote, for whoever
    was quoted may repeat himself. Of a text chain, what operators
    join counts as one word, `5 + 5 + 5` as well as `Cid > Ann > Bob`.
    """
    if subject.chain.lines:
        tokens = computed_as_one(without_notes(subject.trace.rationale).split())
    else:
        text = QUOTE.sub(lambda quote: quote[0].replace(" ", "_"), subject.trace.rationale)
        tokens = [token.rstrip(".,") for token in text.split()]
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
