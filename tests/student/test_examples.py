"""Examples: what is dropped and counted, which rationale is taken, and in which order questions come."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from student_kit import idefics3_processor, make_question, make_trace, write_store

from aot.errors import SourceError
from aot.records import MediaRef
from aot.student.rows.examples import ExampleSet, Schedule, build_examples, first_kept, rationale_text
from aot.student.rows.frames import FramePixels, choose_frames, choose_indices
from aot.student.rows.tokens import Renderer
from video_data.store.shards import FrameStore


@pytest.fixture
def store(tmp_path: Path) -> FrameStore:
    frames = np.random.default_rng(0).integers(0, 256, (10, 24, 32, 3), dtype=np.uint8)
    return write_store(tmp_path / "frames", {"c.mp4": frames})


def build(store: FrameStore, questions: list[Any], **changes: Any) -> ExampleSet:
    settings = {"kept": {}, "num_frames": 3, "max_tokens": 500, "with_rationales": True, **changes}
    return build_examples(questions, store=store, renderer=Renderer(idefics3_processor()), **settings)


def test_frames_are_the_nearest_to_even_times_inside_the_window(store: FrameStore) -> None:
    chosen = choose_indices(store, MediaRef(uri="c.mp4", start_s=1.0, end_s=3.0), num_frames=4)
    assert chosen.times_s == (1.0, 1.5, 2.0, 2.5)
    assert max(choose_indices(store, MediaRef(uri="c.mp4", end_s=0.9), num_frames=8).times_s) <= 0.9


def test_window_without_frames_is_an_error_that_says_so(store: FrameStore) -> None:
    question = make_question(0, uri="c.mp4").model_copy(update={"media": MediaRef(uri="c.mp4", start_s=0.1, end_s=0.2)})
    with pytest.raises(SourceError, match=r"no stored frame between 0\.1 and 0\.2 s"):
        choose_frames(store, question, 2)


def test_overlong_rows_are_dropped_and_counted_never_cut(store: FrameStore) -> None:
    questions = [make_question(i, uri="c.mp4") for i in range(3)]
    kept = {q.id: make_trace(q) for q in questions}
    direct = build(store, questions, kept=kept).examples[0].direct
    tight = build(store, questions, kept=kept, max_tokens=direct.num_tokens)
    assert len(tight.examples) == 3
    assert all(example.reason is None for example in tight.examples)
    assert tight.dropped == {"rationale_too_long": 3}
    with_none = build(store, questions, kept=kept, max_tokens=direct.num_tokens - 1)
    assert with_none.examples == ()
    assert with_none.dropped == {"prompt_too_long": 3}


def test_missing_clip_and_missing_trace_are_counted(store: FrameStore) -> None:
    made = build(store, [make_question(0, uri="gone.mp4"), make_question(1, uri="c.mp4")])
    assert made.dropped == {"no_frames": 1, "no_kept_trace": 1}
    assert sum(made.length_histogram().values()) == 1


def test_rationale_without_answer_line_gets_one() -> None:
    trace = make_trace(make_question(0, uri="c.mp4"))
    assert rationale_text(trace) == trace.rationale
    bare = trace.model_copy(update={"rationale": "Gather: 0.5s-1.0s chop egg [1]."})
    assert rationale_text(bare).endswith("\nAnswer: chop egg")


def test_first_kept_takes_the_lowest_sample() -> None:
    trace = make_trace(make_question(0, uri="c.mp4"))
    later = trace.model_copy(update={"sample_index": 2, "rationale": "x"})
    assert first_kept([later, trace])["q0"] == trace


def test_schedule_item_depends_on_seed_and_position_only(store: FrameStore) -> None:
    examples = build(store, [make_question(i, uri="c.mp4") for i in range(7)], with_rationales=False).examples
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
