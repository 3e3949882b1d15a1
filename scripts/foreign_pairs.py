r"""Grades pairs of gold answer and reply that other projects collected, by the laxer convention that theirs follow.

What it allows beyond the convention `contest`, and no data set of ours may ask for: a gold that is a whole solution,
decimal commas, decimals that agree in the four digits or more that are written, backslashes written twice, and the last
value of a reply that states its answer nowhere.
"""

import re

from aot.answers import find_answer, grade
from aot.answers.clean import undressed
from aot.answers.expressions import to_latex, why_not_asked
from aot.answers.forms import Grade
from aot.answers.workers import ask_worker, one_deadline
from aot.records import Question
from text_cot.datasets.files import gradable
from text_cot.datasets.forms import math_form, plain_math
from text_cot.datasets.layouts import Problem

MIN_DIGITS, MAX_DIGITS = 4, 6
"""How many digits after the point a decimal must have to be read as rounded, and how many are compared."""
_NUMBER = r"[-+]?(?:[0-9]+(?:[,.' ][0-9]+)*|\.[0-9]+)"
_SPANS = re.compile(
    r"\$\$(?P<a>.+?)\$\$|\\\[(?P<b>.+?)\\\]|(?<!\\)\$(?P<c>(?:[^$\n\\]|\\[^\n])+)(?<!\\)\$|\\\((?P<d>[^\n]+?)\\\)",
    re.DOTALL,
)
_BROKEN = re.compile(r"(?<!\\)\$[^$]*\n[^$]*(?<!\\)\$|\\\((?:(?!\\\)).)*\n.*?\\\)", re.DOTALL)
_VALUE = re.compile(
    rf"(?<![A-Za-z0-9_.,])[$€£]?(?:{_NUMBER})(?:\s?/\s?[0-9]+)?(?:\s?(?:%|percent(?:age)?|pct|[$€£]|°))?(?!\w*[0-9])"
)
_DECIMAL_COMMA = re.compile(r"[-+]?(?:[0-9]+,[0-9]{1,2}|0,[0-9]+|[0-9]+,[0-9]{4,})")
_COMMAND = r"\\(?=(?:boxed|[dt]?frac|left|right|text|sqrt|pi|quad|begin|end|cdot|times|infty|cup|in|le|ge)(?![a-z]))"
_DOUBLED, _SINGLE = re.compile(rf"\\{_COMMAND}"), re.compile(rf"(?<!\\){_COMMAND}")
_PROSE = re.compile(r"(?<![A-Za-z\\])[A-Za-z']{2,}\s+(?:[A-Za-z']{2,}(?![A-Za-z'}])|:\s)")
_WORDS_ONLY = re.compile(r"\$?\\text\s?\{\s?([0-9]+)\s?\}\$?")


def grade_foreign(gold: str, reply: str, *, digits: int | None = None) -> Grade:
    """What a reply is worth against a gold, both as another project wrote them.

    Decimals are compared to `digits` after the point where the pair names them; else to those that are written.

    Raises:
        RowProblem: no answer type fits the gold.
    """
    with one_deadline():
        return _grade(_undoubled(gold), _undoubled(reply), digits)


def _grade(gold: str, reply: str, digits: int | None) -> Grade:
    meant = plain_math(foreign_gold(gold))
    meant = _with_point(meant) if re.search(r"[0-9]\.[0-9]", reply) else meant
    question = gradable(
        Problem("?", meant, (math_form(meant), "expression", "text"), "foreign", reading="contest"),
        id="foreign", dataset="foreign", split="test", group="foreign",
    )  # fmt: skip
    if _WORDS_ONLY.fullmatch(gold.strip()):
        return Grade("cannot_tell", "number_set_as_text")
    stated = find_answer(reply).answer
    in_prose = stated and question.answer_type != "text" and _PROSE.search(_SPANS.sub(" ", stated))
    graded = Grade("cannot_tell", "prose") if in_prose else _graded(stated, question, digits)
    if graded.verdict == "cannot_tell":
        last = last_value(stated or reply) or (last_value(reply) if stated else None)
        graded = _graded(last, question, digits) if last else graded
    return graded


def foreign_gold(gold: str) -> str:
    """The answer that a gold states, of a whole solution too; else all of it without its dollar signs."""
    stated = find_answer(gold)
    if stated.slot not in ("direct", "none", "closing") and stated.answer:
        return stated.answer
    return _SPANS.sub(lambda span: next(group for group in span.groups() if group is not None), gold).strip()


def last_value(text: str) -> str | None:
    """The last formula with a digit, or number outside formulas, whichever stands later; None if one cannot be read."""
    spans = list(_SPANS.finditer(text))
    outside = _SPANS.sub(lambda span: " " * len(span[0]), text)
    if _BROKEN.search(outside):
        return None
    numbers = list(_VALUE.finditer(outside))
    formulas = [span for span in spans if re.search("[0-9]", span[0])]
    if formulas and (not numbers or formulas[-1].end() > numbers[-1].end()):
        return next(group for group in formulas[-1].groups() if group is not None).strip()
    return numbers[-1][0].strip(" ,.") if numbers else None


def _graded(answer: str | None, question: Question, wanted: int | None) -> Grade:
    pointed = answer and re.fullmatch(r"[-+]?[0-9]*\.[0-9]+", question.answer)
    graded = grade(_with_point(answer) if answer and pointed else answer, question)
    if graded.verdict == "right" or answer is None:
        return graded
    digits = max((len(part) for part in re.findall(r"\.([0-9]+)", f"{answer} {question.answer}")), default=0)
    enough = digits >= MIN_DIGITS if wanted is None else digits > 0
    if enough and equal_when_rounded(answer, question.answer, digits=wanted or min(digits, MAX_DIGITS)):
        return Grade("right", "rounded")
    return graded


def _with_point(text: str) -> str:
    bare = undressed(text).strip("$€£ ")
    return bare.replace(",", ".") if _DECIMAL_COMMA.fullmatch(bare) else text


def _undoubled(text: str) -> str:
    """`text` with single backslashes where every command in it is written with two, as escaped JSON is."""
    return _DOUBLED.sub(r"\\", text) if not _SINGLE.search(text) else text


def equal_when_rounded(answer: str, gold: str, *, digits: int) -> bool:
    """Whether two expressions agree to so many digits after the point."""
    texts = [to_latex(undressed(side).rstrip(". ")) for side in (answer, gold)]
    if any(why_not_asked(text) not in ("", "several_values") for text in texts):
        return False
    return (
        ask_worker("expressions", {"answers": texts[:1], "golds": texts[1:], "ordered": True, "digits": digits}).value
        == 1.0
    )
