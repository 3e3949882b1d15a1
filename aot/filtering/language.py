"""Drops garbled text: control characters, broken encodings, letters of a script nobody asked in, few real words."""

import re
import unicodedata
from functools import lru_cache

from aot.filtering.subject import Subject
from aot.records import Verdict

_BROKEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufffd\ue000-\uf8ff\ufdd0-\ufdef\u200b-\u200f\u202a-\u202e]|Ã.|â€|ï»¿")
_WORD_LIKE = re.compile(
    r"(?=[^\d\W]*[aeiouyAEIOUY])[A-Za-z]+(?:['’-][A-Za-z]+)*"  # a Latin word has a vowel
    r"|[^\W\d_a-zA-Z][^\W\d_]*"  # a word in letters beyond ASCII
    r"|[+-]?\d[\d.,:/]*(?:s|%)?(?:-\d[\d.,]*s?)?"  # a number, time or time span
    r"|\[\d+\]|[^\w\s]|[A-Za-z]"  # a citation, mark or single letter
)
_MATHEMATICS = re.compile(r"[\d\\${}^_=+*/<>|]")
_EDGE = ".,;:!?()\"'"


def language(subject: Subject) -> Verdict:
    """Keeps text in the script of its question. Value: the share of tokens that look like words, numbers or marks.

    In a text chain, mathematics in any notation counts as marks.
    """
    text = subject.trace.rationale
    tokens = [bare for token in subject.tokens if (bare := token.strip(_EDGE))]
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
    return subject.verdict("language", problem, value=round(ratio, 4), detail=detail)


@lru_cache(maxsize=65536)
def _is_word_like(token: str) -> bool:
    return _WORD_LIKE.fullmatch(token) is not None


def _known_scripts(subject: Subject) -> set[str]:
    return _scripts(" ".join([subject.question.text, *subject.question.choices, *subject.phrases])) | {"LATIN"}


def _scripts(text: str) -> set[str]:
    letters = {char for char in text if ord(char) > 127 and char.isalpha()}
    return {unicodedata.name(char, "UNKNOWN").split()[0] for char in letters}
