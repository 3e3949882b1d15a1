"""The embedded maths problems and their splits."""

import re
from collections import Counter

from aot.answers import grade
from aot.config import ToyMathConfig
from aot.records import Question
from text_cot.datasets.toy_math import NAMES, NEW_NAMES, OOD_SPLITS, UNSEEN_FAMILIES, base_was_asked, draw_toy_math
from text_cot.families import FAMILIES

CONFIG = ToyMathConfig(train=200, test=40, test_ood=30)


def drawn(seed: int = 0) -> dict[str, list[Question]]:
    splits: dict[str, list[Question]] = {}
    for question in draw_toy_math(CONFIG, seed=seed):
        splits.setdefault(question.split, []).append(question)
    return splits


def words(questions: list[Question]) -> set[str]:
    return {word for question in questions for word in re.findall(r"[A-Za-z]+", question.text)}


def without_numbers(text: str) -> str:
    return re.sub(r"\d+", "0", text)


def test_splits_have_the_asked_sizes() -> None:
    assert Counter({split: len(rows) for split, rows in drawn().items()}) == {
        "train": 200, "test": 40, **dict.fromkeys(OOD_SPLITS, 30),
    }  # fmt: skip


def test_the_same_seed_gives_the_same_questions_and_another_seed_others() -> None:
    assert draw_toy_math(CONFIG, seed=1) == draw_toy_math(CONFIG, seed=1)
    assert {q.text for q in draw_toy_math(CONFIG, seed=1)} != {q.text for q in draw_toy_math(CONFIG, seed=2)}


def test_no_evaluation_asks_what_the_base_was_asked() -> None:
    splits = drawn()
    assert any(base_was_asked(question.text) for question in splits.pop("train"))
    assert not any(base_was_asked(question.text) for rows in splits.values() for question in rows)


def test_no_text_is_asked_twice() -> None:
    texts = [question.text for question in draw_toy_math(CONFIG, seed=0)]
    assert len(set(texts)) == len(texts)


def test_every_gold_answer_is_right() -> None:
    assert all(grade(question.answer, question).verdict == "right" for question in draw_toy_math(CONFIG, seed=0))


def test_new_numbers_are_asked_in_training_problems() -> None:
    splits = drawn()
    known = {without_numbers(question.text) for question in splits["train"]}
    assert all(without_numbers(question.text) in known for question in splits["ood_numbers"])


def test_more_terms_than_ever_in_training() -> None:
    splits = drawn()
    assert min(q.state["steps"] for q in splits["ood_terms"]) > max(q.state["steps"] for q in splits["train"])


def test_larger_numbers_come_from_another_range() -> None:
    starts = [question.state["start"] for question in drawn()["ood_large"]]
    assert min(starts) >= 50 and max(starts) > 99


def test_new_names_are_never_trained_on() -> None:
    splits = drawn()
    assert not words(splits["train"]) & set(NEW_NAMES)
    assert not words(splits["ood_names"]) & set(NAMES)


def test_without_its_extra_clause_a_question_has_the_same_answer() -> None:
    for question in drawn()["ood_clause"]:
        family = FAMILIES[question.kind]
        state = family.state_type.model_validate(question.state)
        plain = state.model_copy(update={"extra": ""})
        assert family.ask(plain) == question.text.replace(f" {state.extra}", "", 1) != question.text
        assert family.answer(plain) == question.answer


def test_the_unseen_family_is_never_trained_on() -> None:
    splits = drawn()
    assert {question.kind for question in splits["ood_family"]} == set(UNSEEN_FAMILIES)
    assert not {question.kind for question in splits["train"]} & set(UNSEEN_FAMILIES)


def test_a_limit_cuts_each_split() -> None:
    assert Counter(q.split for q in draw_toy_math(CONFIG, seed=0, limit=5)) == dict.fromkeys(
        ["train", "test", *OOD_SPLITS], 5
    )


def test_longer_numbers_are_trained_on_up_to_so_many_digits_and_one_more_is_asked() -> None:
    longest: dict[str, set[int]] = {}
    for question in draw_toy_math(ToyMathConfig(train=200, test=40, test_ood=30, digits=4), seed=0):
        if question.kind in ("sum", "story", "unknown"):
            numbers = re.findall(r"\d+", f"{question.text} {question.answer}")
            longest.setdefault(question.split, set()).add(max(map(len, numbers)))
    assert longest.pop("ood_large") == {5}
    assert longest["train"] >= {2, 3, 4} and max(*map(max, longest.values())) == 4
