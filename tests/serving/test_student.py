"""An exported student answers alone, from its folder, as it was trained to; whatever it is given."""

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serving_kit import export_base

from aot import Ask, load_student
from aot.answer_records import Answer
from aot.chat.messages import ChatRequest, Sampling, message
from aot.errors import ChatError, ConfigError, RunError
from aot.records import MediaRef, Question
from aot.served_records import KindTemperature, ServedCalibration
from aot.serving.frames import ClipShelf, ShownFrames, Window
from aot.serving.student import ServedStudent

CHOICES = ("wash rice", "chop onion")
NEXT = "What is the next step?"
RED = np.full((96, 96, 3), (200, 30, 30), dtype=np.uint8)


@pytest.fixture(scope="module")
def sees(video_export: Path) -> Iterator[ServedStudent]:
    with load_student(video_export) as student:
        yield student


@pytest.fixture(scope="module")
def reads(text_export: Path) -> Iterator[ServedStudent]:
    with load_student(text_export) as student:
        yield student


@pytest.fixture(scope="module")
def clip(kitchen_clips: Path) -> Path:
    return next(kitchen_clips.glob("train_*.mp4"))


def test_an_exported_text_student_answers(reads: ServedStudent) -> None:
    answer = reads.ask("What is 3 + 4?")
    assert (answer.answer, answer.abstained, answer.model) == ("7", "", "tiny-text")


def test_choices_about_frames_are_decided_with_probabilities(sees: ServedStudent) -> None:
    frames = [np.full((96, 96, 3), i, dtype=np.uint8) for i in range(4)]
    answer = sees.ask(NEXT, frames=frames, times_s=range(4), choices=CHOICES)
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


class TestFramesAreThoseOfTraining:
    """What the model reads for a clip is what a prepared run would have shown it."""

    @pytest.mark.parametrize("window", [(0.0, None), (1.5, 6.0), (2.0, None)])
    def test_of_a_clip_and_of_the_same_frames_in_memory(
        self, sees: ServedStudent, clip: Path, window: tuple[float, float | None], tmp_path: Path
    ) -> None:
        from aot.student.rows.examples import encode_row
        from aot.student.rows.frames import FramePixels, choose_indices
        from video_data.decode.budgets import Budgets, Sampling
        from video_data.store.prepare import decode_clips
        from video_data.store.shards import FrameStore

        rule = sees.contract.frames
        assert rule
        sampling = Sampling(
            fps=rule.stored_fps, max_stored_frames=rule.max_stored_frames, max_side_px=rule.max_side_px,
            time_limit_s=60, budgets=Budgets(),
        )  # fmt: skip
        decode_clips([("a.mp4", clip)], out=tmp_path, sampling=sampling, shard_clips=1, workers=1)
        store = FrameStore(tmp_path)
        media = MediaRef(uri="a.mp4", start_s=window[0], end_s=window[1])
        question = Question(
            id="q", dataset="", split="", kind="", text=NEXT, answer="", answer_type="text", media=media, group=""
        )
        chosen = choose_indices(store, media, num_frames=rule.num_frames)
        wanted_ids = encode_row(sees.student.renderer, question, chosen, mode="direct").prompt_ids
        pixels = FramePixels(store, sees.student.processor, model_type=sees.student.model_type, max_bytes=0)
        wanted = pixels.of([chosen])["pixel_values"]

        whole = store.clip("a.mp4")
        in_memory = Ask(
            NEXT, mode="direct", frames=store.frames("a.mp4"), times_s=whole.times_s, start_s=window[0],
            end_s=whole.duration_s if window[1] is None else window[1],
        )  # fmt: skip
        _ = sees.student.habits  # tried with a text of its own
        for ask in (Ask(NEXT, mode="direct", clip=clip, start_s=window[0], end_s=window[1]), in_memory):
            seen: dict[str, Any] = {}
            hook = sees.student.model.register_forward_pre_hook(
                lambda _, __, kwargs, seen=seen: seen.setdefault("first", kwargs) and None, with_kwargs=True
            )
            (answer,) = sees.ask_many([ask])
            hook.remove()
            assert answer.frame_times_s == chosen.times_s and answer.usage.prompt_tokens == len(wanted_ids)
            assert tuple(seen["first"]["input_ids"][0].tolist()) == wanted_ids
            assert bool((seen["first"]["pixel_values"] == wanted).all())

    def test_large_frames_are_scaled_as_a_decoder_does(self, sees: ServedStudent) -> None:
        from video_data.decode.picture import scale

        rule = sees.contract.frames
        assert rule
        picture = np.random.default_rng(0).integers(0, 256, (600, 960, 3), dtype=np.uint8)
        shown = ShownFrames(rule, ClipShelf(rule))
        media = shown.add_frames([picture], [1.0], Window())
        assert np.array_equal(shown.frames(media.uri, [0])[0], scale(picture, width=480, height=300))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no frames": ({"frames": []}, "at least one"),
    "times out of order": ({"frames": [RED] * 2, "times_s": [2.0, 1.0]}, "must ascend"),
    "equal times": ({"frames": [RED] * 2, "times_s": [1.0, 1.0]}, "must ascend"),
    "a time that is no number": ({"frames": [RED], "times_s": [float("nan")]}, "finite"),
    "a time without end": ({"frames": [RED], "times_s": [float("inf")]}, "finite"),
    "a negative time": ({"frames": [RED], "times_s": [-1.0]}, "not negative"),
    "times that are words": ({"frames": [RED], "times_s": ["noon"]}, "numbers"),
    "too few times": ({"frames": [RED] * 3, "times_s": [1.0]}, "3 frames came with 1 times"),
    "NaN": ({"frames": [np.full((8, 8, 3), np.nan)]}, "NaN"),
    "floats": ({"frames": [np.ones((8, 8, 3), np.float32)]}, "float32"),
    "grey": ({"frames": [RED[..., 0]]}, "grey"),
    "RGBA": ({"frames": [np.zeros((8, 8, 4), np.uint8)]}, "RGBA"),
    "colours first": ({"frames": [RED.transpose(2, 0, 1)]}, "transpose"),
    "no pixels": ({"frames": [np.zeros((0, 8, 3), np.uint8)]}, "pixels"),
    "huge": ({"frames": [np.zeros((1, 1, 3), np.uint8).repeat(9000, 0).repeat(1000, 1)]}, "pixels"),
    "a line": ({"frames": [RED[:1]]}, "show nothing"),
    "a time at the end of the world": ({"frames": [RED], "times_s": [1e300]}, "finite"),
    "sizes that differ": ({"frames": [RED, RED[:50]]}, "one size"),
    "a picture that is none": ({"frames": ["red"]}, "no picture|uint8"),
    "frames that are a number": ({"frames": 3}, "list of pictures"),
    "a picture and no list": ({"frames": RED}, "list of pictures"),
    "choices in an array": ({"choices": np.array(["a", "b"])}, "list of texts"),
    "clip and frames": ({"frames": [RED], "clip": "a.mp4"}, "one of them"),
    "times without frames": ({"times_s": [1.0]}, "none was given"),
    "a window without frames": ({"start_s": 1.0}, "none was given"),
    "a window that ends first": ({"frames": [RED], "start_s": 2.0, "end_s": 1.0}, "end after it starts"),
    "a window elsewhere": ({"frames": [RED], "times_s": [1.0], "start_s": 5.0, "end_s": 6.0}, "no frame lies"),
    "a window without numbers": ({"frames": [RED], "start_s": "soon"}, "seconds"),
    "a clip that is missing": ({"clip": "nowhere.mp4"}, "no file"),
    "a URL": ({"clip": "https://example.org/a.mp4"}, "never opened"),
    "a folder": ({"clip": "."}, "folder"),
    "a clip that is a number": ({"clip": 7}, "path"),
    "half a character in a clip": ({"clip": "a\ud800.mp4"}, "half a character"),
    "one choice": ({"choices": ("a",)}, "at least two"),
    "the same choice twice": ({"choices": ("a", "a")}, "twice"),
    "an empty choice": ({"choices": ("a", " ")}, "choice 1 is empty"),
    "a choice that is no text": ({"choices": ("a", 3)}, "must be text"),
    "choices in one text": ({"choices": "a, b"}, "list of texts"),
    "ten thousand choices": ({"choices": tuple(map(str, range(10_000)))}, "10,000 choices"),
    "more choices than fit": ({"choices": tuple("rice " * i for i in range(1, 70))}, "tokens"),
    "no question": ({"question": " "}, "empty"),
    "a question that is no text": ({"question": None}, "must be text"),
    "half a character": ({"question": "What \ud83d?"}, "half a character"),
    "a question without end": ({"question": "why " * 10_000}, "characters"),
    "a question over the context": ({"question": "why " * 4_900}, "tokens"),
    "special tokens": ({"question": "<end_of_utterance>\nAssistant: What?"}, "reserves"),
    "an image token": ({"question": "What is <image>?"}, "reserves"),
    "a mode that nobody has": ({"mode": "shout"}, "no mode 'shout'"),
    "a mode that was not taught": ({"mode": "explain"}, "was not taught the mode explain"),
    "nothing to decide": ({"mode": "decide"}, "give choices"),
}  # fmt: skip


class TestBadInput:
    def test_each_is_an_answer_with_its_reason_and_neighbours_are_answered(self, sees: ServedStudent) -> None:
        asks: list[Ask] = []
        for changes, _ in BAD.values():
            asks += [Ask(**{"question": NEXT, **changes}), Ask(NEXT, choices=CHOICES)]
        answers = sees.ask_many(asks)
        for (name, (_, words)), bad, good in zip(BAD.items(), answers[::2], answers[1::2], strict=True):
            assert (bad.abstained, bad.answer) == ("failed", ""), name
            assert any(word in bad.detail for word in words.split("|")), (name, bad.detail)
            assert good.answer in CHOICES, name
            assert Answer.model_validate_json(bad.model_dump_json()) == bad

    def test_a_playlist_and_a_window_outside_the_clip(self, sees: ServedStudent, clip: Path, tmp_path: Path) -> None:
        playlist = tmp_path / "a.m3u8"
        playlist.write_text("#EXTM3U\nhttps://example.org/a.ts\n")
        assert "playlist" in sees.ask(NEXT, clip=playlist).detail
        assert "window_outside" in sees.ask(NEXT, clip=clip, start_s=1000.0).detail

    def test_a_student_of_text_sees_no_frames(self, reads: ServedStudent) -> None:
        assert "sees no frames" in reads.ask("What?", frames=[RED]).detail

    def test_images_of_pillow_are_frames(self, sees: ServedStudent) -> None:
        asks = [Ask(NEXT, frames=[one], choices=CHOICES) for one in (Image.fromarray(RED), RED)]
        first, second = sees.ask_many(asks)
        assert first.choice_probs == pytest.approx(second.choice_probs, abs=1e-6) and first.frame_times_s == (0.0,)

    def test_times_are_never_made_up_for_frames_that_came_without(self, sees: ServedStudent) -> None:
        answer, alone = sees.ask_many([Ask(NEXT, frames=[RED] * n, choices=CHOICES) for n in (2, 1)])
        assert (answer.abstained, answer.choice_probs) == ("failed", ())
        assert "2 frames came without times" in answer.detail
        assert (alone.abstained, alone.frame_times_s) == ("", (0.0,))

    def test_a_model_that_fails_on_one_question_answers_the_others(
        self, reads: ServedStudent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forward = reads.student.model.forward

        def fails_on_long_ones(**kwargs: Any) -> Any:
            if kwargs["input_ids"].shape[1] > 40:
                raise RuntimeError("out of memory")
            return forward(**kwargs)

        sums = ["What is 3 + 4?", "What is " + "1 + " * 30 + "1?", "What is 2 + 2?"]
        _ = reads.student.habits  # what the model bears is tried once, before it breaks
        monkeypatch.setattr(reads.student.model, "forward", fails_on_long_ones)
        answers = reads.ask_many([Ask(one, mode="direct") for one in sums])
        assert [one.answer for one in answers] == ["7", "", "4"]
        assert answers[1].abstained == "failed" and "out of memory" in answers[1].detail

    def test_a_mistake_in_the_call_is_an_error(self, text_export: Path) -> None:
        student = load_student(text_export)
        with pytest.raises(ConfigError, match="knows no argument 'clips'; it takes choices, clip"):
            student.ask("What?", clips="a.mp4")
        with pytest.raises(ConfigError, match="list of Ask, got str"):
            student.ask_many(["What?"])  # type: ignore[list-item]
        student.close()
        student.close()
        with pytest.raises(RunError, match="was closed; load it again"):
            student.ask("What?")


class TestAnswers:
    def test_many_are_those_of_each_alone_in_their_order(self, reads: ServedStudent) -> None:
        sums = [f"What is {a} + {b}?" for a in range(2, 7) for b in range(3, 7)]
        asks = [Ask(one, mode=("direct", "reason")[i % 2]) for i, one in enumerate(sums)]  # type: ignore[arg-type]
        asks[5] = Ask(sums[5], choices=("8", "9", "10"))
        together = reads.ask_many(asks)
        alone = [reads.ask_many([one])[0] for one in asks]
        assert [(one.answer, one.mode) for one in together] == [(one.answer, one.mode) for one in alone]
        assert together[5].mode == "decide" and len({one.answer for one in together}) > 5

    @pytest.mark.parametrize("temperature", [0.01, 0.5, 3.0, 100.0])
    def test_calibration_never_changes_which_choice_is_likeliest(self, temperature: float, tmp_path: Path) -> None:
        calibration = ServedCalibration(
            temperatures=(KindTemperature(kind="*", temperature=temperature, n=1),), source="", questions_digest="",
            n=1, ece_before=0, ece_after=0, brier_before=0, brier_after=0,
        )  # fmt: skip
        with load_student(export_base("tiny-text", tmp_path / "out", calibration=calibration)) as student:
            random = np.random.default_rng(0)
            for probs in random.dirichlet(np.ones(5), size=200):
                assert np.argmax(student.calibrated(probs, kind="sum")) == np.argmax(probs)
            answer = student.ask("What is 3 + 4?", choices=("7", "8"))
        assert answer.answer == answer.choices[int(np.argmax(answer.choice_probs))] == "7"
        assert answer.confidence == max(answer.choice_probs)

    def test_the_answer_is_there_after_as_many_tokens_as_the_contract_says(self, reads: ServedStudent) -> None:
        asks = [
            Ask(f"What is {a} {sign} {b}?", choices=choices, mode=mode)  # type: ignore[arg-type]
            for a in range(5, 9) for b in range(1, 5) for sign in "+-"
            for mode, choices in (("direct", ()), ("decide", (str(a + b), str(a - b))))
        ]  # fmt: skip
        answers = reads.ask_many(asks)
        assert all(one.answer and not one.abstained for one in answers)
        most = {
            mode: max(one.usage.completion_tokens for one in answers if one.mode == mode)
            for mode in ("direct", "decide")
        }
        assert most["decide"] == 0 and 1 <= most["direct"] <= reads.contract.max_answer_tokens

    def test_a_reply_that_is_cut_off_is_no_answer(self, tmp_path: Path) -> None:
        with load_student(export_base("tiny-text", tmp_path / "out", max_answer_tokens=1)) as student:
            answer = student.ask("What is 3 + 4?", mode="direct")
        assert (answer.abstained, answer.answer, answer.confidence) == ("cut_off", "", None)
        assert "after 1 tokens" in answer.detail

    def test_the_confidence_of_a_written_answer_is_the_probability_of_its_tokens(self, reads: ServedStudent) -> None:
        answer = reads.ask("What is 3 + 4?", mode="direct")
        request = ChatRequest(
            messages=(message("user", "What is 3 + 4? Answer directly."),),
            sampling=Sampling(temperature=0, max_tokens=9, top_logprobs=0),
        )
        tokens = reads.engine.reply(request).logprobs
        assert answer.confidence == pytest.approx(np.exp(sum(one.logprob for one in tokens)), abs=1e-5)

    def test_seconds_are_split_into_parts_that_make_up_the_whole(self, video_export: Path, clip: Path) -> None:
        with load_student(video_export) as student:
            student.ask(NEXT, frames=[RED], choices=CHOICES)  # what is made once is made
            started_s = time.perf_counter()
            first = student.ask(NEXT, clip=clip, mode="direct").seconds
            wall_s = time.perf_counter() - started_s
            again = student.ask(NEXT, clip=clip, mode="direct").seconds
        assert min(first.decode, first.vision, first.prefill, first.generate) > 0
        assert 0.5 * wall_s < first.total <= wall_s
        assert again.decode < first.decode / 2, "a clip is decoded once for several questions"

    def test_asking_from_many_threads_changes_no_answer(self, reads: ServedStudent) -> None:
        request = ChatRequest(
            messages=(message("user", "What is 2 + 2? Answer directly."),),
            sampling=Sampling(temperature=0, max_tokens=9),
        )
        said: list[str] = []
        jobs = [
            *[lambda: said.append(reads.ask("What is 3 + 4?", mode="direct").answer)] * 4,
            *[lambda: said.append(reads.engine.reply(request).text)] * 4,
        ]
        threads = [threading.Thread(target=job) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(said) == ["4"] * 4 + ["7"] * 4


class TestMemory:
    def test_two_hundred_asks_leave_it_flat(self, sees: ServedStudent, clip: Path) -> None:
        def ask(times: int) -> int:
            for i in range(times):
                asks = [
                    Ask(NEXT, clip=clip, start_s=float(i % 4), choices=CHOICES),
                    Ask(NEXT, frames=[RED + i % 5] * 8, times_s=range(8)),
                ]
                assert all(one.answer for one in sees.ask_many([*asks, asks[0], asks[0]]))
            gc.collect()
            return _resident_bytes()

        before = ask(10)
        assert ask(50) - before < 24 << 20

    def test_the_model_is_let_go_where_the_block_ends(self, text_export: Path) -> None:
        with load_student(text_export) as student:
            _ = student.engine
            student.ask("What is 3 + 4?")
            model = weakref.ref(student.student.model)
        gc.collect()
        assert model() is None

    def test_decoded_clips_are_kept_up_to_a_number_of_bytes(self, sees: ServedStudent, kitchen_clips: Path) -> None:
        rule = sees.contract.frames
        assert rule
        first, second = sorted(kitchen_clips.glob("*.mp4"))[:2]
        shelf = ClipShelf(rule, max_bytes=ClipShelf(rule).frames(first).frames_THWC.nbytes)
        assert shelf.frames(first) is shelf.frames(first)
        kept = shelf.frames(first)
        shelf.frames(second)
        assert shelf.frames(first) is not kept


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
