"""Prediction: same prompt ids as in training, order kept, batches do not matter, likelihood equals a full pass."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from student_kit import LABELS, ask, asked, assert_prompts_of_training, make_question, make_run, run_config

from aot.chat.messages import ChatRequest, ImagePart, Sampling
from aot.errors import ChatError
from aot.evaluation.scoring import score
from aot.records import THOUGHT_MODES
from aot.student.answer.batches import prompt_items
from aot.student.answer.engine import Engine
from aot.student.answer.likelihood import _full_sums, _shared_sums
from aot.student.answer.predict import sample
from aot.student.answer.speaker import speaker_of
from aot.student.model.loading import load_student
from aot.student.rows.frames import FramePixels, choose_indices
from aot.student.rows.prompts import question_message
from aot.student.train.arm import train_arm
from video_data.store.shards import FrameStore

FAMILIES = ("idefics3", "llava")


@pytest.fixture(scope="module", params=FAMILIES)
def trained(request: pytest.FixtureRequest, bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A student that overfits ten questions, and its run."""
    config = run_config(bases[request.param], max_steps=80, save_steps=80, learning_rate=0.005, questions_per_step=10,
                        questions_per_device=10, lora={"rank": 16, "alpha": 32})  # fmt: skip
    run = make_run(tmp_path_factory.mktemp(request.param) / "run", config)
    train_arm(run, config, config.train.arms[1])
    return load_student(str(bases[request.param]), adapter=run.arm("distilled"), config=config.student), run, config


def test_predictions_come_in_question_order_and_parse(trained: Any) -> None:
    questions = asked(trained[1])
    direct, reason = ask(trained, "direct"), ask(trained, "reason")
    assert [p.question_id for p in direct] == [p.question_id for p in reason] == [q.id for q in questions]
    assert sum(p.answer == q.answer for p, q in zip(direct, questions, strict=True)) >= 6
    assert sum(p.raw_text.startswith("Identify") and p.answer in LABELS for p in reason) >= 5
    assert all(0 < p.completion_tokens <= 40 and p.prompt_tokens > 40 for p in reason)


def test_a_reply_about_frames_that_is_cut_has_no_answer(trained: Any) -> None:
    student, run, config = trained
    short = replace(student, config=student.config.model_copy(update={"max_answer_tokens": 1}))
    assert {(p.answer, p.finish_reason) for p in ask((short, run, config), "direct")} == {(None, "length")}
    whole = [p for p in ask(trained, "direct") if p.finish_reason == "stop"]
    assert len(whole) >= 6 and all(p.answer for p in whole)


def test_batches_do_not_change_answers(trained: Any) -> None:
    alone = [(p.question_id, p.raw_text) for p in ask(trained, "reason", batch_size=1)]
    assert [(p.question_id, p.raw_text) for p in ask(trained, "reason", batch_size=7)] == alone


def test_prompt_ids_given_to_the_model_are_those_of_training(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_prompts_of_training(trained, monkeypatch)


def test_likelihood_of_a_shared_prefix_equals_full_passes(trained: Any) -> None:
    student, run, _ = trained
    questions = [q for q in asked(run) if q.choices]
    store = FrameStore(run.frames)
    items = list(prompt_items(student, questions, store=store, mode="direct", with_frames=True))
    pixels = FramePixels(store, student.processor, model_type=student.model_type, max_bytes=0)
    choices = [[student.renderer.completion_ids(c) for c in q.choices] for q in questions]
    choices[0].append(student.renderer.completion_ids("wash rice then boil egg"))
    with torch.inference_mode():
        prompts = [item.prompt(student.renderer, pixels) for item in items]
        shared, full = (sums_of(student, prompts, choices) for sums_of in (_shared_sums, _full_sums))
    for a, b in zip(shared, full, strict=True):
        assert a == pytest.approx(b, abs=1e-3)


def test_likelihood_gives_a_probability_for_each_choice(trained: Any) -> None:
    questions = [q for q in asked(trained[1]) if q.choices]
    made = ask(trained, "likelihood")
    assert [p.question_id for p in made] == [q.id for q in questions]
    for prediction, question in zip(made, questions, strict=True):
        assert len(prediction.choice_probs) == len(question.choices)
        assert sum(prediction.choice_probs) == pytest.approx(1)
        assert prediction.answer == question.choices[prediction.choice_probs.index(max(prediction.choice_probs))]


def test_the_likeliest_of_options_that_only_letters_tell_apart_is_a_letter(trained: Any) -> None:
    question = next(q for q in asked(trained[1]) if q.choices)
    choices = (question.answer, question.answer.upper(), *question.choices[2:])
    by_letter = question.model_copy(update={"choices": choices, "answer": choices[1], "answer_index": 1})
    (made,) = ask(trained, "likelihood", questions=[by_letter])
    assert made.answer == "ABC"[made.choice_probs.index(max(made.choice_probs))]
    assert score(made, by_letter).correct == (made.answer == "B") and score(made, by_letter).state == "scored"


def test_question_that_cannot_be_asked_becomes_a_row_with_an_error(trained: Any) -> None:
    questions = [make_question(0, uri="gone.mp4"), *asked(trained[1])[:2]]
    made = ask(trained, "direct", questions=questions)
    assert "gone.mp4" in made[0].error
    assert made[0].answer is None
    assert not made[1].error and made[1].question_id == "q0"


def test_a_student_of_frames_explains_and_chooses_how_to_answer(trained: Any) -> None:
    assert all("\n" not in p.raw_text and not p.error for p in ask(trained, "explain"))
    _, run, config = trained
    knows = load_student("tiny-video", config=config.student)  # the words of first lines, which the others do not
    questions = asked(run)[:3]
    chosen = ask((knows, run, config), "adaptive", questions=questions)
    assert all(sum(p.thought_probs) == pytest.approx(1) and p.thought in THOUGHT_MODES for p in chosen)
    given = ask((knows, run, config), "adaptive", questions=questions, thought="short")
    assert all(p.thought == "short" and p.thought_probs == () for p in given)


def test_kept_tokens_are_those_of_the_reply_with_their_log_probabilities(trained: Any) -> None:
    student, run, _ = trained
    plain, kept = ask(trained, "reason"), ask(trained, "reason", with_tokens=True)
    assert [p.raw_text for p in plain] == [p.raw_text for p in kept] and not any(p.token_ids for p in plain)
    assert "token_ids" not in plain[0].model_dump_json()
    store = FrameStore(run.frames)
    pixels = FramePixels(store, student.processor, model_type=student.model_type, max_bytes=0)
    items = prompt_items(student, asked(run)[:3], store=store, mode="reason", with_frames=True)
    for item, made in zip(items, kept, strict=False):
        assert len(made.token_ids) == made.completion_tokens == len(made.token_logprobs)
        prompt = item.prompt(student.renderer, pixels)
        whole = torch.tensor([prompt.ids + made.token_ids])
        logits = student.model(input_ids=whole, attention_mask=torch.ones_like(whole), **prompt.shown).logits[0]
        wanted = logits.log_softmax(-1)[len(prompt.ids) - 1 : -1].gather(1, torch.tensor(made.token_ids)[:, None])
        assert made.token_logprobs == pytest.approx(wanted[:, 0].tolist(), abs=1e-3)


def test_drawn_replies_about_frames_are_the_same_for_the_same_seed(trained: Any) -> None:
    student, run, _ = trained
    pixels = FramePixels(FrameStore(run.frames), student.processor, model_type=student.model_type, max_bytes=1 << 20)

    def texts(seed: int) -> list[list[str]]:
        rows = sample(student, asked(run), pixels=pixels, mode="reason", samples=2, temperature=3.0, seed=seed,
                      batch_size=6)  # fmt: skip
        return [[p.raw_text for p in row] for row in rows]

    first = texts(1)
    assert texts(1) == first != texts(2)
    assert all(len(row) == 2 for row in first)


def as_image(frame_HWC: np.ndarray, time_s: float) -> ImagePart:
    data = io.BytesIO()
    Image.fromarray(frame_HWC).save(data, "PNG")
    return ImagePart(data=data.getvalue(), mime="image/png", time_s=time_s)


@pytest.mark.parametrize("mode", ["direct", "reason"])
def test_asked_as_a_chat_model_a_student_replies_as_it_predicts(trained: Any, mode: Any) -> None:
    student, run, _ = trained
    engine, store = Engine(speaker_of(student, name="student")), FrameStore(run.frames)
    config = student.config
    most = config.max_rationale_tokens if mode == "reason" else config.max_answer_tokens
    requests = []
    for question in asked(run):
        chosen = choose_indices(store, question.media, num_frames=config.num_frames)
        frames = store.frames(chosen.uri, list(chosen.indices))
        said = question_message(question, [as_image(*pair) for pair in zip(frames, chosen.times_s, strict=True)], mode)
        requests.append(ChatRequest(messages=(said,), sampling=Sampling(temperature=0, max_tokens=most)))
    predicted = ask(trained, mode, with_tokens=True)
    for one, reply in zip(predicted, engine.replies(requests), strict=True):
        if isinstance(reply, ChatError):
            assert (reply.reason, one.finish_reason) == ("truncated", "length")
        else:
            assert (reply.token_ids, reply.usage.prompt_tokens) == (one.token_ids, one.prompt_tokens)
    assert sum(one.finish_reason == "stop" for one in predicted) >= 5


def test_control_without_frames_sees_no_image(trained: Any) -> None:
    with_frames, without = ask(trained, "direct"), ask(trained, "direct", with_frames=False)
    assert all(b.prompt_tokens < a.prompt_tokens for a, b in zip(with_frames, without, strict=True))


def test_overlong_prompt_is_an_error_row(trained: Any) -> None:
    student, run, _ = trained
    short = replace(student, config=student.config.model_copy(update={"max_tokens": 32}))
    made = ask((short, run, None), "direct")
    assert all("student.max_tokens is 32" in p.error for p in made)
