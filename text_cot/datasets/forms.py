r"""Tells from its form what kind of answer a text is, and finds the boxed answer of a LaTeX solution.

Looks at characters only; nothing here is parsed as mathematics (aot.answers compares).
"""

import re

from aot.records import AnswerType

_INTEGER = r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)"
_DECIMAL = rf"(?:{_INTEGER}\.\d+|[+-]?\.\d+)"
_FORMS: tuple[tuple[AnswerType, str], ...] = (
    ("yes_no", r"(?i:yes|no)"),
    ("integer", _INTEGER),
    ("fraction", r"[+-]?\d+/\d+"),
    ("number", _DECIMAL),
    ("percent", rf"(?:{_INTEGER}|{_DECIMAL}) ?%"),
    ("money", rf"\$ ?(?:{_INTEGER}|{_DECIMAL})"),
    ("date", r"\d{4}-\d{2}-\d{2}"),
    ("clock", r"\d{1,2}:\d{2}(?::\d{2})?(?: ?(?i:[ap]\.?m\.?))?"),
    ("letter", r"\([A-Za-z]\)|[A-Z]"),
)
_SPACE = re.compile(r"(?<!\\)\\!\s*|(?<!\\)\\[,;: ]|\\q?quad\b|~")
_BOX = re.compile(r"\\f?box(?:ed)?\s*")
_FRACTION = re.compile(r"([+-]?)\\frac\s*(?:\{(\d+)\}|(\d))\s*(?:\{(\d+)\}|(\d))")
_WORDS = re.compile(r"\\(?:text|textbf|mbox|mathrm)\s*\{([^{}]*)\}\.?")


def form_of(answer: str) -> AnswerType:
    """The type that `answer` has by its form; `text` where it has none of the others.

    >>> [form_of(answer) for answer in ("Yes", "1,200", "3/4", "0.5", "12:30", "(B)", "fry egg")]
    ['yes_no', 'integer', 'fraction', 'number', 'clock', 'letter', 'text']
    """
    return next((name for name, form in _FORMS if re.fullmatch(form, answer)), "text")


def last_boxed(solution: str) -> str | None:
    r"""What stands in the last `\boxed{...}`, whose braces may be nested; None if there is none.

    >>> last_boxed(r"so \boxed{1}, no, $\boxed{\frac{3}{4}}$.")
    '\\frac{3}{4}'
    """
    boxes = list(_BOX.finditer(solution))
    if not boxes:
        return None
    inside = solution[boxes[-1].end() :]
    if not inside.startswith("{"):  # \boxed 5 and \boxed5
        bare = re.match(r"[^\s$]+", inside)
        return bare[0] if bare else None
    depth = 0
    for end, letter in enumerate(inside):
        depth += (letter == "{") - (letter == "}") if inside[end - 1 : end] != "\\" or end == 0 else 0
        if depth == 0:
            return inside[1:end].strip()
    return None


def plain_math(answer: str) -> str:
    r"""A LaTeX answer without its dress: spacing, `\left`, dollar signs around it, fractions and texts written plain.

    >>> [plain_math(answer) for answer in (r"\dfrac34", r"1,\!000", r"\text{Evelyn}", r"\left(1, 2\right)", r"10\%")]
    ['3/4', '1,000', 'Evelyn', '(1, 2)', '10%']
    """
    text = _SPACE.sub(lambda space: "" if space[0].startswith("\\!") else " ", answer)
    text = re.sub(r"\\(?:left|right|displaystyle)(?![a-z])", "", text).replace("\\dfrac", "\\frac")
    text = text.replace("\\tfrac", "\\frac").replace("\\%", "%").replace("\\$", "$").strip()
    text = text.removesuffix(".").strip()
    if len(text) > 2 and text.startswith("$") and text.endswith("$"):
        text = text[1:-1].strip()
    if fraction := _FRACTION.fullmatch(text):
        sign, *digits = fraction.groups()
        return sign.replace("+", "") + "/".join(digit for digit in digits if digit)
    if words := _WORDS.fullmatch(text):
        return words[1].strip()
    return " ".join(text.split())


def math_form(answer: str) -> AnswerType:
    r"""The type of a plain LaTeX answer: as `form_of`, or a collection, or an expression.

    >>> [math_form(answer) for answer in ("3/4", "(1, 2)", "1, -2", "p - q", "no solution", r"2\sqrt{3}")]
    ['fraction', 'collection', 'collection', 'expression', 'text', 'expression']
    """
    form = form_of(answer)
    if form != "text":
        return form
    pair = re.fullmatch(r"[(\[].*,.*[)\]]|\\\{.*\\\}", answer)
    if pair or ("," in answer and not re.search(r"[a-zA-Z]{2,}\s|[({\[]", answer)):
        return "collection"
    return "text" if re.fullmatch(r"(?=.*[A-Za-z]{3})[A-Za-z]+(?:[ '.-][A-Za-z]+)*", answer) else "expression"
