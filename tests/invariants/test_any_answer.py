"""What holds for every answer: the gold is right for itself however it is dressed, another number never is."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from aot.answers import find_answer, grade
from aot.records import AnswerType, Question

INTEGERS = st.integers(min_value=-(10**12), max_value=10**12)
DRESS = ("{}", "${}$", r"\boxed{{{}}}", r"\({}\)", "**{}**", "{}.", "x = {}", r"\text{{{}}}")
FRAMES = ("Answer: {}", "#### {}", "So we get there.\nAnswer: {}", "The final answer is {}. I hope it is correct.")


def question(kind: AnswerType, gold: str) -> Question:
    return Question(
        id="q", dataset="d", split="test", kind=kind, text="?", answer=gold, answer_type=kind, group="g"
    )  # fmt: skip


@given(INTEGERS, st.sampled_from(DRESS))
def test_an_integer_is_right_for_itself_in_every_dress(number: int, dress: str) -> None:
    assert grade(dress.format(number), question("integer", str(number))).verdict == "right"


@given(INTEGERS, INTEGERS, st.sampled_from(DRESS))
def test_another_integer_is_never_right(gold: int, said: int, dress: str) -> None:
    verdict = grade(dress.format(said), question("integer", str(gold))).verdict
    assert (verdict == "right") == (gold == said)


@given(INTEGERS)
def test_thousands_groups_change_no_number(number: int) -> None:
    assert grade(f"{number:,}", question("integer", str(number))).verdict == "right"


@given(st.integers(-999, 999), st.integers(1, 999), st.integers(1, 20))
def test_a_fraction_is_right_when_it_is_extended(over: int, under: int, by: int) -> None:
    gold = question("fraction", f"{over}/{under}")
    assert grade(rf"\frac{{{over * by}}}{{{under * by}}}", gold).verdict == "right"
    assert grade(rf"\frac{{{over * by + 1}}}{{{under * by}}}", gold).verdict != "right"


@given(st.decimals(-9999, 9999, places=3, allow_nan=False), st.decimals(-9999, 9999, places=3, allow_nan=False))
def test_decimals_are_compared_as_numbers(gold: Decimal, said: Decimal) -> None:
    verdict = grade(f"{said}", question("decimal", f"{gold}")).verdict
    assert (verdict == "right") == (gold == said)


@given(INTEGERS, st.sampled_from(FRAMES))
def test_an_answer_is_found_where_replies_state_it(number: int, frame: str) -> None:
    found = find_answer(frame.format(number))
    assert grade(found.answer, question("integer", str(number))).verdict == "right"


@given(st.text(max_size=300))
def test_any_text_gets_a_verdict(text: str) -> None:
    assert grade(find_answer(text).answer or None, question("number", "42")).verdict in {
        "right",
        "wrong",
        "cannot_tell",
    }
