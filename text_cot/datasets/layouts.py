"""The columns of each text data set, and how a row of it becomes a problem; knows no file, no split and no other row.

GSM8K: arXiv 2110.14168. MATH: arXiv 2103.03874. CoT Collection: arXiv 2305.14045.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from aot.files.jsonl import MAX_QUESTION_CHARS, RowProblem, check_choices
from aot.records import AnswerType, Reading
from text_cot.datasets.forms import form_of, last_boxed, math_form, plain_math
from text_cot.datasets.source import with_answer_line

FileKind = Literal["gsm8k", "math", "cot_collection", "text_jsonl"]
MAX_ANSWER_CHARS = 200
OWN_TYPES = tuple(name for name in get_args(AnswerType) if name not in ("span", "scored"))
"""Answer types that a row may name; `span` needs a clip, and `scored` the scorer of a procedural task."""
_GSM8K_NUMBER = re.compile(r"-?(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3})(?:\.[0-9]+)?")
_NO_ANSWER = ("", "proof", "not found", "none", "notfound", "n/a", "null")
"""What NuminaMath writes where a problem has no answer that can be compared."""
_OWN_FIELDS = ("question", "answer", "rationale", "id", "kind", "group", "answer_type", "choices", "split", "reading")


@dataclass(frozen=True)
class Problem:
    """What one row says."""

    text: str
    answer: str
    types: tuple[AnswerType, ...]
    """The first of these by which the answer counts as right when compared with itself is taken."""
    kind: str
    rationale: str = ""
    """With `Answer: X` as its last line, and with its calculator notes; empty if there is none."""
    choices: tuple[str, ...] = ()
    id: str = ""
    group: str = ""
    split: str = ""
    reading: Reading = "strict"


def _gsm8k(fields: Mapping[str, Any]) -> Problem:
    text, solution = text_of(fields, "question"), text_of(fields, "answer")
    chain, mark, gold = solution.rpartition("####")
    if not mark or not gold.strip():
        raise RowProblem(
            "no_answer",
            "the field 'answer' has nothing after ####; a worked solution that ends with `#### 72` would be read",
        )
    written = short_answer(gold.strip()).removeprefix("$").removesuffix(".")
    if not _GSM8K_NUMBER.fullmatch(written):
        raise RowProblem(
            "gold_unparsable",
            f"what stands after #### is no number: {written!r}; digits alone would be read, such as 72, -3, 1,234 or "
            "2.50: a comma parts thousands, a point the decimals",
        )
    answer = written.replace(",", "")
    types: tuple[AnswerType, ...] = ("number",) if "." in answer else ("integer",)
    chain = with_answer_line(chain, answer)
    return Problem(text, answer, types, "grade_school", chain, reading="bare_number")


def _math(fields: Mapping[str, Any]) -> Problem:
    text, solution = text_of(fields, "problem"), text_of(fields, "solution")
    boxed = last_boxed(solution) or _named_answer(fields)
    if not boxed:
        raise RowProblem(
            "no_answer",
            "the field 'solution' has no \\boxed{...}, and there is no field 'answer' with the final answer; either "
            "would be read",
        )
    answer = short_answer(plain_math(boxed))
    if not answer:
        raise RowProblem("no_answer", f"nothing is left of the boxed answer {boxed!r}")
    kind = next(filter(None, (optional_text(fields, name) for name in ("type", "subject", "problem_type"))), "math")
    chain = with_answer_line(solution, answer)
    return Problem(text, answer, (math_form(answer), "expression"), slug(kind), chain, reading="contest")


def _named_answer(fields: Mapping[str, Any]) -> str:
    """The final answer in a column of its own, as NuminaMath and MATH-500 have it; empty if there is none."""
    answer = fields.get("answer")
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        return str(answer)
    text = optional_text(fields, "answer")
    return "" if text.casefold() in _NO_ANSWER else text


def _cot_collection(fields: Mapping[str, Any]) -> Problem:
    answer = short_answer(text_of(fields, "target"))
    text, kind = text_of(fields, "source"), slug(optional_text(fields, "task") or "cot_collection")
    chain = with_answer_line(optional_text(fields, "rationale"), answer)
    return Problem(text, answer, (form_of(answer), "text"), kind, chain)


def _text_jsonl(fields: Mapping[str, Any]) -> Problem:
    for name in fields:  # a column of somebody's own is left alone; one that looks like a slip is not
        if name not in _OWN_FIELDS and (near := difflib.get_close_matches(name, _OWN_FIELDS, n=1, cutoff=0.75)):
            raise RowProblem("unknown_field", f"there is no field {name!r}; did you mean {near[0]!r}?")
    answer = fields.get("answer")
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        fields = {**fields, "answer": str(answer)}
    answer = short_answer(text_of(fields, "answer"))
    choices = choice_texts(fields.get("choices"), answer)
    wanted = optional_text(fields, "answer_type")
    if wanted and wanted not in OWN_TYPES:
        raise RowProblem("bad_answer_type", f"there is no answer_type {wanted!r}; known: {', '.join(OWN_TYPES)}")
    if wanted == "choice" and not choices:
        raise RowProblem("bad_choices", "answer_type 'choice' needs the field 'choices'")
    reading = optional_text(fields, "reading") or "strict"
    if reading not in get_args(Reading):
        readings = ", ".join(get_args(Reading))
        raise RowProblem("bad_reading", f"there is no reading {reading!r} of answers; known: {readings}")
    guessed: tuple[AnswerType, ...] = ("choice",) if choices else (form_of(answer), "text")
    return Problem(
        text=text_of(fields, "question"),
        answer=answer,
        types=tuple(name for name in OWN_TYPES if name == wanted) or guessed,
        kind=optional_text(fields, "kind") or "text",
        rationale=with_answer_line(optional_text(fields, "rationale"), answer),
        choices=choices,
        id=optional_text(fields, "id"),
        group=optional_text(fields, "group"),
        split=optional_text(fields, "split"),
        reading=next(name for name in get_args(Reading) if name == reading),
    )


@dataclass(frozen=True)
class Layout:
    """Columns without which no row of a data set can be used, and the reader of one row."""

    wanted: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], Problem]
    """Raises RowProblem for a row that cannot be used."""


LAYOUTS: dict[FileKind, Layout] = {
    "gsm8k": Layout(("question", "answer"), _gsm8k),
    "math": Layout(("problem", "solution"), _math),
    "cot_collection": Layout(("source", "target"), _cot_collection),
    "text_jsonl": Layout(("question", "answer"), _text_jsonl),
}


def wrong_columns(dataset: str, layout: Layout, columns: tuple[str, ...]) -> str:
    """What to tell about a file none of whose rows has the columns that a layout wants."""
    wanted = layout.wanted
    chat = next((name for name in ("messages", "conversations", "conversation", "dialog") if name in columns), "")
    if chat:
        return f"the rows are chats in the column {chat!r}; data.dataset hf reads those (docs/text_data.md)"
    near = [
        f"{close[0]!r} for {name!r}"
        for name in wanted
        if name not in columns and (close := difflib.get_close_matches(name, columns, n=1, cutoff=0.5))
    ]
    others = [other for other, layout in LAYOUTS.items() if set(layout.wanted) <= set(columns)]
    advice = f"; did you mean {', '.join(near)}?" if near else ""
    advice += f"; these columns fit data.dataset {' or '.join(others)}" if others else ""
    return f"a {dataset} file has the columns {', '.join(wanted)}, found: {', '.join(columns) or 'none'}{advice}"


def text_of(fields: Mapping[str, Any], name: str) -> str:
    """The text of a column that must be there.

    Raises:
        RowProblem: missing_field, not_text, empty, too_long or bad_text.
    """
    if name not in fields:
        columns = tuple(map(str, fields))
        near = difflib.get_close_matches(name, columns, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; found: {', '.join(columns)[:200] or 'nothing'}"
        raise RowProblem("missing_field", f"the field {name!r} is missing{hint}")
    value = fields[name]
    if not isinstance(value, str):
        raise RowProblem("not_text", f"the field {name!r} must be a text, got {type(value).__name__}")
    if len(value) > MAX_QUESTION_CHARS:  # of a worked solution too
        raise RowProblem(
            "too_long", f"the field {name!r} has {len(value)} characters, at most {MAX_QUESTION_CHARS} are fine"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RowProblem("bad_text", f"the field {name!r} is not UTF-8; save the file as UTF-8") from None
    if not value.strip():
        raise RowProblem("empty", f"the field {name!r} is empty")
    return value.replace("\r\n", "\n").strip()


def optional_text(fields: Mapping[str, Any], name: str) -> str:
    """The text of a column that need not be there; empty if it is not, or null, or blank."""
    value = fields.get(name)
    return "" if value is None or (isinstance(value, str) and not value.strip()) else text_of(fields, name)


def short_answer(answer: str) -> str:
    """`answer`; raises RowProblem where it is too long to be one."""
    if len(answer) > MAX_ANSWER_CHARS:
        raise RowProblem("too_long", f"the answer has {len(answer)} characters, at most {MAX_ANSWER_CHARS} are fine")
    return answer


def choice_texts(value: object, answer: str) -> tuple[str, ...]:
    """The options of a row, none where it has none; raises RowProblem where no answer can be picked from them."""
    if value is None or value == []:
        return ()
    if not isinstance(value, list) or not all(isinstance(choice, str) and choice.strip() for choice in value):
        raise RowProblem("bad_choices", "choices must be a list of non-empty texts")
    choices = tuple(choice.strip() for choice in value)
    check_choices(answer, choices)
    return choices


def slug(name: str) -> str:
    """A word in small letters by which results are reported."""
    return re.sub(r"[^a-z0-9]+", "_", name.casefold()).strip("_") or "other"
