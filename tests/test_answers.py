"""Answers are found in one declared place and graded without a guess."""

import pytest

from aot.answers import find_answer, grade
from aot.errors import SourceError
from aot.records import AnswerType, Question


def ask(answer: str, answer_type: AnswerType, *choices: str) -> Question:
    return Question(
        id="q", dataset="d", split="test", kind="k", text="?", choices=choices, answer=answer,
        answer_type=answer_type, group="g",
    )  # fmt: skip


CHOICE = ask("fry onion", "choice", "chop onion", "fry onion", "add egg")


@pytest.mark.parametrize(
    ("text", "answer", "slot"),
    [
        ("Gather: x [1].\nAnswer: fry onion", "fry onion", "declared"),
        ("It follows. Final answer: 2", "2", "declared"),
        ("... The answer is C.", "C.", "said"),
        ("Answer: 2\nAnswer: 2.", "2.", "declared"),
        ("Answer: 2\nAnswer: 3", None, "none"),
        ("Combine: so.\nAnswer:", None, "none"),
        ("fry onion", "fry onion", "direct"),
        ("B. fry onion", "B. fry onion", "direct"),
        ("A person fries. Then the person eats.", None, "none"),
        ("two\nlines", None, "none"),
        ("", None, "none"),
    ],
)
def test_find_answer(text: str, answer: str | None, slot: str) -> None:
    found = find_answer(text)
    assert (found.answer, found.slot) == (answer, slot)


@pytest.mark.parametrize(
    "answer", ["fry onion", "Fry  Onion.", "B", "b", "B.", "(B)", "B)", "B. fry onion", "(B) fry onion"]
)
def test_choice_right(answer: str) -> None:
    assert grade(answer, CHOICE).verdict == "right"


@pytest.mark.parametrize(
    ("answer", "verdict", "reason"),
    [
        ("A", "wrong", "different"),
        ("add egg", "wrong", "different"),
        (None, "cannot_tell", "empty"),
        ("", "cannot_tell", "empty"),
        ("(", "cannot_tell", "empty"),
        ("A person picks the onion", "cannot_tell", "not_an_option"),
        ("A. person", "cannot_tell", "not_an_option"),
        ("B. add egg", "cannot_tell", "letter_contradicts_text"),
        ("A or B", "cannot_tell", "several_options"),
        ("chop onion or fry onion", "cannot_tell", "several_options"),
        ("Z", "cannot_tell", "not_an_option"),
        ("onion", "cannot_tell", "not_an_option"),
    ],
)
def test_choice_is_never_guessed(answer: str | None, verdict: str, reason: str) -> None:
    graded = grade(answer, CHOICE)
    assert (graded.verdict, graded.reason) == (verdict, reason)


def test_a_letter_that_is_also_an_option_text_is_ambiguous() -> None:
    assert grade("A", ask("A", "choice", "B", "A")).reason == "several_options"


@pytest.mark.parametrize(
    ("answer", "gold", "verdict"),
    [
        ("2", "2", "right"), ("two", "2", "right"), ("Twice.", "2", "right"), ("2 times", "2", "right"),
        ("1,200", "1200", "right"), ("2.0", "2", "right"), ("twenty-one", "21", "right"), ("-3", "-3", "right"),
        ("2.5", "2", "wrong"), ("3", "2", "wrong"), ("-2", "2", "wrong"), ("2 or 3", "2", "cannot_tell"),
        ("many", "2", "cannot_tell"), ("²", "2", "cannot_tell"), ("9" * 400, "2", "cannot_tell"),
    ],
)  # fmt: skip
def test_integer(answer: str, gold: str, verdict: str) -> None:
    assert grade(answer, ask(gold, "integer")).verdict == verdict


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [("Yes.", "right"), ("no", "wrong"), ("yes and no", "cannot_tell"), ("yesterday", "cannot_tell")],
)
def test_yes_no(answer: str, verdict: str) -> None:
    assert grade(answer, ask("yes", "yes_no")).verdict == verdict


@pytest.mark.parametrize(
    ("answer", "verdict", "value"),
    [
        ("2.0s-4.0s", "right", 1.0),
        ("3.0 s - 4.0 s.", "right", 0.5),
        ("3.1s-4.0s", "wrong", 0.45),
        ("5s-6s", "wrong", 0.0),
        ("4.0s-2.0s", "cannot_tell", None),
        ("2.0s-4.0s or 5.0s-6.0s", "cannot_tell", None),
        ("3s", "cannot_tell", None),
    ],
)
def test_span_is_graded_by_overlap(answer: str, verdict: str, value: float | None) -> None:
    graded = grade(answer, ask("2.0s-4.0s", "span"))
    assert graded.verdict == verdict
    assert graded.value == (None if value is None else pytest.approx(value))


def test_text_ignores_case_spaces_and_the_last_dot_only() -> None:
    question = ask("fry onion", "text")
    assert grade(" Fry  ONION. ", question).verdict == "right"
    assert grade("fry onions", question).verdict == "wrong"
    assert grade("fry onion and egg", question).verdict == "wrong"


def test_every_gold_answer_grades_right() -> None:
    for gold, kind in (("fry onion", "text"), ("2", "integer"), ("no", "yes_no"), ("0.0s-1.5s", "span")):
        assert grade(gold, ask(gold, kind)).verdict == "right"  # type: ignore[arg-type]


def test_unparsable_gold_is_an_error_that_names_the_question() -> None:
    with pytest.raises(SourceError, match=r"question 'q'.*integer"):
        grade("2", ask("some", "integer"))
