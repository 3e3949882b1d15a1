"""Equations of any text are found and checked exactly, and what cannot be read is never called wrong."""

import time
from fractions import Fraction

import pytest

from aot.rationales.arithmetic import check_text, find_amounts, find_equations, read_amount


def holds(text: str) -> list[bool | None]:
    return [one.holds for one in find_equations(text)]


@pytest.mark.parametrize(
    "text",
    [
        "12 + 7 = 19.",
        "We begin: 41 - 39 = 2, 2 - 2 = 0, 0 + 13 = 13.",
        "She sold 48 / 2 = 24 clips and paid 0.2 x 50 = $10.",
        "2 * (3 + 4) - -1 = 15 and 5(3) = 15 and 6 ÷ 4 × 2 − 1 = 2",
        "5 + 3 = 4 + 4 = 8",
        "10 / 3 = 3.33 and 2/3*100 = 66.67% and 10/3 = 3 and 2 / 3 * 1 = 0.66",
        "20% of $1,500 = $300 and 25 / 100 = 25%",
        "2/3*100 = 66.67%. 20% of 50 = 10%. 100% - 20% = 80. (30 - 20) / 20 * 100% = 50. 50% / 2 = 25",
        "5 apples + 3 apples = 8 apples, 3 hours * $12/hour = $36",
        "9:40 + 35 minutes = 10:15. 11:50 + 2 hours = 1:50 and 10:15 - 9:40 = 35 minutes",
        r"5 \times 3 = 15 and \frac{1}{2} + 1 = 1.5",
        "- 5 + 3 = 8",
        "- 3 + 5 = 2",
        "- 3 + 5 = 2 = 1 + 1",
    ],
)
def test_right_equations_hold(text: str) -> None:
    assert holds(text)
    assert set(holds(text)) == {True}


@pytest.mark.parametrize(
    "text",
    [
        "12 + 7 = 18",
        "10 / 4 = 3",
        "20% of 50 = 1000",
        "25% * 80 = 2000",
        "20% * 50 / 2 = 500",
        "1 / 4 * 3 = 7500%",
        "- 3 + 5 = 9",
        "* 3 + 5 = 2",
        "1. 3 + 5 = 2",
        "0.5 + 0.25 = 0.8",
        "9:40 + 35 minutes = 10:25",
        "Ann has 5 apples + 3 pears = 9.",
    ],
)
def test_wrong_equations_do_not_hold(text: str) -> None:
    assert holds(text) == [False]


@pytest.mark.parametrize(
    "text",
    ["2x + 3 = 7", "x + 2 = 17", "3² + 1 = 4", "2^3 + 1 = 10", "12 + 7 =", "1 + 2 + ... + 10 = 55", "1 / 0 = 1",
     "3 hours + 30 minutes = 3.5 hours", "25 / 1/3 = 75", "half of 48 + 2 = 26", "720 / R = 60 / 100"],
)  # fmt: skip
def test_what_cannot_be_read_is_not_called_wrong(text: str) -> None:
    assert holds(text) == [None]


def test_a_value_given_without_computation_is_no_equation() -> None:
    assert find_equations("Let x = 5. There are 7 = seven days, so half of 48 = 24; -5 = -5; 3 >= 2.") == []


def test_calculator_notes_stand_for_the_prose_around_them() -> None:
    (one,) = find_equations("Natalia sold 48/2 = <<48/2=24>>24 clips.")
    assert (one.text, one.holds, one.result and one.result.value) == ("48/2=24", True, 24)


def test_an_equation_tells_its_line_operands_and_result() -> None:
    _, second = find_equations("12 + 7 = 19.\nThen 19 - 5 = 15.")
    assert (second.line, [int(one.value) for one in second.operands]) == (1, [19, 5])
    assert second.left and second.left.value == 14 and second.result and second.result.value == 15


def test_check_counts_and_names_the_first_wrong_one() -> None:
    check = check_text("1 + 1 = 2\n2 + 2 = 5\n2 + 3 = 6\nx + 1 = 2")
    assert (check.equations, check.wrong, check.unreadable, check.right_share) == (4, 2, 1, 1 / 3)
    assert check.first_wrong and check.first_wrong.text == "2 + 2 = 5"
    assert check_text("Ann is first.").right_share is None


def test_amounts_of_a_text_come_in_order_with_clocks_apart() -> None:
    amounts = find_amounts("At 9:40 he pays $1,200.50 for 3 pens, <<3*2=6>> code 0730.")
    assert [(one.value, one.is_clock) for one in amounts] == [(580, True), (Fraction(2401, 2), False), (3, False)]


def test_a_single_amount_is_read_and_a_sentence_is_not() -> None:
    assert read_amount("$1,200.") == read_amount("1200") and read_amount("Ann") is None


@pytest.mark.parametrize(
    "text",
    [
        "9" * 5000 + " + 1 = 3",
        "(" * 9000 + "1 + 1" + ")" * 9000 + " = 2",
        "9**9**9**9 = 1",
        "99999! + 1 = 2",
        "*".join(["9" * 299] * 60) + " = 1",
        "1 + " * 250_000 + "= 3",
        "=" * 1_000_000,
        "word " * 3900 + "+ 1 = 1",
        "__import__('os').system('x') + 1 = 2",
        "\x00\ud800 + 1 = 2",
    ],
    ids=range(10),
)
def test_hostile_text_is_unreadable_within_a_second(text: str) -> None:
    start_s = time.monotonic()
    assert set(holds(text)) <= {None}
    assert time.monotonic() - start_s < 2
