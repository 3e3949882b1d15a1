"""Prints how much slower a training step is than a bare loop over the same batches and the same model.

Command: python scripts/bench_train.py [--base FOLDER] [--steps 20] [--questions 16] (two CPU cores: about 30 s).
Both loops run the same frozen vision tower and adapters, forward, backward and AdamW; the bare one has its batches
ready in memory. The figure that counts is the ratio; the target is at most 1.15.
"""

import argparse
import statistics
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aot.arms.lessons import arm_lessons, read_material
from aot.config import parse_config
from aot.files.run_folder import LESSONS, RunFolder, publish_rows
from aot.records import MediaRef, Question, Trace
from aot.student.train.arm import make_trainer
from aot.student.train.guards import StopFlag
from aot.student.train.loss import two_term_loss
from aot.student.train.session import Session, open_session
from aot.student.train.trainer import StepMetrics
from video_data.store.shards import StoredClip, clip_line, header_room, shard_header

NUM_CLIPS, FRAMES_EACH, SIZE_HW = 16, 24, (120, 160)
RATIONALE = (
    "Identify: the question asks for the step after 9.6s.\n"
    "Gather: 0.2s-2.4s chop onion [1]. 2.4s-5.1s fry onion [1]. 5.1s-9.6s mix egg [1].\n"
    "Combine: this is omelette, where pour egg comes after mix egg [2].\nAnswer: pour egg"
)


def main() -> None:
    """Time both, step by step in turns, and print seconds a step and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="tiny-video")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--questions", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ours, bare = _compare(_session(Path(folder), options), steps=options.steps)
    ratio = ours / bare
    print(f"trainer {ours * 1e3:.1f} ms/step, bare loop {bare * 1e3:.1f} ms/step, ratio {ratio:.3f}")


def _session(root: Path, options: argparse.Namespace) -> Session:
    run = RunFolder(root)
    write_material(run, clips=NUM_CLIPS, frames=FRAMES_EACH, size_hw=SIZE_HW)
    raw = {
        "data": {"dataset": "plain"},
        "student": {"base": options.base},
        "train": {
            "max_steps": 3 * options.steps,
            "questions_per_step": options.questions,
            "questions_per_device": options.questions,
            "save_steps": 1_000_000,
        },
    }
    config = parse_config(raw, source="bench")
    arm = config.train.arms[-1]
    publish_rows(run.arm(arm.name) / LESSONS, arm_lessons(read_material(run, config), arm, seed=config.seed))
    return open_session(run, config, arm)


def _compare(session: Session, *, steps: int) -> tuple[float, float]:
    """Median seconds a step of the Trainer, and of a bare step over the same batch right after it."""
    ours: list[float] = []
    bare: list[float] = []
    batches: list[dict[str, Any]] = []
    parameters = [p for p in session.adapted.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    resumed = time.perf_counter()

    def on_step(row: StepMetrics) -> None:
        nonlocal resumed
        now = time.perf_counter()
        ours.append(now - resumed)
        _bare_step(session, batches[-1], parameters, optimizer)
        resumed = time.perf_counter()
        bare.append(resumed - now)

    trainer = make_trainer(session, stop=StopFlag(), on_step=on_step)
    collator: Any = trainer.data_collator

    def keep_batch(examples: list[object]) -> dict[str, object]:
        batches.append(dict(batch := collator(examples)))
        return batch

    trainer.data_collator = keep_batch
    trainer.train()
    return statistics.median(ours[steps:]), statistics.median(bare[steps:])


def _bare_step(
    session: Session, batch: dict[str, Any], parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    inputs = {k: v for k, v in batch.items() if k not in _BOOKKEEPING}
    labels = batch["labels"]
    assert session.vision
    session.vision.plan = batch["clip_plan"]
    keep = labels.shape[1] - int((labels != -100).any(dim=0).to(torch.int8).argmax()) + 1
    logits = session.adapted.model(**inputs, use_cache=False, logits_to_keep=keep).logits
    loss = two_term_loss(
        logits,
        labels[:, -keep:],
        is_rationale_BT=batch["is_rationale"][:, -keep:],
        num_supervised=batch["num_supervised"],
        rationale_weight=1.0,
    )
    loss.total.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad()


_BOOKKEEPING = ("labels", "is_rationale", "num_supervised", "clip_plan", "question_ids")


def write_material(run: RunFolder, *, clips: int, frames: int, size_hw: tuple[int, int], fps: int = 3) -> None:
    """Clips of noise in the frame store of a run, eight questions about each, and a kept trace of every question."""
    rng = np.random.default_rng(0)
    drawn = {f"clip{i}.mp4": rng.integers(0, 256, (frames, *size_hw, 3), dtype=np.uint8) for i in range(clips)}
    run.frames.mkdir(parents=True)
    header = shard_header({uri: value.shape for uri, value in drawn.items()}, room=header_room(drawn))
    (run.frames / "shard-00000.safetensors").write_bytes(header + b"".join(f.tobytes() for f in drawn.values()))
    (run.frames / "index.jsonl").write_text(
        "".join(clip_line(_stored(uri, value, fps)) for uri, value in drawn.items())
    )
    questions = [_question(i, clips=clips) for i in range(clips * 8)]
    publish_rows(run.questions, questions)
    publish_rows(run.kept, [_trace(question) for question in questions])


def _stored(uri: str, frames_THWC: np.ndarray, fps: int) -> StoredClip:
    count, height, width, _ = frames_THWC.shape
    return StoredClip(
        uri=uri, sha256="0" * 64, duration_s=count / fps, true_width=width, true_height=height, stored_width=width,
        stored_height=height, times_s=tuple(i / fps for i in range(count)), backend="pyav", verdict="complete", note="",
        shard="shard-00000.safetensors", frames_crc32=tuple(zlib.crc32(frame.tobytes()) for frame in frames_THWC),
    )  # fmt: skip


def _question(index: int, *, clips: int) -> Question:
    choices = ("fry onion", "pour egg", "chop cheese", "wash tomato")
    media = MediaRef(uri=f"clip{index % clips}.mp4", end_s=4.0 + index % 4)
    return Question(
        id=f"q{index}", dataset="bench", split="train", kind="next_choice", text="What is the next step?",
        choices=choices, answer="pour egg", answer_type="choice", media=media, group=media.uri,
    )  # fmt: skip


def _trace(question: Question) -> Trace:
    return Trace(
        question_id=question.id, sample_index=0, teacher="bench", rationale=RATIONALE, answer=question.answer,
        status="ok", config_digest="bench",
    )  # fmt: skip


if __name__ == "__main__":
    main()
