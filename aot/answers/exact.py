r"""Reads a number exactly, as a fraction of integers: digits, LaTeX fractions, powers of ten, English words.

It knows nothing of units and rounds nothing; whatever is not one whole number expression is no number.
"""

import re
from fractions import Fraction

MAX_DIGITS = 300
"""Longer numbers, and powers of ten beyond it, are refused: no answer needs them, and some cost seconds."""

_ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_TEENS = ("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NUMBER_WORDS: dict[str, int] = {
    **{word: value for value, word in enumerate((*_ONES, *_TEENS))},
    **{ten: 10 * value for value, ten in enumerate(_TENS, start=2)},
    **{f"{ten} {one}": 10 * t + o for t, ten in enumerate(_TENS, 2) for o, one in enumerate(_ONES[1:10], 1)},
    "once": 1,
    "twice": 2,
    "thrice": 3,
    "none": 0,
    "never": 0,
}
_PARTS = {
    "half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4, "fourths": 4,
    "fifth": 5, "fifths": 5, "sixth": 6, "sixths": 6, "eighth": 8, "eighths": 8, "tenth": 10, "tenths": 10,
}  # fmt: skip
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}

_INT = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)"
_DECIMAL = rf"(?:{_INT}(?:\.[0-9]*)?|\.[0-9]+)"
_GROUPS = re.compile(
    r"(?<![0-9.,_' ])(?:[0-9]{1,3}(?: [0-9]{3})+|[0-9]{1,3}(?:'[0-9]{3})+|[0-9]{1,3}(?:_[0-9]{3})+"
    r"|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3})(?![0-9_',]|\s?/| [0-9]+(?!\s?/|[0-9]))"
)
"""Thousands parted as elsewhere than in English: 1 234, 1'234, 1_234, 1,00,000."""
_PARTED = re.compile("[ '_]|,.*,")
_EITHER_WAY = re.compile(r"[0-9] [0-9]{3}\s?/")
"""1 234/500 may be 1 and 234/500, or 1234/500."""
_REPEATING = re.compile(
    r"([+-]?)\s?([0-9]*)\.([0-9]*)(?:\\overline\s?(?:\{\s?([0-9]+)\s?\}|([0-9]))|\\dot\s?(?:\{\s?([0-9])\s?\}|([0-9]))|\(([0-9]+)\))"
)
_TIMES_TEN = r"\s?(?:x|\*|\\times|\\cdot)\s?10\s?\^\s?(?:\{\s?([+-]?[0-9]+)\s?\}|([+-]?[0-9]+))"
_DIGITS = re.compile(r"[+-]?[0-9]+")
_SIGNED = rf"[+-]?\s?{_DECIMAL}"
_SIMPLE = re.compile(rf"({_SIGNED})(?:e([+-]?[0-9]+)|{_TIMES_TEN})?", re.IGNORECASE)
_RATIO = re.compile(rf"({_SIGNED})\s?/\s?({_SIGNED})")
_MIXED = re.compile(rf"([+-]?)\s?({_INT})\s(?:and\s)?([0-9]+)\s?/\s?([0-9]+)")
_SCALED = re.compile(rf"({_SIGNED})\s({'|'.join(_SCALES)})s?")
_LATEX_FRACTION = re.compile(r"\\frac\s?(?:\{([^{}]*)\}|([0-9]))\s?(?:\{([^{}]*)\}|([0-9]))")
_MINUS_WORD = re.compile(r"(?:minus|negative)\s+(?=[0-9.])", re.IGNORECASE)
_ASSIGNED = re.compile(r"[A-Za-z]\s?=\s?(?=\S)")

_ONE = "|".join(_ONES[1:10])
_TEEN = "|".join((*_ONES[10:], *_TEENS))
_BELOW_100 = rf"(?:(?:{'|'.join(_TENS)})(?: (?:{_ONE}))?|{_TEEN}|{_ONE})"
_BELOW_1000 = rf"(?:(?:{_ONE}|{_TEEN}) hundred(?: (?:and )?{_BELOW_100})?|{_BELOW_100})"
_WORDS = re.compile(rf"(?:({_BELOW_1000}) million ?)?(?:({_BELOW_1000}) thousand ?)?(?:(?:and )?({_BELOW_1000}))?")
_PART_WORDS = re.compile(rf"(?:(.+) and )?(?:(an?|{_ONE}) )?({'|'.join(_PARTS)})")


def exact_number(text: str) -> Fraction | None:
    r"""The value of `text`, which `clean.undressed` has seen; None if it is not one number.

    >>> exact_number("1,234.50"), exact_number(r"1\frac{1}{2}"), exact_number("two hundred and five")
    (Fraction(2469, 2), Fraction(3, 2), Fraction(205, 1))
    >>> exact_number("36 or 40") is None
    True
    """
    if len(text) <= MAX_DIGITS and _DIGITS.fullmatch(text):
        return Fraction(int(text))
    text = text.rstrip(". ")
    if not text or len(text) > 3 * MAX_DIGITS or re.search(rf"[0-9]{{{MAX_DIGITS + 1}}}", text):
        return None
    text = _ASSIGNED.sub("", text, count=1) if _ASSIGNED.match(text) else text
    if not any(character.isdigit() for character in text):
        return _worded(text)
    return _written(_MINUS_WORD.sub("-", text, count=1) if text[0] in "mMnN" else text)


def decimal_text(value: Fraction) -> str:
    """`value` in digits, without trailing zeros; empty if no decimal of twelve digits after the point is exact.

    >>> decimal_text(Fraction(29)), decimal_text(Fraction(-5, 4)), decimal_text(Fraction(1, 3))
    ('29', '-1.25', '')
    """
    scaled = value * 10**12
    if scaled.denominator > 1:
        return ""
    digits = f"{abs(scaled.numerator):013d}"
    return f"{'-' if value < 0 else ''}{digits[:-12]}.{digits[-12:]}".rstrip("0").rstrip(".")


def why_no_number(text: str) -> str:
    """The countable reason for which `exact_number` gave None."""
    if len(text) > MAX_DIGITS and sum(character.isdigit() for character in text) > MAX_DIGITS:
        return "too_many_digits"
    numbers = len(re.findall(_DECIMAL, text)) + sum(word in NUMBER_WORDS for word in text.casefold().split())
    if numbers == 1 and re.search(r"[A-Za-z%$€£°]", text):
        return "not_only_a_number"
    return "several_numbers" if numbers > 1 else "not_a_number"


def number_from_words(text: str) -> int | None:
    """The value of an English number word up to the millions; None if it is none.

    >>> number_from_words("one million two hundred thousand and five"), number_from_words("five five")
    (1200005, None)
    """
    words = " ".join(text.casefold().replace("-", " ").replace(",", " ").split())
    if words == "zero":
        return 0
    if words.startswith("a ") and words[2:].partition(" ")[0] in _SCALES:
        words = f"one {words[2:]}"
    groups = _WORDS.fullmatch(words) if words and not words.startswith("and ") else None
    if not groups:
        return None
    return sum(_below_1000(group) * scale for group, scale in zip(groups.groups(), (10**6, 1000, 1), strict=True))


def _below_1000(words: str | None) -> int:
    total = 0
    for word in (words or "").split():
        total = total * 100 if word == "hundred" else total + NUMBER_WORDS.get(word, 0)
    return total


def _written(text: str) -> Fraction | None:
    if simple := _SIMPLE.fullmatch(text):
        return _times_ten(simple)
    if repeating := _REPEATING.fullmatch(text):
        return _repeating(repeating)
    if _EITHER_WAY.search(text):
        return None
    if _PARTED.search(text):
        text = _GROUPS.sub(lambda groups: re.sub("[ '_,]", "", groups[0]), text)
    text = with_plain_fractions(text)
    if simple := _SIMPLE.fullmatch(text):
        return _times_ten(simple)
    if ratio := _RATIO.fullmatch(text):
        bottom = _decimal(ratio[2])
        return _decimal(ratio[1]) / bottom if bottom else None
    if mixed := _MIXED.fullmatch(text):
        part, whole = int(mixed[3]), int(mixed[4])
        value = _decimal(mixed[2]) + Fraction(part, whole) if part < whole else None
        return -value if value is not None and mixed[1] == "-" else value
    scaled = _SCALED.fullmatch(text.casefold())
    return _decimal(scaled[1]) * _SCALES[scaled[2]] if scaled else None


def _decimal(text: str) -> Fraction:
    whole, _, part = "".join(text.split()).replace(",", "").partition(".")
    return Fraction(int(f"{whole}{part}"), 10 ** len(part))  # faster than to let Fraction read it


def _times_ten(number: re.Match[str]) -> Fraction | None:
    value, exponent = _decimal(number[1]), number[2] or number[3] or number[4]
    if not exponent:
        return value
    return value * Fraction(10) ** int(exponent) if len(exponent) <= 4 and abs(int(exponent)) <= MAX_DIGITS else None


def _repeating(number: re.Match[str]) -> Fraction:
    r"""The value of `0.1\overline{6}`: a number of nines below the repeated digits."""
    digits = next(group for group in number.groups()[3:] if group)
    scale = 10 ** len(number[3])
    value = Fraction(int(number[2] + number[3] or "0"), scale) + Fraction(int(digits), (10 ** len(digits) - 1) * scale)
    return -value if number[1] == "-" else value


def with_plain_fractions(text: str) -> str:
    r"""`text` with `\frac{1}{2}` written 1/2, where both are numbers."""
    return " ".join(_LATEX_FRACTION.sub(_on_one_line, text).split()) if "\\frac" in text else text


def _on_one_line(fraction: re.Match[str]) -> str:
    r"""`\frac{1}{2}` as 1/2; as it is where a space inside could make it something else, as in `\frac{1 2}{3}`."""
    top, bottom = (fraction[1] or fraction[2] or "").strip(), (fraction[3] or fraction[4] or "").strip()
    return fraction[0] if " " in top or " " in bottom else f" {top}/{bottom} "


def _worded(text: str) -> Fraction | None:
    words = " ".join(text.casefold().replace("-", " - ").split())
    sign = next((sign for sign in ("minus ", "negative ", "- ") if words.startswith(sign)), "")
    value = _unsigned(words[len(sign) :].replace(" - ", " "))
    return -value if sign and value is not None else value


def _unsigned(words: str) -> Fraction | None:
    if words.startswith("-"):
        return None
    number = number_from_words(words)
    if number is not None:
        return Fraction(number)
    part = _PART_WORDS.fullmatch(words)
    if not part or not (part[2] or part[3] == "half"):
        return None
    whole = number_from_words(part[1]) if part[1] else 0
    return None if whole is None else whole + Fraction(NUMBER_WORDS.get(part[2] or "one", 1), _PARTS[part[3]])
