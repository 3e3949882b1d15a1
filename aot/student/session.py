"""What one process needs to train one arm: model with adapters, encoded examples, Trainer settings; and their record.

Everything here happens before the first step and is the same after a restart.
"""

import logging
import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from aot.config import ArmConfig, RunConfig
from aot.errors import SourceError
from aot.records import Question, Trace, Verdict
from aot.runs import RunFolder, publish_json, read_rows
from aot.student.arguments import BatchPlan, plan_batch, training_arguments
from aot.student.examples import ExampleSet, build_examples, first_kept
from aot.student.frames import FrameSource
from aot.student.loading import Contract, Student, load_student
from aot.student.lora import AdaptedModel, add_lora
from aot.student.rendering import MODES
from aot.student.vision import SharedVision

log = logging.getLogger(__name__)


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
    vision = SharedVision(student.model)
    adapted = add_lora(student.model, config.train.lora)
    vision.frozen = not adapted.trains_vision
    session = Session(folder, config, arm, student, adapted, vision, data, args, plan)
    if args.process_index == 0:
        publish_json(folder / "training.json", training_facts(session))
        log.info("%s: %d questions, %d rows; tokens: %s; dropped: %s", arm.name, len(data.examples),
                 sum(1 for _ in data.rows()), data.length_histogram(), data.dropped or "none")  # fmt: skip
    return session


def load_examples(
    run: RunFolder, config: RunConfig, arm: ArmConfig, *, student: Student, store: FrameSource
) -> ExampleSet:
    """Examples of the train split, without questions that leak into another one.

    Raises:
        SourceError: no question of the train split can be used.
    """
    ledger = read_rows(run.verdicts, Verdict) if run.verdicts.exists() else ()
    leaks = {verdict.question_id for verdict in ledger if verdict.filter == "leakage" and not verdict.keep}
    questions = [q for q in read_rows(run.questions, Question) if q.split == "train" and q.id not in leaks]
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
    return replace(data, dropped={**data.dropped, "leaks_into_test": len(leaks)}) if leaks else data


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
