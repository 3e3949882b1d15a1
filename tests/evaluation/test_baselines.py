from fixtures.steps import tool_step

from aot.evaluation.baselines import baseline_predictions, baseline_rankings, count_steps, gold_history, seen_history
from aot.records import ClipAnnotation, MediaRef, Prediction, Question, Segment, TimeSpan, Trace
from aot.reporting.sections.errors import confusion


def clip(uri: str, *labels: str, split: str = "train", task: str = "soup") -> ClipAnnotation:
    segments = tuple(Segment(start_s=2.0 * i, end_s=2.0 * i + 2, label=label) for i, label in enumerate(labels))
    return ClipAnnotation(uri=uri, split=split, task=task, duration_s=2.0 * len(labels), segments=segments)


TRAIN = [
    clip("t1", "a", "b", "c"),
    clip("t2", "a", "b", "d"),
    clip("t3", "b", "d"),
    clip("t4", "x", "y", "y", task="pie"),
]


def asked(uri: str, *, end_s: float, choices: tuple[str, ...] = ()) -> Question:
    return Question(
        id=f"{uri}?", dataset="d", split="test", kind="next_choice" if choices else "next_open", text="next?",
        group=uri, choices=choices, answer=choices[0] if choices else "d", answer_type="choice" if choices else "text",
        media=MediaRef(uri=uri, end_s=end_s),
    )  # fmt: skip


def trace(question_id: str, *labels: str) -> Trace:
    steps = [
        {"start_s": float(i), "end_s": i + 1.0, "label": label, "score": 1.0}
        for i, label in reversed(list(enumerate(labels)))
    ]
    step = tool_step(1, "list_steps", {}, {"steps": steps}, span=TimeSpan(start_s=0, end_s=9))
    return Trace(
        question_id=question_id, sample_index=0, teacher="rules", steps=(step,), status="ok", config_digest="0"
    )


def said(question: Question, clips: list[ClipAnnotation], *seen: str) -> dict[str, str | None]:
    traces = {question.id: trace(question.id, *seen)} if seen else {}
    rows = baseline_predictions(questions=[question], annotations=[*TRAIN, *clips], traces=traces)
    assert all(row.mode == "none" for row in rows)
    return {row.arm: row.answer for row in rows}


def test_counts_come_from_training_clips_only() -> None:
    counts = count_steps([*TRAIN, clip("e", "a", "z", split="test")])
    assert (counts.after[None, ("b",)]["d"], counts.after[None, ("a",)]["z"], counts.overall["y"]) == (2, 0, 2)
    assert counts.after["soup", ("a", "b")] == {"c": 1, "d": 1} and ("pie", ("b",)) not in counts.after


def test_gold_history_ends_at_the_window() -> None:
    assert gold_history(clip("e", "a", "b", "d"), asked("e", end_s=4.0)) == ("a", "b")


def test_gold_history_is_that_of_the_official_pair_where_the_question_tells_it() -> None:
    segments = tuple(Segment(start_s=2.0, end_s=end_s, label=label) for end_s, label in ((3, "a"), (4, "b"), (5, "d")))
    together = ClipAnnotation(uri="e", split="test", task="soup", duration_s=9.0, segments=segments)
    for steps_before, history in ((1, ("a",)), (2, ("a", "b"))):
        question = asked("e", end_s=2.0).model_copy(update={"steps_before": steps_before})
        assert gold_history(together, question) == history
    assert gold_history(together, asked("e", end_s=2.0)) == ()


def test_one_label_of_two_tasks_is_two_steps() -> None:
    train = [clip(f"s{i}", "mix", "boil", "serve") for i in range(5)]
    train += [clip(f"p{i}", "mix", "bake", "serve", task="pie") for i in range(2)]
    for task, following in (("soup", "boil"), ("pie", "bake"), ("new", "boil")):
        seen = clip("e", "mix", following, split="test", task=task)
        rows = baseline_predictions(questions=[asked("e", end_s=2.0)], annotations=[*train, seen], traces={})
        answers = {row.arm: row.answer for row in rows}
        assert (answers["bigram_gold"], answers["trigram_gold"]) == (following, following)


def test_each_open_baseline_does_what_its_name_says() -> None:
    answers = said(asked("e", end_s=4.0), [clip("e", "a", "b", "d", split="test")], "x", "a")
    trigrams = {"trigram_predicted": "b", "trigram_gold": "d"}
    assert answers == {
        "copy_last": "b", "task_majority": "b", "bigram_predicted": "b", "bigram_gold": "d", **trigrams,
    }  # fmt: skip


def test_options_bind_and_what_was_never_counted_backs_off_to_the_overall_counts() -> None:
    question = asked("e", end_s=2.0, choices=("y", "c"))
    answers = said(question, [clip("e", "unseen", "c", split="test", task="new")], "b")
    trigrams = {"trigram_predicted": "c", "trigram_gold": "y"}
    assert answers == {
        "copy_last": "y", "task_majority": "y", "bigram_predicted": "c", "bigram_gold": "y", **trigrams,
    }  # fmt: skip


def test_a_trigram_sees_two_steps_back_and_backs_off_to_one() -> None:
    train = [clip("t5", "x", "b", "y"), clip("t6", "a", "b", "d")]
    question = asked("e", end_s=4.0)
    seen = clip("e", "x", "b", "y", split="test")
    assert said(question, [*train, seen])["trigram_gold"] == "y"
    assert said(question, [*train, clip("e", "c", "b", "y", split="test")])["trigram_gold"] == "d"


def test_a_step_that_still_runs_when_the_window_ends_counts_as_seen() -> None:
    assert gold_history(clip("e", "a", "b", "d"), asked("e", end_s=3.0)) == ("a", "b")


def test_rankings_hold_the_likeliest_steps_best_first() -> None:
    ranked = baseline_rankings(
        questions=[asked("e", end_s=4.0)], annotations=[*TRAIN, clip("e", "a", "b", split="test")], traces={}, top=3
    )
    assert ranked["bigram_gold", "e?"] == ["d", "c", "b"]


def test_bigram_on_seen_history_is_left_out_without_traces() -> None:
    assert "bigram_predicted" not in said(asked("e", end_s=2.0), [clip("e", "a", split="test")])


def test_seen_history_is_in_time_order() -> None:
    assert seen_history(trace("q", "a", "b", "c")) == ("a", "b", "c")


def test_confusion_keeps_silence_and_foreign_words_apart() -> None:
    question = asked("e", end_s=2.0, choices=("d", "b"))
    rows = [
        Prediction(question_id=question.id, arm="m", mode="direct", raw_text="", answer=answer)
        for answer in ("D.", "b", "b", None, "banana")
    ]
    table = confusion([question], rows)
    assert table.labels == ("b", "d")
    assert table.counts.tolist() == [[0, 0, 0, 0], [2, 1, 1, 1]]
    assert table.top_pairs(1) == [("d", "b", 2)]
