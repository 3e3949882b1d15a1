"""Examples: what is dropped and counted, which rationale is taken, and in which order questions come."""

from pathlib import Path

import numpy as np
import pytest
from student_kit import idefics3_processor, make_question, make_trace, write_store

from aot.errors import SourceError
from aot.records import Lesson, MediaRef, Question
from aot.student.rows.examples import ExampleSet, Schedule, make_examples
from aot.student.rows.frames import FramePixels, choose_indices
from aot.student.rows.tokens import Renderer
from video_data.store.shards import FrameStore


@pytest.fixture
def store(tmp_path: Path) -> FrameStore:
    frames = np.random.default_rng(0).integers(0, 256, (10, 24, 32, 3), dtype=np.uint8)
    return write_store(tmp_path / "frames", {"c.mp4": frames})


def lessons_of(question: Question, *, reason: bool = True) -> list[Lesson]:
    """A direct reply and one that reasons first, both about the frames of a question."""
    told = {"question_id": question.id, "with_frames": True}
    direct = Lesson(**told, mode="direct", label=question.right_answer)
    return [direct, *([Lesson(**told, mode="reason", rationale=make_trace(question).rationale)] if reason else [])]


def build(store: FrameStore, questions: list[Question], *, reason: bool = True, max_tokens: int = 500) -> ExampleSet:
    return make_examples(
        [lesson for question in questions for lesson in lessons_of(question, reason=reason)],
        questions={question.id: question for question in questions},
        renderer=Renderer(idefics3_processor()),
        store=store,
        num_frames=3,
        max_tokens=max_tokens,
    )


def test_frames_are_the_nearest_to_even_times_inside_the_window(store: FrameStore) -> None:
    chosen = choose_indices(store, MediaRef(uri="c.mp4", start_s=1.0, end_s=3.0), num_frames=4)
    assert chosen.times_s == (1.0, 1.5, 2.0, 2.5)
    assert max(choose_indices(store, MediaRef(uri="c.mp4", end_s=0.9), num_frames=8).times_s) <= 0.9


def test_window_without_frames_is_an_error_that_says_so(store: FrameStore) -> None:
    with pytest.raises(SourceError, match=r"no stored frame between 0\.1 and 0\.2 s"):
        choose_indices(store, MediaRef(uri="c.mp4", start_s=0.1, end_s=0.2), num_frames=2)


def test_overlong_rows_are_dropped_and_counted_never_cut(store: FrameStore) -> None:
    questions = [make_question(i, uri="c.mp4") for i in range(3)]
    direct = build(store, questions).examples[0].rows[0]
    tight = build(store, questions, max_tokens=direct.num_tokens)
    assert [len(example.rows) for example in tight.examples] == [1, 1, 1]
    assert not any(example.explains for example in tight.examples)
    assert tight.dropped == {"row_too_long": 3}
    with_none = build(store, questions, max_tokens=direct.num_tokens - 1)
    assert with_none.examples == ()
    assert with_none.dropped == {"row_too_long": 6}


def test_lessons_about_a_missing_clip_are_counted(store: FrameStore) -> None:
    made = build(store, [make_question(0, uri="gone.mp4"), make_question(1, uri="c.mp4")])
    assert made.dropped == {"no_frames": 2}
    assert sum(made.length_histogram().values()) == 2


def test_replies_about_the_same_frames_stay_in_one_example_and_others_stand_alone(store: FrameStore) -> None:
    question = make_question(0, uri="c.mp4")
    shown = build(store, [question]).examples
    assert [len(example.rows) for example in shown] == [2] and shown[0].frames is not None
    blind = make_examples(
        [lesson.model_copy(update={"with_frames": False}) for lesson in lessons_of(question)],
        questions={question.id: question},
        renderer=Renderer(idefics3_processor()),
        max_tokens=500,
    )
    assert [(len(example.rows), example.frames) for example in blind.examples] == [(1, None), (1, None)]


def test_answer_and_rationale_of_a_lesson_about_frames_are_told_apart(store: FrameStore) -> None:
    question = make_question(0, uri="c.mp4")
    after = Lesson(
        question_id="q0", mode="explain", with_frames=True, label="Answer: chop egg\n", rationale="fits [1]."
    )
    renderer = Renderer(idefics3_processor())
    (row,) = make_examples(
        [after], questions={"q0": question}, renderer=renderer, store=store, num_frames=3, max_tokens=500
    ).rows()
    assert row.prompt_ids.count(renderer.image_token_id) == 12
    assert renderer.decode(row.completion_ids[: row.num_label]) == "Answer : chop egg"


def test_schedule_item_depends_on_seed_and_position_only(store: FrameStore) -> None:
    examples = build(store, [make_question(i, uri="c.mp4") for i in range(7)], reason=False).examples
    order = [example.question_id for example in Schedule(examples, seed=3, length=21)]
    fresh = Schedule(examples, seed=3, length=21)
    assert [fresh[i].question_id for i in reversed(range(21))] == order[::-1]
    assert sorted(order[:7]) == sorted(order[7:14]) == [f"q{i}" for i in range(7)]
    assert order[:7] != order[7:14]
    assert order != [example.question_id for example in Schedule(examples, seed=4, length=21)]


def test_pixel_cache_keeps_to_its_bytes_and_changes_nothing(store: FrameStore) -> None:
    processor = idefics3_processor()
    chosen = [choose_indices(store, MediaRef(uri="c.mp4"), num_frames=n) for n in (4, 10, 4)]
    one_frame = 3 * 32 * 32 * 4 + 32 * 32
    small = FramePixels(store, processor, model_type="idefics3", max_bytes=2 * one_frame)
    large = FramePixels(store, processor, model_type="idefics3", max_bytes=1 << 30)
    for clip in chosen:
        whole = processor.image_processor(list(store.frames("c.mp4", list(clip.indices))), return_tensors="pt")
        assert (small.of([clip])["pixel_values"] == whole["pixel_values"]).all()
        assert (large.of([clip])["pixel_values"] == whole["pixel_values"]).all()
    assert small._num_bytes <= 2 * one_frame
    assert large._num_bytes == 10 * one_frame
