"""A student on a stream: it never waits for the model, gives no old answer, and says why it gives none."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aot import load_student
from aot.errors import RunError, SourceError
from aot.records import Question
from aot.served_records import CascadeThreshold, FrameRule, ServedCalibration
from aot.serving.stream.loop import StudentStream
from aot.serving.stream.reader import StreamReader
from aot.serving.stream.ring import FrameRing, PickedFrames
from aot.serving.student import ServedStudent
from aot.student.answer.decoding import Prompt
from aot.student.answer.likelihood import score
from aot.student.answer.prefix import prefix_frames
from video_data.decode.sampling import nearest_indices, uniform_times

LONG_S = 120.0
"""Longer than anything here takes on the busiest machine; waits end by events."""
STEPS = ("wash rice", "chop onion", "fry egg")
ASKED: dict[str, Any] = {"question": "What is the next step?", "choices": STEPS}
RULE = FrameRule(num_frames=8, stored_fps=3.0, max_side_px=480)


class Clock:
    """Shows what it is set to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Gated(ServedStudent):
    """A student whose turns wait for a gate, or fail."""

    def __init__(self, whole: ServedStudent, **changes: object) -> None:
        super().__init__(whole.student, whole.contract.model_copy(update=changes))
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()
        self.failure: BaseException | None = None

    @contextmanager
    def turn(self) -> Iterator[Any]:
        self.entered.set()
        assert self.gate.wait(LONG_S)
        with super().turn() as model:
            if self.failure is not None:
                raise self.failure
            yield model


@pytest.fixture(scope="module")
def whole(video_export: Path) -> Iterator[ServedStudent]:
    with load_student(video_export) as student:
        yield student


@pytest.fixture
def student(whole: ServedStudent) -> Gated:
    return Gated(whole)


def picture(number: int, *, size_hw: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def hold(student: Gated) -> None:
    """Let the next inference wait at the gate, and tell when it has come there."""
    student.entered.clear()
    student.gate.clear()


def test_a_frozen_camera_leads_to_stale_within_the_limit(student: Gated) -> None:
    clock = Clock()
    with StudentStream(student, **ASKED, stale_s=2.0, clock=clock) as stream:
        stream.observe(picture(0))
        assert stream.answer(deadline_s=LONG_S).answer in STEPS
        for _ in range(10):
            clock.now_s += 0.19
            assert stream.observe(picture(0)) == "identical"
        answered = stream.answer()
        assert answered.answer and answered.age_s == pytest.approx(1.9)
        clock.now_s += 0.19
        stream.observe(picture(0))
        stale = stream.answer()
        assert (stale.answer, stale.abstained, stale.choice_probs) == ("", "stale", ())
        assert "same picture" in stale.detail and stream.counts.frames == {"taken": 1, "identical": 11}
        clock.now_s += 0.1
        stream.observe(picture(1))
        assert stream.answer(deadline_s=LONG_S).answer in STEPS


def test_a_silent_camera_leads_to_stale(student: Gated) -> None:
    clock = Clock()
    with StudentStream(student, **ASKED, clock=clock) as stream:
        assert stream.answer().abstained == "stale"
        stream.observe(picture(0))
        stream.answer(deadline_s=LONG_S)
        clock.now_s += 2.5
        assert stream.answer().abstained == "stale" and "no frame came" in stream.answer().detail


def test_a_still_scene_is_not_frozen_and_costs_nothing(student: Gated) -> None:
    clock, rng = Clock(), np.random.default_rng(0)
    scene = rng.integers(20, 230, (96, 128, 3), dtype=np.uint8)
    with StudentStream(student, **ASKED, clock=clock) as stream:
        stream.observe(scene)
        first = stream.answer(deadline_s=LONG_S)
        for _ in range(100):
            clock.now_s += 0.1
            noisy = (scene + rng.integers(0, 2, scene.shape)).astype(np.uint8)
            assert stream.observe(noisy) == "near_duplicate"
        later = stream.answer()
        assert later.answer == first.answer and later.age_s == pytest.approx(0.0)
        assert stream.counts.answers == 1 and stream.counts.frames_seen == 1


def test_with_near_duplicates_off_every_other_picture_is_read(student: Gated) -> None:
    with StudentStream(student, **ASKED, near_duplicate=0.0, clock=Clock()) as stream:
        scene = picture(0)
        stream.observe(scene, 99.0)
        scene[0, 0, 0] ^= 1
        assert stream.observe(scene, 99.1) == "taken"


def test_a_missed_deadline_abstains_and_the_answer_comes_later(student: Gated) -> None:
    with StudentStream(student, **ASKED, clock=Clock()) as stream:
        hold(student)
        stream.observe(picture(0))
        assert stream.answer(deadline_s=0.01).abstained == "deadline"
        assert stream.answer().abstained == "deadline"
        student.gate.set()
        assert stream.answer(deadline_s=LONG_S).answer in STEPS


def test_an_answer_that_is_ready_too_late_is_withheld(student: Gated) -> None:
    clock = Clock()
    with StudentStream(student, **ASKED, deadline_s=0.5, stale_s=9.0, clock=clock) as stream:
        hold(student)
        stream.observe(picture(0))
        assert student.entered.wait(LONG_S)
        clock.now_s += 0.6
        student.gate.set()
        late = stream.answer(deadline_s=LONG_S)
        assert (late.answer, late.abstained) == ("", "deadline") and "0.60 s" in late.detail


def test_reset_while_an_answer_is_made_never_gives_it(student: Gated) -> None:
    clock = Clock()
    with StudentStream(student, **ASKED, clock=clock) as stream:
        stream.observe(picture(0))
        stream.answer(deadline_s=LONG_S)
        hold(student)
        clock.now_s += 0.1
        stream.observe(picture(1))
        assert student.entered.wait(LONG_S)
        stream.reset()
        student.gate.set()
        assert stream.answer().abstained == "stale"
        clock.now_s += 0.1
        stream.observe(picture(2))
        answered = stream.answer(deadline_s=LONG_S)
        assert answered.frame_times_s == (clock.now_s,) and stream.counts.dropped == 1


def test_reset_ends_the_wait_of_another_thread(student: Gated) -> None:
    with StudentStream(student, **ASKED, clock=Clock()) as stream:
        hold(student)
        stream.observe(picture(0))
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(stream.answer(deadline_s=LONG_S)))
        waiting.start()
        stream.reset()
        waiting.join(LONG_S)
        student.gate.set()
        assert [one.abstained for one in answers] == ["stale"]


def test_the_next_answer_is_about_the_newest_frame(student: Gated) -> None:
    clock = Clock()
    with StudentStream(student, **ASKED, clock=clock) as stream:
        hold(student)
        for number in range(5):
            clock.now_s += 0.1
            stream.observe(picture(number))
            assert student.entered.wait(LONG_S)
        student.gate.set()
        assert stream.answer(deadline_s=LONG_S).frame_times_s[-1] == clock.now_s
        assert stream.counts.answers == 2


@pytest.mark.parametrize("window_s", [None, 5.0])
def test_prompts_that_grow_get_the_probabilities_of_fresh_ones(student: Gated, window_s: float | None) -> None:
    ring = FrameRing(RULE, window_s=window_s, near_duplicate=1.0)
    reader = StreamReader(student, **ASKED, kind="", mode=None, max_features=2 * ring.capacity)
    for number in range(40):
        ring.offer(picture(number), 100 + 0.4 * number, now_s=200.0)
        shown = ring.shown()
        assert shown is not None and len(shown.frames) <= RULE.num_frames
        answered = reader.answer(shown)
        if number in (0, 1, 5, 8, 9, 20, 39):
            assert answered.choice_probs == pytest.approx(fresh_probs(student.student, shown), abs=1e-4)
    assert reader.appends and reader.counts.frames_seen == 40 and 0 < reader.counts.restarts < 20


def fresh_probs(model: Any, shown: PickedFrames) -> tuple[float, ...]:
    """The probabilities of a prompt over the same frames that is read from its start."""
    frames = prefix_frames(model, np.stack([one.pixels_HWC for one in shown.frames]), range(len(shown.frames)))
    times_s = [one.time_s - shown.start_s for one in shown.frames]
    question = Question(
        id="q", dataset="", split="", kind="", text=ASKED["question"], choices=STEPS, answer=STEPS[0],
        answer_type="choice", group="",
    )  # fmt: skip
    ids = model.renderer.encode(question, times_s, "direct", frame_size_hw=(48, 64)).prompt_ids
    whole = {key: torch.cat([one.pixels[key] for one in frames], dim=1) for key in frames[0].pixels}
    return score(model, [Prompt(ids, whole)], [[model.renderer.completion_ids(one) for one in STEPS]])[0]


@pytest.mark.parametrize("window_s", [None, 20.0])
def test_an_episode_shows_every_stored_frame_while_they_are_few_as_training_does(window_s: float | None) -> None:
    ring = FrameRing(RULE, window_s=window_s, near_duplicate=1.0)
    for number in range(RULE.num_frames):
        ring.offer(picture(number), 50 + number / RULE.stored_fps, now_s=90.0)
        shown = ring.shown()
        assert shown is not None
        end_s = number / RULE.stored_fps
        chosen = uniform_times(0.0, end_s, RULE.num_frames) if number else [0.0]
        stored_s = [one / RULE.stored_fps for one in range(number + 1)]
        rule_s = [stored_s[i] for i in nearest_indices(stored_s, chosen)]
        assert [one.time_s - shown.start_s for one in shown.frames] == pytest.approx(rule_s)


@pytest.mark.parametrize("window_s", [None, 20.0])
def test_a_long_episode_is_shown_evenly_up_to_the_newest_frame(window_s: float | None) -> None:
    ring = FrameRing(RULE, window_s=window_s, near_duplicate=1.0)
    kept: tuple[int, ...] = ()
    repicked = 0
    for number in range(6000):
        time_s = number / 10
        ring.offer(picture(number, size_hw=(12, 16)), time_s, now_s=1e6)
        shown = ring.shown()
        assert shown is not None and shown.frames[-1].time_s == time_s
        now = tuple(one.number for one in shown.frames[: shown.keep])
        repicked += now[: len(kept)] != kept
        kept = now
        if number > 50:
            gaps_s = np.diff([shown.start_s, *(one.time_s for one in shown.frames)])
            assert 6 <= len(shown.frames) <= RULE.num_frames and ring.num_held <= 5 * RULE.num_frames + 4
            assert gaps_s[1:].min() > 0 and gaps_s.max() < 0.3 * (time_s - shown.start_s)
            if window_s is not None and time_s > window_s:
                assert 0.74 * window_s <= time_s - shown.start_s <= window_s
    assert repicked < (200 if window_s else 30)


@pytest.mark.parametrize(
    ("frame", "time_s", "reason"),
    [
        (picture(1).astype(np.float32), 100.0, "wrong_dtype"),
        (np.full((48, 64, 3), np.nan), 100.0, "wrong_dtype"),
        (picture(1)[..., 0], 100.0, "wrong_shape"),
        (picture(1).transpose(2, 0, 1), 100.0, "wrong_shape"),
        (picture(1, size_hw=(24, 32)), 100.0, "wrong_shape"),
        (np.empty((0, 64, 3), np.uint8), 100.0, "wrong_shape"),
        ([[1, 2, 3]], 100.0, "not_an_array"),
        (None, 100.0, "not_an_array"),
        (picture(1), float("nan"), "bad_time"),
        (picture(1), "soon", "bad_time"),
        (picture(1), 99.0, "out_of_order"),
        (picture(1), 98.0, "out_of_order"),
        (picture(1), 101.0, "future"),
    ],
)
def test_a_frame_that_cannot_be_used_is_refused_and_counted(
    student: Gated, frame: Any, time_s: Any, reason: str
) -> None:
    with StudentStream(student, **ASKED, clock=Clock()) as stream:
        stream.observe(picture(0), 99.0)
        assert stream.observe(frame, time_s) == reason
        assert stream.counts.frames == {"taken": 1, reason: 1}
        assert stream.observe(picture(2), 99.5) == "taken"


def test_a_stream_of_refused_frames_says_why_it_is_stale(student: Gated) -> None:
    clock = Clock()
    with StudentStream(student, **ASKED, clock=clock) as stream:
        stream.observe(picture(0).astype(np.float64))
        assert stream.answer().abstained == "stale" and "wrong_dtype" in stream.answer().detail


def test_frames_are_copied_so_that_a_driver_may_use_its_memory_again(student: Gated) -> None:
    with StudentStream(student, **ASKED, clock=Clock()) as stream:
        buffer = picture(0)
        hold(student)
        stream.observe(buffer, 99.0)
        buffer[:] = 0
        assert stream.observe(picture(0), 99.1) == "identical"
        student.gate.set()


def test_an_unsure_answer_is_withheld_and_its_probabilities_are_told(student: Gated) -> None:
    with StudentStream(student, **ASKED, min_confidence=1.1, clock=Clock()) as stream:
        stream.observe(picture(0))
        unsure = stream.answer(deadline_s=LONG_S)
    assert (unsure.answer, unsure.abstained) == ("", "uncertain")
    assert unsure.confidence == max(unsure.choice_probs) and "1.1 is needed" in unsure.detail


def calibrated(*rows: tuple[str, float, float | None], mode: str = "decide") -> ServedCalibration:
    """A calibration with a threshold for each row of loss, target and threshold."""
    thresholds = tuple(
        CascadeThreshold(
            mode=mode, loss=loss, target=target, confidence=0.95, threshold=value, n=100, kept=90, errors=0, upper=0.03,
            base_risk=0.1, must_escalate=0.05,
        )
        for loss, target, value in rows
    )  # fmt: skip
    return ServedCalibration(
        temperatures=(), source="s", questions_digest="0", n=100, ece_before=0, ece_after=0, brier_before=0,
        brier_after=0, thresholds=thresholds,
    )  # fmt: skip


ROWS = (("wrong", 0.01, None), ("disagrees", 0.01, 0.5), ("wrong", 0.1, 0.7), ("wrong", 0.05, 0.9999))


def test_what_was_calibrated_is_how_sure_an_answer_must_be_if_nothing_else_is_said(whole: ServedStudent) -> None:
    student = Gated(whole, calibration=calibrated(*ROWS))
    with StudentStream(student, **ASKED, clock=Clock()) as stream:
        assert stream.min_confidence == 0.9999
        stream.observe(picture(0))
        unsure = stream.answer(deadline_s=LONG_S)
        assert unsure.abstained == "uncertain" and "0.9999 is needed" in unsure.detail
    for given in (None, 0.25):
        with StudentStream(student, **ASKED, min_confidence=given, clock=Clock()) as stream:
            assert stream.min_confidence == given


def test_where_nothing_was_calibrated_for_decisions_every_answer_is_given(whole: ServedStudent) -> None:
    for calibration in (None, calibrated(("wrong", 0.05, None)), calibrated(*ROWS, mode="direct")):
        with StudentStream(Gated(whole, calibration=calibration), **ASKED, clock=Clock()) as stream:
            assert stream.min_confidence is None
    written = Gated(whole, calibration=calibrated(*ROWS))
    with StudentStream(written, question=ASKED["question"], mode="direct", clock=Clock()) as stream:
        assert stream.min_confidence is None


@pytest.mark.parametrize("asked", [{"choices": ("wash rice", "fold towel")}, {"kind": "sum"}])
def test_what_the_contract_does_not_name_is_out_of_domain(whole: ServedStudent, asked: dict[str, Any]) -> None:
    student = Gated(whole, labels=STEPS)
    with StudentStream(student, **{**ASKED, **asked}, clock=Clock()) as stream:
        stream.observe(picture(0))
        answered = stream.answer(deadline_s=LONG_S)
        assert answered.abstained == "out_of_domain" and stream.counts.answers == 0


def test_a_time_that_the_tokenizer_cannot_write_is_out_of_domain(student: Gated) -> None:
    clock = Clock()
    with StudentStream(student, **ASKED, clock=clock) as stream:
        stream.observe(picture(0))
        clock.now_s += 30.0
        stream.observe(picture(1))
        answered = stream.answer(deadline_s=LONG_S)
        assert answered.abstained == "out_of_domain" and "window_s" in answered.detail


def test_an_answer_that_fails_is_told_and_the_stream_goes_on(student: Gated) -> None:
    clock = Clock()
    with StudentStream(student, **ASKED, clock=clock) as stream:
        student.failure = ValueError("the device is gone")
        stream.observe(picture(0))
        failed = stream.answer(deadline_s=LONG_S)
        assert failed.abstained == "failed" and "the device is gone" in failed.detail
        student.failure = None
        clock.now_s += 0.1
        stream.observe(picture(1))
        assert stream.answer(deadline_s=LONG_S).answer in STEPS and stream.counts.failed == 1


def test_a_thread_that_has_ended_is_told(student: Gated) -> None:
    with StudentStream(student, **ASKED, clock=Clock()) as stream:
        student.failure = SystemExit("enough")
        stream.observe(picture(0))
        answered = stream.answer(deadline_s=LONG_S)
        assert answered.abstained == "failed" and "open a new stream" in answered.detail


def test_two_threads_may_observe_while_a_third_one_asks(student: Gated) -> None:
    with StudentStream(student, **ASKED) as stream:
        outcomes: list[str] = []

        def film(first: int) -> None:
            outcomes.extend(stream.observe(picture(number)) for number in range(first, first + 200))

        threads = [threading.Thread(target=film, args=(first,)) for first in (0, 1000)]
        for one in threads:
            one.start()
        while any(one.is_alive() for one in threads):
            assert stream.answer().abstained in ("", "stale", "deadline")
            threads[0].join(0.01)
            threads[1].join(0.01)
        counts = stream.counts
    assert len(outcomes) == 400 == sum(counts.frames.values()) and set(outcomes) <= {"taken", "out_of_order"}


def test_ten_thousand_frames_leave_the_memory_bounded(student: Gated) -> None:
    clock = Clock()
    with StudentStream(student, **ASKED, clock=clock) as stream:
        hold(student)
        frames = [picture(number, size_hw=(24, 32)) for number in range(50)]
        for number in range(10_000):
            clock.now_s += 1 / 30
            stream.observe(frames[number % 50])
        assert stream.counts.frames == {"taken": 10_000}
        assert stream.counts.held_frames <= 5 * RULE.num_frames + 4
        student.gate.set()


def test_without_choices_an_answer_is_written_within_its_budget(student: Gated) -> None:
    with StudentStream(student, question="What is the next step?", mode="direct", clock=Clock()) as stream:
        for number in range(3):
            stream.observe(picture(number), 99.0 + 0.4 * number)
            answered = stream.answer(deadline_s=LONG_S)
            assert answered.abstained in ("", "cut_off", "unparsable") and answered.choice_probs == ()
            assert 0 < answered.usage.completion_tokens <= student.contract.max_answer_tokens
        assert answered.usage.cached_prompt_tokens > 0


def test_a_decision_is_there_before_any_token_is_written(student: Gated) -> None:
    with StudentStream(student, **ASKED, clock=Clock()) as stream:
        stream.observe(picture(0))
        answered = stream.answer(deadline_s=LONG_S)
    assert answered.answer and answered.usage.completion_tokens == 0 and answered.mode == "decide"


def test_warming_up_leaves_nothing_behind(student: Gated) -> None:
    with StudentStream(student, **ASKED, clock=Clock()) as stream:
        assert stream.warm_up() > 0
        assert stream.answer().abstained == "stale" and stream.counts.answers == 0
        stream.observe(picture(0))
        assert len(stream.answer(deadline_s=LONG_S).frame_times_s) == 1


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"question": "What is <image> here?"}, "<image>"),
        ({"mode": "adaptive"}, "adaptive"),
        ({"mode": "direct", "min_confidence": 0.5}, "min_confidence"),
        ({"stale_s": float("nan")}, "stale_s"),
        ({"window_s": -1.0}, "window_s"),
        ({"choices": (), "mode": "decide"}, "choices"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_the_first_frame(
    student: Gated, asked: dict[str, Any], words: str
) -> None:
    with pytest.raises(SourceError, match=words):
        StudentStream(student, **{**ASKED, **asked})


def test_a_student_without_eyes_has_no_stream(text_export: Path) -> None:
    with load_student(text_export) as student, pytest.raises(SourceError, match="sees"):
        StudentStream(student, question="What is 3 + 4?")


def test_a_closed_stream_says_so(student: Gated) -> None:
    stream = StudentStream(student, **ASKED)
    stream.close()
    for call in (stream.answer, stream.reset, lambda: stream.observe(picture(0))):
        with pytest.raises(RunError, match="closed"):
            call()
    stream.close()


def test_a_student_that_was_closed_under_its_stream_is_told(whole: ServedStudent) -> None:
    student = Gated(whole)
    with StudentStream(student, **ASKED, clock=Clock()) as stream:
        student.close()
        stream.observe(picture(0))
        answered = stream.answer(deadline_s=LONG_S)
        assert answered.abstained == "failed" and "closed" in answered.detail
