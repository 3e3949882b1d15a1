"""Arms that differ in their seed only: taken together question by question, and held against others that way."""

import pytest

from aot.config import parse_arm
from aot.evaluation.metrics import compute_metrics, references
from aot.evaluation.paired import seed_groups
from aot.records import Prediction, Question

ARMS = [
    parse_arm({"name": "answer_only_seed0", "order": "answers_only", "seed": 0}),
    parse_arm({"name": "aot_seed0", "order": "pre", "seed": 0}),
    parse_arm({"name": "plain_seed0", "order": "pre", "chains": "plain", "seed": 0}),
    parse_arm({"name": "answer_only_seed1", "order": "answers_only", "seed": 1}),
    parse_arm({"name": "aot_seed1", "order": "pre", "seed": 1}),
    parse_arm({"name": "plain_seed1", "order": "pre", "chains": "plain", "seed": 1}),
]
QUESTIONS = [
    Question(
        id=f"q{i}", dataset="d", split="test", kind="k", text="?", answer="1", answer_type="integer", group=f"g{i}"
    )
    for i in range(4)
]
RIGHT = {
    "answer_only_seed0": "1000", "answer_only_seed1": "1100", "aot_seed0": "1110", "aot_seed1": "1100",
    "plain_seed0": "0110", "plain_seed1": "0000",
}  # fmt: skip


def predictions() -> list[Prediction]:
    return [
        Prediction(
            question_id=question.id, arm=arm, mode="direct" if arm.startswith("answer") else "reason", raw_text="",
            answer="1" if right == "1" else "2", completion_tokens=2,
        )
        for arm, row in RIGHT.items()
        for question, right in zip(QUESTIONS, row, strict=True)
    ]  # fmt: skip


def test_seeds_are_averaged_and_differences_are_paired_with_arms_of_the_same_kind() -> None:
    rows = compute_metrics(
        questions=QUESTIONS, predictions=predictions(), arms=ARMS, splits=["test"], bootstrap_samples=200, seed=0
    )
    at = {(row.arm, row.metric): row for row in rows if row.kind == "all"}
    assert at["aot (2 seeds)", "accuracy"].value == pytest.approx(5 / 8)
    assert at["aot (2 seeds)", "accuracy_difference_vs_plain (2 seeds)"].value == pytest.approx(5 / 8 - 2 / 8)
    against = at["aot (2 seeds)", "accuracy_difference_vs_answer_only (2 seeds)"]
    assert against.value == pytest.approx(5 / 8 - 3 / 8) and against.n == 4
    # Of the four questions 0, 0, 1/2 ... : the mean over seeds of each question, and nothing else, is resampled.
    assert (against.low, against.high) != (against.value, against.value) and against.high <= 1
    assert at["aot (2 seeds)", "tokens_mean"].value == 2


def test_arms_of_one_seed_or_of_other_settings_are_no_group() -> None:
    assert list(seed_groups(ARMS)) == ["answer_only (2 seeds)", "aot (2 seeds)", "plain (2 seeds)"]
    other = parse_arm({"name": "aot_seed2", "order": "pre", "seed": 2, "key_weight": 2.0})
    assert seed_groups([ARMS[1], other]) == {}


def test_an_arm_with_a_switch_meets_the_usual_one_of_its_seed_whichever_comes_first() -> None:
    apart = parse_arm({"name": "apart", "order": "pre", "parts": "apart", "seed": 1})
    pairs = references([apart, *ARMS])
    assert {"aot_seed1", "plain_seed1", "answer_only_seed1"} <= set(pairs["apart"])
    assert "apart" not in pairs["aot_seed1"]


@pytest.mark.parametrize("order", ["pre", "both"])
def test_an_arm_that_calls_tools_meets_those_that_reason_without_them_and_the_plain_control(order: str) -> None:
    tools = parse_arm({"name": "aot_tools", "order": "tool_use", "tools": ["calculator"], "seed": 1})
    others = [arm if arm.order == "answers_only" else arm.model_copy(update={"order": order}) for arm in ARMS]
    assert {"answer_only_seed1", "aot_seed1", "plain_seed1"} <= set(references([*others, tools])["aot_tools"])
