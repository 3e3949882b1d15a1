"""Trains one arm of a run, resuming from its newest intact checkpoint; a finished arm is left alone.

Questions, kept traces and stored frames go in, an adapter with its contract comes out. Several processes are started
through torchrun, unless this process already is one of several.
"""

import logging
import os
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from aot.config import ArmConfig, RunConfig
from aot.errors import CheckpointError, GuardStop, SourceError
from aot.records import Question, Trace
from aot.runs import RunFolder, append_row, open_append, publish_json, publish_rows, read_rows
from aot.student.adapter import is_done, publish_adapter
from aot.student.arguments import BatchPlan, plan_batch, training_arguments
from aot.student.checkpoints import Manifest, newest_intact, remove_newer
from aot.student.collate import Collator
from aot.student.examples import Example, ExampleSet, Schedule, build_examples, first_kept
from aot.student.frames import FramePixels, FrameSource
from aot.student.guards import StopFlag
from aot.student.launch import launch
from aot.student.loading import Contract, Student, load_student
from aot.student.lora import AdaptedModel, adapter_state, add_lora
from aot.student.packing import PACKABLE
from aot.student.rendering import MODES
from aot.student.trainer import StepMetrics, TwoTermTrainer
from aot.student.vision import SharedVision
from video_data.shards import FrameStore

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with steps done and steps in all."""


@dataclass(frozen=True)
class Session:
    """Everything one process needs to train one arm."""

    folder: Path
    config: RunConfig
    arm: ArmConfig
    student: Student
    adapted: AdaptedModel
    vision: SharedVision
    data: ExampleSet
    trainer_args: transformers.TrainingArguments
    plan: BatchPlan


def train_arm(run: RunFolder, config: RunConfig, arm: ArmConfig, *, progress: Progress | None = None) -> None:
    """Train `arm` to the end of its steps and publish its adapter in `run.arm(arm.name)`.

    Raises:
        GuardStop: a signal or a broken number stopped it; the same call resumes.
        CheckpointError: stored state does not fit this run.
        SourceError: there is nothing to train on.
    """
    folder = run.arm(arm.name)
    if is_done(folder, config_digest=config.digest()):
        log.info("arm %s is trained already", arm.name)
        return
    several = config.train.procs > 1 or config.train.zero_stage > 0
    if several and "WORLD_SIZE" not in os.environ:
        launch(run, config, arm, progress=progress)
    else:
        train_here(run, config, arm, progress=progress)


def train_here(run: RunFolder, config: RunConfig, arm: ArmConfig, *, progress: Progress | None = None) -> None:
    """Train in this process, which may be one of several that torchrun started."""
    stop = StopFlag()
    # peft asks transformers for an attribute under its old name; nobody who trains can do anything about it
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
    with stop.listening():
        store = FrameStore(run.frames)
        session = open_session(run, config, arm, store=store)
        _train(session, store=store, stop=stop, progress=progress)


def train_seed(config: RunConfig, arm: ArmConfig) -> int:
    """One seed for adapters, order and dropout; arms with the same seed start alike and see the same order."""
    return zlib.crc32(f"{config.seed}/{arm.seed}".encode()) % (1 << 31)


def open_session(run: RunFolder, config: RunConfig, arm: ArmConfig, *, store: FrameSource) -> Session:
    """Load the base, add adapters, encode the examples, and record what will be trained."""
    folder = run.arm(arm.name)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    plan = plan_batch(config.train, processes=processes)
    on_cpu = config.student.device == "cpu" or not torch.cuda.is_available()
    args = training_arguments(  # before the model: ZeRO-3 must know of it when weights are loaded
        config.train,
        plan=plan,
        output_dir=folder / "checkpoints",
        seed=train_seed(config, arm),
        on_cpu=on_cpu,
        bf16=config.student.dtype == "bfloat16" and not on_cpu,
    )
    student = load_student(config.student.base, config=config.student)
    data = load_examples(run, config, arm, student=student, store=store)
    transformers.set_seed(args.seed)
    frozen_probe = SharedVision(student.model)
    adapted = add_lora(student.model, config.train.lora)
    frozen_probe.frozen = not adapted.trains_vision
    session = Session(folder, config, arm, student, adapted, frozen_probe, data, args, plan)
    if args.process_index == 0:
        publish_json(folder / "training.json", training_facts(session))
        log.info("%s: %d questions, %d rows; tokens: %s; dropped: %s", arm.name, len(data.examples),
                 sum(1 for _ in data.rows()), data.length_histogram(), data.dropped or "none")  # fmt: skip
    return session


def load_examples(
    run: RunFolder, config: RunConfig, arm: ArmConfig, *, student: Student, store: FrameSource
) -> ExampleSet:
    """Examples of the train split.

    Raises:
        SourceError: no question of the train split can be used.
    """
    questions = [q for q in read_rows(run.questions, Question) if q.split == "train"]
    kept = first_kept(read_rows(run.kept, Trace)) if arm.rationale_weight > 0 else {}
    data = build_examples(
        questions,
        kept=kept,
        store=store,
        renderer=student.renderer,
        num_frames=config.student.num_frames,
        max_tokens=config.student.max_tokens,
        with_rationales=arm.rationale_weight > 0,
    )
    if not data.examples:
        raise SourceError(
            f"no question of the train split can be trained on ({len(questions)} questions, dropped: {data.dropped}); "
            "look at frames and student.max_tokens"
        )
    return data


def training_facts(session: Session) -> dict[str, Any]:
    """What training.json holds: the trainable set, the batch plan, lengths and drops."""
    adapted, data = session.adapted, session.data
    return {
        "arm": session.arm.model_dump(),
        "base": session.config.student.base,
        "base_digest": session.student.base_digest,
        "seed": session.trainer_args.seed,
        "lora_pattern": adapted.pattern,
        "lora_modules": list(adapted.matched),
        "trainable_parameters": adapted.num_trainable,
        "parameters": adapted.num_parameters,
        "trainable_share": round(adapted.num_trainable / adapted.num_parameters, 6),
        "questions": len(data.examples),
        "rationales": sum(example.reason is not None for example in data.examples),
        "dropped": data.dropped,
        "length_histogram": data.length_histogram(),
        "max_steps": session.config.train.max_steps,
        "questions_per_device": session.plan.per_device,
        "accumulation": session.plan.accumulation,
        "processes": session.plan.processes,
        "zero_stage": session.config.train.zero_stage,
        "device": session.student.device.type,
    }


def make_trainer(
    session: Session, *, store: FrameSource, stop: StopFlag, on_step: Callable[[StepMetrics], None]
) -> TwoTermTrainer:
    """The Trainer of a session, ready to train."""
    train = session.config.train
    student = session.student
    pixels = FramePixels(
        store, student.processor, model_type=student.model_type, max_bytes=train.frame_cache_mb << 20
    )  # fmt: skip
    schedule = Schedule(
        session.data.examples, seed=session.trainer_args.seed, length=train.max_steps * train.questions_per_step
    )
    return TwoTermTrainer(
        model=session.adapted.model,
        args=session.trainer_args,
        train_dataset=schedule,
        data_collator=Collator(
            student.renderer,
            pixels,
            student.pad_id,
            dummy_size_hw=dummy_size(session.data.examples),
            packed=student.model_type in PACKABLE and session.adapted.model.config._attn_implementation == "sdpa",
        ),
        rationale_weight=session.arm.rationale_weight,
        vision=session.vision,
        stop=stop,
        on_step=on_step,
        keep_checkpoints=train.keep_checkpoints,
        zero_stage=train.zero_stage,
    )


def dummy_size(examples: tuple[Example, ...]) -> tuple[int, int] | None:
    """Size of the dummy frame: that of the first frame there is, so that batches without frames match."""
    return next((example.frames.size_hw for example in examples if example.frames), None)


def _train(session: Session, *, store: FrameSource, stop: StopFlag, progress: Progress | None) -> None:
    max_steps = session.config.train.max_steps
    root = session.folder / "checkpoints"
    is_writer = session.trainer_args.process_index == 0
    found = newest_intact(root)
    if found:
        _check_same_setup(found[1], session)
        log.info("%s: resumed from step %d of %d", session.arm.name, found[1].step, max_steps)
    metrics_path = session.folder / "metrics.jsonl"
    if is_writer:
        step = found[1].step if found else 0
        remove_newer(root, step=step)
        rows = read_rows(metrics_path, StepMetrics) if metrics_path.exists() else ()
        publish_rows(metrics_path, [row for row in rows if row.step <= step])
    metrics = open_append(metrics_path) if is_writer else None

    def on_step(row: StepMetrics) -> None:
        if metrics:
            append_row(metrics, row)
        if progress:
            progress(row.step, max_steps)

    trainer = make_trainer(session, store=store, stop=stop, on_step=on_step)
    if not found or found[1].step < max_steps:
        trainer.train(resume_from_checkpoint=str(found[0]) if found else None)
    if metrics:
        metrics.close()
    if stop.name and trainer.state.global_step < max_steps and not (found and found[1].step == max_steps):
        raise GuardStop(f"{stop.name} stopped training at step {trainer.state.global_step} of {max_steps}; it was saved")
    if is_writer:
        _publish(session, trained=bool(not found or found[1].step < max_steps))
    trainer.accelerator.wait_for_everyone()


def _publish(session: Session, *, trained: bool) -> None:
    found = newest_intact(session.folder / "checkpoints")
    if not found or found[1].step != session.config.train.max_steps:
        raise CheckpointError(f"{session.folder} holds no intact checkpoint of the last step; run the same command again")
    whole = trained and session.config.train.zero_stage < 3
    publish_adapter(
        session.folder,
        checkpoint=found[0],
        memory=adapter_state(session.adapted.model) if whole else None,
        config=session.adapted.model.peft_config["default"],
        contract=contract_of(session),
    )


def contract_of(session: Session) -> Contract:
    """What the adapter of this session expects of whoever loads it."""
    config = session.config
    return Contract(
        arm=session.arm.name,
        base=config.student.base,
        base_digest=session.student.base_digest,
        template_hash=session.student.renderer.template_hash(),
        num_frames=config.student.num_frames,
        modes=MODES,
        rationale_weight=session.arm.rationale_weight,
        seed=session.trainer_args.seed,
        config_digest=config.digest(),
        max_answer_tokens=config.student.max_answer_tokens,
        max_rationale_tokens=config.student.max_rationale_tokens,
    )


def _check_same_setup(manifest: Manifest, session: Session) -> None:
    there = (manifest.world_size, manifest.zero_stage)
    here = (session.plan.processes, session.config.train.zero_stage)
    if there != here:
        raise CheckpointError(
            f"{session.folder}: its checkpoints were written by {there[0]} processes with ZeRO stage {there[1]}, "
            f"now there are {here[0]} with stage {here[1]}; use the same set-up, or delete the checkpoints"
        )
