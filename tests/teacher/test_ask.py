"""Asking one question about one clip file."""

from pathlib import Path

import pytest
from teacher_scenes import annotation

from aot.errors import VideoError
from aot.teacher.ask import ask, guess_kind
from video_data.kitchen.dataset import draw_toy_kitchen, plan_toy_kitchen

REAL = Path(__file__).parents[3] / "shared" / "data" / "clips"
needs_clips = pytest.mark.skipif(not REAL.exists(), reason=f"{REAL} is absent")


@pytest.mark.parametrize(
    ("text", "choices", "kind"),
    [
        ("Which step comes right before fry onion?", (), "before"),
        ("When does chop onion happen?", (), "when"),
        ("How many times is it flipped?", (), "count"),
        ("Is there any egg in the clip?", (), "present"),
        ("Which step comes next?", (), "next_open"),
        ("What is the next step?", ("a", "b"), "next_choice"),
        ("Why?", (), "other"),
    ],
)
def test_kind_is_guessed_from_the_words(text: str, choices: tuple[str, ...], kind: str) -> None:
    assert guess_kind(text, choices=choices) == kind


def test_a_drawn_clip_is_answered(tmp_path: Path) -> None:
    counts = {"train": 1, "test": 0, "test_ood": 0}
    draw_toy_kitchen(tmp_path, seed=8, counts=counts, workers=1)
    truth = plan_toy_kitchen(tmp_path, seed=8, counts=counts).annotations[0]
    labels = [segment.label for segment in truth.segments]
    asked = f"Which step comes right after {labels[0]}?"
    assert ask(tmp_path / truth.uri, asked).trace.answer == labels[1]
    known = [annotation(f"{i}", "recipe", *labels, "eat dinner") for i in range(3)]
    assert ask(tmp_path / truth.uri, "Which step comes next?", annotations=known).trace.answer == "eat dinner"


@needs_clips
def test_the_real_pancake_clip_gives_an_honest_trace() -> None:
    trace = ask(REAL / "flipping_a_pancake.mkv", "Which step comes next?").trace
    assert trace.steps
    assert all(step.frame_times_s for step in trace.steps if step.call.tool == "list_steps")
    assert trace.status == "failed" or trace.answer


@needs_clips
def test_a_question_that_no_rule_fits_fails_at_parse() -> None:
    trace = ask(REAL / "cooking_stove.avi", "Why does she smile?").trace
    assert (trace.status, trace.error.boundary, trace.answer) == ("failed", "parse", "")


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_text("no video")
    with pytest.raises(VideoError):
        ask(path, "Which step comes next?")
