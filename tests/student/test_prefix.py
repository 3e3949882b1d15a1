"""Frames that were read once: what is asked behind them gets the probabilities of a prompt that is read anew."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from student_kit import LABELS, make_question, save_idefics3, save_llava

from aot.config import StudentConfig
from aot.student.answer.decoding import Prompt, likeliest, read_prompts, steps
from aot.student.answer.likelihood import score
from aot.student.answer.prefix import FramePrefix, prefix_frames
from aot.student.model.loading import Student, load_student
from aot.student.model.vision import FrameFeatures
from aot.student.rows.frames import FRAME_DIM

SIZE_HW = (24, 32)


@pytest.fixture(scope="module", params=("tiny-video", "idefics3", "llava"))
def student(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Student:
    base = request.param
    if base != "tiny-video":
        folder = tmp_path_factory.mktemp("prefix") / base
        {"idefics3": save_idefics3, "llava": save_llava}[base](folder)
        base = str(folder)
    return load_student(base, config=StudentConfig(base=base, device="cpu"))


class _Asked:
    """Eight frames of noise, and prompts that show some of them."""

    def __init__(self, student: Student) -> None:
        frames_THWC = np.random.default_rng(0).integers(0, 256, (8, *SIZE_HW, 3), dtype=np.uint8)
        self.student, self.frames = student, prefix_frames(student, frames_THWC, range(8))

    def prompt(self, shown: Sequence[int], *, about: int = 0) -> tuple[tuple[int, ...], list[Any]]:
        times_s = [i * 0.5 for i in shown]
        row = self.student.renderer.encode(self.question(about), times_s, "direct", frame_size_hw=SIZE_HW)
        return row.prompt_ids, [self.frames[i] for i in shown]

    def question(self, about: int) -> Any:
        return make_question(about, uri="c")

    def choices(self) -> list[tuple[int, ...]]:
        return [self.student.renderer.completion_ids(label) for label in LABELS]

    def anew(self, shown: Sequence[int], *, about: int = 0) -> Prompt:
        ids, frames = self.prompt(shown, about=about)
        return FramePrefix(self.student)._prompt(ids, frames)


def test_a_growing_row_of_frames_gets_the_logits_of_fresh_prompts(student: Student) -> None:
    asked, prefix = _Asked(student), FramePrefix(student)
    assert prefix.appends
    for count in range(1, 9):
        ids, frames = asked.prompt(range(count))
        logits_BV = prefix.read(ids, frames).logits_BV
        anew_BV = read_prompts(student, [asked.anew(range(count))]).logits_BV
        torch.testing.assert_close(logits_BV, anew_BV, atol=1e-4, rtol=0)
    assert prefix.counts.frames_seen == 8 and prefix.counts.restarts == 0


def test_choices_behind_frames_that_were_read_have_the_probabilities_of_fresh_prompts(student: Student) -> None:
    asked, prefix = _Asked(student), FramePrefix(student)
    for shown, about, keep in (([0, 1], 0, None), ([0, 1, 2], 2, None), ([0, 1, 2, 5], 0, 3), ([0, 1, 2, 7], 0, 3)):
        ids, frames = asked.prompt(shown, about=about)
        probs = prefix.score(ids, frames, asked.choices(), keep=keep)
        (anew,) = score(student, [asked.anew(shown, about=about)], [asked.choices()])
        assert probs == pytest.approx(anew, abs=1e-4)
    assert prefix.counts.restarts == 0 and prefix.num_frames == 3


def test_other_frames_restart_the_prefix_and_are_not_looked_at_twice(student: Student) -> None:
    asked, prefix = _Asked(student), FramePrefix(student)
    for shown in ([0, 1, 2, 3, 4, 5], [0, 2, 4], [2, 4, 6], [0, 2]):
        ids, frames = asked.prompt(shown)
        logits_BV = prefix.read(ids, frames).logits_BV
        torch.testing.assert_close(logits_BV, read_prompts(student, [asked.anew(shown)]).logits_BV, atol=1e-4, rtol=0)
    assert prefix.counts.frames_seen == 7 and prefix.counts.restarts == 3


def test_a_reply_that_was_written_behind_frames_leaves_nothing_there(student: Student) -> None:
    asked, prefix = _Asked(student), FramePrefix(student)
    ids, frames = asked.prompt([0, 1, 2])
    written = [list(steps(student, prefix.read(ids, frames), pick=likeliest, max_tokens=[5]))[-1][0] for _ in range(2)]
    assert written[0] == written[1] and prefix.counts.frames_seen == 3


def test_only_so_many_frames_are_kept_for_a_restart(student: Student) -> None:
    asked, prefix = _Asked(student), FramePrefix(student, max_features=2)
    for _ in range(2):
        ids, frames = asked.prompt([0, 1, 2, 3])
        prefix.read(ids, frames)
        prefix.read(*asked.prompt([4]))
    assert prefix.counts.frames_seen == 9


def test_a_model_that_cannot_read_on_is_given_whole_prompts(student: Student) -> None:
    asked, prefix = _Asked(student), FramePrefix(student)
    prefix.__dict__["appends"] = False
    for count in (1, 2):
        ids, frames = asked.prompt(range(count))
        (anew,) = score(student, [asked.anew(range(count))], [asked.choices()])
        assert prefix.score(ids, frames, asked.choices()) == pytest.approx(anew, abs=1e-6)
    assert prefix.num_frames == 0 and prefix.counts.frames_seen == 3


def test_the_model_looks_at_its_frames_itself_again_after_a_failed_reading(student: Student) -> None:
    features = FrameFeatures(student.model, max_frames=4, dim=FRAME_DIM.get(student.model_type, 0))
    asked = _Asked(student)
    with pytest.raises(RuntimeError), features.shown([(0, asked.frames[0].pixels)], device=student.device):
        raise RuntimeError("the model failed")
    owner = student.model.base_model
    assert "get_image_features" not in vars(owner) and features.has(0)


def test_a_reading_that_failed_leaves_what_was_read_as_it_was(
    student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, prefix = _Asked(student), FramePrefix(student)
    prefix.read(*asked.prompt([0, 1]))
    with monkeypatch.context() as broken:

        def fails(*args: Any, **kwargs: Any) -> None:
            raise RuntimeError("out of memory")

        layers = student.model.model.get_decoder().layers if hasattr(student.model.model, "get_decoder") else None
        broken.setattr((layers[-1] if layers is not None else student.model.lm_head), "forward", fails)
        with pytest.raises(RuntimeError):
            prefix.read(*asked.prompt([0, 1, 2]))
    logits_BV = prefix.read(*asked.prompt([0, 1, 3])).logits_BV
    torch.testing.assert_close(logits_BV, read_prompts(student, [asked.anew([0, 1, 3])]).logits_BV, atol=1e-4, rtol=0)


def test_a_cache_that_cannot_drop_tokens_is_copied_instead(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("aot.student.answer.prefix", "aot.student.model.caches"):
        monkeypatch.setattr(f"{module}.can_drop_tokens", lambda cache: False)
    asked, prefix = _Asked(student), FramePrefix(student)
    for shown, keep in (([0], 1), ([0, 1], 2), ([0, 1, 2], 2), ([0, 1, 3], 3), ([1, 3], 2)):
        ids, frames = asked.prompt(shown)
        logits_BV = prefix.read(ids, frames, keep=keep).logits_BV
        torch.testing.assert_close(logits_BV, read_prompts(student, [asked.anew(shown)]).logits_BV, atol=1e-4, rtol=0)
    assert prefix.counts.frames_seen == 4 and prefix.counts.restarts == 1
