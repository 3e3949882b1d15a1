"""The parts of check_gpu.py, each in a process of its own: python scripts/gpu_parts.py PART FOLDER real|small SETTINGS.

The last line of its output is a JSON object with what was measured. Exit code 17: the GPU's memory was not enough.
"""

import importlib.metadata
import json
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from gpu_model import (
    REAL,
    SMALL,
    Operations,
    Shape,
    attention_operations,
    build_base,
    family_of,
    peak_of,
    run_config,
    write_lessons,
    write_run,
)
from peft import LoraConfig
from transformers import Trainer, TrainerCallback, TrainingArguments

from aot.errors import GuardStop
from aot.files.run_folder import ARM_MARKER, CHECKPOINTS, LESSONS, STEPS, RunFolder, read_rows
from aot.records import Lesson, Question
from aot.student.answer.predict import predict
from aot.student.model.loading import Student, load_processor, load_student
from aot.student.model.lora import add_lora, default_pattern
from aot.student.rows.arm_examples import load_examples
from aot.student.rows.collate import text_inputs
from aot.student.rows.examples import Example, Schedule
from aot.student.rows.frames import ChosenFrames, choose_indices
from aot.student.rows.packing import EncodedRow, segment_row
from aot.student.rows.tokens import Renderer
from aot.student.train.arm import make_trainer
from aot.student.train.guards import StopFlag
from aot.student.train.session import Session, open_session
from aot.student.train.trainer import StepMetrics
from video_data.store.shards import FrameStore

ARM = "distilled"
NO_MEMORY = 17
PACKAGES = ("torch", "torchvision", "transformers", "peft", "accelerate", "trl", "vllm", "flash-attn", "liger-kernel")
TRIES = 3
"""How often a training is started anew that ended before its signal came."""
Measured = dict[str, Any]
Settings = dict[str, Any]
"""Of the config, by their names, such as train.gradient_checkpointing."""


class Clock(TrainerCallback):
    """Ends of steps, each after the GPU has come as far, and the losses that the trainer logs."""

    def __init__(self, *, operations: Sequence[Operations] = (), count_at: int = -1) -> None:
        self.ends_s: list[float] = []
        self.losses: list[float] = []
        self._operations, self._count_at = operations, count_at
        self._counting = ExitStack()
        self.num_tokens = 0.0
        """Read so far, by the count of a trainer that keeps one."""

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """In one step, not a measured one, count what it does."""
        if len(self.ends_s) == self._count_at:
            for operations in self._operations:
                self._counting.enter_context(operations.counted())

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Note the time."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends_s.append(time.perf_counter())
        self._counting.close()

    def on_log(self, *args: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        """Note the loss."""
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))
            self.num_tokens = float(logs.get("num_tokens", 0.0))

    def seconds(self, warm_up: int) -> list[float]:
        """Of each step after the first ones."""
        return [end - begin for begin, end in zip(self.ends_s[warm_up - 1 :], self.ends_s[warm_up:], strict=False)]


def look(folder: Path, shape: Shape, settings: Settings) -> Measured:
    """The machine, what is installed, and how fast a large matrix product is on it."""
    versions = {name: _version(name) for name in PACKAGES}
    facts: Measured = {"versions": versions, "python": platform.python_version(), "family": family_of(shape)}
    facts |= {"gpu": "", "machine": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    if shape.small or not torch.cuda.is_available():
        return facts
    free, total = torch.cuda.mem_get_info()
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    began_s = time.perf_counter()
    for _ in range(10):
        a @ b
    torch.cuda.synchronize()
    rate = 10 * 2 * 8192**3 / (time.perf_counter() - began_s)
    return {
        **facts, "gpu": torch.cuda.get_device_name(), "free_gib": free / 2**30, "memory_gib": total / 2**30,
        "matmul_per_s": rate, "cuda": torch.version.cuda, "peak_per_s": peak_of(torch.cuda.get_device_name()),
    }  # fmt: skip


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def build(folder: Path, shape: Shape, settings: Settings) -> Measured:
    """The model and the run folder."""
    began_s = time.perf_counter()
    parameters = build_base(folder / "base", shape, device="cpu" if shape.small else "cuda")
    run = RunFolder(folder / "run")
    write_run(run, run_config(folder / "base", shape, settings), shape)
    return {"parameters": parameters, "seconds": time.perf_counter() - began_s}


def ours(folder: Path, shape: Shape, settings: Settings) -> Measured:
    """Our training."""
    run, config = RunFolder(folder / "run"), run_config(folder / "base", shape, settings)
    write_lessons(run, config)
    session = open_session(run, config, config.train.arms[0])
    rows: list[StepMetrics] = []
    trainer = make_trainer(session, stop=StopFlag(), on_step=rows.append)
    whole, decoder = Operations(session.adapted.model), Operations(session.student.model.get_decoder())
    clock = Clock(operations=(whole, decoder), count_at=shape.warm_up - 1)
    trainer.add_callback(clock)
    trainer.train()
    text_config = session.adapted.model.config.get_text_config()
    examples = _step_examples(session, shape)
    lengths = [row.num_tokens for example in examples for row in example.rows]
    padding = _padding(trainer.data_collator, examples, each=session.plan.per_device)
    made = _timing(clock, shape, tokens=sum(lengths))
    made["losses"] = [row.loss for row in rows]
    made["tokens"] = [row.label_tokens + row.rationale_tokens for row in rows]
    made["operations"] = whole.total - padding * decoder.total + attention_operations(text_config, lengths)
    made["padding"] = padding
    made["row_tokens"] = max(lengths)
    made["trainable"] = session.adapted.num_trainable
    shutil.rmtree(session.folder / CHECKPOINTS, ignore_errors=True)
    return made


def _step_examples(session: Session, shape: Shape) -> list[Example]:
    """Those of the step whose operations are counted."""
    schedule, each = session.schedule(), shape.questions_per_step
    return [schedule[i] for i in range((shape.warm_up - 1) * each, shape.warm_up * each)]


def _padding(collate: Any, examples: list[Example], *, each: int) -> float:  # noqa: ANN401
    """Share of the positions of a step's batches that hold no token."""
    masks = [collate(examples[i : i + each])["attention_mask"] for i in range(0, len(examples), each)]
    padded = [mask for mask in masks if mask.dim() == 2]  # the others say for each token what it may look at
    return 1.0 - sum(int(mask.sum()) for mask in padded) / sum(mask.numel() for mask in padded) if padded else 0.0


def _timing(clock: Clock, shape: Shape, *, tokens: int) -> Measured:
    """Median and spread of the measured steps, tokens a second, and the most memory that was taken."""
    seconds = clock.seconds(shape.warm_up)
    median = statistics.median(seconds)
    tokens = round(clock.num_tokens / shape.max_steps) or tokens
    peak = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_initialized() else 0.0
    return {
        "step_s": median, "fastest_s": min(seconds), "slowest_s": max(seconds), "n": len(seconds),
        "tokens_per_s": tokens / median, "step_tokens": tokens, "memory_gib": peak, "losses": clock.losses,
    }  # fmt: skip


def plain(folder: Path, shape: Shape, settings: Settings) -> Measured:
    """The Trainer of transformers on the same rows: its own loss, padded batches, every row with its frames."""
    rows = _Rows(folder, shape, settings)
    config, student = rows.config.train, rows.student
    adapted = add_lora(student.model, config.lora)
    trainer = Trainer(
        model=adapted.model,
        args=TrainingArguments(
            remove_unused_columns=False, ddp_find_unused_parameters=False,
            **_arguments(folder, rows, gradient_checkpointing=config.gradient_checkpointing),
        ),
        train_dataset=rows.pairs,
        data_collator=rows.batch,
    )  # fmt: skip
    clock = Clock()
    trainer.add_callback(clock)
    trainer.train()
    return _timing(clock, shape, tokens=rows.step_tokens)


def trl(folder: Path, shape: Shape, settings: Settings) -> Measured:
    """SFTTrainer on the same rows, as text with images, which its collator processes anew in each batch."""
    from datasets import Dataset
    from PIL import Image
    from trl import SFTConfig, SFTTrainer

    rows = _Rows(folder, shape, settings)
    config, student = rows.config.train, rows.student
    tokenizer = student.renderer.tokenizer
    data = [
        {
            "prompt": _placeholders(tokenizer.decode(list(row.prompt_ids)), student.renderer.image_token),
            "completion": tokenizer.decode(list(row.completion_ids)),
            "images": [Image.fromarray(frame) for frame in rows.store.frames(frames.uri, frames.indices)],
        }
        for row, frames in rows.pairs
    ]
    trainer = SFTTrainer(
        model=student.model,
        args=SFTConfig(
            max_length=None,
            **_arguments(folder, rows, gradient_checkpointing=config.gradient_checkpointing),
        ),
        train_dataset=Dataset.from_list(data),
        processing_class=student.processor,
        peft_config=LoraConfig(
            r=config.lora.rank, lora_alpha=config.lora.alpha, target_modules=default_pattern(student.model)
        ),
    )  # fmt: skip
    clock = Clock()
    trainer.add_callback(clock)
    trainer.train()
    return _timing(clock, shape, tokens=rows.step_tokens)


class _Rows:
    """What other trainers get: the rows of two steps, each with its frames, and a model without adapters."""

    def __init__(self, folder: Path, shape: Shape, settings: Settings) -> None:
        self.shape, self.config = shape, run_config(folder / "base", shape, settings)
        run = RunFolder(folder / "run")
        self.student = load_student(self.config.student.base, config=self.config.student)
        self.store = FrameStore(run.frames)
        lessons = list(read_rows(run.arm(ARM) / LESSONS, Lesson))
        examples = load_examples(run, lessons, student=self.student, store=self.store).examples
        schedule = Schedule(examples, seed=0, length=2 * shape.questions_per_step)
        self.pairs = [(row, _frames_of(example)) for example in schedule for row in example.rows]
        self.step_tokens = sum(row.num_tokens for row, _ in self.pairs) // 2
        self._pixels = self.student.pixels(self.store, max_bytes=1 << 29)

    def batch(self, pairs: Sequence[tuple[EncodedRow, ChosenFrames]]) -> dict[str, torch.Tensor]:
        """Model inputs and labels, padded on the right."""
        student = self.student
        rows = [segment_row(row) for row, _ in pairs]
        made = text_inputs(rows, pad_id=student.pad_id, own_mask=False, renderer=student.renderer)
        kept = {key: value for key, value in made.items() if key not in ("is_rationale", "num_supervised")}
        return {**kept, **self._pixels.of([frames for _, frames in pairs])}


def _frames_of(example: Example) -> ChosenFrames:
    assert example.frames
    return example.frames


def _arguments(folder: Path, rows: _Rows, *, gradient_checkpointing: bool) -> dict[str, Any]:
    """Settings of another trainer that match ours: as many rows a step, cut in the same way."""
    shape, train = rows.shape, rows.config.train
    each = len(rows.pairs) // (2 * shape.questions_per_step)
    return {
        "output_dir": str(folder / "other"), "max_steps": shape.max_steps, "learning_rate": train.learning_rate,
        "per_device_train_batch_size": each * train.questions_per_device,
        "gradient_accumulation_steps": train.questions_per_step // train.questions_per_device,
        "gradient_checkpointing": gradient_checkpointing, "bf16": not shape.small, "use_cpu": shape.small,
        "save_strategy": "no", "report_to": "none", "disable_tqdm": True, "logging_steps": 1,
    }  # fmt: skip


def _placeholders(text: str, image_token: str) -> str:
    """A prompt with one placeholder for each frame, as processors read it, from one with all of them written out."""
    return re.sub(f"(?:{re.escape(image_token)})+", image_token, text)


def resume(folder: Path, shape: Shape, settings: Settings) -> Measured:
    """A training that is stopped by TERM and started again; the caller compares its steps with those of `ours`."""
    run = RunFolder(folder / "stopped")
    shutil.rmtree(run.root, ignore_errors=True)
    shutil.copytree(folder / "run", run.root, ignore=shutil.ignore_patterns("student"))
    write_lessons(run, run_config(folder / "base", shape, settings))
    for _ in range(TRIES):
        shutil.rmtree(run.arm(ARM) / CHECKPOINTS, ignore_errors=True)
        (run.arm(ARM) / STEPS).unlink(missing_ok=True)
        stopped_at, code = _stopped(run)
        if code == GuardStop.exit_code:
            break
        (run.arm(ARM) / ARM_MARKER).unlink(missing_ok=True)
    else:
        raise RuntimeError(f"TERM came too late, or the worker ended with {code} and not with {GuardStop.exit_code}")
    began_s = time.perf_counter()
    subprocess.run(_worker(run), check=True, stdout=sys.stderr)
    rows = list(read_rows(run.arm(ARM) / STEPS, StepMetrics))
    return {
        "stopped_at": stopped_at, "losses": [row.loss for row in rows], "seconds": time.perf_counter() - began_s,
        "tokens": [row.label_tokens + row.rationale_tokens for row in rows],
    }  # fmt: skip


def _worker(run: RunFolder) -> list[str]:
    return [sys.executable, "-m", "aot.student.train.processes.worker", str(run.root), ARM]


def _stopped(run: RunFolder) -> tuple[int, int]:
    """Start a training and send it TERM after its first step; returns the steps that it took, and its exit code."""
    steps = run.arm(ARM) / STEPS
    process = subprocess.Popen(_worker(run), stdout=sys.stderr)
    while process.poll() is None and not (steps.exists() and steps.read_bytes().endswith(b"\n")):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    code = process.wait()
    return len(list(read_rows(steps, StepMetrics))), code


def asked(folder: Path, shape: Shape, settings: Settings) -> Measured:
    """How many tokens a second our prediction writes, each question with its frames."""
    student, questions, store = _student_and_questions(folder, shape, settings)
    pixels = student.pixels(store, max_bytes=1 << 29)
    about: dict[str, Any] = {"pixels": pixels, "arm": "base", "mode": "reason", "batch_size": 8}
    list(predict(student, questions[:2], **about))
    _synchronise()
    began_s = time.perf_counter()
    predictions = list(predict(student, questions, **about))
    _synchronise()
    seconds = time.perf_counter() - began_s
    tokens = sum(prediction.completion_tokens for prediction in predictions)
    peak = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_initialized() else 0.0
    return {"tokens_per_s": tokens / seconds, "tokens": tokens, "seconds": seconds, "n": len(questions),
            "memory_gib": peak}  # fmt: skip


def vllm(folder: Path, shape: Shape, settings: Settings) -> Measured:
    """The same of vLLM: the same prompts and frames, as many tokens each."""
    from PIL import Image
    from vllm import LLM, SamplingParams

    config = run_config(folder / "base", shape, settings)
    processor = load_processor(config.student.base)
    renderer, store = Renderer(processor), FrameStore(RunFolder(folder / "run").frames)
    prompts = []
    for question in _questions(folder, shape):
        assert question.media
        frames = choose_indices(store, question.media, num_frames=shape.num_frames)
        images = [Image.fromarray(frame) for frame in store.frames(frames.uri, frames.indices)]
        text = renderer.prompt(question, frames.times_s, "reason")
        prompts.append({"prompt": text, "multi_modal_data": {"image": images}})
    model = LLM(
        model=str(folder / "base"), dtype="bfloat16", max_model_len=4096, gpu_memory_utilization=0.85,
        limit_mm_per_prompt={"image": shape.num_frames},
    )  # fmt: skip
    greedy = SamplingParams(temperature=0.0, max_tokens=shape.new_tokens, ignore_eos=True)
    model.generate(prompts[:2], greedy)
    began_s = time.perf_counter()
    replies = model.generate(prompts, greedy)
    seconds = time.perf_counter() - began_s
    tokens = sum(len(reply.outputs[0].token_ids) for reply in replies)
    return {"tokens_per_s": tokens / seconds, "tokens": tokens, "seconds": seconds, "n": len(prompts)}


def _student_and_questions(
    folder: Path, shape: Shape, settings: Settings
) -> tuple[Student, list[Question], FrameStore]:
    config = run_config(folder / "base", shape, settings)
    student = load_student(config.student.base, config=config.student)
    return student, _questions(folder, shape), FrameStore(RunFolder(folder / "run").frames)


def _questions(folder: Path, shape: Shape) -> list[Question]:
    return list(read_rows(RunFolder(folder / "run").questions, Question))[: shape.asked_questions]


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


PARTS: dict[str, Callable[[Path, Shape, Settings], Measured]] = {
    "look": look, "build": build, "ours": ours, "plain": plain, "trl": trl, "resume": resume, "asked": asked,
    "vllm": vllm,
}  # fmt: skip


def main() -> int:
    """Do one part and print what it measured."""
    part, folder, shape, settings = sys.argv[1], Path(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
    try:
        measured = PARTS[part](folder, SMALL if shape == "small" else REAL, settings)
    except torch.OutOfMemoryError as error:
        sys.stderr.write(f"{error}\n")
        return NO_MEMORY
    print(json.dumps(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
