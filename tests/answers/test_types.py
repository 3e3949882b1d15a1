"""Each answer type compares exactly, and says why when it cannot."""

import pytest
from answer_kit import ask, verdict

from aot.answers import Grade, check_packages, compare_answers, grade, mixed_options, parse_answer, same_answer
from aot.answers.__main__ import by_worth, judged_cases
from aot.answers.exact import exact_number, number_from_words
from aot.errors import MissingPackageError, SourceError
from aot.records import AnswerType, Question


def test_no_case_of_the_table_is_wrongly_right_and_under_two_percent_are_missed() -> None:
    outcomes = judged_cases()
    assert len(outcomes) >= 220
    wrong, right = by_worth(outcomes)
    assert [one for one in wrong if one.is_amiss] == []
    assert sum(one.is_amiss for one in right) < 0.02 * len(right)


@pytest.mark.parametrize(
    "number", [0, 7, 13, 20, 21, 100, 101, 110, 999, 1000, 1001, 15_000, 999_999, 1_000_000, 12_345_678]
)
def test_number_words_are_read_up_to_the_millions(number: int) -> None:
    assert number_from_words(_in_words(number)) == number


@pytest.mark.parametrize(
    "words", ["five five", "hundred", "twenty thirteen", "one thousand million", "and", "five and", ""]
)
def test_what_is_no_number_in_words_is_none(words: str) -> None:
    assert number_from_words(words) is None


@pytest.mark.parametrize("said", ["I do not know", "I don't know.", "Sorry, I can't tell.", "I am not sure"])
@pytest.mark.parametrize(
    ("gold", "kind"),
    [("5", "integer"), ("no", "yes_no"), ("pan", "text"), ("B", "letter"), ("1.0s-2.0s", "span"), ("x", "expression")],
)
def test_who_does_not_know_is_never_right_and_says_so(said: str, gold: str, kind: AnswerType) -> None:
    for reading in ("strict", "contest"):
        question = ask(gold, kind).model_copy(update={"reading": reading})
        assert grade(said, question) == Grade("cannot_tell", "does_not_know")
        assert not same_answer(said, said, question)


def test_not_to_know_is_an_answer_where_an_option_says_so() -> None:
    update = {"choices": ("pan", "I do not know"), "answer_type": "choice"}
    question = ask("I do not know", "text").model_copy(update=update)
    assert grade("I do not know.", question).verdict == "right"


def test_whole_numbers_are_compared_without_floats() -> None:
    assert verdict("9007199254740993", "9007199254740992", "integer") == "wrong"
    assert verdict("9" * 300, "9" * 300, "integer") == "right"
    assert grade("9" * 301, ask("5", "integer")).reason == "too_many_digits"


def test_a_unit_is_not_dropped_from_an_integer() -> None:
    assert grade("36 apples", ask("36", "integer")).reason == "not_only_a_number"


@pytest.mark.parametrize(
    "text",
    [
        "1/0",
        "1e999999999",
        "1e-301",
        "nan",
        "inf",
        "٣",
        "²",
        "1,23",
        "0x10",
        "1_00",
        "1_000_0",
        "--1",
        ".",
        "--five",
        "-" * 899,
    ],
)
def test_odd_numbers_are_refused(text: str) -> None:
    assert exact_number(text) is None


@pytest.mark.parametrize(
    ("answer_type", "gold", "answer", "reason"),
    [
        ("decimal", "0.125", "0.1254", "rounds_to_gold"),
        ("money", "18", "¥18", "currency_not_in_gold"),
        ("quantity", "2 tons", "2000 kg", "which_ton"),
        ("letter", "B", "(B) or (C)", "several_options"),
        ("collection", "x=1, y=2", "2 and 1", "names_on_one_side"),
        ("collection", "(x, y)", "(X, Y)", "other_case"),
        ("expression", "5", "y = 5", "relation_or_value"),
        ("money", "$5", "5", "no_currency"),
        ("money", "$5", "€5", "other_currency"),
        ("quantity", "5 cm", "5", "no_unit"),
        ("quantity", "5 cm", "5 kg", "other_unit"),
        ("duration", "90 minutes", "1:30", "hours_or_minutes"),
        ("date", "2024-01-05", "05/01/2024", "day_or_month_first"),
        ("date", "2024-01-05", "5 January", "no_year"),
        ("date", "2024-01-05", "Monday, 5 January 2024", "weekday_contradicts_date"),
        ("clock", "15:45", "3:45", "no_am_pm"),
        ("collection", "[0, 1)", "0, 1", "no_brackets"),
        ("collection", "1, 2", "2, 1", "other_order"),
        ("expression", "5", "x + 1 = 5", "relation_or_value"),
        ("expression", "x", "X", "other_variable"),
        ("letter", "A", "A or B", "several_options"),
        ("integer", "5", "x" * 10_001, "too_long"),
    ],
)
def test_the_reason_can_be_counted(answer_type: AnswerType, gold: str, answer: str, reason: str) -> None:
    assert grade(answer, ask(gold, answer_type)).reason == reason


def test_every_typed_gold_of_the_table_is_right_for_itself() -> None:
    typed = [case.question for case in judged_cases() if case.question.answer_type != "scored"]
    assert [question.id for question in typed if grade(question.answer, question).verdict != "right"] == []


@pytest.mark.parametrize(
    ("said", "verdict"), [("B) fry onion", "right"), ("B) add egg", "cannot_tell"), ("B. not fried", "cannot_tell")]
)
def test_text_after_a_letter_must_be_its_option_where_the_choices_are_known(said: str, verdict: str) -> None:
    question = ask("B", "letter").model_copy(update={"choices": ("chop onion", "fry onion", "add egg")})
    assert grade(said, question).verdict == verdict


def test_two_answers_are_compared_without_the_gold() -> None:
    question = ask("7", "clock")
    assert compare_answers("3 pm", "15:00", question).verdict == "right"
    assert compare_answers("3 pm", "soon", question).verdict == "cannot_tell"
    with pytest.raises(SourceError, match=r"'q'.*clock"):
        grade("7:00", question)


def test_equal_amounts_share_one_canonical_value() -> None:
    question = ask("90 minutes", "duration")
    assert parse_answer("1 h 30 min", question) == parse_answer("5400 s", question)


def test_absent_packages_are_named_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aot.answers.grading.find_spec", lambda name: None)
    check_packages([ask("5", "integer")])
    with pytest.raises(MissingPackageError, match=r"math-verify.*\[text\]"):
        check_packages([ask("x", "expression")])


def _in_words(number: int) -> str:
    ones = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    ones += [f"{stem}teen" for stem in ("thir", "four", "fif", "six", "seven", "eigh", "nine")]
    tens = [f"{stem}ty" for stem in ("twen", "thir", "for", "fif", "six", "seven", "eigh", "nine")]
    for size, name in ((10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if number >= size:
            head, rest = divmod(number, size)
            return f"{_in_words(head)} {name}" + (f" {_in_words(rest)}" if rest else "")
    if number < 20:
        return ones[number]
    return tens[number // 10 - 2] + (f"-{ones[number % 10]}" if number % 10 else "")


def options(*choices: str, right: int = 0, by_letter: bool = False) -> Question:
    return Question(
        id="q", dataset="d", split="test", kind="k", text="?", choices=choices, answer=choices[right],
        answer_type="choice", group="g", answer_index=right if by_letter else None,
    )  # fmt: skip


@pytest.mark.parametrize(
    "choices",
    [
        ("Crack egg", "crack egg", "fry egg"),
        ("Crack egg.", "Crack egg", "fry egg"),
        ("crack  egg", "crack egg"),
        ("crack egg", "fry egg", "CRACK EGG . "),
        ("crack egg", "crack egg"),
        ("b", "a"),
        ("fry egg", "(A)"),
        ("fry egg", "..."),
        ("x" * 10_001, "fry egg"),
    ],
)
def test_options_that_an_answer_cannot_tell_apart_are_named(choices: tuple[str, ...]) -> None:
    assert mixed_options(options(*choices))


@pytest.mark.parametrize(
    "choices",
    [
        ("fry egg", "crack egg"), ("the egg", "an egg", "egg"), ("A", "B", "C"), ("2", "3"), ("A. fry", "B. crack"),
        ("a man", "man"), tuple(f"step {number}" for number in range(40)),
    ],
)  # fmt: skip
def test_options_that_differ_in_a_word_are_told_apart(choices: tuple[str, ...]) -> None:
    assert mixed_options(options(*choices)) == ""


@pytest.mark.parametrize(
    ("answer", "verdict", "reason"),
    [
        ("B", "right", "exact"),
        ("(b)", "right", "exact"),
        ("B. crack egg", "right", "exact"),
        ("B) Crack egg.", "right", "exact"),
        ("A", "wrong", "different"),
        ("C. fry egg", "wrong", "different"),
        ("fry egg", "wrong", "different"),
        ("crack egg", "cannot_tell", "several_options"),
        ("A or B", "cannot_tell", "several_options"),
        ("D", "cannot_tell", "not_an_option"),
        ("B. fry egg", "cannot_tell", "letter_contradicts_text"),
        ("B. boil egg", "cannot_tell", "not_an_option"),
        ("boil egg", "cannot_tell", "not_an_option"),
        ("", "cannot_tell", "empty"),
    ],
)
def test_where_letters_count_an_answer_is_graded_by_its_letter(answer: str, verdict: str, reason: str) -> None:
    found = grade(answer, options("Crack egg.", "crack egg", "fry egg", right=1, by_letter=True))
    assert (found.verdict, found.reason) == (verdict, reason)


def test_where_letters_count_they_are_what_is_shown_and_said() -> None:
    question = options("b", "a", right=1, by_letter=True)
    assert question.shown_choices == ("A. b", "B. a") and question.option_answers == ("A", "B")
    assert (question.right_answer, grade("B", question).verdict, grade("b", question).verdict) == (
        "B",
        "right",
        "right",
    )
    assert options("b", "x").shown_choices == options("b", "x").option_answers == ("b", "x")


def test_the_place_of_the_right_option_is_checked_and_written_only_where_it_counts() -> None:
    with pytest.raises(ValueError, match="option 0 is not the answer"):
        Question.model_validate({**options("a", "b").model_dump(), "answer": "b", "answer_index": 0})
    assert "answer_index" not in options("x", "y").model_dump_json()
    by_letter = options("x", "X", right=1, by_letter=True)
    assert Question.model_validate_json(by_letter.model_dump_json()) == by_letter


def test_a_time_that_is_written_with_an_exponent_inside_is_a_time_as_any_other() -> None:
    assert verdict("0.00001s-2s", "0.0s-2.0s", "span") == "right"


def test_a_comma_parts_thousands_behind_a_closed_bracket_and_elements_inside_an_open_one() -> None:
    assert verdict(r"\sqrt{2}+2,100", r"\sqrt{2}+2100", "expression") == "right"
    assert verdict("(2,100)", "(2100)", "expression") != "right"
