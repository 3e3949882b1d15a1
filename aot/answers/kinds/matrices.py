r"""Takes a written matrix or column vector apart into its rows, and puts the ways of writing one into one form.

Knows LaTeX environments only; cells are text here, and are compared elsewhere.
"""

import re

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


def rows_of(latex: str) -> tuple[tuple[str, ...], ...] | None:
    r"""The cells of the matrix that `latex` is, row by row; None if it is anything else, or its rows differ in length.

    Bars mean a determinant, which is a number and no matrix. Round and square brackets mean the same.

    >>> rows_of(r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}")
    (('1', '2'), ('3', '4'))
    >>> rows_of(r"\begin{vmatrix} 1 & 2 \\ 3 & 4 \end{vmatrix}") is None
    True
    """
    if _NESTED.fullmatch(latex.strip()):
        lists = re.findall(r"\[([^\[\]]+)\]", latex.strip()[1:-1])
        return _table(tuple(tuple(cell.strip() for cell in row.split(",")) for row in lists))
    found = _WHOLE.fullmatch(latex.strip())
    if not found or "\\begin" in found["body"] or (bool(found["open"]) != bool(found["close"])):
        return None
    if found["name"] not in _BRACKETED and not found["open"]:
        return None
    rows = [row for row in _ROW_END.split(found["body"]) if row.strip()]
    cells = tuple(tuple(cell.strip() for cell in re.split(r"(?<!\\)&", row)) for row in rows)
    return _table(cells)


def _table(cells: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...] | None:
    """`cells` where they are a table of a size that is compared."""
    same_length = len({len(row) for row in cells}) == 1
    return cells if same_length and len(cells) * len(cells[0]) <= MAX_CELLS else None


def with_matrices(latex: str) -> str:
    """`latex` with each bracketed array as the pmatrix that it means, so that it can stand in a longer expression."""
    return _ARRAY.sub(r"\\begin{pmatrix}\2\\end{pmatrix}", latex)
