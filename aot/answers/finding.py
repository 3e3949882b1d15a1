"""Finds the one place where a text states its final answer.

The declared slot comes first, then a box, then `####`, then `answer is`, then the whole text if it is one short line.
It knows no question and no answer type, and takes time linear in the length of the text.
"""

import re

from aot.answers.clean import undressed
from aot.answers.forms import FoundAnswer, Slot

_DECLARED = re.compile(r"\b(?:final\s+)?answer(?:\*\*)?\s?:", re.IGNORECASE)
_SAID = re.compile(r"\b(?:final\s+)?answer\s+is\b\s?:?", re.IGNORECASE)
_LEAD_CHARS = 40
_AT_START = re.compile(
    r"(?:\n|[.!?…][\"')\]*$]*\s)[\s>#*_(\-]*+(?:(?:so|thus|hence|therefore|and)\b[,:]?\s+)?"
    r"(?:(?:the|my|our)\s+)?(?:correct\s+)?$",
    re.IGNORECASE,
)
_AFTER_ARTICLE = re.compile(r"\b(?:the|my|our)\s+(?:correct\s+)?$", re.IGNORECASE)
_DRESS = re.compile(r"\\[()\[\],;!]|[\s$*.]")
_HASHES = re.compile(r"(?<!#)####(?!#)")
_BOX_OR_BRACE = re.compile(r"\\(?:boxed|fbox)\s?\{|\\.|[{}]", re.DOTALL)
_OPEN_BOX = re.compile(r"\\(?:boxed|fbox)\s?\{")
_SENTENCE_BREAK = re.compile(r"[.!?]\s+\S")
LETTER_AND_TEXT = re.compile(r"(?:\(([A-Za-z])\)|([A-Za-z])[.:)])\s*(\S.*)")
"""A closed letter with text after it, as in `(B) fry onion` or `B. fry onion`."""


def find_answer(text: str) -> FoundAnswer:
    r"""The stated answer of a model's text; several different answers in the slot are none.

    Everything up to the last `</think>` is ignored, and a thought that is never closed has no answer.

    >>> find_answer("Gather: ... Answer: fry onion").answer
    'fry onion'
    >>> find_answer(r"<think>\boxed{6}</think> It is \boxed{\frac{1}{2}}.")
    FoundAnswer(answer='\\frac{1}{2}', slot='boxed')
    >>> find_answer("A person fries. Then the person eats.").slot
    'none'
    """
    spoken = text.rpartition("</think>")[2]
    if "<think>" in spoken:
        return FoundAnswer(None, "none")
    boxed = _boxes(spoken)
    declared = [_unboxed(line) for line in _lines_after(_DECLARED, spoken)]
    if any(declared):
        found = _only(declared, "declared")
        same = {plain(undressed(answer)) for answer in [*boxed, found.answer or ""]}
        return found if len(same) == 1 else FoundAnswer(None, "none")
    if boxed:
        return _only(boxed, "boxed")
    hashes = _lines_after(_HASHES, spoken)
    if hashes:
        return _only(hashes, "hashes")
    if declared or _OPEN_BOX.search(spoken):
        return FoundAnswer(None, "none")  # cut off before the answer
    said = _lines_after(_SAID, spoken)
    return _only(said, "said") if said else _whole(spoken)


def plain(text: str) -> str:
    """`text` without the case, the spaces and the last dots, which never make an answer another one."""
    return " ".join(text.casefold().split()).rstrip(". ")


def _only(answers: list[str], slot: Slot) -> FoundAnswer:
    same = len({plain(answer) for answer in answers}) == 1 and answers[-1]
    return FoundAnswer(answers[-1], slot) if same else FoundAnswer(None, "none")


def _lines_after(mark: re.Pattern[str], text: str) -> list[str]:
    """The rest of the line after each `mark`, up to the next mark, without the stars of bold print."""
    marks = [found for found in mark.finditer(text) if _opens(found, text)]
    ends = [found.start() for found in marks[1:]] + [len(text)]
    rests = [text[found.end() : end] for found, end in zip(marks, ends, strict=False)]
    return [
        rest.strip(" \t").partition("\n")[0].strip().removeprefix("**").removesuffix("**").strip() for rest in rests
    ]


def _opens(found: re.Match[str], text: str) -> bool:
    """Whether a mark in words opens a line or a sentence, or follows `the`; `a common wrong answer: 7` states none."""
    if found.re is _HASHES:
        return True
    before = text[max(0, found.start() - _LEAD_CHARS) : found.start()]
    before = f"\n{before}" if found.start() <= _LEAD_CHARS else before
    return bool(_AT_START.search(before) or (found.re is _SAID and _AFTER_ARTICLE.search(before)))


def _unboxed(line: str) -> str:
    """What the box holds where the line is a box and its dress; else the line."""
    boxes = _boxes(line)
    rest = _DRESS.sub("", line)
    is_box = len(boxes) == 1 and _OPEN_BOX.match(rest) and _DRESS.sub("", boxes[0]) + "}" == rest.partition("{")[2]
    return boxes[0] if is_box else line


def _boxes(text: str) -> list[str]:
    """What stands in each closed outermost box."""
    if "\\boxed" not in text and "\\fbox" not in text:
        return []
    contents: list[str] = []
    starts: list[int | None] = []
    boxes_open = 0
    for token in _BOX_OR_BRACE.finditer(text):
        if token[0] == "}" and starts:
            start = starts.pop()
            boxes_open -= start is not None
            if start is not None and not boxes_open:
                contents.append(text[start : token.start()].strip())
        elif token[0].endswith("{") and token[0] != "\\{":
            start = token.end() if len(token[0]) > 1 else None
            boxes_open += start is not None
            starts.append(start)
    return contents


def _whole(text: str) -> FoundAnswer:
    bare = text.strip()
    labelled = LETTER_AND_TEXT.fullmatch(bare)
    if not bare or "\n" in bare or _SENTENCE_BREAK.search(labelled[3] if labelled else bare):
        return FoundAnswer(None, "none")
    return FoundAnswer(bare, "direct")
