"""Problems of reasoning-gym tasks: fresh by seed, never in two splits, and with gold answers that were checked."""

import doctest
import json
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from aot.answers import grade
from aot.errors import ConfigError, SourceError
from aot.files.run_folder import read_rows
from aot.records import Question
from text_cot.datasets import gym_truths
from text_cot.datasets.source import TextSource

gym_package = pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from check_gym import wrong_golds  # noqa: E402

from text_cot.datasets.gym import gym_source, item_problem, open_task  # noqa: E402
from text_cot.datasets.gym_tasks import EXCLUDED, TASKS  # noqa: E402


def draw(*tasks: str, unseen: tuple[str, ...] = (), **settings: Any) -> TextSource:
    chosen: dict[str, Any] = {"train": 20, "test": 10, "seed": 0, "limit": None, **settings}
    return gym_source(tasks, unseen, **chosen)


def texts(source: TextSource, split: str) -> set[str]:
    return {asked.text for asked in source.questions if asked.split == split}


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(gym_truths).failed == 0


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_problems() -> None:
    tasks = ("chain_sum", "time_intervals", "knights_knaves", "gsm_symbolic")
    first, again, other = (
        [row.model_dump_json() for row in (*source.questions, *source.rationales, *source.refusals)]
        for source in (draw(*tasks), draw(*tasks), draw(*tasks, seed=1))
    )
    assert first == again
    assert not set(first) & set(other)


def test_training_and_test_problems_of_a_task_with_few_of_them_never_meet() -> None:
    found = draw("gcd", "aiw", train=150, test=60)
    assert not texts(found, "train") & texts(found, "test")
    assert {refusal.reason for refusal in found.refusals} <= {"duplicate", "seen_in_train"}
    assert Counter((asked.kind, asked.split) for asked in found.questions) == {
        ("gcd", "train"): 150, ("gcd", "test"): 60, ("aiw", "train"): 150, ("aiw", "test"): 60,
    }  # fmt: skip


def test_a_test_problem_that_was_trained_on_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    one_digit = gym_tasks_with("chain_sum", {"max_terms": 2, "max_digits": 1})
    monkeypatch.setattr("text_cot.datasets.gym.TASKS", one_digit)
    found = draw("chain_sum", train=150, test=50)
    assert not texts(found, "train") & texts(found, "test")
    assert "seen_in_train" in {refusal.reason for refusal in found.refusals}


def gym_tasks_with(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {**TASKS, name: type(TASKS[name])(TASKS[name].category, TASKS[name].answer_type, settings)}


def test_unseen_tasks_stand_in_the_out_of_distribution_split_only() -> None:
    found = draw("chain_sum", unseen=("lcm",))
    assert {(asked.kind, asked.split) for asked in found.questions} == {
        ("chain_sum", "train"), ("chain_sum", "test"), ("lcm", "test_ood"),
    }  # fmt: skip


def test_a_limit_is_spread_over_the_tasks_of_a_split() -> None:
    found = draw("chain_sum", "gcd", "lcm", limit=7)
    assert Counter(asked.kind for asked in found.questions if asked.split == "train") == {
        "chain_sum": 3, "gcd": 2, "lcm": 2,
    }  # fmt: skip


def test_there_are_tasks_of_every_category() -> None:
    assert {task.category for task in TASKS.values()} == {"arithmetic", "algebra", "logic", "temporal", "commonsense"}


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_gold_answer_of_every_task_is_right_and_no_problem_is_refused(name: str) -> None:
    found = draw(name, train=12, test=1)
    assert {refusal.reason for refusal in found.refusals} <= {"duplicate"}
    assert all(grade(asked.answer, asked).verdict == "right" for asked in found.questions)
    assert all(Question.model_validate_json(asked.model_dump_json()) == asked for asked in found.questions)
    assert all(asked.scorer is None or asked.scorer.task == name for asked in found.questions)


def test_only_word_problems_bring_their_solution_and_it_ends_in_the_answer() -> None:
    found = draw("gsm_symbolic", "lcm")
    golds = {asked.id: asked.answer for asked in found.questions}
    assert {
        asked.kind for asked in found.questions if asked.id in {chain.question_id for chain in found.rationales}
    } == {"gsm_symbolic"}
    assert all(chain.text.endswith(f"\nAnswer: {golds[chain.question_id]}") for chain in found.rationales)
    assert not any("####" in chain.text for chain in found.rationales)


@pytest.mark.parametrize("name", sorted(EXCLUDED))
def test_an_excluded_task_is_a_clear_error_and_its_audit_says_the_same(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}' is excluded: "):
        draw("chain_sum", name)
    no_gold = "without a gold answer" in EXCLUDED[name]
    count, reason = wrong_golds(name, 3 if no_gold else 60, 1)
    assert count > 0
    assert ("no gold answer" in reason) == no_gold


def test_a_sixth_of_classical_syllogisms_called_valid_have_a_counterexample() -> None:
    count, reason = wrong_golds("syllogism", 300, 1, settings={"inversion_probability": 0.0})
    assert 0.12 < count / 300 < 0.24
    assert reason.startswith("gold Yes, in truth No")


def test_unknown_and_repeated_tasks_are_clear_errors() -> None:
    with pytest.raises(ConfigError, match="did you mean 'chain_sum'"):
        draw("chain_sums")
    with pytest.raises(ConfigError, match="named twice"):
        draw("chain_sum", unseen=("chain_sum",))
    with pytest.raises(ConfigError, match=r"data\.gym\.tasks is empty"):
        draw()


def test_a_task_with_more_than_a_few_wrong_golds_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "text_cot.datasets.gym.TASKS", gym_tasks_with("time_intervals", {"task_types": ["datetime_tz"]})
    )
    found = draw("chain_sum", "time_intervals")
    assert {asked.kind for asked in found.questions} == {"chain_sum"}
    assert {refusal.item for refusal in found.refusals if refusal.reason == "task_left_out"} == {
        "gym/time_intervals/train", "gym/time_intervals/test",
    }  # fmt: skip


def test_a_single_wrong_gold_is_refused_alone_and_another_problem_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("text_cot.datasets.gym.TASKS", gym_tasks_with("basic_arithmetic", {}))
    found = draw("basic_arithmetic", train=60, test=1)
    assert [(refusal.reason, refusal.detail) for refusal in found.refusals] == [("wrong_gold", "gold 4, in truth 30/7")]
    assert len(texts(found, "train")) == 60


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"zebra_puzzles"}))
def test_a_gold_answer_that_is_off_is_found(name: str) -> None:
    task = open_task(name, size=8, seed=3, settings=TASKS[name].settings)
    for item in map(task.__getitem__, range(8)):
        off = {"Yes": "No", "No": "Yes"}.get(item["answer"], f"1{item['answer'].lstrip('-')}")
        assert item_problem(name, task, item) == ""
        assert item_problem(name, task, {**item, "answer": off})


def test_an_item_without_a_gold_answer_is_found() -> None:
    task = open_task("propositional_logic", size=1, seed=3, settings={})
    assert item_problem("propositional_logic", task, task[0]) == "there is no gold answer"


def test_expressions_are_worked_out_by_rank_and_brackets_and_code_is_refused() -> None:
    assert gym_truths.value_of("2 - -3 * (4 - 6) ** 2 / 5") == Fraction(22, 5)
    for hostile in ("__import__('os')", "2 ^ 3", "1 +", "(1"):
        with pytest.raises((ValueError, IndexError)):
            gym_truths.value_of(hostile)


def test_a_scorer_without_an_answer_or_beside_another_type_is_refused() -> None:
    (asked,) = draw("knights_knaves", train=1, test=0).questions
    plain = asked.model_dump(mode="json")
    for changed in ({"scorer": {"task": "knights_knaves", "entry": {}}}, {"answer_type": "integer"}):
        with pytest.raises(ValueError, match="and no other, needs its scorer"):
            Question.model_validate({**plain, **changed})


def test_a_scored_question_of_an_earlier_version_is_refused_by_one_sentence(tmp_path: Path) -> None:
    (asked,) = draw("knights_knaves", train=1, test=0).questions
    old = {**asked.model_dump(mode="json", exclude={"scorer"}), "state": asked.scorer.model_dump()}
    (tmp_path / "questions.jsonl").write_text(json.dumps(old) + "\n")
    with pytest.raises(SourceError, match="no item of its scorer, as earlier versions wrote it; run prepare again"):
        list(read_rows(tmp_path / "questions.jsonl", Question))
    with pytest.raises(ValueError, match="needs its scorer"):
        Question(**{**old, "choices": (), "state": {}})
