import json
from collections.abc import Sequence

import pytest

from aot.config.training import ChainsArm
from aot.evaluation.metrics import compute_metrics
from aot.evaluation.scoring import score
from aot.records import ClipAnnotation, MediaRef, MetricRow, Prediction, Question, Segment

ARMS = (ChainsArm(name="answer_only", rationale_weight=0), ChainsArm(name="distilled"))


def question(number: int, *, kind: str = "next_open", answer: str = "fry onion", answer_type: str = "text") -> Question:
    choices = ("fry onion", "chop egg") if answer_type == "choice" else ()
    return Question(
        id=f"q{number}-{kind}", dataset="d", split="test", kind=kind, text="What comes next?", choices=choices,
        answer=answer, answer_type=answer_type, media=MediaRef(uri=f"c{number}.mp4", end_s=4.0), group=f"c{number}",  # type: ignore[arg-type]
    )  # fmt: skip


def said(
    to: Question, answer: str | None, *, arm: str = "distilled", mode: str = "direct", **more: object
) -> Prediction:
    row = {"question_id": to.id, "arm": arm, "mode": mode, "raw_text": answer or "mmh", "answer": answer, **more}
    return Prediction.model_validate(row)


def metrics(
    questions: Sequence[Question], predictions: Sequence[Prediction], **more: object
) -> dict[tuple[str, ...], MetricRow]:
    splits = tuple(dict.fromkeys(q.split for q in questions))
    options = {"arms": ARMS, "splits": splits, "bootstrap_samples": 200, "seed": 0, **more}
    rows = compute_metrics(questions=questions, predictions=predictions, **options)  # type: ignore[arg-type]
    keys = [(r.arm, r.mode, r.kind, r.metric) for r in rows]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, rows, strict=True))


def test_benchmark_groups_stand_beside_kinds() -> None:
    kinds = ("CW", "CH", "TN", "TP", "TC", "DO")
    asked = [question(n, kind=kind).model_copy(update={"dataset": "nextqa"}) for n, kind in enumerate(kinds)]
    found = metrics(asked, [said(q, "fry onion" if q.kind[0] == "T" else "chop egg") for q in asked])
    sizes = {row.kind: (row.value, row.n) for row in found.values() if row.metric == "accuracy"}
    assert {name: sizes[name] for name in ("C", "T", "TN+TP", "D", "all")} == {
        "C": (0.0, 2), "T": (1.0, 3), "TN+TP": (1.0, 2), "D": (0.0, 1), "all": (0.5, 6),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "error", "state", "correct"),
    [
        ("Fry  onion.", "", "scored", True),
        ("chop egg", "", "scored", False),
        (None, "", "no_answer", False),
        ("fry onion", "out of memory", "failed", False),
    ],
)
def test_score_tells_wrong_from_unparsable_from_failed(answer: str, error: str, state: str, correct: bool) -> None:
    result = score(said(question(0), answer, error=error), question(0))
    assert (result.state, result.correct) == (state, correct)


def test_score_of_a_time_span_carries_its_iou() -> None:
    when = question(0, kind="when", answer="2.0s-4.0s", answer_type="span")
    assert score(said(when, "2.0s-3.0s"), when).value == pytest.approx(0.5)


def test_unparsable_answers_are_wrong_and_counted_apart() -> None:
    asked = [question(i) for i in range(10)]
    rows = metrics(asked, [said(q, "fry onion" if i < 6 else None) for i, q in enumerate(asked)])
    accuracy, unparsable = (
        rows["distilled", "direct", "next", "accuracy"],
        rows["distilled", "direct", "next", "unparsable_rate"],
    )
    assert (accuracy.value, accuracy.n, accuracy.num_clusters, unparsable.value) == (0.6, 10, 10, 0.4)
    assert accuracy.low < 0.6 < accuracy.high


def test_missing_predictions_stay_in_the_denominator() -> None:
    asked = [question(i) for i in range(10)]
    row = metrics(asked, [said(q, "fry onion") for q in asked[:8]])["distilled", "direct", "all", "accuracy"]
    assert (row.value, row.n) == (0.8, 10)
    assert "2 of 10 predictions are missing" in row.note


def test_arm_that_answers_only_some_kinds_has_no_row_for_all() -> None:
    asked = [question(0), question(1, kind="count", answer="2", answer_type="integer")]
    rows = metrics(asked, [said(asked[0], "fry onion", arm="copy_last", mode="none")])
    assert ("copy_last", "none", "next", "accuracy") in rows
    assert ("copy_last", "none", "all", "accuracy") not in rows


def test_arms_are_paired_with_control_base_and_single_mode_arms() -> None:
    asked = [question(i) for i in range(20)]
    rows = metrics(asked, [
        *(said(q, "fry onion") for q in asked),
        *(said(q, "fry onion", mode="reason") for q in asked[:19]),
        *(said(q, "chop egg" if i < 5 else "fry onion", arm="answer_only") for i, q in enumerate(asked)),
        *(said(q, "chop egg", arm="teacher", mode="none") for q in asked),
    ])  # fmt: skip
    against = rows["distilled", "direct", "next", "accuracy_difference_vs_answer_only"]
    assert (against.value, against.n) == (0.25, 20)
    assert "5 discordant: 5 for, 0 against" in against.note
    assert rows["distilled", "direct", "next", "accuracy_difference_vs_teacher"].value == 1.0
    assert rows["distilled", "reason", "next", "accuracy_difference_reason_vs_direct"].value == -0.05


def test_tokens_per_correct_without_any_right_answer_is_a_stated_lower_bound() -> None:
    asked = [question(i) for i in range(4)]
    row = metrics(asked, [said(q, "chop egg", completion_tokens=3) for q in asked])[
        "distilled", "direct", "all", "tokens_per_correct"
    ]
    assert row.value == 12
    assert "lower bound" in row.note


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    asked = [question(i, kind="next_choice", answer_type="choice") for i in range(10)]
    probs = [(0.75, 0.25) if i < 5 else (0.25, 0.75) for i in range(10)]
    rows = metrics(
        asked,
        [said(q, q.choices[p[1] > 0.5], mode="likelihood", choice_probs=p) for q, p in zip(asked, probs, strict=True)],
    )
    assert rows["distilled", "likelihood", "next", "ece"].value == pytest.approx(0.25)


def test_mean_iou_counts_silence_as_zero() -> None:
    asked = [question(i, kind="when", answer="2.0s-4.0s", answer_type="span") for i in range(2)]
    rows = metrics(asked, [said(asked[0], "2.0s-4.0s"), said(asked[1], None)])
    assert rows["distilled", "direct", "when", "mean_iou"].value == 0.5


def test_the_share_of_cut_replies_of_a_video_run_is_a_metric() -> None:
    asked = [question(i) for i in range(4)]
    rows = metrics(asked, [said(q, q.answer, finish_reason="length" if i else "stop") for i, q in enumerate(asked)])
    cut, right = (rows["distilled", "direct", "all", name] for name in ("truncated_rate", "accuracy"))
    assert (cut.value, cut.n, right.value) == (0.75, 4, 0.25)


def test_what_a_cut_reply_claims_does_not_count() -> None:
    asked = [question(0), question(1)]
    truth = [
        ClipAnnotation(uri=f"c{i}.mp4", split="test", task="soup", duration_s=8.0, segments=(
            Segment(start_s=0, end_s=2, label="chop onion"),)) for i in range(2)]  # fmt: skip
    texts = ("Gather: 0.1s-2.1s chop onion [1].\nAnswer: fry onion", "Gather: 0.1s-2.1s chop on")
    made = [said(q, None, mode="reason").model_copy(update={"raw_text": t}) for q, t in zip(asked, texts, strict=True)]
    made[1] = made[1].model_copy(update={"finish_reason": "length"})
    row = metrics(asked, made, annotations=truth)["distilled", "reason", "all", "supported_claims"]
    assert (row.value, row.n, row.note) == (1.0, 1, "n counts claims; 1 answers claim nothing")


def test_supported_claims_are_shares_of_claims_that_the_truth_shows() -> None:
    asked = [question(0)]
    truth = ClipAnnotation(uri="c0.mp4", split="test", task="soup", duration_s=8.0, segments=(
        Segment(start_s=0, end_s=2, label="chop onion"), Segment(start_s=2, end_s=4, label="fry onion")))  # fmt: skip
    text = "Gather: 0.1s-2.1s chop onion [1]. 0.0s-2.0s fry onion [1].\nAnswer: fry onion"
    rows = metrics(
        asked, [said(asked[0], "fry onion", mode="reason").model_copy(update={"raw_text": text})], annotations=[truth]
    )
    row = rows["distilled", "reason", "all", "supported_claims"]
    assert (row.value, row.n, row.num_clusters) == (0.5, 2, 1)


def test_metrics_are_the_same_bytes_whatever_the_order_of_predictions() -> None:
    asked = [question(i) for i in range(12)]
    rows = [said(q, "fry onion" if i % 3 else None, arm=a) for a in ("base", "distilled") for i, q in enumerate(asked)]
    forms = []
    for order in (rows, rows[::-1]):
        result = compute_metrics(
            questions=asked, predictions=order, arms=ARMS, splits=("test",), bootstrap_samples=200, seed=0
        )
        forms.append(json.dumps([row.model_dump(mode="json") for row in result]))
    assert forms[0] == forms[1]


def test_families_follow_the_data_of_a_run_with_clips_and_with_chains_of_arithmetic() -> None:
    """One made-up run: half of its questions are about clips, the others are sums; no door is named anywhere."""
    clips = [question(i, kind="next_choice", answer_type="choice") for i in range(8)]
    sums = [
        Question(id=f"s{i}", dataset="d", split="test", kind="sum", text=f"What is {i} + 3?", answer=f"{i + 3}",
                 answer_type="integer", group=f"s{i}", tags={"steps": 2, "category": "addition"}) for i in range(8)
    ]  # fmt: skip
    away = [q.model_copy(update={"id": f"{q.id}-o", "split": "ood", "group": f"{q.group}-o"}) for q in (*clips, *sums)]
    asked = [*clips, *sums, *away]
    arms = (*ARMS, ChainsArm(name="pre", order="pre"))
    made = [said(q, q.answer, mode="reason", completion_tokens=9, arm=arm) for q in asked for arm in ("pre", "base")]
    made = [m.model_copy(update={"raw_text": f"2 + 2 = 5\nAnswer: {m.answer}"}) for m in made]
    made += [said(q, "chop egg", arm="pre_no_frames") for q in asked]
    made += [said(q, q.answer, mode="likelihood", choice_probs=(0.9, 0.1), arm="pre") for q in asked if q.choices]
    rows = compute_metrics(
        questions=asked, predictions=made, arms=arms, splits=("test", "ood"), bootstrap_samples=50, seed=0,
        training=[sums[0].model_copy(update={"split": "train"})],
    )  # fmt: skip
    of_pre = {(row.mode, row.kind, row.metric) for row in rows if row.arm == "pre"}
    assert {
        ("reason", "all", "accuracy_difference_vs_pre_no_frames"), ("reason", "next", "tokens_mean"),
        ("reason", "steps=2", "accuracy"), ("reason", "category=addition", "accuracy_gap_vs_test"),
        ("reason", "all", "chains_with_wrong_step"), ("reason", "all", "accuracy_within_16_tokens"),
        ("reason", "all", "accuracy_at_exact_distance_0"), ("likelihood", "next_choice", "ece"),
    } <= of_pre  # fmt: skip
    assert not [key for key in of_pre if key[0] == "likelihood" and "tokens" in key[2]], "nobody generated a token"
