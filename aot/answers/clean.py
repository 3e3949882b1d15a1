r"""Takes the dress off a written answer: math delimiters, LaTeX spacing, odd minus signs, bold stars.

Pure text in, text out; what is left means the same and is still not understood here.
"""

import re
import unicodedata

_DRESSED = re.compile(r"[^\x20-\x7e]|[\\$*{`\"]|\.\.\.")
_CHARACTERS = str.maketrans(
    {
        "−": "-", "–": "-", "‐": "-", "‑": "-", "﹣": "-", "－": "-", "×": "*", "·": "*", "⋅": "*", "÷": "/", "⁄": "/",
        "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2060": "", "\u200b": "", "∞": r"\infty ", "π": r"\pi ",
        "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∅": r"\emptyset ",
        "∈": r"\in ", "≈": r"\approx ", "±": r"\pm ", "’": "'", "٫": ".", "٬": ",", "．": ".", "，": ",", "％": "%",
        "（": "(", "）": ")", "＄": "$", "٪": "%",
    }
)  # fmt: skip
_DELIMITED = re.compile(
    r"\$\$(.+)\$\$|\$(.+)\$|\\\((.+)\\\)|\\\[(.+)\\\]|\*\*(.+)\*\*|\*([^*]+)\*|`+([^`]+)`+|\"([^\"]+)\"|“([^“”]+)”",
    re.DOTALL,
)
_DOT_BEHIND = re.compile(r"(?:(?<=[$*`\"”])|(?<=\\[)\]]))\s?\.$")
_GOES_ON = re.compile(r"(?<![0-9.])([0-9]*\.)([0-9]{1,60})\s?(?:\.\.\.|…|\\[lc]?dots(?![a-z]))")
_REPEATS = re.compile(r"([0-9]+?)\1+|([0-9]*?)([0-9]+?)\3\3+")
_FOREIGN = re.compile(r"[^\x00-\x7f]")
_WRAPPED = re.compile(r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mathsf|mbox|boxed|fbox)\s?\{([^{}]*)\}")
_SPACING = re.compile(r"(?<!\\)~|(?<!\\)\\(?:(?:displaystyle|q?quad)(?=\W|_|$|[0-9a-z]+_)|[,;: ])")
_TIGHT = re.compile(r"(?<!\\)\\(?:(?:left|right)(?=\s?[()\[\]|.\\])|[bB]ig{1,2}[lrm]?(?=\s?[()\[\]|\\])|!\s*)")
_ROW_SKIP = re.compile(r"\\\\\s?\[\s?-?[0-9.]+\s?(?:pt|em|ex|mm|cm|in)\s?\]")
_OVERLINED = re.compile("(?:[0-9]\u0305)+")
_THIN_THOUSANDS = re.compile(r"(?<![0-9.])[0-9]{1,3}(?:\\,[0-9]{3})+(?![0-9])")
_BRACED_COMMA = re.compile(r"\s?\{,\s?\}\s?")
_SEAM = "\x00"
"""Marks where dress was taken off, until it is known whether digits would meet there."""


def undressed(text: str) -> str:
    r"""`text` without what only makes it look well.

    >>> undressed(r"$\text{1{,}234}$"), undressed("−7"), undressed(r"\$5")
    ('1,234', '-7', '$5')
    """
    text = text.strip()
    if not _DRESSED.search(text):
        return text
    text = _GOES_ON.sub(_repeated, _DOT_BEHIND.sub("", text))
    while delimited := _DELIMITED.fullmatch(text):
        text = next(group for group in delimited.groups() if group is not None).strip()
    text = _FOREIGN.sub(_plain_character, _OVERLINED.sub(_overline, text.translate(_CHARACTERS)))
    text = _BRACED_COMMA.sub(",", text)
    text = re.sub(
        r"\s?\^\s?(?:\\circ(?![a-z])|\{\s?\\circ\s?\})|\\degrees?(?![a-z])", "°", _ROW_SKIP.sub(r"\\\\", text)
    )
    text = _THIN_THOUSANDS.sub(lambda number: number[0].replace("\\,", ""), text)
    text = _TIGHT.sub("", _SPACING.sub(" ", text.replace(_SEAM, " ")))
    for _ in range(3):  # wrappers within wrappers; deeper ones are no dress any more
        text = _WRAPPED.sub(rf"{_SEAM}\1{_SEAM}", text)
    text = re.sub(rf"(?<=[0-9.,]){_SEAM}+(?=[0-9.,])", " ", text).replace(_SEAM, "")
    text = text.replace(r"\%", "%").replace(r"\$", "$")
    return re.sub(" {2,}", " ", re.sub(r"\\[dtc]frac(?![a-z])", r"\\frac", text)).strip()


def _plain_character(match: re.Match[str]) -> str:
    """A digit of any script as 0 to 9, and a vulgar fraction as digits: both say a number, whatever their dress."""
    character = match[0]
    if (digit := unicodedata.decimal(character, None)) is not None:
        return str(digit)
    parts = unicodedata.decomposition(character)
    if not parts.startswith("<fraction>") or parts.endswith("2044"):
        return character
    return f" {''.join(chr(int(code, 16)) for code in parts.split()[1:])} ".replace("\u2044", "/")


def _repeated(number: re.Match[str]) -> str:
    r"""`0.333...` as `0.\overline{3}`; where the digits tell no period, as in `3.14...`, it stays no whole number."""
    digits = _REPEATS.fullmatch(number[2])
    if not digits:
        return rf"{number[1]}{number[2]}\ldots "
    return rf"{number[1]}{digits[2] or ''}\overline{{{digits[1] or digits[3]}}}"


def _overline(number: re.Match[str]) -> str:
    return rf"\overline{{{number[0].replace(chr(0x305), '')}}}"
