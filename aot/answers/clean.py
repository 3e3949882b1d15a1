r"""Takes the dress off a written answer: math delimiters, LaTeX spacing, odd minus signs, bold stars.

Pure text in, text out; what is left means the same and is still not understood here.
"""

import re

_DRESSED = re.compile(r"[^\x20-\x7e]|[\\$*{]")
_CHARACTERS = str.maketrans(
    {
        "−": "-", "–": "-", "‐": "-", "‑": "-", "﹣": "-", "－": "-", "×": "*", "·": "*", "⋅": "*", "÷": "/", "⁄": "/",
        "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2060": "", "\u200b": "", "∞": r"\infty ", "π": r"\pi ",
        "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∅": r"\emptyset ",
        "½": " 1/2 ", "⅓": " 1/3 ", "⅔": " 2/3 ", "¼": " 1/4 ", "¾": " 3/4 ", "⅕": " 1/5 ", "⅛": " 1/8 ",
    }
)  # fmt: skip
_DELIMITED = re.compile(r"\$\$(.+)\$\$|\$(.+)\$|\\\((.+)\\\)|\\\[(.+)\\\]|\*\*(.+)\*\*", re.DOTALL)
_WRAPPED = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|boxed|fbox)\s?\{([^{}]*)\}")
_SPACING = re.compile(r"\\displaystyle(?![A-Za-z])|\\[,;:]")
_TIGHT = re.compile(r"\\(?:left|right)(?=\s?[()\[\]|.\\])|\\!")
_THIN_THOUSANDS = re.compile(r"(?<![0-9.])[0-9]{1,3}(?:\\,[0-9]{3})+(?![0-9])")
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
    while delimited := _DELIMITED.fullmatch(text):
        text = next(group for group in delimited.groups() if group is not None).strip()
    text = text.translate(_CHARACTERS).replace("{,}", ",").replace("\\ ", " ").replace("^\\circ", "°")
    text = text.replace("^{\\circ}", "°")
    text = _THIN_THOUSANDS.sub(lambda number: number[0].replace("\\,", ""), text)
    text = _TIGHT.sub("", _SPACING.sub(" ", text.replace(_SEAM, " ")))
    for _ in range(3):  # wrappers within wrappers; deeper ones are no dress any more
        text = _WRAPPED.sub(rf"{_SEAM}\1{_SEAM}", text)
    text = re.sub(rf"(?<=[0-9.,]){_SEAM}+(?=[0-9.,])", " ", text).replace(_SEAM, "")
    text = text.replace(r"\%", "%").replace(r"\$", "$").replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    return re.sub(" {2,}", " ", text).strip()
