"""An exported student answers alone, from its folder."""

from pathlib import Path

import numpy as np
import pytest

from aot import load_student
from aot.chat.messages import ChatRequest, Sampling, message
from aot.errors import ChatError, RunError


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


def test_the_student_is_a_chat_model_too_until_it_is_closed(text_export: Path) -> None:
    request = ChatRequest(
        messages=(message("user", "What is 3 + 4? Answer directly."),), sampling=Sampling(temperature=0, max_tokens=9)
    )
    with load_student(text_export) as student:
        engine = student.engine
        assert engine is student.engine and engine.name == "tiny-text"
        assert engine.reply(request).text == student.ask("What is 3 + 4?", mode="direct").raw_text
    with pytest.raises(ChatError, match="is closed"):
        engine.reply(request)
    with pytest.raises(RunError, match="was closed"):
        _ = student.engine
