"""Matrices, and answers by the convention that a data set declares: lenient where it says so, and nowhere else."""

import random

import pytest
from answer_kit import ask, work_s

from aot.answers import compare_answers, find_answer, grade, parse_answer
from aot.answers.kinds.bare import bare_number
from aot.answers.kinds.contest import as_interval, contest_value
from aot.answers.workers import ask_worker, one_deadline
from aot.records import AnswerType, Question, Reading


def read_as(reading: Reading, gold: str, answer_type: AnswerType = "integer") -> Question:
    return ask(gold, answer_type).model_copy(update={"reading": reading})


def matrix(rows: list[list[int]], *, name: str = "pmatrix", blank: str = " ") -> str:
    body = f"{blank}\\\\{blank}".join(f"{blank}&{blank}".join(map(str, row)) for row in rows)
    return rf"\begin{{{name}}}{blank}{body}{blank}\end{{{name}}}"


def drawn(rows: int, columns: int, seed: int) -> list[list[int]]:
    numbers = random.Random(seed).sample(range(-99, 100), rows * columns)
    return [numbers[row * columns : (row + 1) * columns] for row in range(rows)]


@pytest.mark.parametrize(("rows", "columns"), [(2, 1), (3, 1), (1, 3), (2, 2), (2, 3), (3, 3)])
def test_a_matrix_is_right_only_cell_by_cell_whatever_its_blanks_and_brackets(rows: int, columns: int) -> None:
    for seed in range(20):
        cells = drawn(rows, columns, seed)
        gold = ask(matrix(cells), "expression")
        for name, blank in (("pmatrix", ""), ("bmatrix", " "), ("pmatrix", "  ")):
            assert grade(matrix(cells, name=name, blank=blank), gold).verdict == "right"
        transposed = [list(column) for column in zip(*cells, strict=True)]
        flat = [cell for row in reversed(cells) for cell in reversed(row)]
        swapped = [flat[row * columns : (row + 1) * columns] for row in range(rows)]
        for other in (transposed, swapped):
            if other != cells:
                assert grade(matrix(other), gold).verdict == "wrong"


@pytest.mark.parametrize("answer", ["$29.00", "29 clips", "Answer: 29", "29%", "29 or 30"])
def test_what_a_data_set_allows_stays_unclear_where_none_is_declared(answer: str) -> None:
    assert grade(answer, ask("29", "integer")).verdict == "cannot_tell"


def test_a_bare_number_is_parsed_and_compared_as_such_wherever_answers_are_compared() -> None:
    question = read_as("bare_number", "29")
    assert parse_answer("$29.00", question).value == "29"
    assert compare_answers("$29.00", "29 dollars", question).verdict == "right"
    assert grade("29 or 30", question).reason == "several_values"


def test_a_box_and_its_answer_line_are_compared_by_meaning() -> None:
    for fraction in (r"\frac{5}{6}", r"\dfrac{5}{6}", r"\tfrac56", r"\frac56"):
        assert find_answer(rf"So it is $\boxed{{{fraction}}}$." + "\nAnswer: 5/6").answer == "5/6"
        assert find_answer(rf"So it is $\boxed{{-{fraction}}}$." + "\nAnswer: 5/6").answer is None


@pytest.mark.parametrize(
    ("text", "slot"),
    [
        ("<answer>5</answer>", "declared"),
        ("We add.\n\n### Final Answer\n\n5", "declared"),
        ("3 + 2 = 5\nTim has 5 pens.", "closing"),
        ("\\boxed{5} and \\boxed{6}", "boxed"),
        ("He had 3.\nSo he has not 5 pens.", "none"),
        ("He had 3.\nThen he has 5 pens.", "none"),
    ],
)
def test_where_an_answer_was_found_is_told(text: str, slot: str) -> None:
    assert find_answer(text).slot == slot


@pytest.mark.parametrize(
    "unit",
    [
        "answer",
        "answer \n",
        "<answer>",
        "<answer>\n1</answer>",
        "Question: \n",
        "\\boxed{1} or ",
        "= 1\n",
        "I hope ",
        "## ",
    ],
)
def test_a_long_text_of_new_marks_takes_time_linear_in_its_length(unit: str) -> None:
    short, long = (unit * (chars // len(unit)) + " " * chars + "x" for chars in (60_000, 480_000))
    limit_s = 24 * work_s(lambda: find_answer(short)) + 0.5  # eight times the text, three times as long for each
    assert work_s(lambda: find_answer(long), enough_s=limit_s) <= limit_s


@pytest.mark.parametrize(
    "text", ["5 " * 5000, "=" * 1900, "x=" * 900, "(" * 1900, "\\pm" * 600, "a" * 1900, " " * 1900 + "x"]
)
def test_an_odd_answer_costs_no_time_in_any_convention(text: str) -> None:
    assert work_s(lambda: (bare_number(text), contest_value(text), as_interval(text[:2000])), enough_s=1.0) <= 1.0


def test_all_questions_of_one_comparison_share_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    ask_worker("expressions", {"answers": ["x"], "golds": ["x"], "ordered": True})
    monkeypatch.setattr("aot.answers.workers.DEADLINE_S", 0.0)
    with one_deadline():
        monkeypatch.undo()
        assert ask_worker("expressions", {"answers": ["x"], "golds": ["x"], "ordered": True}).reason == "deadline"
    assert ask_worker("expressions", {"answers": ["x"], "golds": ["x"], "ordered": True}).value == 1.0


@pytest.mark.parametrize(
    ("inequality", "interval"),
    [
        ("-2 < x \\le 7", "(-2, 7]"),
        ("7 \\ge x > -2", "(-2, 7]"),
        ("3 > x", "(-\\infty, 3)"),
        ("|x| < 2", "(-(2), 2)"),
        ("-2 < x > 7", ""),
        ("f(2) < f(1) < f(4)", ""),
        ("x < y < 2", ""),
        ("x = 3", ""),
    ],
)
def test_an_inequality_is_an_interval_only_in_one_unknown_and_one_direction(inequality: str, interval: str) -> None:
    assert as_interval(inequality) == interval
