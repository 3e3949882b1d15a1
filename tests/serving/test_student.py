"""An exported student answers alone, from its folder."""

from pathlib import Path

import numpy as np

from aot import load_student


def test_an_exported_text_student_answers(text_export: Path) -> None:
    with load_student(text_export) as student:
        answer = student.ask("What is 3 + 4?")
    assert (answer.answer, answer.abstained, answer.model) == ("7", "", "tiny-text")


def test_choices_about_frames_are_decided_with_probabilities(video_export: Path) -> None:
    frames = [np.full((96, 96, 3), i, dtype=np.uint8) for i in range(4)]
    with load_student(video_export) as student:
        answer = student.ask("What is the next step?", frames=frames, choices=("wash rice", "cut onion"))
    assert answer.mode == "decide" and answer.answer in answer.choices
    assert abs(sum(answer.choice_probs) - 1) < 1e-9 and answer.confidence == max(answer.choice_probs)
