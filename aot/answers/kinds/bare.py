r"""Reads the one number of an answer that says a unit, a currency or a few words beside it: `$29.00`, `72 clips`.

Only for data sets whose gold answers are bare numbers because the question tells the unit. Whatever could change the
number (a second one, `about`, `half of`, 5k, `5 squared`) makes the answer unreadable; nothing is trimmed to fit.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from aot.answers.clean import undressed
from aot.answers.exact import NUMBER_WORDS, exact_number, with_plain_fractions
from aot.answers.forms import DIFFERENT, EXACT, Grade
from aot.answers.kinds.quantities import CURRENCIES, SMALL_COINS, unit_of

_MAX_CHARS = 200
_DIGITS = r"[0-9]+(?:[,.'_][0-9]+)*|\.[0-9]+"
_NUMBER = re.compile(
    rf"(?:(?:minus|negative)\s|[-+]\s?)?(?:{_DIGITS})(?:(?: [0-9]{{3}})+(?![0-9/.]))?"
    r"(?:\s(?:and\s)?[0-9]+\s?/\s?[0-9]+|\s?/\s?[0-9]+|\\overline\{[0-9]+\})?"
    r"(?:\s(?:dozen|hundred|thousand|million|billion|trillion)\b)?",
    re.IGNORECASE,
)
_ASIDE = re.compile(r"\s*\(([^()]*)\)$")
_SIGN = re.compile(r"(?:[A-Za-z]{1,2})?[$€£¥₹]|[A-Za-z]{2,3}(?=\s?$)")
_AFTER = re.compile(r"(\s?)([%°$€£¥₹¢]|[^\W\d_]+\.?(?:\s?\^\s?\{?[23]\}?|[²³])?|(?=\s|$|[,.]))")
_UNIT_POWER = re.compile(r"(?<=[A-Za-z.])\s?(?:\^\s?\{?\s?[23]\s?\}?|[²³])")
_SCALED = frozenset({
    "k", "K", "M", "B", "b", "bn", "mn", "mil", "mio", "G", "T", "hundreds", "thousands", "millions", "squared",
    "cubed", "factorial", "score", "gross", "ish", "plus", "fold", "odd", "tens",
})  # fmt: skip
_CHANGES = frozenset({
    "a.m", "about", "above", "almost", "am", "approximately", "around", "before", "below", "between", "beyond",
    "but", "cannot", "cos", "could", "cubed", "debt", "deficit", "double", "doubled", "exceed", "exceeding",
    "exceeds", "except", "excluding", "exp", "factorial", "false", "fold", "from", "guess", "half", "halves", "if",
    "incorrect", "instead", "least", "likely", "ln", "log", "loss", "maybe", "might", "minus", "mod", "most",
    "nearly", "negative", "neither", "never", "no", "nor", "not", "o'clock", "or", "over", "p.m", "perhaps", "pi",
    "plus", "pm", "possibly", "previous", "probably", "quarter", "root", "roughly", "sin", "sqrt", "squared", "tan",
    "than", "third", "times", "to", "triple", "unclear", "under", "unknown", "unless", "unlikely", "until",
    "upwards", "versus", "without", "wrong",
}) | set(NUMBER_WORDS)  # fmt: skip
"""Words that make the number beside them another one, or no statement."""
_LEADS_ELSEWHERE = re.compile(
    r"(?:\b(?:step|option|question|problem|part|line|number|no\.|choice|case|equation|by|every|each|multiples? of|"
    r"factors? of|divisors? of|powers? of|out of|rest of|some of|most of|all of|base|the first|the last|the next|"
    r"(?:fifth|sixth|seventh|eighth|ninth|tenth|hundredth)s? of|percent(?:age)? of|"
    r"(?:square|cube|inverse|reciprocal|opposite|digits?|product|sum) of)|[/^_])\s*$", re.IGNORECASE,
)  # fmt: skip
_MORE_FOLLOWS = re.compile(
    r"^\s?and\b|^\s?[-/+]\s|^[²³'’]|\band\s(?:an?\s)?(?:bit|some|change|more|something|little)\b", re.IGNORECASE
)
_BOLD = re.compile(r"(?<![0-9)])\*\*([^*]+)\*\*(?![0-9(])")
_LEFT_OVER = re.compile(r"\bleft[ -]?over\b", re.IGNORECASE)
_PLAIN_WORDS = re.compile(r"[\s\w.,;:'’%°$€£¥₹¢/()\-]*")


@dataclass(frozen=True)
class BareNumber:
    """A number and what stands beside it."""

    value: Fraction
    unit: str
    """A sign, a currency, or the words right after the number; empty if there is nothing."""


def bare_number(answer: str) -> BareNumber | None:
    r"""The number that `answer` states, once; None if it states none, several, or something that changes it.

    >>> [str(bare_number(text).value) for text in ("$29.00", r"72\text{ clips}", "5 (five pens)", "Tim has 5 pens.")]
    ['29', '72', '5', '5']
    >>> [bare_number(text) for text in ("5 or 6", "about 5", "5k", "half of 10", "5 squared")]
    [None, None, None, None, None]
    """
    text = " ".join(_BOLD.sub(r"\1", with_plain_fractions(undressed(answer))).strip("*_ ").split())
    text = _LEFT_OVER.sub("left", re.sub(r"\\[()]", "", text))
    text = re.sub(r"(?<=[A-Za-z])!$", "", text).rstrip(". ")
    if not text or len(text) > _MAX_CHARS or "approx" in text:
        return None
    if not re.search("[0-9]", text):
        return _worded(text)
    computed, _, text = text.rpartition("=")
    if computed and not _is_name_or_sum(computed):
        return None
    aside = _ASIDE.search(text)
    text = (text[: aside.start()] if aside else text).strip()
    bare = _UNIT_POWER.sub(lambda power: " " * len(power[0]), text)
    numbers = list(_NUMBER.finditer(bare))
    if len(numbers) != 1:
        return None
    before, after = text[: numbers[0].start()], bare[numbers[0].end() :]
    value = exact_number(numbers[0][0])
    if value is None or not _changes_nothing(before, after) or (aside and not _repeats(aside[1], value)):
        return None
    if exact_number(computed.strip()) not in (None, value):
        return None
    if re.match(r"-\s", numbers[0][0]) and before[-2:-1].isalpha():
        return None  # a dash behind a word is no minus: Answer - 5
    negative = before.rstrip().endswith("-$") or before.strip() in ("-", "-$")
    return BareNumber(-value if negative else value, _unit(before, text[numbers[0].end() :]))


def may_be_algebra(answer: str, number: BareNumber) -> bool:
    r"""Whether the unit could be variables that a formula multiplies the number with: `5t`, but not `5\text{ m}`."""
    written_as_words = re.search(r"\\(?:text|mathrm|mbox|rm)", answer)
    return len(number.unit.rstrip("^{}23")) <= 2 and number.unit.isalpha() and not written_as_words


def compare_bare(answer: BareNumber, gold: BareNumber) -> Grade:
    """Equal numbers are right unless both tell a unit and the two differ; then a known unit is converted."""
    units = answer.unit, gold.unit
    if "%" in units and units[0] != units[1] and 100 * min(answer.value, gold.value) == max(answer.value, gold.value):
        return Grade("cannot_tell", "percent_or_part")
    if not all(units) or units[0] == units[1]:
        return Grade("right", "bare_number") if answer.value == gold.value else DIFFERENT
    meanings = [unit_of(unit) for unit in units]
    if meanings[0] is None or meanings[1] is None or any(unit in CURRENCIES or unit in SMALL_COINS for unit in units):
        return Grade("cannot_tell", "other_unit")
    if meanings[0][0] != meanings[1][0]:
        return Grade("cannot_tell", "other_unit")
    same = answer.value * meanings[0][1] == gold.value * meanings[1][1]
    return EXACT if same else DIFFERENT


def percent_or_part(answer: str, gold: str) -> bool:
    """Whether one of the two says per cent, and nobody can tell if the other does: 40% and 2/5, or 0.5% and 0.5."""
    sides = [bare_number(side) for side in (answer, gold) if len(side) <= _MAX_CHARS]
    numbers = [side for side in sides if side]
    if len(numbers) != 2 or [side.unit for side in numbers].count("%") != 1:
        return False
    low, high = sorted(abs(side.value) for side in numbers)
    return 100 * low == high or low == high < 1


def hedges(answer: str) -> bool:
    """Whether `answer` offers two different numbers and leaves the choice: `5 or 6`."""
    parts = [bare_number(part) for part in re.split(r"\s+or\s+", undressed(answer)[:_MAX_CHARS])]
    return len({part.value for part in parts if part}) > 1 and None not in parts


def _is_name_or_sum(text: str) -> bool:
    r"""Whether what stands before `=` names the value or computes it: `x`, `total cost`, `2 \times 3`, not `x + 1`."""
    left = re.sub(r"\\(?:times|cdot|div)(?![a-z])|(?<=[0-9]) ?x ?(?=[$0-9])", "*", text)
    if "\\" in left:
        return False
    variable = re.search(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])", left)
    return not variable or not re.search(r"[0-9+*/^()\-]", left)


def _worded(text: str) -> BareNumber | None:
    words = text.split(" ")
    for split in range(min(len(words), 8), 0, -1):
        value = exact_number(" ".join(words[:split]))
        if value is not None:
            after = " ".join(words[split:])
            return BareNumber(value, _unit("", after)) if _changes_nothing("", f" {after}".rstrip()) else None
    return None


def _changes_nothing(before: str, after: str) -> bool:
    """Whether the words around a number leave it as it is, and no letter is glued to it that is no unit."""
    if not (_PLAIN_WORDS.fullmatch(before.replace("-$", "$")) and _PLAIN_WORDS.fullmatch(after)):
        return False
    words = {word.casefold().strip(".,;:'") for word in re.split(r"[\s/\-]+", f"{before} {after}")}
    if _LEADS_ELSEWHERE.search(before) or _MORE_FOLLOWS.search(after) or re.search("[²³]", before):
        return False
    if words & _CHANGES or re.search(r"n['’]t\b", f"{before}{after}"):
        return False
    if before and before[-1].isalnum() and not _SIGN.fullmatch(before.strip().rpartition(" ")[2]):
        return False
    if not after:
        return True
    follows = _AFTER.match(after)
    first = (follows[2] or "").rstrip(".") if follows else None
    if first is None or first in _SCALED or (len(first) == 1 and first.isalpha() and not _is_known(first)):
        return False
    glued = bool(first) and not (follows and follows[1]) and first[0].isalpha()
    return not glued or _is_known(first) or (len(first) > 2 and first.casefold() not in ("nd", "rd", "th", "st"))


def _is_known(name: str) -> bool:
    unit = unit_of(name)
    return unit is not None and unit[0] != name.casefold()


def _repeats(aside: str, value: Fraction) -> bool:
    """Whether a remark in brackets says the same number again, or none."""
    words = {word.casefold().strip(".,") for word in aside.split()}
    numbers = [exact_number(number[0]) for number in _NUMBER.finditer(aside)]
    numbers += [Fraction(NUMBER_WORDS[word]) for word in words & set(NUMBER_WORDS)]
    return all(number == value for number in numbers) and not words & (_CHANGES - set(NUMBER_WORDS))


def _unit(before: str, after: str) -> str:
    sign = before.strip().rpartition(" ")[2].casefold().lstrip("-")
    if sign in CURRENCIES:
        return CURRENCIES[sign]
    name = (
        re.split(r"[,;:(]|\s(?:per|of|in|for|each|ago|left|and|on)\b", after.strip(), maxsplit=1)[0].strip().rstrip(".")
    )
    if re.fullmatch(r"percent(?:age)?|per cent|pct", name, re.IGNORECASE) or after.strip().startswith("per cent"):
        return "%"
    return CURRENCIES.get(name.casefold(), name)
