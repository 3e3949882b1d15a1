"""What one process needs to train one arm: the model, encoded examples, Trainer settings; and their record.

Everything here happens before the first step and is the same after a restart. A video arm reads kept traces and stored
frames, a text arm the lessons in its folder.
"""

import logging
import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from aot.config import ArmConfig, RunConfig, TrainConfig
from aot.display import counted
from aot.errors import CheckpointError, GuardStop, SourceError
from aot.files.run_folder import RunFolder, publish_json, read_rows
from aot.records import Lesson, Question, Trace, Verdict
from aot.student.model.contract import Contract
from aot.student.model.loading import Student, load_student
from aot.student.model.lora import AdaptedModel, add_lora, unfreeze
from aot.student.model.vision import SharedVision
from aot.student.rows.examples import Example, ExampleSet, LessonExample, Schedule, build_examples, first_kept
from aot.student.rows.frames import FrameSource
from aot.student.rows.lessons import LESSONS, lesson_examples
from aot.student.rows.packing import TEXT_PACKABLE
from aot.student.rows.prompts import MODES, TEXT_MODES
from aot.student.rows.replies import check_round_trip
from aot.student.train.arguments import BatchPlan, plan_batch, train_settings, training_arguments

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """Everything one process needs to train one arm."""

    folder: Path
    config: RunConfig
    arm: ArmConfig
    train: TrainConfig
    """With the arm's own steps and learning rate."""
    student: Student
    adapted: AdaptedModel
    vision: SharedVision | None
    """None where no frames are shown."""
    data: ExampleSet[Example] | ExampleSet[LessonExample]
    trainer_args: transformers.TrainingArguments
    plan: BatchPlan

    @property
    def pack_tokens(self) -> int:
        """How long a packed row of lessons is; 0 when they are padded."""
        return 0 if padded_because(self) else self.train.pack_tokens

    def schedule(self) -> Schedule[Example | LessonExample]:
        """The examples of the whole training, in their order."""
        length = self.train.max_steps * self.train.questions_per_step
        return Schedule(self.data.examples, seed=self.trainer_args.seed, length=length)

    def seen(self) -> list[Example | LessonExample]:
        """The examples that the training comes to, each once: a short one does not reach them all."""
        schedule = self.schedule()
        return [schedule[i] for i in range(min(len(schedule), len(self.data.examples)))]


def train_seed(config: RunConfig, arm: ArmConfig) -> int:
    """One seed for adapters, order and dropout; arms with the same seed start alike and see the same order."""
    return zlib.crc32(f"{config.seed}/{arm.seed}".encode()) % (1 << 31)


def open_session(run: RunFolder, config: RunConfig, arm: ArmConfig, *, store: FrameSource | None = None) -> Session:
    """Load the base, choose what is trained, encode the examples, and record all that.

    Args:
        run: the run folder.
        config: its config.
        arm: which arm.
        store: where the frames lie; a text arm needs none.

    Raises:
        CheckpointError: the base does not fit the arm.
        SourceError: there is nothing to train on.
        GuardStop: the arm is to learn rationales, and there are none.
    """
    folder = run.arm(arm.name)
    train = train_settings(config, arm)
    plan = plan_batch(train, processes=int(os.environ.get("WORLD_SIZE", "1")))
    on_cpu = config.student.device == "cpu" or not torch.cuda.is_available()
    args = training_arguments(  # before the model: ZeRO-3 must know of it when weights are loaded
        train,
        plan=plan,
        output_dir=folder / "checkpoints",
        seed=train_seed(config, arm),
        on_cpu=on_cpu,
        bf16=config.student.dtype == "bfloat16" and not on_cpu,
    )
    # Weights that are trained themselves stay in float32: steps are smaller than bfloat16 can tell.
    own_dtype = {"dtype": "float32"} if arm.tuning == "full" else {}
    student = load_student(config.student.base, config=config.student.model_copy(update=own_dtype))
    if store is None:
        if not train.zero_stage:  # which may hold pieces of the weights only
            _ = student.habits  # a base that cannot be asked afterwards need not be trained
        data: ExampleSet[Example] | ExampleSet[LessonExample] = load_lessons(run, config, arm, student=student)
    elif student.renderer.is_text:
        raise CheckpointError(f"{config.student.base} takes no images; a video run needs an image-text model")
    else:
        data = load_examples(run, config, arm, student=student, store=store)
    transformers.set_seed(args.seed)
    vision = SharedVision(student.model) if store else None
    adapted = unfreeze(student.model) if arm.tuning == "full" else add_lora(student.model, train.lora)
    if vision:
        vision.frozen = not adapted.trains_vision
    session = Session(folder, config, arm, train, student, adapted, vision, data, args, plan)
    _require_rationales(session)
    if args.process_index == 0:
        publish_json(folder / "training.json", training_facts(session))
        lengths = ", ".join(f"{count:,} of {tokens}" for tokens, count in data.length_histogram().items())
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in data.dropped.items()) or "none"
        rows = sum(1 for _ in data.rows())
        told = (
            f"{counted(len(data.examples), 'example')}, {counted(rows, 'row')} ({lengths} tokens); dropped: {dropped}"
        )
        log.info("%s: %s", arm.name, told)
        if student.context < student.config.max_tokens and any("too_long" in reason for reason in data.dropped):
            log.warning("%s: %s; take shorter questions, or a base that knows more", arm.name, _longest(student))
    return session


def _require_rationales(session: Session) -> None:
    """Refuse to train what would be called distilled and be a twin of the arm that learns answers only."""
    arm, data = session.arm, session.data
    if not arm.learns_rationales or any(example.explains for example in session.seen()):
        return
    there = sum(example.explains for example in data.examples)
    if there:
        why = f"its {session.train.max_steps} steps come to none of its {there} rationales; raise train.max_steps"
    else:
        why = (
            f"none of its {len(data.examples)} examples has one (dropped: {data.dropped or 'none'}); look at the "
            f"filters; {_longest(session.student)}"
        )
    raise GuardStop(
        f"arm {arm.name} is to learn rationales, but {why}, or take the arm out of train.arms; it was not trained"
    )


def load_lessons(run: RunFolder, config: RunConfig, arm: ArmConfig, *, student: Student) -> ExampleSet[LessonExample]:
    """Examples from the lessons of a text arm, without those on questions that leak into another split.

    Raises:
        SourceError: there are no lessons, none can be used, or one is about an unknown question.
        CheckpointError: the tokenizer or chat template does not give replies back as they were.
    """
    check_round_trip(student.renderer)
    questions = {q.id: q for q in read_rows(run.questions, Question) if q.split == "train"}
    leaks = _leaks(run)
    path = run.arm(arm.name) / LESSONS
    lessons = list(read_rows(path, Lesson))
    clean = [lesson for lesson in lessons if lesson.question_id not in leaks]
    data = lesson_examples(clean, questions=questions, renderer=student.renderer, max_tokens=student.most_tokens)
    if not data.examples:
        raise SourceError(
            f"none of the {len(lessons)} lessons in {path} can be trained on (dropped: {data.dropped}, "
            f"leaks: {len(lessons) - len(clean)}); {_longest(student)}, and look at the words the tokenizer knows"
        )
    if len(clean) == len(lessons):
        return data
    return replace(data, dropped={**data.dropped, "leaks_into_test": len(lessons) - len(clean)})


def _longest(student: Student) -> str:
    most = f"a row may have {student.most_tokens} tokens"
    if student.context < student.config.max_tokens:
        return f"{most}, which is all that the model knows"
    return f"{most} by student.max_tokens"


def _leaks(run: RunFolder) -> set[str]:
    ledger = read_rows(run.verdicts, Verdict) if run.verdicts.exists() else ()
    return {verdict.question_id for verdict in ledger if verdict.filter == "leakage" and not verdict.keep}


def load_examples(
    run: RunFolder, config: RunConfig, arm: ArmConfig, *, student: Student, store: FrameSource
) -> ExampleSet[Example]:
    """Examples of the train split, without questions that leak into another one.

    Raises:
        SourceError: no question of the train split can be used.
    """
    leaks = _leaks(run)
    questions = [q for q in read_rows(run.questions, Question) if q.split == "train" and q.id not in leaks]
    kept = first_kept(read_rows(run.kept, Trace)) if arm.rationale_weight > 0 else {}
    data = build_examples(
        questions,
        kept=kept,
        store=store,
        renderer=student.renderer,
        num_frames=config.student.num_frames,
        max_tokens=student.most_tokens,
        with_rationales=arm.rationale_weight > 0,
    )
    if not data.examples:
        why = f"look at frames; {_longest(student)}" if questions else f"see {run.refusals} for those refused before"
        raise SourceError(
            f"no question of the train split can be trained on ({counted(len(questions), 'question')}, {len(leaks)} "
            f"more leak into another split, dropped: {data.dropped}); {why}"
        )
    return replace(data, dropped={**data.dropped, "leaks_into_test": len(leaks)}) if leaks else data


def training_facts(session: Session) -> dict[str, Any]:
    """What training.json holds: the trainable set, the batch plan, lengths and drops."""
    adapted, data, seen = session.adapted, session.data, session.seen()
    facts = {
        "arm": session.arm.model_dump(),
        "base": session.config.student.base,
        "base_digest": session.student.base_digest,
        "seed": session.trainer_args.seed,
        "lora_pattern": adapted.pattern,
        "lora_modules": list(adapted.matched),
        "trainable_parameters": adapted.num_trainable,
        "parameters": adapted.num_parameters,
        "trainable_share": round(adapted.num_trainable / adapted.num_parameters, 6),
        "questions": len({example.question_id for example in data.examples}),
        "rationales": sum(example.explains for example in data.examples),
        "questions_seen": len({example.question_id for example in seen}),
        "rationales_seen": sum(example.explains for example in seen) if session.arm.learns_rationales else 0,
        "dropped": data.dropped,
        "length_histogram": data.length_histogram(),
        "max_steps": session.train.max_steps,
        "questions_per_device": session.plan.per_device,
        "accumulation": session.plan.accumulation,
        "processes": session.plan.processes,
        "zero_stage": session.config.train.zero_stage,
        "device": session.student.device.type,
    }
    if session.vision is not None:
        return facts
    why = padded_because(session)
    return {
        **facts,
        "lessons": len(data.examples),
        "packing": f"padded ({why})" if why else "packed",
        "pack_tokens": session.pack_tokens,
        "think_style": session.student.renderer.think_style,
    }


def padded_because(session: Session) -> str:
    """Why the lessons of this session cannot be packed; empty when they are."""
    config = session.adapted.model.config
    text = config.get_text_config()
    window = getattr(text, "sliding_window", None) if getattr(text, "use_sliding_window", True) else None
    if not session.train.pack_tokens:
        return "train.pack_tokens is 0"
    if session.student.model_type not in TEXT_PACKABLE:
        return f"model type {session.student.model_type} is not known to take packed rows"
    if config._attn_implementation != "sdpa":
        return f"attention {config._attn_implementation} takes no mask of our own"
    if window and window < session.config.student.max_tokens:
        return f"attention looks back {window} tokens only, student.max_tokens is more"
    return ""


def contract_of(session: Session) -> Contract:
    """What the adapter of this session expects of whoever loads it."""
    config = session.config
    return Contract(
        arm=session.arm.name,
        base=config.student.base,
        base_digest=session.student.base_digest,
        template_hash=session.student.renderer.template_hash(),
        num_frames=config.student.num_frames,
        modes=MODES if session.vision else TEXT_MODES,
        rationale_weight=session.arm.rationale_weight,
        seed=session.trainer_args.seed,
        config_digest=config.digest(),
        max_answer_tokens=config.student.max_answer_tokens,
        max_rationale_tokens=config.student.max_rationale_tokens,
        template_date=session.student.renderer.date,
    )
