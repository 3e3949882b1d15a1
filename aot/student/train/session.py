"""What one process needs to train one arm: the model, encoded examples, Trainer settings; and their record.

Everything here happens before the first step and is the same after a restart. What is learned are the lessons in the
folder of the arm, with the stored frames that they show.
"""

import logging
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from aot.config import SWITCHES, ArmConfig, RunConfig, TrainConfig, switched
from aot.display import counted
from aot.errors import CheckpointError, GuardStop, SourceError
from aot.files.run_folder import CHECKPOINTS, LESSONS, TRAINING, RunFolder, publish_json, read_rows
from aot.records import Lesson
from aot.student.model.contract import Contract
from aot.student.model.loading import Student, load_student, pick_dtype, take_up
from aot.student.model.lora import AdaptedModel, add_lora, decoder_layers, leave_inputs, unfreeze
from aot.student.model.vision import SharedVision
from aot.student.rows.arm_examples import judged_replies, load_examples, training_questions
from aot.student.rows.examples import Example, ExampleSet, Schedule, TokenWeights
from aot.student.rows.frames import FrameSource
from aot.student.rows.lesson_files import no_lessons_in, offered_in
from aot.student.rows.packing import PACKABLE, TEXT_PACKABLE
from aot.student.rows.prompts import MODES, TEXT_MODES
from aot.student.rows.replies import check_round_trip
from aot.student.rows.talks import talk_hash
from aot.student.train.arguments import BatchPlan, plan_batch, train_settings, training_arguments
from aot.student.train.held_out import hold_out

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
    store: FrameSource | None
    """Both are None where no frames are shown."""
    data: ExampleSet
    held_out: tuple[Example, ...]
    """What early stopping looks at, and nobody learns from."""
    trainer_args: transformers.TrainingArguments
    plan: BatchPlan
    features: Path
    """Folder of what vision towers made of frames of this run."""

    @property
    def pack_tokens(self) -> int:
        """About how long a packed row without frames is; 0 when rows are padded, or share the frames of a question."""
        return 0 if self.store is not None or padded_because(self) else self.train.pack_tokens

    def schedule(self) -> Schedule:
        """The examples of the whole training, in their order."""
        length = self.train.max_steps * self.train.questions_per_step
        return Schedule(self.data.examples, seed=self.trainer_args.seed, length=length)

    def seen(self) -> list[Example]:
        """The examples that the training comes to, each once: a short one does not reach them all."""
        schedule = self.schedule()
        return [schedule[i] for i in range(min(len(schedule), len(self.data.examples)))]


def train_seed(seed: int, arm: ArmConfig) -> int:
    """One seed for adapters, order and dropout; arms with the same seed start alike and see the same order."""
    return zlib.crc32(f"{seed}/{arm.seed}".encode()) % (1 << 31)


def open_session(run: RunFolder, config: RunConfig, arm: ArmConfig) -> Session:
    """Load the base, choose what is trained, encode the examples, and record all that.

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
        output_dir=folder / CHECKPOINTS,
        seed=train_seed(config.seed, arm),
        on_cpu=on_cpu,
        bf16=pick_dtype(config.student) == torch.bfloat16 and not on_cpu,
        name=arm.name,
    )
    # Weights that are trained themselves stay in float32: steps are smaller than bfloat16 can tell.
    own_dtype = {"dtype": "float32"} if arm.tuning == "full" else {}
    # Other kernels are switched on once their loss was compared with that of sdpa (options.py).
    settings = config.student.model_copy(update={"attention": "sdpa", **own_dtype})
    student = load_student(config.student.base, config=settings)
    lessons = list(read_rows(folder / LESSONS, Lesson))
    start = run.arm(start_name) if (start_name := config.start_of(arm)) else None
    rollouts = judged_replies(start) if start and arm.chains == "on_policy" else []
    student.renderer.offered = offered_in(folder)
    store = _frame_store(run) if any(one.with_frames for rows in (lessons, rollouts) for one in rows) else None
    if store is not None and not student.renderer.takes_images:
        raise CheckpointError(f"{config.student.base} takes no images; a video run needs an image-text model")
    if store is None:
        if not train.zero_stage:  # which may hold pieces of the weights only
            _ = student.habits  # a base that cannot be asked afterwards need not be trained
        check_round_trip(student.renderer)
    any_refused = any(lesson.form == "refused" for lesson in lessons)
    weights = TokenWeights(arm.key_weight, arm.negative_weight if any_refused else 0.0)
    data = load_examples(
        run, lessons, student=student, store=store, span_weights=train.weights, weights=weights, rollouts=rollouts
    )
    if not data.examples:
        num, where = len(lessons) + len(rollouts), folder / LESSONS
        raise SourceError(
            f"none of the {num} lessons in {where} can be trained on (dropped: {data.dropped}); {_longest(student)}; "
            f"look at frames, at the words the tokenizer knows, and at {run.refusals}"
        )
    held_out: tuple[Example, ...] = ()
    if train.early_stop:
        data, held_out = hold_out(data, training_questions(run), share=train.early_stop.share, seed=config.seed)
    # Only now are lessons counted from which steps may follow; ZeRO-3 needed the arguments before it saw the model.
    steps = config.steps_of(arm, lessons=len(data.examples))
    train, args.max_steps = train.model_copy(update={"max_steps": steps}), steps
    transformers.set_seed(args.seed)
    vision = SharedVision(student.model) if store is not None else None
    adapted = unfreeze(student.model) if arm.tuning == "full" else add_lora(student.model, train.lora)
    if start:
        take_up(adapted.model, start, tuning=arm.tuning)
    if args.bf16:
        leave_inputs(adapted.model)
    if vision:
        vision.frozen = not adapted.trains_vision
    if args.fsdp_plugin_args is not None:  # the model's own list names layers that composite models lack
        layers = sorted({type(layer).__name__ for layer in decoder_layers(student.model)})
        args.fsdp_plugin_args["transformer_cls_names_to_wrap"] = layers
    session = Session(
        folder, config, arm, train, student, adapted, vision, store, data, held_out, args, plan, run.vision_features
    )  # fmt: skip
    _require_rationales(session)
    if args.process_index == 0:
        publish_json(folder / TRAINING, training_facts(session))
        lengths = ", ".join(f"{count:,} of {tokens}" for tokens, count in data.length_histogram().items())
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in data.dropped.items()) or "none"
        rows = sum(1 for _ in data.rows())
        counts = f"{counted(len(data.examples), 'example')}, {counted(rows, 'row')}"
        log.info("%s: %s (%s tokens); dropped: %s", arm.name, counts, lengths, dropped)
        if student.context < student.config.max_tokens and "row_too_long" in data.dropped:
            log.warning("%s: %s; take shorter questions, or a base that knows more", arm.name, _longest(student))
    return session


def _frame_store(run: RunFolder) -> FrameSource:
    from video_data.store.shards import FrameStore  # here, because text is trained without the video packages

    return FrameStore(run.frames)


def _require_rationales(session: Session) -> None:
    """Refuse to train what would be called distilled and be a twin of the arm that learns answers only."""
    arm, data = session.arm, session.data
    if arm.order == "tool_use" and not any(row.learns_call for one in session.seen() for row in one.rows):
        raise GuardStop(
            f"arm {arm.name} is to call tools, but none of the {len(data.examples)} examples that its "
            f"{session.train.max_steps} steps come to teaches a call (dropped: {data.dropped or 'none'}; "
            f"train.weights.call is {session.train.weights.call:g}); {_longest(session.student)}; it was not trained"
        )
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


def _longest(student: Student) -> str:
    most = f"a row may have {student.most_tokens} tokens"
    if student.context < student.config.max_tokens:
        return f"{most}, which is all that the model knows"
    return f"{most} by student.max_tokens"


def training_facts(session: Session) -> dict[str, Any]:
    """What training.json holds: the trainable set, the batch plan, lengths and drops."""
    adapted, data, seen = session.adapted, session.data, session.seen()
    why = padded_because(session)
    return {
        "arm": session.arm.model_dump(exclude=set(SWITCHES) - switched(session.arm).keys()),
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
        "sharding": session.config.train.sharding,
        "device": session.student.device.type,
        **(
            {"gpu": torch.cuda.get_device_name(session.student.device)} if session.student.device.type == "cuda" else {}
        ),
        "dtype": session.student.config.dtype,
        "attention": _attention(session),
        "held_out": len(session.held_out),
        "lessons": sum(len(example.rows) for example in data.examples),
        "packing": f"padded ({why})" if why else "packed",
        "pack_tokens": session.pack_tokens,
        "think_style": session.student.renderer.think_style,
        **(_span_facts(session) if any(row.spans for row in data.rows()) else {}),
    }


def _span_facts(session: Session) -> dict[str, Any]:
    """What is learned with which weight, where tokens have any; and the chains that make no lesson."""
    spans = session.data.span_tokens(session.train.weights)
    return {"span_tokens": spans, "no_lesson": no_lessons_in(session.folder)}


def padded_because(session: Session) -> str:
    """Why the rows of this session cannot be packed; empty when they are."""
    config = session.adapted.model.config
    text = config.get_text_config()
    window = getattr(text, "sliding_window", None) if getattr(text, "use_sliding_window", True) else None
    if session.store is None and not session.train.pack_tokens:
        return "train.pack_tokens is 0"
    if session.student.model_type not in (TEXT_PACKABLE if session.store is None else PACKABLE):
        return f"model type {session.student.model_type} is not known to take packed rows"
    if _attention(session) != "sdpa":
        return f"attention {_attention(session)} takes no mask of our own"
    if window and window < session.config.student.max_tokens:
        return f"attention looks back {window} tokens only, student.max_tokens is more"
    return ""


def _attention(session: Session) -> str:
    """What calculates attention in this training: eager also in place of an sdpa that the model type has not."""
    wanted = session.config.student.attention
    return str(session.adapted.model.config._attn_implementation) if wanted == "sdpa" else wanted


def contract_of(session: Session) -> Contract:
    """What the adapter of this session expects of whoever loads it."""
    config, renderer = session.config, session.student.renderer
    modes, tools = TEXT_MODES if session.store is None else MODES, renderer.offered
    return Contract(
        arm=session.arm.name,
        base=config.student.base,
        base_digest=session.student.base_digest,
        template_hash=renderer.template_hash(),
        num_frames=config.student.num_frames,
        frame_view=config.student.frame_view,
        modes=modes if not tools else (*modes, "tools"),
        rationale_weight=session.arm.rationale_weight,
        seed=session.trainer_args.seed,
        config_digest=config.digest(),
        max_answer_tokens=config.student.max_answer_tokens,
        max_rationale_tokens=config.student.max_rationale_tokens,
        template_date=renderer.date,
        tools=tools,
        talk_hash=talk_hash(renderer) if tools else "",
    )
