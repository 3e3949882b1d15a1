import numpy as np
import pytest
from text_rows import metrics, question, right, said, wrong

from aot.evaluation.memorisation import nearest_distances
from aot.evaluation.steps import check_chain


def rows_of(texts: dict[str, bool]) -> dict[str, object]:
    asked = [question(i) for i in range(len(texts))]
    predictions = [
        said(q, q.answer if is_right else "-1", arm="pre", raw_text=text)
        for q, (text, is_right) in zip(asked, texts.items(), strict=True)
    ]
    return {metric: row for (*_, kind, metric), row in metrics(asked, predictions).items() if kind == "all"}


def test_wrong_steps_are_counted_among_all_wrong_and_right_answers() -> None:
    rows = rows_of({
        "12 + 7 = 19\nAnswer: 19": True, "12 + 7 = 18\n18 - 2 = 16\nAnswer: 16": False, "9 - 3 = 6\nAnswer: 7": False,
        "5 + 5 = 11\nAnswer: 10": True, "Answer: 4": True,
    })  # fmt: skip
    shares = {name: (rows[name].value, rows[name].n) for name in rows if "step" in name}  # type: ignore[attr-defined]
    assert shares == {
        "chains_with_wrong_step": (0.5, 4), "wrong_answers_after_wrong_step": (0.5, 2),
        "wrong_answers_from_wrong_step": (0.5, 2), "right_answers_with_wrong_step": (0.5, 2),
    }  # fmt: skip
    assert rows["chains_with_wrong_step"].note.startswith("over the 4 of 5 replies")  # type: ignore[attr-defined]
    note = rows["right_answers_with_wrong_step"].note  # type: ignore[attr-defined]
    assert note.startswith("over the 2 right answers among the 4 of 5 replies")


def test_a_wrong_result_that_nobody_takes_up_does_not_go_on() -> None:
    rows = rows_of({"3 + 3 = 7\n12 + 9 = 21\nAnswer: 21": False, "3 + 3 = 7\n7 + 9 = 16\nAnswer: 16": False})
    assert rows["wrong_answers_after_wrong_step"].value == 1.0  # type: ignore[attr-defined]
    assert rows["wrong_answers_from_wrong_step"].value == 0.5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("chain", "answer"),
    [("48/2 + 3 = 25 + 3 = 28", "28"), ("48/2 + 3 = 25 + 3", "28"), ("48/2 + 3 = 25 + 3 = 28 - 1 = 27", "27")],
)
def test_a_wrong_side_that_is_itself_a_sum_goes_on(chain: str, answer: str) -> None:
    check = check_chain(wrong(question(1), arm="pre").model_copy(update={"raw_text": chain, "answer": answer}))
    assert check.has_wrong and check.goes_on


def test_an_equation_that_was_cut_off_is_no_wrong_step() -> None:
    cut = wrong(question(1), arm="pre").model_copy(update={"answer": None, "finish_reason": "length"})
    check = check_chain(cut.model_copy(update={"raw_text": "12 + 7 = 19\n19 + 9 = 2"}))  # of 28
    assert (check.readable, check.has_wrong) == (1, False)
    whole = cut.model_copy(update={"raw_text": "12 + 7 = 19\n19 + 9 = 2", "finish_reason": "stop"})
    assert check_chain(whole).has_wrong


def test_replies_without_equations_have_no_step_rows() -> None:
    assert not [name for name in rows_of({"Answer: 4": True, "no idea": False}) if "step" in name]


def test_numbers_count_in_the_exact_distance_and_not_in_that_of_templates() -> None:
    known = ["What is the sum of 12 and 7?", "Ann has 3 apples."]
    texts = ["What is the sum of 12 and 7?", "What is the sum of 40 and 9?", "Bob sings a lot."]
    exact = nearest_distances(texts, known, sense="exact")
    template = nearest_distances(texts, known, sense="template")
    assert exact[0] == 0 and 0.5 < exact[1] < 1 and exact[2] == 1
    assert list(template) == [0, 0, 1]


def test_a_longer_sum_is_not_at_distance_zero_from_a_shorter_one() -> None:
    assert nearest_distances(["What is 1 + 2 + 3 + 4?"], ["What is 1 + 2 + 3?"], sense="template")[0] > 0


def test_accuracy_is_told_by_distance_and_correlated_with_it() -> None:
    training = [question(i, split="train", text=f"What is {i} + {i}?") for i in range(20)]
    near = [question(i, text=f"What is {i} + {i}?") for i in range(20)]
    far = [question(i, kind="story", text=f"Ann has {i} red apples and eats one.") for i in range(20)]
    rows = metrics(
        [*near, *far],
        [said(q, q.answer if q.kind == "sum" else "-1", arm="pre") for q in (*near, *far)],
        training=training,
    )
    mine = {metric: row for (*_, kind, metric), row in rows.items() if kind == "all"}
    assert (mine["accuracy_at_exact_distance_0"].value, mine["accuracy_at_exact_distance_0"].n) == (1.0, 20)
    assert (mine["accuracy_at_exact_distance_0.75-1"].value, mine["accuracy_at_exact_distance_0.75-1"].n) == (0.0, 20)
    row = mine["exact_distance_correlation"]
    assert row.value == pytest.approx(-1) and row.low <= row.value <= row.high


def test_an_arm_is_held_against_the_questions_it_learned_and_the_base_against_all() -> None:
    training = [question(i, split="train", text=f"What is {i} + {i}?") for i in range(4)]
    asked = [question(i, text=f"What is {i} + {i}?") for i in range(4)]
    predictions = [right(q, arm=arm) for arm in ("base", "pre") for q in asked]
    rows = metrics(asked, predictions, training=training, learned={"pre": {q.id for q in training[:1]}})
    near = {arm: rows[arm, mode, "test", "all", "accuracy_at_exact_distance_0"]
            for arm, mode in (("base", "direct"), ("pre", "reason"))}  # fmt: skip
    assert {arm: row.n for arm, row in near.items()} == {"base": 4, "pre": 1}
    assert near["base"].note.endswith("all 4 training questions")
    assert near["pre"].note.endswith("the 1 questions that it learned")


def test_correlation_is_spearmans() -> None:
    rng = np.random.default_rng(3)
    training = [question(0, split="train", text="a b c d e f g h")]
    asked = [question(i, text=" ".join("abcdefgh"[: 3 + i % 6])) for i in range(60)]
    is_right = rng.random(60) < 0.5
    rows = metrics(asked, [said(q, q.answer if ok else "-1", arm="pre") for q, ok in zip(asked, is_right, strict=True)],
                   training=training)  # fmt: skip
    distances = [1 - (1 + i % 6) / 6 for i in range(60)]
    ranks = np.array([(np.less(distances, d).sum() + np.less_equal(distances, d).sum()) / 2 for d in distances])
    expected = np.corrcoef(ranks, is_right)[0, 1]
    row = rows["pre", "reason", "test", "all", "exact_distance_correlation"]
    assert row.value == pytest.approx(expected, abs=1e-6)
