r"""Decides whether two mathematical expressions are equal, and asks a worker process only where it must.

Equal text and equal plain numbers are decided here, and a matrix is taken apart into cells; what is no expression, or
would cost a computer algebra system more than a second, is refused here. Nothing in this process evaluates what a model
wrote.
"""

import re

from aot.answers.brackets import depths, is_outside
from aot.answers.clean import undressed
from aot.answers.exact import exact_number
from aot.answers.forms import DIFFERENT, EXACT, Grade, ParsedAnswer
from aot.answers.workers import ask_worker
from aot.records import Question

MAX_EXPRESSION_CHARS = 1_000
_MAX_DEPTH = 20
_MAX_EXPONENT = 1_000
_MAX_FACTORIAL = 300

_ALLOWED = re.compile(r"[0-9A-Za-z\s+\-*/^_=<>().,!|{}\[\]\\&]*")
_COMMANDS = frozenset({
    "frac", "sqrt", "pi", "cdot", "times", "div", "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos",
    "arctan", "sinh", "cosh", "tanh", "log", "ln", "exp", "infty", "ge", "geq", "le", "leq", "ne", "neq", "alpha",
    "beta", "gamma", "delta", "epsilon", "theta", "lambda", "mu", "nu", "omega", "phi", "psi", "rho", "sigma", "tau",
    "binom", "sum", "prod", "begin", "end", "lfloor", "rfloor", "lceil", "rceil",
})  # fmt: skip
_PLAIN_NAMES = {
    **{name: f"\\{name} " for name in ("sin", "cos", "tan", "log", "ln", "exp", "pi", "theta", "alpha", "beta")},
    "infinity": "\\infty ", "inf": "\\infty ", "oo": "\\infty ", "arcsin": "\\arcsin ", "arccos": "\\arccos ",
}  # fmt: skip
_PLAIN_NAME = re.compile(rf"(?<![\\A-Za-z])(?:{'|'.join(sorted(_PLAIN_NAMES, key=len, reverse=True))})(?![A-Za-z])")
_PLAIN_ROOT = re.compile(r"(?<!\\)sqrt\s?\(([^()]*)\)")
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{([a-z]*matrix)\}")
_UNICODE_ROOT = re.compile(r"√\s?([0-9]+(?:\.[0-9]+)?|[A-Za-z](?![A-Za-z])|(?=\())")
_SCRIPT = re.compile(r"(\^)\s?(-?(?:[0-9]*\.)?[0-9]+)|(_)\s?(-?[0-9]+)")
_BARE_ROOT = re.compile(r"\\sqrt\s?[0-9.]{2}")
_STRAY_POINT = re.compile(r"\.[0-9]*\.|[^\s0-9({\[+\-*/^=<>,|&]\s?\.|\.(?![0-9])")
_SCRIPTED_NAME = re.compile(
    r"\\[a-z]+\s?(?:[\^_]\s?\{[^{}]*\}\s?)+|\\sqrt\s?\[[^\[\]]*\]|\\frac\s?\{[^{}]*\}(?=\s?[0-9])"
)
"""After these a number may stand without a bracket of its own: \\log_{2} 8, \\sqrt[3]8, \\frac{1}2."""
_CLOSED_THEN_DIGIT = re.compile(r"[)}\]]\s?[0-9]")
_TOWER = re.compile(r"\^\s?(?:\{[^{}^]*\}|[^{}^\s]*)\s?\^|\^\s?\{[^{}^]*\^")
_APART = re.compile(r"[0-9.]\s+[0-9.]")
_ASSIGNED = re.compile(r"([A-Za-z](?:_\{?\w\}?)?(?:\([A-Za-z]\))?)\s?=\s?((?:(?!\\[gln]e)[^=<>])+)")
_RELATION = re.compile(r"[=<>]|\\(?:geq?|leq?|neq?)(?![A-Za-z])")
_OTHER_BASE = re.compile(r"[0-9)}]\s?_")
_DECIMAL = re.compile(r"([0-9]*)\.([0-9]+)")

MAX_CELLS = 400
_BRACKETED = "pmatrix", "bmatrix", "Bmatrix"
_WHOLE = re.compile(
    r"(?P<open>[(\[]?)\s?\\begin\s?\{(?P<name>[pbB]?matrix|smallmatrix|array)\}\s?(?P<columns>\{[lcr|\s]*\})?"
    r"(?P<body>.*)\\end\s?\{(?P=name)\}\s?(?P<close>[)\]]?)",
    re.DOTALL,
)
_ARRAY = re.compile(
    r"[(\[]\s?\\begin\s?\{(array|matrix|smallmatrix)\}\s?(?:\{[lcr|\s]*\})?((?:(?!\\begin|\\end).)*)\\end\s?\{\1\}\s?[)\]]",
    re.DOTALL,
)
_NESTED = re.compile(r"\[\s?\[[^\[\]]+\](?:\s?,\s?\[[^\[\]]+\])*\s?\]")
"""Rows as lists of a list: [[1, 2], [3, 4]]."""
_ROW_END = re.compile(r"\\\\|\\cr(?![a-z])|\\hline(?![a-z])")


def parse_expression(answer: str, question: Question) -> ParsedAnswer:
    """An expression as LaTeX without its dress; of a plain number, its exact value."""
    text = undressed(answer).rstrip(". ")
    number = None if _ASSIGNED.fullmatch(text) else exact_number(text)
    if number is not None:
        return ParsedAnswer(str(number), written=text)
    latex = to_latex(text)
    return ParsedAnswer(tight(latex), written=latex) if latex else ParsedAnswer(None, "empty")


def compare_expressions(answer: ParsedAnswer, gold: ParsedAnswer) -> Grade:
    """Right when the two are mathematically equal, not only close.

    5 answers `x = 5`, since the gold tells of what it is the value; whether `x = 5` answers 5, nobody can tell.
    """
    if answer.value == gold.value:
        return EXACT
    said, meant = _unassigned(answer.written, gold.written)
    rows, gold_rows = _rows_of(said), _rows_of(meant)
    if rows and gold_rows:  # the transpose is another matrix
        if (len(rows), len(rows[0])) != (len(gold_rows), len(gold_rows[0])):
            return Grade("wrong", "other_shape")
        return compare_latex([cell for row in rows for cell in row], [cell for row in gold_rows for cell in row])
    if (rows or gold_rows) and not ("\\begin" in said and "\\begin" in meant):
        return Grade("cannot_tell", "matrix_or_other")
    return compare_latex([said], [meant])


def _rows_of(latex: str) -> tuple[tuple[str, ...], ...] | None:
    r"""The cells of the matrix that `latex` is, row by row; None if it is anything else, or its rows differ in length.

    Bars mean a determinant, which is a number and no matrix. Round and square brackets mean the same.

    >>> _rows_of(r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}")
    (('1', '2'), ('3', '4'))
    >>> _rows_of(r"\begin{vmatrix} 1 & 2 \\ 3 & 4 \end{vmatrix}") is None
    True
    """
    if _NESTED.fullmatch(latex.strip()):
        lists = re.findall(r"\[([^\[\]]+)\]", latex.strip()[1:-1])
        return _table(tuple(tuple(cell.strip() for cell in row.split(",")) for row in lists))
    matrix = _WHOLE.fullmatch(latex.strip())
    if not matrix or "\\begin" in matrix["body"] or (bool(matrix["open"]) != bool(matrix["close"])):
        return None
    if matrix["name"] not in _BRACKETED and not matrix["open"]:
        return None
    rows = [row for row in _ROW_END.split(matrix["body"]) if row.strip()]
    cells = tuple(tuple(cell.strip() for cell in re.split(r"(?<!\\)&", row)) for row in rows)
    return _table(cells)


def _table(cells: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...] | None:
    """`cells` where they are a table of a size that is compared."""
    same_length = len({len(row) for row in cells}) == 1
    return cells if same_length and len(cells) * len(cells[0]) <= MAX_CELLS else None


def compare_latex(answers: list[str], golds: list[str], *, ordered: bool = True) -> Grade:
    """Whether the expressions are equal one by one, or in any order; one question to the worker at most."""
    if len(answers) != len(golds):
        return DIFFERENT
    if ordered and answers == golds and all(answers):
        return EXACT
    numbers = [(exact_number(a), exact_number(g)) for a, g in zip(answers, golds, strict=True)]
    if ordered and any(a is not None and g is not None and a != g for a, g in numbers):
        return DIFFERENT
    arranged = list if ordered else sorted
    related = [arranged(_RELATION.search(text) is not None for text in texts) for texts in (answers, golds)]
    if related[0] != related[1]:
        return Grade("cannot_tell", "relation_or_value")
    if any(map(why_not_asked, golds)):
        return Grade("cannot_tell", "gold_not_understood")
    letters = _letters(" ".join(golds))
    for answer in answers:
        if {letter.swapcase() for letter in _letters(answer) - letters} & letters:
            return Grade("wrong", "other_variable")
        reason = why_not_asked(answer) or ("not_an_expression" if _foreign_words(answer, letters) else "")
        if reason:
            return Grade("cannot_tell", reason)
    request = {"answers": [_spelled(a) for a in answers], "golds": [_spelled(g) for g in golds], "ordered": ordered}
    reply = ask_worker("expressions", request)
    if reply.reason:
        return Grade("cannot_tell", reply.reason)
    return Grade("right", "equal_expressions") if reply.value else DIFFERENT


def to_latex(text: str) -> str:
    """Plain notation such as `2*sqrt(x)**2` written as LaTeX; LaTeX stays as it is."""
    # a bracketed array means a pmatrix, and can then stand in a longer expression
    text = _ARRAY.sub(r"\\begin{pmatrix}\2\\end{pmatrix}", text.replace("**", "^"))
    text = _UNICODE_ROOT.sub(lambda root: f"\\sqrt{{{root[1]}}}" if root[1] else "sqrt", text)
    for _ in range(3):  # roots within roots
        text = _PLAIN_ROOT.sub(r"\\sqrt{\1}", text)
    text = _PLAIN_NAME.sub(lambda match: _PLAIN_NAMES[match[0]], text)
    return " ".join(_SCRIPT.sub(r"\1\3{\2\4}", text).split())


def why_not_asked(latex: str) -> str:
    """Reason for which no computer algebra system is asked about `latex`; empty if one may be."""
    if len(latex) > MAX_EXPRESSION_CHARS:
        return "too_long"
    without = _ENVIRONMENT.sub("", latex)
    commands = set(_COMMAND.findall(without))
    if not _ALLOWED.fullmatch(latex) or not commands <= _COMMANDS - {"begin", "end"} or _OTHER_BASE.search(latex):
        return "not_an_expression"
    if re.search(r"[A-Za-z]{5}", _COMMAND.sub(" ", without)):
        return "not_an_expression"
    depth = _depth(latex)
    if depth is None:
        return "unbalanced_brackets"
    if _BARE_ROOT.search(latex) or _STRAY_POINT.search(latex):
        return "not_an_expression"
    if _CLOSED_THEN_DIGIT.search(_SCRIPTED_NAME.sub("", _ENVIRONMENT.sub("&", latex))):
        return "digits_after_bracket"
    if _several(latex) or _APART.search(latex):
        return "several_values"
    return "too_hard" if depth > _MAX_DEPTH or _explodes(latex) else ""


def tight(latex: str) -> str:
    """Without spaces, but for those that keep 1 2 from being 12."""
    return re.sub(r"(?<![0-9.])\s|\s(?![0-9.])", "", latex)


def _explodes(latex: str) -> bool:
    exponents = re.findall(r"\^\s?\{?\s?-?\s?([0-9]+)", latex)
    factorials = re.findall(r"([0-9]+)[)}\s]*!", latex)
    return bool(
        _TOWER.search(latex)
        or "!!" in latex
        or re.search(r"[0-9]{61}", latex)
        or any(int(exponent) > _MAX_EXPONENT for exponent in exponents)
        or any(int(number) > _MAX_FACTORIAL for number in factorials)
    )


def _depth(latex: str) -> int | None:
    after = [0, *depths(latex)]
    return None if min(after) < 0 or after[-1] else max(after)


def _several(latex: str) -> bool:
    outside = (comma.end() for comma in re.finditer(",", latex) if is_outside(latex, comma.start()))
    return any(not re.match("[0-9]{3}(?![0-9])", latex[end:]) for end in outside)


def _letters(latex: str) -> set[str]:
    return set(re.findall("[A-Za-z]", _COMMAND.sub(" ", latex)))


def _foreign_words(answer: str, letters: set[str]) -> bool:
    words = re.findall(r"[A-Za-z]{2,}", _COMMAND.sub(" ", _ENVIRONMENT.sub(" ", answer)))
    return any(not set(word) <= letters | {"e", "i"} for word in words)


def _unassigned(answer: str, gold: str) -> tuple[str, str]:
    """Both without their `x =` where they agree on the name, or where the gold has one and the answer no relation."""
    said, meant = _ASSIGNED.fullmatch(answer), _ASSIGNED.fullmatch(gold)
    if said and meant and said[1] == meant[1]:
        return said[2].strip(), meant[2].strip()
    return (answer, meant[2].strip()) if meant and not _RELATION.search(answer) else (answer, gold)


def _spelled(latex: str) -> str:
    """Thousands without commas, which would be read as a list, and decimals as fractions, which are never rounded.

    Inside brackets 2,100 is a list.
    """
    latex = re.sub(
        r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))", lambda comma: "," if _depth(latex[: comma.start()]) != 0 else "", latex
    )
    latex = re.sub(r"\s?(?:\\cdot|\*)\s?i(?![A-Za-z])", "i", latex)  # 4 \cdot i is 4i, and i no name
    latex = re.sub(r"(?<=[0-9])\s?\((?=[0-9])", r" \\cdot (", latex)  # 2(3) would be read as a function's name
    return _DECIMAL.sub(lambda match: f"\\frac{{{match[1]}{match[2]}}}{{1{'0' * len(match[2])}}}", latex)
