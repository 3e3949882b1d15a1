"""What a student answers: greedy generation in batches (directly, or reasoning first), or the likeliest choice.

Predictions come out in the order of the questions. A question that cannot be asked becomes a prediction with an
error, never a gap. Nothing here knows whether an answer is right. Without frames, text_predict.py generates.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch

from aot.answers import find_answer
from aot.records import Prediction, Question, ThoughtMode
from aot.student.answer.batches import PromptItem, batches, model_inputs, prompt_items, windows
from aot.student.answer.likelihood import longest_choice, score_batch
from aot.student.answer.text_predict import answer_texts, failed
from aot.student.model.loading import Student
from aot.student.rows.frames import FramePixels
from aot.student.rows.rendering import Mode

PredictMode = Literal["direct", "reason", "explain", "adaptive", "likelihood"]


def predict(
    student: Student,
    questions: Sequence[Question],
    *,
    pixels: FramePixels | None = None,
    arm: str,
    mode: PredictMode,
    batch_size: int,
    with_frames: bool = True,
    thought: ThoughtMode | None = None,
) -> Iterator[Prediction]:
    """Predictions in the order of `questions`.

    Args:
        student: who answers.
        questions: what is asked; in mode `likelihood` those without choices are left out.
        pixels: the stored frames as this student's processor makes them; predictors that share it process each once.
            None for text.
        arm: name under which the predictions are stored.
        mode: `likelihood` scores the choices after the direct prompt; the others generate. `explain` stops after the
            first line. `adaptive` scores the first lines a reply may begin with, chooses one (see
            student.thought_confidence) and goes on from there.
        batch_size: prompts run at once.
        with_frames: False is the control in which the student sees the question only.
        thought: in mode `adaptive`, begin this way instead of choosing.
    """
    if pixels is None and mode != "likelihood":
        yield from answer_texts(student, questions, arm=arm, mode=mode, batch_size=batch_size, thought=thought)
        return
    if mode in ("explain", "adaptive"):
        raise ValueError(f"mode {mode} answers text; call it without pixels")
    prompt_mode: Mode = "reason" if mode == "reason" else "direct"
    asked = [q for q in questions if q.choices] if mode == "likelihood" else questions
    store = pixels.store if pixels else None
    given = longest_choice(student) if mode == "likelihood" else lambda question: 0
    items = prompt_items(student, asked, store=store, mode=prompt_mode, with_frames=with_frames, given=given)
    for window in windows(items, batch_size=batch_size):
        done = {i: failed(item, arm=arm, mode=mode) for i, item in enumerate(window) if item.error}
        for positions in batches(window, batch_size=batch_size):
            chosen = [window[i] for i in positions]
            answer: Callable[..., list[Prediction]] = _choose if mode == "likelihood" else _generate
            done.update(zip(positions, answer(student, chosen, pixels, arm=arm, mode=mode), strict=True))
        yield from (done[i] for i in range(len(window)))


@torch.inference_mode()
def _generate(
    student: Student, items: Sequence[PromptItem], pixels: FramePixels | None, *, arm: str, mode: PredictMode
) -> list[Prediction]:
    started_s = time.perf_counter()
    config = student.config
    inputs = model_inputs(student, items, pixels)
    width = inputs["input_ids"].shape[1]
    ends = student.renderer.end_ids
    cap = config.max_rationale_tokens if mode == "reason" else config.max_answer_tokens
    output = student.model.generate(
        **inputs,
        max_new_tokens=max(1, min(cap, student.context - width + 1)),  # the last token needs no position
        do_sample=False,
        num_beams=1,
        eos_token_id=list(ends),
        pad_token_id=student.pad_id,
    )
    each_s = (time.perf_counter() - started_s) / len(items)
    made = []
    for item, row in zip(items, output[:, width:].tolist(), strict=True):
        stop = next((i for i, token in enumerate(row) if token in ends), len(row))
        text, is_whole = student.renderer.decode(row[:stop]), stop < len(row)
        made.append(
            Prediction(
                question_id=item.question.id,
                arm=arm,
                mode=mode,
                raw_text=text,
                answer=(find_answer(text).answer or None) if is_whole else None,
                finish_reason="stop" if is_whole else "length",
                prompt_tokens=item.row.num_tokens,
                completion_tokens=min(stop + 1, len(row)),
                latency_s=each_s,
            )
        )
    return made


@torch.inference_mode()
def _choose(
    student: Student, items: Sequence[PromptItem], pixels: FramePixels | None, *, arm: str, mode: PredictMode
) -> list[Prediction]:
    started_s = time.perf_counter()
    scored = score_batch(student, items, model_inputs(student, items, pixels))
    each_s = (time.perf_counter() - started_s) / len(items)
    made = []
    for item, probs in zip(items, scored, strict=True):
        best = max(range(len(probs)), key=lambda i: (probs[i], -i))
        made.append(
            Prediction(
                question_id=item.question.id,
                arm=arm,
                mode=mode,
                raw_text=item.question.option_answers[best],
                answer=item.question.option_answers[best],
                choice_probs=probs,
                prompt_tokens=item.row.num_tokens,
                latency_s=each_s,
            )
        )
    return made
