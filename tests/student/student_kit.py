"""Tiny random students, built here from their configurations, a small run folder of drawn noise, and ways to ask."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from transformers.models.llava.processing_llava import LlavaProcessor

from aot.arms.lessons import arm_lessons, read_material
from aot.config import RunConfig, dump_config, parse_config
from aot.files.run_folder import RunFolder, publish, publish_rows, read_rows
from aot.records import MediaRef, Question, Trace
from aot.student.answer.predict import predict
from aot.student.rows.arm_examples import load_examples
from aot.student.rows.frames import FramePixels
from aot.student.train.arm import make_trainer
from aot.student.train.guards import StopFlag
from aot.student.train.session import Session, open_session
from aot.student.train.trainer import TwoTermTrainer
from video_data.store.shards import FrameStore, StoredClip, clip_line, header_room, shard_header

SPECIAL = (
    "<pad>",
    "<s>",
    "</s>",
    "<unk>",
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
)
WORDS = """User Assistant USER ASSISTANT : ; . , ? [ ] = - t s 0 1 2 3 4 5 6 7 8 9 What is the next step Choices Answer
directly Reason then answer Identify Gather Combine after asked fits one two chop fry wash boil mix egg onion
rice"""
TEMPLATE = (
    "{% for m in messages %}{{ m.role|capitalize }}: {% for c in m.content %}"
    "{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
IMAGES_FIRST_TEMPLATE = (
    "{% for m in messages %}{{ m.role|upper }}: {% for c in m.content if c.type == 'image' %}<image>\n{% endfor %}"
    "{% for c in m.content if c.type == 'text' %}{{ c.text }}{% endfor %}{% if m.role == 'assistant' %}</s>{% endif %} "
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
LABELS = ("chop egg", "fry onion", "wash rice", "boil egg", "mix rice")
TEXT = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 7,
}  # fmt: skip
VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 8,
}  # fmt: skip


def word_tokenizer(*, extra: tuple[str, ...] = SPECIAL[4:], **special: str | None) -> PreTrainedTokenizerFast:
    words = dict.fromkeys([*SPECIAL, *WORDS.split()])
    model = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    splits = [
        pre_tokenizers.WhitespaceSplit(),
        pre_tokenizers.Punctuation(),
        pre_tokenizers.Digits(individual_digits=True),
    ]
    model.pre_tokenizer = pre_tokenizers.Sequence([*splits, pre_tokenizers.Split("t=", "isolated")])
    return PreTrainedTokenizerFast(
        tokenizer_object=model, unk_token="<unk>", additional_special_tokens=list(extra),
        **{"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", **special},
    )  # fmt: skip


def idefics3_processor() -> Idefics3Processor:
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 32}, do_image_splitting=False
    )
    tokenizer = word_tokenizer(eos_token="<end_of_utterance>")
    return Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=TEMPLATE)


def llava_processor() -> LlavaProcessor:
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return LlavaProcessor(
        images, word_tokenizer(), patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=IMAGES_FIRST_TEMPLATE,
    )  # fmt: skip


def save_idefics3(folder: Path) -> None:
    torch.manual_seed(0)
    processor = idefics3_processor()
    config = Idefics3Config(
        vision_config={**VISION, "image_size": 32}, text_config={**TEXT, "vocab_size": len(processor.tokenizer)},
        scale_factor=2, image_token_id=4, pad_token_id=0,
    )  # fmt: skip
    save_model(Idefics3ForConditionalGeneration(config), folder)
    processor.save_pretrained(folder)


def save_model(model: Any, folder: Path) -> None:
    with torch.no_grad():  # frozen random output rows this large let adapters reach any distribution
        model.get_output_embeddings().weight.mul_(25)
    model.save_pretrained(folder)


def save_llava(folder: Path) -> None:
    torch.manual_seed(0)
    processor = llava_processor()
    config = LlavaConfig(
        vision_config={**VISION, "model_type": "clip_vision_model", "image_size": 32, "projection_dim": 32},
        text_config={**TEXT, "eos_token_id": 2, "vocab_size": len(processor.tokenizer)}, image_token_id=4,
        vision_feature_select_strategy="default", vision_feature_layer=-1,
    )  # fmt: skip
    save_model(LlavaForConditionalGeneration(config), folder)
    processor.save_pretrained(folder)


def write_store(folder: Path, clips: dict[str, np.ndarray], *, fps: float = 2.0) -> FrameStore:
    """A frame store of one shard."""
    folder.mkdir(parents=True)
    room = header_room(clips)
    data = shard_header({uri: frames.shape for uri, frames in clips.items()}, room=room)
    (folder / "shard-00000.safetensors").write_bytes(data + b"".join(f.tobytes() for f in clips.values()))
    lines = []
    for uri, frames in clips.items():
        count, height, width, _ = frames.shape
        clip = StoredClip(
            uri=uri, sha256="0" * 64, duration_s=count / fps, true_width=width, true_height=height, stored_width=width,
            stored_height=height, times_s=tuple(i / fps for i in range(count)), backend="pyav", verdict="complete",
            note="", shard="shard-00000.safetensors", frames_crc32=tuple(zlib.crc32(f.tobytes()) for f in frames),
        )  # fmt: skip
        lines.append(clip_line(clip))
    (folder / "index.jsonl").write_text("".join(lines))
    return FrameStore(folder)


def make_question(index: int, *, uri: str, kind: str = "next_choice", split: str = "train") -> Question:
    answer = LABELS[index % len(LABELS)]
    choices = tuple(LABELS[(index + k) % len(LABELS)] for k in (1, 0, 2)) if kind == "next_choice" else ()
    return Question(
        id=f"q{index}", dataset="noise", split=split, kind=kind, text="What is the next step?", choices=choices,
        answer=answer, answer_type="choice" if choices else "text", media=MediaRef(uri=uri, end_s=3.0), group=uri,
    )  # fmt: skip


def make_trace(question: Question) -> Trace:
    lines = ("Identify: the next step is asked.", "Gather: 0.5s-1.0s chop egg [1].", "Combine: fits [1].")
    text = "\n".join((*lines, f"Answer: {question.answer}"))
    return Trace(question_id=question.id, sample_index=0, teacher="t", rationale=text, answer=question.answer,
                 status="ok", config_digest="0")  # fmt: skip


def run_config(base: Path, **train: Any) -> RunConfig:
    settings = {
        "max_steps": 6, "questions_per_step": 4, "questions_per_device": 4, "save_steps": 2, "warmup_steps": 1,
        "learning_rate": 0.01, "lora": {"rank": 4, "alpha": 8}, **train,
    }  # fmt: skip
    student = {"base": str(base), "num_frames": 3, "device": "cpu", "max_answer_tokens": 6, "max_rationale_tokens": 40}
    return parse_config({"data": {"dataset": "plain"}, "student": student, "train": settings}, source="test")


def make_run(root: Path, config: RunConfig, *, num_questions: int = 10) -> RunFolder:
    """A run folder as the filter stage leaves it; every question but the first has a kept trace."""
    run = RunFolder(root)
    rng = np.random.default_rng(0)
    clips = {f"c{i}.mp4": rng.integers(0, 256, (8, 24, 32, 3), dtype=np.uint8) for i in range(4)}
    write_store(run.frames, clips)
    kinds = ("next_choice", "next_open")
    questions = [make_question(i, uri=f"c{i % 4}.mp4", kind=kinds[i % 2]) for i in range(num_questions)]
    publish(run.config, dump_config(config))
    publish_rows(run.questions, questions)
    publish_rows(run.kept, [make_trace(q) for q in questions[1:]])
    write_lessons(run, config)
    return run


def write_lessons(run: RunFolder, config: RunConfig) -> None:
    """What each arm learns from the traces that are kept now."""
    for arm in config.train.arms:
        publish_rows(
            run.arm(arm.name) / "lessons.jsonl", arm_lessons(read_material(run, config), arm, seed=config.seed)
        )


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def trainer_of(root: Path, config: RunConfig, *, arm: int = 1) -> tuple[Session, TwoTermTrainer]:
    session = open_session(make_run(root, config), config, config.train.arms[arm])
    return session, make_trainer(session, stop=StopFlag(), on_step=lambda row: None)


def first_gradient(trainer: TwoTermTrainer, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Gradients of the first global batch, as they are when the optimiser would step."""
    seen: dict[str, torch.Tensor] = {}

    class Enough(Exception):
        pass

    def stop_here(model: torch.nn.Module) -> None:
        seen.update({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        raise Enough

    monkeypatch.setattr(trainer, "_clip_grad_norm", stop_here)
    with pytest.raises(Enough):
        trainer.train()
    return seen


def assert_same_gradients(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys() and a
    assert any(value.abs().max() > 1e-4 for value in a.values())
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], rtol=1e-3, atol=1e-6, msg=name)


def asked(run: RunFolder) -> list[Question]:
    return list(read_rows(run.questions, Question))


def ask(
    trained: Any, mode: Any, *, batch_size: int = 4, questions: list[Question] | None = None, **more: Any
) -> list[Any]:
    student, run, _ = trained
    pixels = FramePixels(FrameStore(run.frames), student.processor, model_type=student.model_type, max_bytes=1 << 20)
    return list(
        predict(student, questions or asked(run), pixels=pixels, arm="x", mode=mode, batch_size=batch_size, **more)
    )


def assert_prompts_of_training(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model reads the prompt ids of training, in both modes."""
    student, run, config = trained
    lessons = arm_lessons(read_material(run, config), config.train.arms[1], seed=config.seed)
    examples = load_examples(run, lessons, student=student, store=FrameStore(run.frames)).examples
    given: list[list[int]] = []
    forward = student.model.forward

    def spy(*, input_ids: torch.Tensor, attention_mask: torch.Tensor, **inputs: Any) -> Any:
        if input_ids.shape == attention_mask.shape:  # later tokens are read with the mask of all before
            given.extend(row[keep].tolist() for row, keep in zip(input_ids, attention_mask.bool(), strict=True))
        return forward(input_ids=input_ids, attention_mask=attention_mask, **inputs)

    _ = student.habits  # tried with prompts of its own
    monkeypatch.setattr(student.model, "forward", spy)
    for mode, place in (("direct", 0), ("reason", 1)):
        given.clear()
        ask(trained, mode, batch_size=1)
        wanted = [list(row.prompt_ids) for example in examples for row in example.rows[place : place + 1]]
        assert wanted and all(ids in given for ids in wanted)
