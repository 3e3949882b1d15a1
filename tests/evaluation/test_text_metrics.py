import json

import pytest
from text_rows import ARMS, metrics, question, right, said, wrong

from aot.config.training import ChainsArm, ToolArm
from aot.evaluation.baselines import BASELINES
from aot.evaluation.groups import question_groups
from aot.evaluation.metrics import compute_metrics, references
from aot.evaluation.spending import cut_sentences
from aot.records import Question


def test_arms_meet_base_teacher_and_the_other_orders_of_their_seed() -> None:
    more = (
        *ARMS,
        ChainsArm(name="pre_2", order="pre", seed=2),
        ChainsArm(name="few", order="pre", chain_share=0.1),
        ChainsArm(name="self", order="pre", chain_share=0.1, chains="self"),
    )
    pairs = {arm: tuple(n for n in names if "no_frames" not in n) for arm, names in references(more).items()}
    assert list(pairs)[:8] == ["base", *(arm.name for arm in more)]
    assert all(names[-7:] == ("teacher", *BASELINES) for names in references(more).values() if len(names) > 1)
    pairs = {arm: names[: -len(BASELINES)] for arm, names in pairs.items()}
    assert pairs["answers_only"] == ("base", "teacher")
    assert pairs["pre"] == ("base", "answers_only", "post", "teacher")
    assert pairs["adaptive"] == ("base", "answers_only", "pre", "post", "teacher")
    assert pairs["pre_2"] == ("base", "teacher"), "its seed has no other order"
    assert pairs["self"] == ("base", "answers_only", "pre", "post", "few", "teacher")


def test_a_tag_of_any_name_groups_results_and_old_questions_without_tags_are_refused() -> None:
    rows = [question(i).model_copy(update={"tags": {"season": "winter", "people": 2 + 9 * i}}) for i in range(2)]
    assert [name for name, _ in question_groups(rows)] == ["all", "sum", "season=winter", "people=2", "people=11"]
    old = question(0).model_copy(update={"tags": {}, "state": {"family": "sum", "steps": 3}})
    with pytest.raises(ValueError, match=r"no tags.*run prepare again in a new run folder"):
        Question.model_validate_json(old.model_dump_json())


def test_kinds_are_those_of_questions_and_of_their_tags() -> None:
    asked = [question(i, kind="sum" if i % 2 else "story", steps=1 + i % 5) for i in range(10)]
    rows = metrics(asked, [right(q, arm="pre") for q in asked])
    kinds = list(dict.fromkeys(kind for _, _, _, kind, _ in rows))
    assert kinds == [
        "all", "story", "sum", "category=arithmetic", "steps=1", "steps=2", "steps=3", "steps=4", "steps=5",
        "steps=3-4",
    ]  # fmt: skip
    assert rows["pre", "reason", "test", "steps=3-4", "accuracy"].n == 4


def test_arms_of_different_modes_are_paired_on_problems_of_three_and_four_steps() -> None:
    asked = [question(i, steps=3 + i % 3) for i in range(30)]
    rows = metrics(asked, [
        *(right(q, arm="pre") for q in asked),
        *((right if i < 6 else wrong)(q, arm="answers_only") for i, q in enumerate(asked)),
        *(wrong(q, arm="teacher") for q in asked),
    ])  # fmt: skip
    row = rows["pre", "reason", "test", "steps=3-4", "accuracy_difference_vs_answers_only"]
    assert (row.value, row.n) == (0.8, 20)
    assert row.note.startswith("against mode direct; McNemar exact")
    assert rows["pre", "reason", "test", "all", "accuracy_difference_vs_teacher"].value == 1.0


def test_base_meets_every_arm_everywhere_in_the_mode_that_it_is_best_at_on_the_first_split() -> None:
    home = [question(i, kind="sum" if i < 7 else "story") for i in range(10)]
    away = [question(i, split="ood") for i in range(10)]
    asked = [*home, *away]
    rows = metrics(asked, [
        *((right if q in home[:7] else wrong)(q, arm="base", mode="direct") for q in asked),
        *((wrong if q in home[:7] else right)(q, arm="base", mode="reason") for q in asked),
        *(right(q, arm="pre") for q in asked),
    ])  # fmt: skip
    found = {key[2:4]: row for key, row in rows.items() if key[4] == "accuracy_difference_vs_base"}
    values = [found[key].value for key in (("test", "all"), ("test", "story"), ("ood", "all"))]
    assert values == [0.3, 1.0, 1.0], "never the mode reason, which is better on stories and on the other split"
    assert found["ood", "all"].note.startswith("against mode direct, its better one on all of test; McNemar")


def test_missing_predictions_count_as_wrong_and_failed() -> None:
    asked = [question(i) for i in range(10)]
    rows = metrics(asked, [right(q, arm="pre") for q in asked[:7]])
    assert rows["pre", "reason", "test", "all", "accuracy"].value == 0.7
    assert rows["pre", "reason", "test", "all", "failed_rate"].value == 0.3


def test_the_share_of_cut_replies_stands_beside_every_accuracy() -> None:
    asked = [question(i, kind="sum" if i < 4 else "story") for i in range(10)]
    said_ = [
        right(q, arm="pre", finish_reason="length" if i < 3 else "stop", completion_tokens=9)
        for i, q in enumerate(asked)
    ]
    rows = metrics(asked, [*said_, *(right(q, arm="teacher") for q in asked)])
    found = {key[3]: row.value for key, row in rows.items() if key[0] == "pre" and key[4] == "truncated_rate"}
    accuracies = {key[3]: row.value for key, row in rows.items() if key[0] == "pre" and key[4] == "accuracy"}
    assert found.keys() == accuracies.keys() and (found["all"], found["sum"], found["story"]) == (0.3, 0.75, 0.0)
    assert (accuracies["all"], accuracies["sum"]) == (0.7, 0.25), "a cut reply is wrong, whatever stands in its row"
    assert ("teacher", "none", "test", "all", "truncated_rate") not in rows, "nobody noted how its replies ended"


def test_the_share_of_cut_replies_is_over_those_whose_end_is_known() -> None:
    asked = [question(i) for i in range(10)]
    made = [right(q, arm="pre", finish_reason="length" if i < 2 else "stop") for i, q in enumerate(asked[:8])]
    row = metrics(asked, made)["pre", "reason", "test", "all", "truncated_rate"]
    assert (row.value, row.n, row.note) == (0.25, 8, "over the 8 replies whose end is known")


@pytest.mark.parametrize(("cut", "warns"), [(0, False), (1, False), (2, True), (20, True)])
def test_more_than_five_percent_of_cut_replies_is_a_warning_that_names_the_setting(cut: int, warns: bool) -> None:
    asked = [question(i) for i in range(20)]
    ends = ["length" if i < cut else "stop" for i in range(20)]
    made = [right(q, arm=arm, finish_reason=end) for arm in ("pre", "post") for q, end in zip(asked, ends, strict=True)]
    told = cut_sentences(metrics(asked, made).values())
    if not warns:
        assert told == []
        return
    assert [sentence.split()[0] for sentence in told] == ["student.max_answer_tokens", "student.max_rationale_tokens"]
    assert f"the replies of pre, reason ({5 * cut:.1f}% on test). A cut reply has no answer" in told[1]


def test_budgets_turn_long_answers_into_wrong_ones() -> None:
    asked = [question(i) for i in range(10)]
    rows = metrics(asked, [right(q, arm="pre", completion_tokens=4 + 2 * i) for i, q in enumerate(asked)])
    curve = [rows["pre", "reason", "test", "all", f"accuracy_within_{n}_tokens"].value for n in (4, 8, 16, 32)]
    assert curve == [0.1, 0.3, 0.7, 1.0]
    mean = rows["pre", "reason", "test", "all", "tokens_mean"]
    assert mean.value == 13 and mean.low < 13 < mean.high
    assert rows["pre", "reason", "test", "all", "tokens_per_correct"].value == 13


def test_missing_replies_do_not_make_answers_look_cheap() -> None:
    asked = [question(i) for i in range(10)]
    rows = metrics(asked, [right(q, arm="pre", completion_tokens=8) for q in asked[:7]])
    mean = rows["pre", "reason", "test", "all", "tokens_mean"]
    assert (mean.value, mean.n, mean.note) == (8, 7, "over the 7 replies; 3 more are missing")


def test_an_arm_without_tokens_has_no_cost_rows() -> None:
    asked = [question(i) for i in range(4)]
    rows = metrics(asked, [right(q, arm="teacher") for q in asked])
    assert not [metric for *_, metric in rows if "tokens" in metric]


def test_gap_is_taken_against_the_same_kinds_of_the_first_split() -> None:
    home = [question(i, kind=kind) for kind in ("sum", "clock") for i in range(20)]
    away = [question(i, split="ood_large") for i in range(20)]
    strange = [question(i, split="ood_family", kind="comparison") for i in range(20)]
    asked = [*home, *away, *strange]
    rows = metrics(asked, [
        *((wrong if q.kind == "clock" else right)(q, arm="pre") for q in home),
        *((right if i < 10 else wrong)(q, arm="pre") for i, q in enumerate([*away, *strange])),
    ])  # fmt: skip
    gap = rows["pre", "reason", "ood_large", "all", "accuracy_gap_vs_test"]
    assert (gap.value, gap.n) == (-0.5, 20) and -1 < gap.low < -0.5 < gap.high < 0
    assert gap.note == ("against 20 questions of test, weighted to match kind and number of steps (20 of 20); unpaired")
    unseen = rows["pre", "reason", "ood_family", "all", "accuracy_gap_vs_test"]
    assert unseen.value == -0.5 and "to match nothing, as no question there is of its kind (20 of 20)" in unseen.note
    assert ("pre", "reason", "test", "all", "accuracy_gap_vs_test") not in rows


def test_gap_weighs_the_first_split_to_the_numbers_of_steps_of_the_other() -> None:
    home = [question(i, steps=1 + i % 4) for i in range(40)]
    away = [question(i, split="ood", steps=1 if i < 5 else 4) for i in range(20)]
    longer = [question(i, split="ood_long", steps=4 if i < 10 else 9) for i in range(20)]
    rows = metrics([*home, *away, *longer], [
        (right if q.tags["steps"] == 1 else wrong)(q, arm="pre") for q in (*home, *away, *longer)
    ])  # fmt: skip
    gap = rows["pre", "reason", "ood", "all", "accuracy_gap_vs_test"]
    assert gap.value == 0 and gap.note.startswith("against 20 questions of test")
    long_gap = rows["pre", "reason", "ood_long", "all", "accuracy_gap_vs_test"]
    assert long_gap.value == -0.125, "half against steps of 4, which are wrong, half against all, of which a quarter is"
    assert "kind and number of steps (10 of 20), kind alone (10 of 20)" in long_gap.note


def test_choices_of_an_adaptive_arm_are_counted_and_held_against_its_success() -> None:
    asked = [question(i) for i in range(10)]
    probs = {"direct": (0.8, 0.1, 0.1), "full": (0.1, 0.2, 0.7)}
    chosen = ["direct"] * 6 + ["full"] * 4
    rows = metrics(asked, [
        (right if i != 0 else wrong)(q, arm="adaptive", thought=way, thought_probs=probs[way])
        for i, (q, way) in enumerate(zip(asked, chosen, strict=True))
    ])  # fmt: skip
    mine = {metric: row for (*_, kind, metric), row in rows.items() if kind == "all"}
    assert [mine[f"share_{way}"].value for way in ("direct", "short", "full")] == [0.6, 0.0, 0.4]
    assert (mine["accuracy_when_direct"].value, mine["accuracy_when_direct"].n) == (round(5 / 6, 6), 6)
    assert "accuracy_when_short" not in mine
    assert mine["choice_probability"].value == pytest.approx(0.76)
    assert mine["choice_ece"].value == pytest.approx(5 / 6 - 0.8, abs=1e-6) and mine["choice_ece"].n == 6


def test_text_metrics_are_the_same_bytes_whatever_the_order_of_predictions() -> None:
    asked = [question(i, split=split) for split in ("test", "ood_terms") for i in range(8)]
    said_rows = [said(q, q.answer if i % 3 else None, arm=a, completion_tokens=3) for a in ("pre", "post") for i, q in
                 enumerate(asked)]  # fmt: skip
    forms = [
        json.dumps([
            row.model_dump(mode="json")
            for row in compute_metrics(
                questions=asked, predictions=order, training=[question(99, split="train")], learned={}, arms=ARMS,
                splits=("test", "ood_terms"), bootstrap_samples=200, seed=0,
            )
        ])
        for order in (said_rows, said_rows[::-1])
    ]  # fmt: skip
    assert forms[0] == forms[1]


def test_an_arm_that_calls_tools_meets_those_that_think_first_and_its_own_controls() -> None:
    pairs = references((*ARMS, ToolArm(name="acts", order="tool_use", tools=("calculator",))))
    assert pairs["acts"][:-len(BASELINES)] == (
        "base", "answers_only", "pre", "acts_no_frames", "acts_no_tools", "acts_shuffled_book", "teacher",
    )  # fmt: skip
    assert "acts_no_tools" in pairs and "pre_no_tools" not in pairs


def test_calls_and_odd_plans_are_shares_and_means_of_all_questions() -> None:
    asked = [question(i) for i in range(4)]
    plans = (((), 2), (("never_called",), 0), (("never_called", "wrote_result"), 0))
    rows = metrics(asked, [
        right(q, arm="acts", mode="tools", reasons=reasons, num_calls=calls)
        for q, (reasons, calls) in zip(asked, plans, strict=False)
    ])  # fmt: skip
    found = {key[4]: row for key, row in rows.items() if key[:4] == ("acts", "tools", "test", "all")}
    values = {
        name: (found[name].value, found[name].n) for name in found if name.startswith(("tool_", "calls", "plans"))
    }
    assert values == {
        "tool_usage_rate": (0.25, 4), "calls_mean": (0.5, 4), "plans_never_called": (0.5, 4),
        "plans_wrote_result": (0.25, 4),
    }  # fmt: skip


def test_the_curve_of_effort_comes_from_one_reply_in_each_way_and_the_probabilities() -> None:
    questions = [question(i) for i in range(4)]
    sure, unsure = (0.95, 0.04, 0.01), (0.2, 0.5, 0.3)
    rows = [right(q, arm="adaptive", thought_probs=sure if i < 2 else unsure) for i, q in enumerate(questions)]
    for ending, tokens, knows in (("_way_direct", 3, 2), ("_way_short", 30, 3), ("_way_full", 60, 4)):
        rows += [
            (right if i < knows else wrong)(q, arm=f"adaptive{ending}", mode="adaptive", completion_tokens=tokens)
            for i, q in enumerate(questions)
        ]
    found = metrics(questions, rows)
    of_arm = {key[4]: row.value for key, row in found.items() if key[:4] == ("adaptive", "adaptive", "test", "all")}
    accuracy = [of_arm[f"accuracy_at_effort_{effort:.2f}"] for effort in (0.0, 0.7, 0.9, 1.0)]
    tokens = [of_arm[f"tokens_at_effort_{effort:.2f}"] for effort in (0.0, 0.7, 0.9, 1.0)]
    assert accuracy == [0.5, 0.75, 1.0, 1.0]
    assert tokens == [3.0, 16.5, 31.5, 60.0]
