"""Decisions are those of fresh prompts, cost little where the state was seen, and refuse what cannot be decided."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from serving_kit import python_blocks, run_block

from aot import load_student
from aot.errors import RunError, SourceError, VideoError
from aot.records import Question
from aot.served_records import KindTemperature, ServedCalibration
from aot.serving.decisions.decider import Decider, State
from aot.serving.decisions.questions import TypedQuestion, choice, score, yes_no
from aot.serving.domain import MOST_CHOICES
from aot.serving.server.app import build_app
from aot.serving.server.limits import Limits
from aot.serving.server.served import serve_export
from aot.serving.stream.loop import StudentStream
from aot.serving.student import Ask, ServedStudent
from aot.student.answer.decoding import Prompt
from aot.student.answer.likelihood import Branch, log_sums, score_tree

STEPS = ("wash rice", "chop onion", "boil egg", "fry fish")
NEXT = choice("What is the next step?", STEPS)
ONION = yes_no("Is there any onion in the clip?")
OFTEN = score("How often does chop happen?", high=5)


@pytest.fixture(scope="module")
def video(video_export: Path) -> Iterator[ServedStudent]:
    with load_student(video_export) as student:
        yield student


@pytest.fixture(scope="module")
def text(text_export: Path) -> Iterator[ServedStudent]:
    with load_student(text_export) as student:
        yield student


@pytest.fixture(scope="module")
def video_client(video_export: Path) -> Iterator[TestClient]:
    served = serve_export(video_export, limits=Limits())
    with TestClient(build_app(served), raise_server_exceptions=False) as client:
        yield client
    served.close()


def frames(seed: int = 0, count: int = 6) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 255, (count, 96, 96, 3), dtype=np.uint8))


def seen(seed: int = 0, text: str = "") -> State:
    return State(text, frames=frames(seed), times_s=[0.5 * i for i in range(6)])


def fresh(student: ServedStudent, state: State, question: TypedQuestion) -> np.ndarray:
    """What the student says when it reads the whole prompt alone."""
    words = " ".join(one for one in (state.text, question.text) if one)
    frames = state.frames if isinstance(state.frames, list) else None
    (answer,) = student.ask_many(
        [Ask(words, choices=question.choices, frames=frames, times_s=state.times_s, mode="decide")]
    )
    assert not answer.abstained, answer.detail
    return np.array(answer.choice_probs)


def test_questions_about_one_state_are_decided_as_each_of_them_alone(video: ServedStudent) -> None:
    decider = Decider(video)
    for questions in ([NEXT, ONION, OFTEN], [ONION], [choice("Which is right?", STEPS[:2]), NEXT]):
        for state in (seen(1), seen(2), seen(1)):
            for question, answer in zip(questions, decider.decide(state, questions), strict=True):
                assert np.abs(np.array(answer.choice_probs) - fresh(video, state, question)).max() < 1e-4
                assert answer.answer == question.choices[int(np.argmax(answer.choice_probs))]
    assert decider._bears == {True: True}


def test_a_text_that_was_read_is_decided_about_as_a_fresh_one(text: ServedStudent) -> None:
    decider = Decider(text)
    about = State("Ann has 12 apples. Bob gives Ann 7 more apples.")
    for _ in range(3):
        for question in (
            choice("How many apples has Ann?", ("19", "5", "12")),
            choice("Who has more apples?", ("Ann", "Bob")),
        ):
            (answer,) = decider.decide(about, [question])
            assert np.abs(np.array(answer.choice_probs) - fresh(text, about, question)).max() < 1e-4
    assert answer.usage.cached_prompt_tokens > 10


def test_frames_already_seen_are_neither_decoded_nor_read_again(video: ServedStudent) -> None:
    decider, decoded = Decider(video), []

    def decode() -> list[np.ndarray]:
        decoded.append(1)
        return frames(3)

    about = State(frames=decode, times_s=[0.5 * i for i in range(6)], content="clip 3")
    (first,), (second,) = decider.decide(about, [NEXT]), decider.decide(about, [ONION])
    assert len(decoded) == 1 and second.seconds.decode == second.seconds.vision == 0
    assert (first.usage.cached_prompt_tokens, second.usage.cached_prompt_tokens > 40) == (0, True)
    assert second.frame_times_s == first.frame_times_s == (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)


def test_other_frames_times_or_words_are_another_state(video: ServedStudent) -> None:
    decider = Decider(video)
    one = seen(1)
    states = [one, seen(2), dataclasses.replace(one, times_s=[1.0 + 0.5 * i for i in range(6)]), seen(1, "wash rice .")]
    for state in states:
        (answer,) = decider.decide(state, [NEXT])
        assert answer.usage.cached_prompt_tokens == 0
        assert np.abs(np.array(answer.choice_probs) - fresh(video, state, NEXT)).max() < 1e-4
    assert len(decider._seen) == 4


def test_what_was_seen_longest_ago_is_forgotten_first(video: ServedStudent) -> None:
    decider = Decider(video)
    decider.decide(seen(1), [NEXT])
    size = next(iter(decider._seen.values())).num_bytes
    decider._max_bytes = int(2.5 * size)
    for seed in (2, 1, 3):
        decider.decide(seen(seed), [NEXT])
    assert sum(one.num_bytes for one in decider._seen.values()) <= decider._max_bytes
    cached = [decider.decide(seen(seed), [NEXT])[0].usage.cached_prompt_tokens for seed in (1, 2)]
    assert cached[0] > 0 and cached[1] == 0


def test_a_model_that_bears_no_tree_is_asked_with_whole_prompts(
    video: ServedStudent, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Decider(video).decide(seen(4), [NEXT, ONION])

    def wrong(reading: object, branches: list[Branch]) -> list[list[float]]:
        return [[float(i) for i in range(len(branch.choices))] for branch in branches]

    decider = Decider(video)
    with monkeypatch.context() as changed:
        changed.setattr("aot.student.answer.likelihood.score_tree", wrong)
        first = decider.decide(seen(4), [NEXT, ONION])
    assert decider._bears == {True: False}
    for answers in (first, decider.decide(seen(4), [NEXT, ONION])):
        for one, two in zip(answers, right, strict=True):
            assert one.choice_probs == pytest.approx(two.choice_probs, abs=1e-4)


@pytest.mark.parametrize(
    "choices",
    [
        [(20, 4), (21, 4), (22, 4)],
        [(*range(10, 90), 5, 4), (*range(10, 90), 6, 4), (*range(10, 90), 6, 7, 4)],
        [(20, 4), (20, 21, 4), (20, 21, 22, 4)],
        [(i % 200 + 10, i // 200 + 10, 4) for i in range(700)],
        [(20,), (21,)],
        [(20, 4)],
    ],
    ids=["one token each", "long common beginning", "each the beginning of the next", "700", "no end", "only one"],
)
def test_choices_in_a_tree_sum_up_as_in_rows(text: ServedStudent, choices: list[tuple[int, ...]]) -> None:
    from aot.student.answer.decoding import read_prompts

    prompt = text.student.renderer.encode(
        Question(
            id="q", dataset="", split="", kind="", text="What is 3 + 4?", answer="7", answer_type="text", group=""
        ),
        (),
        "direct",
        frame_size_hw=None,
    ).prompt_ids
    reading = read_prompts(text.student, [Prompt(prompt[:3])])
    branches = [Branch(prompt[3:], choices), Branch(prompt[3:5], choices[:1])]
    made, other = score_tree(reading, branches)
    (wanted,) = log_sums(text.student, [Prompt(prompt)], [choices])
    assert made == pytest.approx(wanted, abs=1e-3)
    assert other == pytest.approx(log_sums(text.student, [Prompt(prompt[:5])], [choices[:1]])[0], abs=1e-3)
    assert reading.mask.shape[1] == 3 and reading.cache.get_seq_length() == 3


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: choice("Which?", ()), "without choices"),
        (lambda: choice("Which?", ("a", "b", "a")), "'a' is given twice"),
        (lambda: choice("Which?", ("a", " ")), "the choice 1 is empty"),
        (
            lambda: choice("Which?", [str(i) for i in range(10_000)]),
            f"10,000 choices were given; at most {MOST_CHOICES:,}",
        ),
        (lambda: choice("Which?", ("a", "b"), descriptions=("one",)), "2 choices came with 1 descriptions"),
        (lambda: score("How?", low=3, high=3), "low must be under high"),
        (lambda: score("How?", high=float("nan")), "low must be under high"),
        (lambda: score("How?", high=1, step=0.3), "take another step"),
        (lambda: score("How?", high=1e9), "at most 101 can be scored"),
        (lambda: score("How?", levels=["x"] * 102), "at most 101"),
    ],
)
def test_a_question_that_cannot_be_decided_is_refused_with_what_would_be_fine(make: object, words: str) -> None:
    with pytest.raises(SourceError, match=words.replace("(", r"\(")):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (choice("What <end_of_utterance> is it?", STEPS), "which the model reserves"),
        (choice("What is it?", ("wash rice", "<image>")), "which the model reserves"),
        (choice(" ", STEPS), "without words"),
        (choice("What is the next step?" * 400, STEPS), "tokens"),
        (TypedQuestion("What is it?", ()), "without choices"),
    ],
)
def test_a_question_that_cannot_be_put_abstains_and_its_neighbours_are_answered(
    video: ServedStudent, question: TypedQuestion, words: str
) -> None:
    first, middle, last = Decider(video).decide(seen(5), [NEXT, question, ONION])
    assert middle.abstained == "failed" and words in middle.detail and not middle.answer
    assert first.answer in STEPS and last.answer in ("yes", "no")


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (("rice wash", "rice  wash"), "'rice  wash' and 'rice wash' are the same to this student"),
        (("wash rice", "entropy"), "'entropy' has words that this student does not know"),
        (("dance", "sing"), "'dance' has words that this student does not know"),
    ],
)
class TestChoicesThatCannotBeToldApart:
    """One rule and one sentence, however they are asked about."""

    def test_in_decisions(self, video: ServedStudent, choices: tuple[str, ...], words: str) -> None:
        first, middle, last = Decider(video).decide(seen(5), [NEXT, choice("What is it?", choices), ONION])
        assert (middle.abstained, middle.answer) == ("out_of_domain", "") and words in middle.detail
        assert first.answer in STEPS and last.answer in ("yes", "no")

    @pytest.mark.parametrize("mode", ["decide", "direct"])
    def test_in_python(self, video: ServedStudent, choices: tuple[str, ...], words: str, mode: Any) -> None:
        strange, fine = video.ask_many([Ask("What is it?", choices, mode=mode), Ask("What is it?", STEPS)])
        assert (strange.abstained, strange.answer) == ("out_of_domain", "") and words in strange.detail
        assert strange.choice_probs == () and fine.answer in STEPS

    def test_on_a_stream(self, video: ServedStudent, choices: tuple[str, ...], words: str) -> None:
        with StudentStream(video, question="What is it?", choices=choices) as stream:
            stream.observe(frames()[0])
            answer = stream.answer()
        assert answer.abstained == "out_of_domain" and words in answer.detail

    def test_as_the_format_of_a_reply(self, video_client: TestClient, choices: tuple[str, ...], words: str) -> None:
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": list(choices)}}}
        messages = [{"role": "user", "content": "What is it?"}]
        body = {"model": "tiny-video", "messages": messages, "response_format": form}
        row = video_client.post("/v1/chat/completions", json=body).json()
        assert row["aot"]["abstained"] == "out_of_domain" and words in row["aot"]["detail"]
        assert row["choices"][0]["message"]["content"] == "" and not row["aot"]["choices"]


def test_no_confidence_is_claimed_for_a_kind_that_the_contract_does_not_name(video: ServedStudent) -> None:
    cold = KindTemperature(kind="*", temperature=0.2, n=9)
    calibration = ServedCalibration(
        temperatures=(cold,), source="s", questions_digest="0", n=9, ece_before=0, ece_after=0, brier_before=0,
        brier_after=0,
    )  # fmt: skip
    warm = ServedStudent(video.student, video.contract.model_copy(update={"calibration": calibration}))
    plain, strange = (dataclasses.replace(NEXT, kind=kind) for kind in ("next_choice", "zzz"))
    for sure, unsure in (
        Decider(warm).decide(seen(6), [plain, strange]),
        warm.ask_many(
            [Ask(one.text, STEPS, kind=one.kind, frames=frames(), times_s=range(6)) for one in (plain, strange)]
        ),
    ):
        assert sure.confidence == max(sure.choice_probs) and "not calibrated" not in sure.detail
        assert unsure.answer == sure.answer and unsure.confidence is None and not unsure.abstained
        assert "trained on questions of kind next_choice, not 'zzz'" in unsure.detail
        assert max(unsure.choice_probs) < max(sure.choice_probs)  # the model's, without the temperature


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State(frames=[], times_s=[]), "frames is empty"),
        (State(frames=frames(), times_s=[0.0]), "1 times"),
        (State(frames=frames(), times_s=[2.0, 1.0, 3.0, 4.0, 5.0, 6.0]), "must ascend"),
        (State(frames=[np.full((96, 96, 3), np.nan)]), "NaN"),
        (State(clip="nowhere.mp4"), "nowhere.mp4"),
    ],
)
def test_a_state_that_cannot_be_shown_is_refused(video: ServedStudent, state: State, words: str) -> None:
    with pytest.raises((SourceError, VideoError), match=words):
        Decider(video).decide(state, [NEXT])


def test_frames_for_a_student_of_text_are_refused(text: ServedStudent) -> None:
    with pytest.raises(SourceError, match="sees no frames"):
        Decider(text).decide(seen(), [choice("What?", ("1", "2"))])


def test_scales_have_a_level_for_each_step_and_say_what_it_counts() -> None:
    assert score("How?", low=1, high=2, step=0.25).values == (1, 1.25, 1.5, 1.75, 2)
    assert score("How?", low=-2, high=2).choices == ("-2", "-1", "0", "1", "2")
    worded = score("How?", levels=("can wait", "today"))
    assert (worded.choices, worded.descriptions, worded.values) == (("0", "1"), ("can wait", "today"), (0, 1))


def test_probabilities_are_calibrated_by_kind_and_the_likeliest_stays(video: ServedStudent) -> None:
    fitted = ServedCalibration(
        temperatures=(KindTemperature(kind="next_choice", temperature=3.0, n=100),), source="test", n=100,
        questions_digest="0", ece_before=0.1, ece_after=0.0, brier_before=0.1, brier_after=0.1,
    )  # fmt: skip
    warm = ServedStudent(video.student, video.contract.model_copy(update={"calibration": fitted}))
    of_kind = dataclasses.replace(NEXT, kind="next_choice")
    plain, cooled = Decider(warm).decide(seen(6), [NEXT, of_kind])
    assert plain.answer == cooled.answer and max(cooled.choice_probs) < max(plain.choice_probs)
    assert sum(cooled.choice_probs) == pytest.approx(1, abs=1e-9)


def test_a_closed_student_decides_nothing(video_export: Path) -> None:
    student = load_student(video_export)
    decider = Decider(student)
    student.close()
    with pytest.raises(RunError, match="was closed"):
        decider.decide(State(), [NEXT])


def test_the_page_about_decisions_runs_as_written(
    video_export: Path, kitchen_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (block,) = python_blocks("decide.md")
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "kitchen").symlink_to(video_export, target_is_directory=True)
    (tmp_path / "clip.mp4").symlink_to(next(kitchen_clips.rglob("*.mp4")))
    monkeypatch.chdir(tmp_path)
    run_block(block)
    assert "wash rice" in capsys.readouterr().out
