"""Parses an answer by its question's type and says whether it is the gold answer: right, wrong, or cannot tell.

Strict on purpose: what cannot be parsed is `cannot_tell` with a reason, never a guess. This module knows no rationale,
no model and no filter. A further answer type is one more line in `_PARSERS`, and one in `_COMPARISONS` if its values
can be the same without being equal.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from itertools import zip_longest
from string import ascii_uppercase

from aot.answers import expressions
from aot.answers.clean import undressed
from aot.answers.finding import plain
from aot.answers.forms import DIFFERENT, EXACT, MAX_ANSWER_CHARS, Grade, ParsedAnswer
from aot.answers.kinds import choices, collections, numeric, quantities, times
from aot.answers.kinds.bare import bare_number, hedges, may_be_algebra, percent_or_part
from aot.answers.kinds.contest import compare_contest
from aot.answers.workers import ask_worker, one_deadline
from aot.errors import MissingPackageError, SourceError, install_command
from aot.records import AnswerType, Question, ScorerItem, Trace

MAX_SCORED_CHARS = 2_000
_MAX_GIVING_UP_CHARS = 80
_GIVES_UP = re.compile(
    r"(?:sorry[,.]? )?(?:but )?(?:i|we) (?:(?:really|honestly|just) )?"
    r"(?:(?:do not|don['’]?t) know|can(?:not| not|['’]?t) (?:tell|say|know|answer|determine)(?: (?:it|this|that))?|"
    r"(?:am|are) not sure|have no idea)(?: the answer)?(?: to (?:the|this|that) question)?"
)
"""What says that there is no answer, where no option and no gold answer says so."""
_CODE = re.compile(r"__|\blambda\b|\bimport\b|\b(?:eval|exec|open|getattr|globals|compile|breakpoint|input)\s?\(")


def _parse_scored(answer: str, question: Question) -> ParsedAnswer:
    """The answer as it is; code, and text too long for the scorers, is refused because some of them evaluate it.

    Python reads names in their NFKC form, and so does this.
    """
    text = answer.strip()
    if len(text) > MAX_SCORED_CHARS:
        return ParsedAnswer(None, "too_long")
    return ParsedAnswer(None, "code") if _CODE.search(unicodedata.normalize("NFKC", text)) else ParsedAnswer(text)


_PARSERS: dict[AnswerType, Callable[[str, Question], ParsedAnswer]] = {
    "choice": choices.parse_choice,
    "letter": choices.parse_letter,
    "text": choices.parse_text,
    "yes_no": choices.parse_yes_no,
    "span": choices.parse_span,
    "integer": numeric.parse_integer,
    "decimal": numeric.parse_number,
    "fraction": numeric.parse_number,
    "number": numeric.parse_number,
    "percent": numeric.parse_percent,
    "money": quantities.parse_money,
    "quantity": quantities.parse_quantity,
    "duration": quantities.parse_duration,
    "date": times.parse_date,
    "clock": times.parse_clock,
    "collection": collections.parse_collection,
    "expression": expressions.parse_expression,
    "scored": _parse_scored,
}
_COMPARISONS: dict[AnswerType, Callable[[ParsedAnswer, ParsedAnswer], Grade]] = {
    "span": choices.compare_spans,
    "decimal": numeric.compare_decimals,
    "percent": numeric.compare_percents,
    "money": quantities.compare_money,
    "quantity": quantities.compare_quantities,
    "duration": quantities.compare_durations,
    "date": times.compare_dates,
    "clock": times.compare_clocks,
    "collection": collections.compare_collections,
    "expression": expressions.compare_expressions,
}
"""How values that are not equal can still be the same, or cannot be told apart."""
_NUMBERS = ("integer", "decimal", "fraction", "number")
_PACKAGES: dict[AnswerType, tuple[str, str]] = {
    "expression": ("math_verify", "math-verify"),
    "collection": ("math_verify", "math-verify"),
    "scored": ("reasoning_gym", "reasoning-gym"),
}


def parse_answer(answer: str | None, question: Question) -> ParsedAnswer:
    """`answer` in the canonical form of the question's type."""
    if answer is None or (question.answer_type != "collection" and not answer.strip(" \t\r\n.()")):
        return ParsedAnswer(None, "empty")
    if len(answer) > MAX_ANSWER_CHARS:
        return ParsedAnswer(None, "too_long")
    said = plain(undressed(answer)) if len(answer) <= _MAX_GIVING_UP_CHARS else ""
    if _GIVES_UP.fullmatch(said) and said not in map(plain, (*question.choices, question.answer)):
        return ParsedAnswer(None, "does_not_know")
    parsed = _PARSERS[question.answer_type](answer, question)
    if parsed.value is None and question.reading != "strict" and question.answer_type in _NUMBERS:
        number = bare_number(answer)
        if number and not (question.reading == "contest" and may_be_algebra(answer, number)):
            return ParsedAnswer(str(number.value), written=answer)
    return parsed


def is_right(answer: str | None, question: Question) -> bool:
    """Whether `grade` calls the answer right; raises as it does."""
    return grade(answer, question).verdict == "right"


def verifies(trace: Trace, question: Question) -> bool:
    """Whether a trace came to an end and its answer is the gold answer; raises as `grade` does."""
    return trace.status == "ok" and is_right(trace.answer, question)


def grade(answer: str | None, question: Question) -> Grade:
    """Whether `answer` is the gold answer of `question`.

    Raises:
        SourceError: the gold answer itself cannot be parsed by the question's type.
    """
    if question.scorer is not None:
        parsed = parse_answer(answer, question)
        return Grade("cannot_tell", parsed.reason) if parsed.value is None else _grade_scored(parsed, question.scorer)
    gold = _parse_gold(question)
    if gold.value is None:
        raise SourceError(
            f"question {question.id!r}: gold answer {question.answer[:200]!r} is no {question.answer_type} "
            f"({gold.reason}); mend the answer or its answer_type in the questions file"
        )
    return _compared(answer, parse_answer(answer, question), question.answer, gold, question)


def _grade_scored(answer: ParsedAnswer, item: ScorerItem) -> Grade:
    """Right when the task's own scorer gives it 1; the score is the value."""
    reply = ask_worker("scores", {**item.model_dump(), "answer": answer.value})
    if reply.reason:
        return Grade("cannot_tell", reply.reason)
    return Grade("right" if reply.value == 1.0 else "wrong", "task_score", reply.value)


def compare_answers(answer: str | None, other: str | None, question: Question) -> Grade:
    """Whether two answers to `question` say the same, whatever its gold answer is.

    Two answers of the type `scored` are the same only as text.
    """
    parsed_other = parse_answer(other, question)
    if parsed_other.value is None:
        return Grade("cannot_tell", parsed_other.reason)
    return _compared(answer, parse_answer(answer, question), other or "", parsed_other, question)


def same_answer(answer: str | None, other: str | None, question: Question, *, kinds: Sequence[AnswerType] = ()) -> bool:
    """Whether two answers to `question` say the same; an answer that is none, or cannot be read, is no other's equal.

    Args:
        answer: of the one.
        other: of the other.
        question: an option that is said word for word is that option and no other.
        kinds: types to compare by, of which the first that can tell does; without any that of the question.
    """
    if answer in question.option_answers and other in question.option_answers:
        return answer == other
    for kind in kinds or (question.answer_type,):
        verdict = compare_answers(answer, other, question.model_copy(update={"answer_type": kind})).verdict
        if verdict != "cannot_tell":
            return verdict == "right"
    return False


def mixed_options(question: Question) -> str:
    """Which options of `question` an answer cannot tell apart, in words; empty if each is known by text and by letter.

    Asks the parser itself, so that it is right for whatever case, dots and blanks that one folds.
    """
    seen: dict[str, str] = {}
    for letter, option in zip_longest(ascii_uppercase[: len(question.choices)], question.choices):
        value = parse_answer(option, question).value
        if value is None:
            return f"the option {option[:80]!r} would not be understood as an answer"
        if value in seen:
            return f"the options {seen[value][:80]!r} and {option[:80]!r} count as the same answer"
        if letter and parse_answer(letter, question).value != value:
            return f"the letter {letter} could mean {option[:80]!r} or another option"
        seen[value] = option
    return ""


def check_packages(questions: Iterable[Question]) -> None:
    """Refuse questions whose answers only an absent package can compare; without it they `cannot_tell`.

    Raises:
        MissingPackageError: math-verify (expressions, collections) or reasoning-gym (scored) is not installed.
    """
    for answer_type in sorted({question.answer_type for question in questions} & set(_PACKAGES)):
        module, package = _PACKAGES[answer_type]
        if find_spec(module) is None:
            raise MissingPackageError(
                f"answers of the type {answer_type} are compared by the package {package}, which is not installed; "
                f"{install_command('text')}"
            )


def _compared(said: str | None, answer: ParsedAnswer, meant: str, gold: ParsedAnswer, question: Question) -> Grade:
    """The strict verdict; where that is open, the one by the convention that the question declares."""
    if question.reading == "strict" or not said or answer.reason in ("empty", "too_long", "does_not_know"):
        return _strictly(answer, gold, question)
    if re.search("%|percent|per cent|pct", said + meant) and percent_or_part(said, meant):
        return Grade("cannot_tell", "percent_or_part")
    is_contest = question.reading == "contest"
    # the strict reading of these knows no units, and takes 1 \pm 2 for one value
    convention_first = is_contest and question.answer_type in ("expression", "collection")
    with one_deadline():
        if convention_first and (verdict := compare_contest(said, meant, question)).verdict != "cannot_tell":
            return verdict
        if (strict := _strictly(answer, gold, question)).verdict != "cannot_tell":
            return strict
        convention_last = is_contest and not convention_first
        if convention_last and (verdict := compare_contest(said, meant, question)).verdict != "cannot_tell":
            return verdict
    return Grade("wrong", "several_values") if bare_number(meant) and hedges(said) else strict


def _strictly(answer: ParsedAnswer, gold: ParsedAnswer, question: Question) -> Grade:
    if answer.value is None:
        return Grade("cannot_tell", answer.reason)
    if answer.value == gold.value and question.answer_type != "span":  # an empty span overlaps with nothing
        return EXACT
    compare = _COMPARISONS.get(question.answer_type)
    return compare(answer, gold) if compare else DIFFERENT


def _parse_gold(question: Question) -> ParsedAnswer:
    """The gold answer; of a choice it is always the text of an option, even where that text is a letter.

    Where letters count, it is the letter.
    """
    if question.answer_type == "choice":
        return ParsedAnswer(plain(question.answer) if question.answer_index is None else question.right_answer)
    return parse_answer(question.answer, question)
