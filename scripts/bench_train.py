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
    "Identify: the next step after 9.6s is asked.\n"
    "Gather: 0.2s-2.4s chop onion [1]. 2.4s-5.1s fry onion [1]. 5.1s-9.6s mix egg [1].\n"
    "Combine: omelette fits, after mix egg comes pour egg [2].\nAnswer: pour egg"
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
    _write_frames(run.frames)
    questions = [_question(i) for i in range(NUM_CLIPS * 8)]
    publish_rows(run.questions, questions)
    publish_rows(run.kept, [_trace(question) for question in questions])
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


def _write_frames(folder: Path) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    shape = (FRAMES_EACH, *SIZE_HW, 3)
    clips = {f"clip{i}.mp4": rng.integers(0, 256, shape, dtype=np.uint8) for i in range(NUM_CLIPS)}
    header = shard_header(dict.fromkeys(clips, shape), room=header_room(clips))
    (folder / "shard-00000.safetensors").write_bytes(header + b"".join(f.tobytes() for f in clips.values()))
    lines = [clip_line(_stored(uri, frames)) for uri, frames in clips.items()]
    (folder / "index.jsonl").write_text("".join(lines))


def _stored(uri: str, frames: np.ndarray) -> StoredClip:
    return StoredClip(
        uri=uri, sha256="0" * 64, duration_s=FRAMES_EACH / 3, true_width=SIZE_HW[1], true_height=SIZE_HW[0],
        stored_width=SIZE_HW[1], stored_height=SIZE_HW[0], times_s=tuple(i / 3 for i in range(FRAMES_EACH)),
        backend="pyav", verdict="complete", note="", shard="shard-00000.safetensors",
        frames_crc32=tuple(zlib.crc32(frame.tobytes()) for frame in frames),
    )  # fmt: skip


def _question(index: int) -> Question:
    choices = ("fry onion", "pour egg", "chop cheese", "wash tomato")
    media = MediaRef(uri=f"clip{index % NUM_CLIPS}.mp4", end_s=4.0 + index % 4)
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
