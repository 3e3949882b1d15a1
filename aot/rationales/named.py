"""Numbers by name: those of a question are marked, `#1=12`, and `[2]` is what the second call came to.

Who names numbers copies no digits, so a chain says the same about long numbers as about short ones. That marks help a
model to go on from one to the next in longer problems is from arXiv 2310.16028 (index hints); names that stand for
results to come, from arXiv 2305.18323.
"""

import re
from collections.abc import Callable, Iterable, Mapping

from pydantic import Field

from aot.errors import ToolError
from aot.rationales.arithmetic.tokens import Token, amount_of, is_number, tokens_of
from aot.rationales.calls import CalculatorArguments, CalculatorResult, ToolArguments, calculate
from aot.records import Step
from aot.seeds import hashed, rng

NAMED_CALCULATOR_NAME = "named_calculator"
MOST_MARKS = 99
"""Later numbers of a question are not marked."""
LESSON_NAMES, LATEST_FIRST = 9, 5
"""In lessons, numbers have names of 1 to the first, and those of results begin at one of 1 to the second, so that names
of longer problems are learned too."""
MOST_WORDS = 6
"""Before a number that is left."""
NAME = re.compile(r"#\d{1,3}(?![\d=])|\[\d{1,3}\]")
_MARK = re.compile(r"(#\d{1,3})=(\d{1,2}:[0-5]\d(?!\d)|(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?)")
_CLAUSE_END = re.compile(r"[.!?;,]\s+")
_SIMPLE = re.compile(r"[\d.,]+|\d{1,2}:\d\d")


class NamedArguments(ToolArguments):
    """What to work out."""

    expression: str = Field(
        min_length=1,
        description="Names with + - * / and parentheses: #1 is the number so marked in the question, [2] the result "
        "of the second call; such as (#1 + [2]) / 2.",
    )


class NamedResult(CalculatorResult):
    """What an expression comes to, and the name by which a later call takes it up."""

    name: str
    """Such as [2]."""
    left: str = Field(default="", exclude_if=lambda left: not left)
    """The numbers of the question that no call has used so far, as `left_over` quotes them."""


def calculate_named(arguments: NamedArguments, *, values: Mapping[str, str], name: str, left: str = "") -> NamedResult:
    """The exact value of an expression whose names stand for `values`; plain numbers may stand in it, too.

    Raises:
        ToolError: a name stands for nothing, or as for `calculate`.
    """
    unknown = [name for name in NAME.findall(arguments.expression) if name not in values]
    if unknown:
        raise ToolError(f"{unknown[0]} stands for no number; those that do are {', '.join(values) or 'none'}")
    result = calculate(CalculatorArguments(expression=with_values(arguments.expression, values, as_part=True)))
    return NamedResult(value=result.value, about=result.about, name=name, left=left)


def left_over(marked_text: str, expressions: Iterable[str]) -> str:
    """The numbers of a marked question that stand in none of the expressions, each behind the words before it.

    Whoever goes on need not count, and finds the next number in what was said last, however long the question is.

    >>> left_over("Ann has #1=12 pens. Ann finds #2=7 and loses #3=500.", ["#1 + 2"])
    'Ann finds #2, and loses #3'
    """
    used = {name for expression in expressions for name in NAME.findall(expression)}
    pieces, end = [], 0
    for mark in _MARK.finditer(marked_text):
        words = _CLAUSE_END.split(marked_text[end : mark.start()])[-1].split()[-MOST_WORDS:]
        pieces += [] if mark[1] in used else [" ".join([*words, mark[1]])]
        end = mark.end()
    return ", ".join(pieces)


def marked(text: str, *, lesson: str = "") -> str:
    """A question whose numbers and times are marked by name; of a `lesson`, the id of its question, in a random order.

    Whoever learns from names in order learns to count on from the last one, which fails in longer problems.

    >>> marked("What is 12 + 7 at 9:40?")
    'What is #1=12 + #2=7 at #3=9:40?'
    """
    tokens = _numbers(text)[:MOST_MARKS]
    numbers: Iterable[int] = range(1, len(tokens) + 1)
    if lesson:
        numbers = (1 + int(place) for place in rng(0, lesson, "names").permutation(max(len(tokens), LESSON_NAMES)))
    names = {token.start: f"#{number}" for token, number in zip(tokens, numbers, strict=False)}
    return in_place(text, tokens, lambda token: f"{names[token.start]}={token.text}")


def in_place(text: str, tokens: Iterable[Token], said: Callable[[Token], str]) -> str:
    """A text with something else said for some of its tokens, which come in their order."""
    pieces, end = [], 0
    for token in tokens:
        pieces += [text[end : token.start], said(token)]
        end = token.end
    return "".join([*pieces, text[end:]])


def marks_in(text: str) -> dict[str, str]:
    """The names in a marked question, each with its number as it is written."""
    return dict(_MARK.findall(text))


def values_of(question_text: str, steps: Iterable[Step]) -> dict[str, str]:
    """What each name stands for, in a marked question and behind some calls."""
    values = marks_in(question_text)
    for step in steps:
        value = (step.result or {}).get("value")
        if step.status == "ok" and isinstance(value, str):
            values[f"[{step.index}]"] = value
    return values


def with_values(text: str, values: Mapping[str, str], *, as_part: bool = False) -> str:
    """A text with values in place of their names; `as_part` of an expression, where a fraction needs parentheses.

    >>> with_values("#1 + [1] = ", {"#1": "12", "[1]": "10/3"}, as_part=True)
    '12 + (10/3) = '
    """

    def value(mark: re.Match[str]) -> str:
        number = values.get(mark[0], mark[0])
        return f"({number})" if as_part and not _SIMPLE.fullmatch(number) else number

    return NAME.sub(value, text)


def first_result(question_id: str) -> int:
    """Where the names of results begin in a lesson about a question."""
    return 1 + hashed(0, question_id, "first name") % LATEST_FIRST


def _numbers(text: str) -> list[Token]:
    """The tokens of a text that are numbers or times, and no part of a word or of a name."""
    return [
        token
        for token in tokens_of(text)
        if is_number(token) and amount_of(token) and not re.match(r"[\w#]", text[max(0, token.start - 1) : token.start])
    ]
