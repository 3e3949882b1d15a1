"""A tiny random text student with an exact tokenizer, a run folder of sums with lessons, and ways to ask."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from aot.config import RunConfig, dump_config, parse_config
from aot.files.run_folder import RunFolder, publish, publish_rows
from aot.records import Lesson, Question
from aot.student.rows.prompts import MODE_LINES, MODE_SUFFIX

WORDS = ("What", "is", "Answer")
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if m.role == 'assistant' %}<end>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
THINKING_TEMPLATE = TEMPLATE.replace(
    "{% if add_generation_prompt %}<assistant>{% endif %}",
    "{% if add_generation_prompt %}<assistant><think>\n{% endif %}",
)
WRITTEN_TEMPLATE = TEMPLATE + "{# replies may hold <think> and </think> #}"
SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 1024,
}  # fmt: skip


def text_tokenizer(template: str = TEMPLATE) -> PreTrainedTokenizerFast:
    """One token for each word, mark, digit, blank and line end; text comes back as it was."""
    said = " ".join([*WORDS, *MODE_SUFFIX.values(), *MODE_LINES.values()])
    special = ["<pad>", "<unk>", "<user>", "<assistant>", "<end>"]
    pieces = [*said.replace(".", "").replace(",", "").split(), *"0123456789+-=.,:?; \n", "<think>", "</think>"]
    vocab = dict.fromkeys([*special, *pieces])
    made = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocab)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"</?think>|[A-Za-z]+|\d|\s|[^\w\s]"), "isolated")
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", eos_token="<end>",
        additional_special_tokens=["<user>", "<assistant>"], chat_template=template, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def save_text_base(folder: Path, *, template: str = TEMPLATE) -> Path:
    torch.manual_seed(0)
    tokenizer = text_tokenizer(template)
    config = LlamaConfig(
        **SIZES, vocab_size=len(tokenizer), pad_token_id=0, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, tie_word_embeddings=True, initializer_range=0.2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def sums(count: int = 12) -> list[Question]:
    return [
        Question(
            id=f"s{i}", dataset="sums", split="train", kind="sum", text=f"What is {i} + {i + 1} + 2?",
            answer=str(2 * i + 3), answer_type="integer", group=f"s{i}",
        )
        for i in range(count)
    ]  # fmt: skip


def steps_of(question: Question) -> str:
    total = int(question.answer)
    return f"{(total - 3) // 2} + {(total - 1) // 2} = {total - 2}\n{total - 2} + 2 = {total}"


def lessons_of(question: Question) -> list[Lesson]:
    """One lesson for each order of thought."""
    steps, said, name = steps_of(question), f"Answer: {question.answer}", question.id
    return [
        Lesson(question_id=name, mode="direct", label=question.answer),
        Lesson(question_id=name, mode="reason", rationale=f"{steps}\n{said}"),
        Lesson(question_id=name, mode="explain", label=f"{said}\n", rationale=steps),
        Lesson(question_id=name, mode="adaptive", label="All steps.\n", rationale=f"{steps}\n{said}"),
        Lesson(question_id=name, mode="adaptive", forced="At once.\n", rationale=said),
    ]


def bpe_tokenizer(template: str | None = None) -> PreTrainedTokenizerFast:
    """Byte-level pieces that join marks with line ends, as those of Qwen do."""
    made = Tokenizer(models.BPE())
    pattern = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+")
    split = pre_tokenizers.Split(pattern, "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    texts = [lesson.forced + lesson.label + lesson.rationale for lesson in lessons_of(sums()[3])]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=["<user>", "<assistant>", "<end>"]
    )
    made.train_from_iterator(texts * 5, trainer)
    made.add_tokens(["<think>", "</think>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<end>", pad_token="<end>", chat_template=template,
        additional_special_tokens=["<user>", "<assistant>"],
    )  # fmt: skip


def text_config(base: Path, *, arm: dict[str, Any] | None = None, **train: Any) -> RunConfig:
    settings = {
        "arms": [{"name": "all", "order": "adaptive", **(arm or {})}], "max_steps": 6, "questions_per_step": 8,
        "questions_per_device": 8, "save_steps": 2, "warmup_steps": 1, "learning_rate": 0.01, "pack_tokens": 128,
        "lora": {"rank": 4, "alpha": 8}, **train,
    }  # fmt: skip
    own = {"max_steps", "learning_rate"} & (arm or {}).keys()  # which are then read of the arm, and of nobody else
    own |= {"lora"} if (arm or {}).get("tuning") == "full" else set()
    own |= {"max_steps"} if "epochs" in train else set()
    settings = {key: value for key, value in settings.items() if key not in own}
    student = {"base": str(base), "device": "cpu", "max_answer_tokens": 12, "max_rationale_tokens": 60}
    raw = {
        "data": {"dataset": "toy_math"}, "teacher": {"planner": "procedural"}, "student": student, "train": settings,
    }  # fmt: skip
    return parse_config(raw, source="test")


def text_run(root: Path, config: RunConfig, *, lessons: list[Lesson] | None = None) -> RunFolder:
    """A run folder with the lessons of its first arm."""
    run = RunFolder(root)
    publish(run.config, dump_config(config))
    publish_rows(run.questions, sums())
    rows = [lesson for question in sums() for lesson in lessons_of(question)] if lessons is None else lessons
    publish_rows(run.arm(config.train.arms[0].name) / "lessons.jsonl", rows)
    return run
