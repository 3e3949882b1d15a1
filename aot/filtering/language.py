"""Drops garbled text: control characters, broken encodings, letters of a script nobody asked in, few real words."""

import re
import unicodedata
from functools import lru_cache

from aot.filtering.common_words import COMMON_WORDS
from aot.filtering.flow import is_strict
from aot.filtering.subject import Subject
from aot.rationales.notation import without_quotes
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
_COMMON_STEMS = frozenset(word.rstrip("s") for word in COMMON_WORDS | _HEADINGS)
MAX_STRANGE = 0.15
"""A larger share of unknown words is garbled; one in a thousand of GSM8K's own solutions has it."""
MIN_ENGLISH = 1 / 3
FEW_WORDS = 12
_EDGE = ".,;:!?()\"'"


def language(subject: Subject) -> Verdict:
    """Keeps text in the script of its question. Value: the share of tokens that look like words, numbers or marks.

    In a text chain, mathematics in any notation counts as marks. What a video rationale quotes may be in any language,
    but not broken: the evidence filter holds it to the words that were returned.
    """
    text = subject.trace.rationale
    judged = without_quotes(text).split() if subject.is_agent_trace else subject.tokens
    tokens = [bare for token in judged if (bare := token.strip(_EDGE))]
    like_words = sum(map(_is_word_like, tokens))
    if not subject.is_agent_trace:
        like_words += sum(not _is_word_like(token) and bool(_MATHEMATICS.search(token)) for token in tokens)
    ratio = like_words / len(tokens) if tokens else 0.0
    problem, detail = "", ""
    if broken := _BROKEN.search(text):
        problem, detail = "broken_characters", repr(broken[0])
    elif not text.isascii() and (foreign := _scripts(text) - _known_scripts(subject)):
        problem, detail = "foreign_script", ", ".join(sorted(foreign))
    elif ratio < subject.config.min_word_ratio:
        problem = "few_words"
    elif not subject.is_agent_trace and (strange := _strange_words(subject)):
        problem, detail = "unknown_words", ", ".join(strange)[:200]
    return subject.verdict("language", problem, value=round(ratio, 4), detail=detail)


def _strange_words(subject: Subject) -> list[str]:
    """Words that are neither common nor of the question, where an English chain of equations has too many of them.

    One is too many in a chain that is written in equations or orders alone. Other prose, LaTeX, and questions in
    another language are left alone.
    """
    chain, asked = subject.chain, _words(subject.question.text)
    words = _words(without_notes("\n".join(chain.lines)))
    is_english = sum(word in COMMON_WORDS for word in asked) >= MIN_ENGLISH * len(asked)
    computes = chain.is_formal or "=" in subject.trace.rationale or len(words) <= FEW_WORDS
    if not computes or not is_english or "\\" in subject.trace.rationale:
        return []
    told = _words(" ".join((subject.trace.answer, *subject.question.choices)))
    stems = _COMMON_STEMS.union(word.rstrip("s") for word in (*asked, *told))
    strange = [word for word in words if word.rstrip("s") not in stems]
    is_terse = chain.is_formal and (not chain.equations or is_strict(subject))
    return strange if is_terse or len(strange) > MAX_STRANGE * len(words) else []


def _words(text: str) -> list[str]:
    return [word for word in _LETTERS.findall(text.casefold()) if len(word) > 1]


@lru_cache(maxsize=65536)
def _is_word_like(token: str) -> bool:
    return _WORD_LIKE.fullmatch(token) is not None


def _known_scripts(subject: Subject) -> set[str]:
    return _scripts(" ".join([subject.question.text, *subject.question.choices, *subject.phrases])) | {"LATIN"}


def _scripts(text: str) -> set[str]:
    letters = {char for char in text if ord(char) > 127 and char.isalpha()}
    return {unicodedata.name(char, "UNKNOWN").split()[0] for char in letters}
