"""The final answer is looked for in one slot after the other, and what was used is told."""

import pytest
from answer_kit import work_s

from aot.answers import find_answer


@pytest.mark.parametrize(
    ("text", "answer", "slot"),
    [
        (r"Answer: 3, not \boxed{4}", None, "none"),
        (r"Answer: $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}", "declared"),
        ("Answer: 3\n\\boxed{4}", None, "none"),
        ("Answer: $3$\n\\boxed{3}", "$3$", "declared"),
        ("A common wrong answer: 7\nIt is \\boxed{8}.", "8", "boxed"),
        ("One wrong answer is 7. The answer is 8.", "8.", "said"),
        ("So the final answer: 8", "8", "declared"),
        ("The answer is 4.\nAnswer: 3", "3", "declared"),
        (r"The answer is 4, so \boxed{3}.", "3", "boxed"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}", "boxed"),
        (r"\boxed{\{1, 2\}} and once more \boxed{\{1, 2\}}", r"\{1, 2\}", "boxed"),
        (r"\boxed{6} wait, \boxed{7}", None, "none"),
        (r"it is \boxed{7", None, "none"),
        ("5 + 2 = <<5+2=7>>7\n#### 7", "7", "hashes"),
        ("The answer is 6.\n#### 7", "7", "hashes"),
        ("#### 6\n#### 7", None, "none"),
        ("**Answer:** 42", "42", "declared"),
        ("**Final Answer**: 42", "42", "declared"),
        ("### Final Answer:\n\\[\\boxed{42}\\]", "42", "boxed"),
    ],
)
def test_slots_are_tried_in_order(text: str, answer: str | None, slot: str) -> None:
    found = find_answer(text)
    assert (found.answer, found.slot) == (answer, slot)


def test_what_was_only_thought_is_no_answer() -> None:
    assert find_answer("<think>Answer: 6</think>\nAnswer: 7").answer == "7"
    assert find_answer("<think>a</think><think>Answer: 6</think>7").answer == "7"
    assert find_answer("Answer: 6\n<think>but then").answer is None


@pytest.mark.parametrize(
    "unit", ["answer ", "final  ", r"\boxed{", r"\boxed{1}", "#### 1\n", "Answer: 1\n", ". ", "}", "{", "\\", "<think>"]
)
def test_a_long_text_takes_time_linear_in_its_length(unit: str) -> None:
    short, long = ("\\boxed{" + unit * (chars // len(unit)) for chars in (125_000, 1_000_000))
    limit_s = 24 * work_s(lambda: find_answer(short)) + 0.5  # eight times the text, three times as long for each
    assert work_s(lambda: find_answer(long), enough_s=limit_s) <= limit_s
