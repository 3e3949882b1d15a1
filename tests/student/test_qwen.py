"""Prompts, training and prediction with Qwen2.5-VL and Qwen3-VL, built tiny; their processors need torchvision.

Unlike the other families they count positions in time, height and width, so each row needs the grid of its frames.
"""

import pytest

try:  # before the other imports, because transformers does not import where torchvision is broken
    import torchvision  # noqa: F401
except (ImportError, RuntimeError) as error:  # RuntimeError: it was built for another torch
    pytest.skip(f"torchvision cannot be imported: {error}", allow_module_level=True)

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_model import SPECIAL, TEMPLATE
from student_kit import (
    TEXT,
    ask,
    asked,
    assert_prompts_of_training,
    assert_same_gradients,
    first_gradient,
    make_question,
    make_run,
    read_lines,
    run_config,
    save_model,
    trainer_of,
    word_tokenizer,
)
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from aot.config import StudentConfig
from aot.student.answer.batches import prompt_items
from aot.student.answer.decoding import read_prompts
from aot.student.answer.likelihood import _full_sums, score
from aot.student.answer.prefix import FramePrefix, prefix_frames
from aot.student.model.loading import load_student
from aot.student.model.lora import add_lora
from aot.student.rows.frames import FramePixels
from aot.student.rows.tokens import Renderer
from aot.student.train.arm import train_arm
from video_data.store.shards import FrameStore

FAMILIES = ("qwen2_5_vl", "qwen3_vl")
VISION = {
    "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32, "patch_size": 8,
}  # fmt: skip
TIMES_S = (0.5, 1.25, 2.0)
SIZE_HW = (32, 64)
"""2 x 4 visual tokens: height and width differ, so that a swap would show."""


def save_qwen(folder: Path, family: str) -> None:
    processor = qwen_processor(family)
    ids = processor.tokenizer.convert_tokens_to_ids
    names = ("image_token", "video_token", "vision_start_token", "vision_end_token")
    special = {f"{name}_id": ids(token) for name, token in zip(names, np.array(SPECIAL)[[4, 5, 2, 3]], strict=True)}
    text = {
        **TEXT, "vocab_size": len(processor.tokenizer), "bos_token_id": None, "pad_token_id": ids("<|endoftext|>"),
        "eos_token_id": ids("<|im_end|>"),
    }  # fmt: skip
    del text["model_type"]
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    if family == "qwen2_5_vl":
        config = Qwen2_5_VLConfig(
            vision_config={**VISION, "window_size": 32, "fullatt_block_indexes": [1]},
            text_config={**text, "rope_parameters": {**rope, "mrope_section": [2, 3, 3]}}, **special,
        )  # fmt: skip
        save_model(Qwen2_5_VLForConditionalGeneration(config), folder)
    else:
        three = {**rope, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
        del text["bos_token_id"], text["eos_token_id"]
        config = Qwen3VLConfig(
            vision_config={**VISION, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]},
            text_config={**text, "head_dim": 16, "rope_parameters": three}, **special,
        )  # fmt: skip
        save_model(Qwen3VLForConditionalGeneration(config), folder)
    processor.save_pretrained(folder)


def qwen_processor(family: str) -> Any:
    from transformers import (
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    tokenizer = word_tokenizer(extra=SPECIAL, bos_token=None, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    sizes = {"patch_size": 8, "merge_size": 2, "temporal_patch_size": 2}
    images = Qwen2VLImageProcessor(size={"shortest_edge": 256, "longest_edge": 4096}, **sizes)
    if family == "qwen2_5_vl":
        return Qwen2_5_VLProcessor(images, tokenizer, Qwen2VLVideoProcessor(**sizes), chat_template=TEMPLATE)
    return Qwen3VLProcessor(images, tokenizer, Qwen3VLVideoProcessor(**sizes), chat_template=TEMPLATE)


@pytest.fixture(scope="module", params=FAMILIES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases") / request.param
    save_qwen(folder, request.param)
    return folder


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A student after twelve steps, its run, and its config."""
    config = run_config(base, max_steps=12, save_steps=12, lora={"rank": 8, "alpha": 16})
    run = make_run(tmp_path_factory.mktemp("run") / "run", config)
    train_arm(run, config, config.train.arms[1])
    return load_student(str(base), adapter=run.arm("distilled"), config=config.student), run, config


def test_times_and_frames_alternate(base: Path) -> None:
    renderer = load_student(str(base), config=run_config(base).student).renderer
    shown = "".join(f"t={t}s<|vision_start|><|image_pad|><|vision_end|>" for t in ("0.5", "1.2", "2.0"))
    prompt = renderer.prompt(make_question(0, uri="c.mp4"), TIMES_S, "direct")
    assert f"<|im_start|>user\n{shown}What is the next step? Choices: " in prompt
    assert prompt.endswith("Answer directly.<|im_end|>\n<|im_start|>assistant\n")


def test_prompt_ids_and_token_types_are_those_of_the_processor(base: Path) -> None:
    renderer = Renderer(load_student(str(base), config=run_config(base).student).processor)
    question = make_question(0, uri="c.mp4")
    frames = [np.full((*SIZE_HW, 3), 9 * i, dtype=np.uint8) for i in range(3)]
    wanted = renderer.processor(text=[renderer.prompt(question, TIMES_S, "reason")], images=[frames])
    row = renderer.encode(question, TIMES_S, "reason", frame_size_hw=SIZE_HW)
    assert list(row.prompt_ids) == list(wanted["input_ids"][0])
    assert row.prompt_ids.count(renderer.image_token_id) == 3 * 8
    assert renderer.needs_token_types
    types = [int(i == renderer.image_token_id) for i in row.prompt_ids]
    assert types == list(wanted["mm_token_type_ids"][0])


def test_completion_ends_with_the_token_that_stops_generation(base: Path) -> None:
    renderer = load_student(str(base), config=run_config(base).student).renderer
    ids = renderer.completion_ids("fry onion")
    assert ids[-1] == renderer.tokenizer.convert_tokens_to_ids("<|im_end|>") == renderer.end_ids[0]
    assert renderer.decode(ids) == "fry onion"


def test_training_lowers_both_terms(trained: Any) -> None:
    rows = read_lines(trained[1].arm("distilled") / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert rows[-1]["label_loss"] < 0.8 * rows[0]["label_loss"]
    assert rows[-1]["rationale_loss"] < 0.8 * rows[0]["rationale_loss"]


def test_lora_touches_the_language_model_only(base: Path) -> None:
    config = run_config(base)
    adapted = add_lora(load_student(str(base), config=config.student).model, config.train.lora)
    assert len(adapted.matched) == 2 * 7  # seven linear layers in each of two decoder layers
    assert all(name.startswith("model.language_model.layers.") for name in adapted.matched)


def test_one_batch_of_four_and_four_of_one_give_the_same_gradient(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = []
    for per_device in (4, 1):
        config = run_config(base, questions_per_step=4, questions_per_device=per_device)
        gradients.append(first_gradient(trainer_of(tmp_path / str(per_device), config)[1], monkeypatch))
    assert_same_gradients(*gradients)


def test_rows_that_share_a_clip_get_the_logits_of_rows_on_their_own(base: Path, tmp_path: Path) -> None:
    session, trainer = trainer_of(tmp_path / "run", run_config(base, vision_cache="off"))
    model, collator = session.student.model.eval(), trainer.data_collator
    examples = [session.data.examples[i] for i in (2, 0, 5)]
    batch = collator(examples)  # type: ignore[operator]
    names = ("pixel_values", "image_grid_thw", "input_ids", "attention_mask", "mm_token_type_ids")
    with torch.inference_mode():
        session.vision.plan = batch["clip_plan"]
        together = model(**{name: batch[name] for name in names}).logits
        session.vision.plan = None
        row = 0
        for example in examples:
            for alone in example.rows:
                ids = torch.tensor([alone.prompt_ids + alone.completion_ids])
                inputs = {
                    "input_ids": ids,
                    "attention_mask": torch.ones_like(ids),
                    **collator.pixels.of([example.frames]),
                }
                types = (ids == session.student.renderer.image_token_id).long()
                logits = model(**inputs, mm_token_type_ids=types).logits[0]
                torch.testing.assert_close(together[row, : len(logits)], logits, rtol=1e-4, atol=1e-4)
                row += 1
    assert row == len(together) == 5


def test_batch_without_frames_gets_a_dummy_clip(base: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    session, trainer = trainer_of(tmp_path / "run", run_config(base, vision_cache="off"), arm=0)
    example = session.data.examples[0]
    first = example.rows[0]
    ids = tuple(i for i in first.prompt_ids if i != session.student.renderer.image_token_id)
    blind = replace(example, frames=None, rows=(replace(first, prompt_ids=ids),))
    batch = trainer.data_collator([blind])  # type: ignore[operator]
    assert batch["image_grid_thw"].shape == (1, 3)
    assert torch.isfinite(trainer.compute_loss(trainer.model, batch, num_items_in_batch=batch["num_supervised"]))


def test_batches_do_not_change_answers(trained: Any) -> None:
    for mode in ("direct", "reason"):
        alone, together = ask(trained, mode, batch_size=1), ask(trained, mode, batch_size=7)
        assert [p.question_id for p in alone] == [q.id for q in asked(trained[1])]
        assert [(p.question_id, p.raw_text) for p in together] == [(p.question_id, p.raw_text) for p in alone]
        assert all(p.completion_tokens > 0 and not p.error for p in together)


def test_control_without_frames_sees_no_image(trained: Any) -> None:
    ask(trained, "direct")  # leaves position offsets of frames behind in the model
    for mode in ("direct", "likelihood"):
        alone, together = (ask(trained, mode, batch_size=n, with_frames=False) for n in (1, 7))
        assert [p.raw_text for p in alone] == [p.raw_text for p in together]


def test_prompt_ids_given_to_the_model_are_those_of_training(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_prompts_of_training(trained, monkeypatch)


def test_likelihood_gives_probabilities_that_do_not_depend_on_the_batch(trained: Any) -> None:
    alone, together = ask(trained, "likelihood", batch_size=1), ask(trained, "likelihood", batch_size=4)
    assert [p.question_id for p in together] == [q.id for q in asked(trained[1]) if q.choices]
    for a, b in zip(alone, together, strict=True):
        assert sum(a.choice_probs) == pytest.approx(1)
        assert a.choice_probs == pytest.approx(b.choice_probs, abs=1e-4)


def test_likelihood_of_an_adapter_that_is_not_merged_equals_full_passes(trained: Any, base: Path) -> None:
    _, run, config = trained
    half = config.student.model_copy(update={"dtype": "bfloat16"})
    student = load_student(str(base), adapter=run.arm("distilled"), config=half)
    store = FrameStore(run.frames)
    pixels = FramePixels(store, student.processor, model_type=student.model_type, max_bytes=0)
    questions = [q for q in asked(run) if q.choices]
    items = list(prompt_items(student, questions, store=store, mode="direct", with_frames=True))
    choices = [[student.renderer.completion_ids(c) for c in q.choices] for q in questions]
    with torch.inference_mode():
        prompts = [item.prompt(student.renderer, pixels) for item in items]
        made, full = score(student, prompts, choices), _full_sums(student, prompts, choices)
    for probs, sums in zip(made, full, strict=True):
        whole = torch.softmax(torch.tensor(sums, dtype=torch.float64), dim=0).tolist()
        assert probs == pytest.approx(whole, abs=0.03)  # bfloat16


def test_frames_are_read_on_behind_those_before_with_the_logits_of_a_fresh_prompt(base: Path) -> None:
    student = load_student(str(base), config=StudentConfig(base=str(base), device="cpu"))
    frames_THWC = np.random.default_rng(0).integers(0, 256, (4, *SIZE_HW, 3), dtype=np.uint8)
    frames, prefix = prefix_frames(student, frames_THWC, range(4)), FramePrefix(student)
    assert prefix.appends
    for shown, keep in (([0], 1), ([0, 1], 2), ([0, 1, 2], 2), ([0, 1, 3], 3), ([1, 3], 2)):
        times_s = [float(i) for i in shown]
        ids = student.renderer.encode(make_question(0, uri="c"), times_s, "direct", frame_size_hw=SIZE_HW).prompt_ids
        row = [frames[i] for i in shown]
        reading = prefix.read(ids, row, keep=keep)
        anew = read_prompts(student, [prefix._prompt(ids, row)])
        torch.testing.assert_close(reading.logits_BV, anew.logits_BV, atol=1e-4, rtol=0)
        assert reading.next_position.tolist() == anew.next_position.tolist()
    assert prefix.counts.frames_seen == 4
