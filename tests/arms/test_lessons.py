"""What arms learn from kept chains."""

from collections import Counter

import pytest

from aot.arms.adaptive import ThoughtLabel, _choice_of, every_way, folds, label_of, labelled_ids
from aot.arms.jobs import planned_students
from aot.arms.lessons import (
    Material,
    Samples,
    arm_lessons,
    own_share,
    pick_chain,
    teachable,
    thought_lesson,
    without_tagged,
)
from aot.arms.own_chains import shortest, verified_chains
from aot.config import AdaptiveConfig, ArmConfig, RunConfig, parse_arm, parse_config
from aot.errors import GuardStop, SourceError
from aot.records import THOUGHT_MODES, Lesson, Prediction, Question, Trace
from text_cot.datasets.toy_math import draw_toy_math
from text_cot.teacher.granularity import resolve_granularity
from text_cot.teacher.procedural import solve

WAYS = list(THOUGHT_MODES)
ORDERS = ("answers_only", "pre", "post", "adaptive")


def config(**teacher: object) -> RunConfig:
    arms = [{"name": order, "order": order} for order in ORDERS]
    raw = {
        "data": {"dataset": "toy_math", "math": {"train": 40, "test": 1, "test_ood": 1}},
        "teacher": {"planner": "procedural", **teacher},
        "student": {"base": "tiny-text"},
        "train": {"arms": arms, "max_steps": 10},
    }
    return parse_config(raw, source="test")


def arm(order: str, **more: object) -> ArmConfig:
    return parse_arm({"name": "arm", "order": order, **more})


QUESTIONS = {q.id: q for q in draw_toy_math(config().data.math, seed=0) if q.split == "train"}


def lessons_of(samples: dict[str, Samples], arm: ArmConfig, config: RunConfig) -> list[Lesson]:
    chains = {i: picked(chains, size=config.teacher.granularity) for i, chains in samples.items()}
    return arm_lessons(Material(QUESTIONS, samples, chains, len(samples)), arm, seed=config.seed)


def picked(samples: Samples, *, size: str = "auto") -> Trace:
    return pick_chain(samples, size=resolve_granularity(size, base="tiny-text"), seed=0)


@pytest.fixture(scope="module")
def questions() -> dict[str, Question]:
    return QUESTIONS


@pytest.fixture(scope="module")
def samples(questions: dict[str, Question]) -> dict[str, Samples]:
    def chain(question: Question, granularity: str) -> Trace:
        return solve(question, granularity=granularity, seed=0, config_digest="x")

    return {i: {"short": chain(q, "coarse"), "full": chain(q, "fine")} for i, q in questions.items()}


def test_answers_only_learns_the_bare_answer(samples: dict[str, Samples], questions: dict[str, Question]) -> None:
    lessons = lessons_of(samples, arm("answers_only"), config())
    assert all(lesson.label == questions[lesson.question_id].answer and not lesson.rationale for lesson in lessons)


def test_post_says_the_answer_before_the_steps(samples: dict[str, Samples]) -> None:
    pre = {lesson.question_id: lesson for lesson in lessons_of(samples, arm("pre"), config())}
    for lesson in lessons_of(samples, arm("post"), config()):
        assert f"{lesson.rationale}\n{lesson.label}".strip() == pre[lesson.question_id].rationale


def test_all_orders_learn_from_the_same_questions(samples: dict[str, Samples]) -> None:
    asked = [[lesson.question_id for lesson in lessons_of(samples, arm(o), config())] for o in ORDERS[:3]]
    assert asked[0] == asked[1] == asked[2] == list(samples)


def test_mixed_granularity_takes_both_kinds_of_chain(samples: dict[str, Samples]) -> None:
    sizes = [picked(own).granularity for own in samples.values()]
    assert 0.25 < sizes.count("fine") / len(sizes) < 0.75


def test_where_a_granularity_was_not_kept_the_other_is_taken(samples: dict[str, Samples]) -> None:
    full = next(iter(samples.values()))["full"]
    assert picked({"full": full}, size="coarse").granularity == "fine"


def test_a_smaller_share_is_part_of_a_larger_one(samples: dict[str, Samples]) -> None:
    small, large = (own_share(samples, share=share, seed=0) for share in (0.1, 0.5))
    assert len(small) == 4 and len(large) == 20 and set(small) < set(large)


def test_damaged_chains_keep_their_questions(samples: dict[str, Samples]) -> None:
    clean = lessons_of(samples, arm("pre"), config())
    for kind in ("wrong_content", "shuffled", "deleted"):
        damaged = lessons_of(samples, arm("pre", chains=kind), config())
        assert [lesson.question_id for lesson in damaged] == [lesson.question_id for lesson in clean]
        assert sum(a != b for a, b in zip(clean, damaged, strict=True)) > len(clean) / 2


def test_a_study_of_damage_leaves_out_what_cannot_be_damaged(samples: dict[str, Samples]) -> None:
    arms = (arm("pre", chains="shuffled"), arm("pre"))
    chains = teachable({i: picked(own) for i, own in samples.items()}, arms, seed=0)
    assert 0 < len(chains) < len(samples)
    left = {i: samples[i] for i in chains}
    pairs = zip(lessons_of(left, arms[0], config()), lessons_of(left, arms[1], config()), strict=True)
    assert all(damaged != clean for damaged, clean in pairs)


def test_a_chosen_way_is_learned_and_a_given_one_is_not(samples: dict[str, Samples]) -> None:
    question_id, own = next(iter(samples.items()))
    chosen, given = (thought_lesson(QUESTIONS[question_id], own, "short", chosen=flag) for flag in (True, False))
    assert (chosen.label, chosen.forced) == ("Short steps.\n", "")
    assert (given.label, given.forced) == ("", "Short steps.\n")


def test_answering_at_once_is_taught_only_where_the_base_can(samples: dict[str, Samples]) -> None:
    assert len(every_way(QUESTIONS, samples, set())) == 2 * len(samples)
    assert len(every_way(QUESTIONS, samples, set(samples))) == 3 * len(samples)


def test_folds_are_equally_large_for_any_number_of_questions(samples: dict[str, Samples]) -> None:
    for count in (2, 5, 40):
        sizes = Counter(folds(list(samples)[:count], count=2, seed=0).values())
        assert sorted(sizes.values()) == [count // 2, count - count // 2]


def test_fewer_questions_than_folds_are_told(samples: dict[str, Samples]) -> None:
    with pytest.raises(SourceError, match="at least 2 questions"):
        folds(list(samples)[:1], count=2, seed=0)


def test_the_label_is_the_right_way_with_the_fewest_tokens(questions: dict[str, Question]) -> None:
    question = next(iter(questions.values()))
    assert label_of(question, WAYS, answers(question, [False, True, True], [3, 9, 20])).label == "short"
    assert label_of(question, WAYS, answers(question, [True, True, True], [30, 9, 20])).label == "short"


def test_a_question_that_no_way_answers_has_no_label(questions: dict[str, Question]) -> None:
    question = next(iter(questions.values()))
    assert label_of(question, WAYS, answers(question, [False, False, False], [3, 9, 20])).label == ""


def test_labels_are_given_to_a_part_of_the_questions(samples: dict[str, Samples]) -> None:
    assert len(labelled_ids(samples, most=7, seed=0)) == 7


def test_an_own_chain_must_have_the_right_answer_and_right_steps(questions: dict[str, Question]) -> None:
    question = next(q for q in questions.values() if q.kind == "sum" and q.state["steps"] == 3)
    good = solve(question, granularity="coarse", seed=0, config_digest="x").rationale
    wrong_answer = good.rpartition(" ")[0] + " 1"
    without_steps = good.rpartition("\n")[2]
    assert (
        shortest(
            verified_chains(said(question, wrong_answer, without_steps), question, config().filter, config_digest="x")
        )
        is None
    )
    found = shortest(verified_chains(said(question, wrong_answer, good), question, config().filter, config_digest="x"))
    assert found is not None and (found.rationale, found.sample_index, found.teacher) == (good, 1, "self")


def test_a_chain_that_was_cut_off_is_no_own_chain(questions: dict[str, Question]) -> None:
    question = next(q for q in questions.values() if q.kind == "sum" and q.state["steps"] == 3)
    good = solve(question, granularity="coarse", seed=0, config_digest="x").rationale
    (whole,) = said(question, good)
    cut = whole.model_copy(update={"finish_reason": "length"})
    assert shortest(verified_chains([cut], question, config().filter, config_digest="x")) is None, (
        "it may have been about to go on"
    )
    found = shortest(verified_chains([cut, whole], question, config().filter, config_digest="x"))
    assert found is not None and found.sample_index == 1


def test_a_way_whose_reply_was_cut_off_is_not_right(questions: dict[str, Question]) -> None:
    question = next(iter(questions.values()))
    made = answers(question, [True, True, True], [3, 9, 20])
    made[0] = made[0].model_copy(update={"answer": None, "finish_reason": "length"})
    assert label_of(question, WAYS, made).label == "short"


def test_steps_of_helpers_are_planned() -> None:
    plan = {order: sum_of_steps(arm(order), config()) for order in ORDERS}
    assert plan == {"answers_only": 10, "pre": 10, "post": 10, "adaptive": 20}
    assert sum_of_steps(arm("pre", chains="self"), config()) == 40


def sum_of_steps(arm: ArmConfig, config: RunConfig) -> int:
    return sum(planned_students(arm, config))


def said(question: Question, *texts: str) -> list[Prediction]:
    row = {"question_id": question.id, "arm": "a", "mode": "reason", "answer": None, "finish_reason": "stop"}
    return [Prediction.model_validate({**row, "raw_text": text}) for text in texts]


def answers(question: Question, right: list[bool], tokens: list[int]) -> list[Prediction]:
    return [
        Prediction(
            question_id=question.id, arm="a", mode="adaptive", raw_text="", answer=question.answer if ok else "no",
            completion_tokens=count,
        )
        for ok, count in zip(right, tokens, strict=True)
    ]  # fmt: skip


def test_an_arm_that_labels_for_itself_takes_no_lucky_guess_and_no_longer_way_than_it_may() -> None:
    def label(way: str, ways: AdaptiveConfig) -> str:
        row = ThoughtLabel(question_id="q", label=way, ways=(), right=(), tokens=())
        return _choice_of(row, ways, easy={"other"})

    for_itself = AdaptiveConfig(labels="own", most="short")
    assert [label(way, for_itself) for way in ("direct", "short", "full")] == ["short", "short", "short"]
    by_folds = AdaptiveConfig()
    assert [label(way, by_folds) for way in ("direct", "short", "full")] == ["direct", "short", "full"]


def test_an_arm_leaves_tagged_questions_out_of_all_that_it_learns_from(samples: dict[str, Samples]) -> None:
    chains = {i: picked(chains) for i, chains in samples.items()}
    kept = {i: tuple(ways.values()) for i, ways in samples.items()}
    material = Material(QUESTIONS, samples, chains, len(samples), kept=kept)
    left = without_tagged(material, arm("pre", leave_out={"category": "logic"}))
    wanted = {i for i, question in QUESTIONS.items() if question.tags["category"] != "logic"}
    assert 0 < len(wanted) < len(QUESTIONS)
    assert all(set(rows) == wanted for rows in (left.questions, left.samples, left.chains, left.kept))
    assert without_tagged(material, arm("pre")) == material


@pytest.mark.parametrize(
    ("tags", "problem"),
    [
        ({"category": "cooking"}, "no training question is tagged category: cooking"),
        ({"category": "logic", "steps": "9"}, "no training question is tagged steps: 9"),
    ],
)
def test_a_tag_that_leaves_nothing_out_is_an_error_that_lists_tags(tags: dict[str, str], problem: str) -> None:
    material = Material(QUESTIONS, {}, {}, 0)
    with pytest.raises(GuardStop, match=f"arm arm has leave_out, and {problem}.*category: arithmetic"):
        without_tagged(material, arm("pre", leave_out=tags))


def test_an_arm_that_leaves_everything_out_is_stopped() -> None:
    logic = {i: question for i, question in QUESTIONS.items() if question.tags["category"] == "logic"}
    with pytest.raises(GuardStop, match="no training question is left"):
        without_tagged(Material(logic, {}, {}, 0), arm("pre", leave_out={"category": "logic"}))
