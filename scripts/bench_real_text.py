"""Prints how fast a real-sized text model is taught and asked, beside bare transformers and peft in the same process.

Command: python scripts/bench_real_text.py [--base FOLDER] [--rounds 3] [--tokens 64] (one thread; about 5 CPU minutes
and 6 GB).

The model is that of FOLDER, such as what scripts/unpack_smollm2.py makes; without one it has the shape of SmolLM2-135M
(30 layers, 576 wide, 9 heads, 3 of them for keys, 49,152 words) and random weights. Steps and batches of both sides
alternate, and CPU seconds are counted, so that other work on the machine weighs on both alike. Bare training is a plain
loop over padded batches of the same lessons with the same adapters; bare generation is `model.generate`, whose replies
must be the same. The first round of each warms up and is not counted. The aim is a ratio of at least 1.0 for both.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from bench_text_train import running_sums
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from aot.config import RunConfig, StudentConfig, parse_config
from aot.files.run_folder import LESSONS, RunFolder, publish_rows
from aot.student.answer.decoding import Prompt, write_replies
from aot.student.model.loading import load_student
from aot.student.rows.examples import Example
from aot.student.train.arm import make_trainer
from aot.student.train.guards import StopFlag
from aot.student.train.session import Session, open_session
from aot.student.train.trainer import StepMetrics

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PER_STEP, PER_DEVICE, PROMPTS, RANK = 8, 4, 8, 16
VOCABULARY = 49152


def main() -> int:
    """Time both sides of both, and print tokens a CPU second and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64, help="tokens of a reply")
    parser.add_argument("--base", type=Path, help="folder of a causal language model; default: one with random weights")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        base = options.base.resolve() if options.base else save_base(Path(name) / "base")
        print("training, tokens of rows a CPU second: " + _told(*_training(Path(name), base, rounds=options.rounds)))
        print("generation, tokens a CPU second: " + _told(*_generation(base, options.rounds, tokens=options.tokens)))
    return 0


def _told(ours: Sequence[float], bare: Sequence[float]) -> str:
    mine, other = statistics.median(ours[1:]), statistics.median(bare[1:])
    return f"ours {mine:.1f}, bare {other:.1f}, ratio {mine / other:.2f} (median of {len(ours) - 1} rounds)"


def save_base(folder: Path, *, texts: Sequence[str] = ()) -> Path:
    """A folder with the random model, and a tokenizer of the words of `texts`; without any, of single bytes."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({token: i for i, token in enumerate([*special, *alphabet])}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    if texts:
        learner = trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
        made.train_from_iterator(texts, learner)
    PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=TEMPLATE,
        additional_special_tokens=["<|im_start|>"],
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=8192, tie_word_embeddings=True, pad_token_id=0, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def _config(base: Path, *, steps: int) -> RunConfig:
    train = {
        "arms": [{"name": "pre", "order": "pre"}], "max_steps": steps, "save_steps": steps, "lora": {"rank": RANK},
        "questions_per_step": PER_STEP, "questions_per_device": PER_DEVICE,
    }  # fmt: skip
    raw = {
        "data": {"dataset": "toy_math"}, "teacher": {"planner": "procedural"}, "train": train,
        "student": {"base": str(base), "device": "cpu"},
    }  # fmt: skip
    return parse_config(raw, source="bench")


def _training(root: Path, base: Path, *, rounds: int) -> tuple[list[float], list[float]]:
    """Tokens of rows a CPU second of our steps and of bare ones, taken in turns on the same lessons."""
    config = _config(base, steps=rounds + 1)
    run, arm = RunFolder(root / "run"), config.train.arms[0]
    questions, lessons = running_sums(PER_STEP * (rounds + 1))
    publish_rows(run.questions, questions)
    publish_rows(run.arm(arm.name) / LESSONS, lessons)
    session = open_session(run, config, arm)
    bare_step = _bare_trainer(base, session)
    ours: list[float] = []
    bare: list[float] = []
    resumed_s = time.process_time()

    def on_step(row: StepMetrics) -> None:
        nonlocal resumed_s
        examples = _examples(session, step=row.step - 1)
        count = sum(example.rows[0].num_tokens for example in examples)
        ours.append(count / (time.process_time() - resumed_s))
        started_s = time.process_time()
        bare_step(examples)
        resumed_s = time.process_time()
        bare.append(count / (resumed_s - started_s))

    make_trainer(session, stop=StopFlag(), on_step=on_step).train()
    return ours, bare


def _examples(session: Session, *, step: int) -> list[Example]:
    """The lessons of a step of the schedule."""
    schedule = session.schedule()
    return [schedule[i] for i in range(step * PER_STEP, (step + 1) * PER_STEP)]


def _bare_trainer(base: Path, session: Session) -> Callable[[Sequence[Example]], None]:
    """What takes a step as one would write it: padded batches, transformers' own loss, peft's adapters, AdamW."""
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(plain, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear"))
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in trained) == session.adapted.num_trainable
    optimiser = torch.optim.AdamW(trained, lr=1e-4)

    def step(examples: Sequence[Example]) -> None:
        for start in range(0, len(examples), PER_DEVICE):
            rows = [example.rows[0] for example in examples[start : start + PER_DEVICE]]
            width = max(row.num_tokens for row in rows)
            ids, labels, mask = torch.zeros(3, len(rows), width, dtype=torch.long)
            labels[:] = -100
            for i, row in enumerate(rows):
                ids[i, : row.num_tokens] = torch.tensor(row.prompt_ids + row.completion_ids)
                labels[i, len(row.prompt_ids) : row.num_tokens] = torch.tensor(row.completion_ids)
                mask[i, : row.num_tokens] = 1
            parts = len(examples) // PER_DEVICE
            (model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss / parts).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return step


def _generation(base: Path, rounds: int, *, tokens: int) -> tuple[list[float], list[float]]:
    """Tokens of replies a CPU second of ours and of `generate`, taken in turns on the same prompts."""
    student = load_student(str(base), config=StudentConfig(base=str(base), device="cpu"))
    questions, _ = running_sums(PROMPTS)
    prompts = [student.renderer.encode(q, (), "reason", frame_size_hw=None).prompt_ids for q in questions]
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([(student.pad_id,) * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    settings: dict[str, Any] = {"max_new_tokens": tokens, "do_sample": False, "pad_token_id": student.pad_id}
    ends = list(student.renderer.end_ids)
    _ = student.habits  # tried once for each model, not for each batch
    ours: list[float] = []
    bare: list[float] = []
    for _round in range(rounds + 1):
        started_s = time.process_time()
        replies = write_replies(student, [Prompt(row) for row in prompts], max_tokens=tokens)
        count = sum(len(reply) for reply in replies)
        ours.append(count / (time.process_time() - started_s))
        started_s = time.process_time()
        output = student.model.generate(ids, attention_mask=mask, eos_token_id=ends, **settings)[:, width:].tolist()
        bare.append(count / (time.process_time() - started_s))
        if [row[: len(reply)] for row, reply in zip(output, replies, strict=True)] != replies:
            raise SystemExit("replies differ from those of generate, so their speed is of no meaning")
    return ours, bare


if __name__ == "__main__":
    sys.exit(main())
