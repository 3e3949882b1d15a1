"""What stands inside brackets and what outside, whatever their kind; knows no notation."""

import re
from itertools import accumulate

OPEN, CLOSE = "([{", ")]}"
_STEP = {**dict.fromkeys(OPEN, 1), **dict.fromkeys(CLOSE, -1)}
_THOUSANDS = re.compile(r"[0-9]{3}(?![0-9])")


def depths(text: str) -> list[int]:
    """How many brackets are open behind each character; below 0 where more were closed than opened."""
    return list(accumulate(_STEP.get(character, 0) for character in text))


def is_outside(text: str, index: int) -> bool:
    """Whether the place `index` of `text` stands outside all brackets."""
    return depths(text[:index])[-1:] in ([], [0])


def is_enclosed(text: str) -> bool:
    """Whether the first character is a bracket that the last one closes."""
    after = depths(text)
    return text[:1] in tuple(OPEN) and 0 in after and after.index(0) == len(text) - 1


def split_at(text: str, mark: str) -> list[str] | None:
    """`text` at each `mark` outside brackets, but not at the commas of 1,234; None if brackets do not close."""
    after = [*depths(text), 0]
    if min(after) < 0 or after[-2:-1] not in ([], [0]):
        return None
    parts, start = [], 0
    for place in re.finditer(re.escape(mark), text):
        if after[place.start()] == 0 and not _is_thousands(text, place.start(), mark):
            parts.append(text[start : place.start()])
            start = place.end()
    return [*parts, text[start:]]


def _is_thousands(text: str, index: int, mark: str) -> bool:
    """Whether this comma belongs to a number: only where the list parts its elements with comma and space."""
    is_digit_before = mark == "," and text[:index][-1:].isdigit()
    return is_digit_before and ", " in text and _THOUSANDS.match(text, index + 1) is not None
