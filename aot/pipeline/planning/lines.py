"""A plan in words for a reader, and in numbers for a program; every assumption stands in it."""

from dataclasses import fields

from pydantic import Field

from aot.config import RunConfig, chat_jobs
from aot.display import counted
from aot.errors import AotError
from aot.pipeline.planning.costs import DEVICES, GB, SERVED_MFU, Device, Memory, served_gpu_hours
from aot.pipeline.planning.frames import FrameCost
from aot.pipeline.planning.reckon import KEPT, Planned, fits, reckon
from aot.pipeline.planning.shapes import FAMILIES, published, published_shape, shape_of
from aot.records import JsonDict, Record

UNKNOWN = (
    "plan: unknown, because the shape of {base} is known nowhere: no folder with its config.json is here, and no facts "
    "of it come with this package (those of {names} do); run `aot prefetch CONFIG` or give student.base=FOLDER"
)
_PARTS = {
    "weights": "weights", "trained": "adapters, gradients, Adam", "activations": "activations", "logits": "logits",
    "vision": "vision tower", "cache": "keys and values", "overhead": "runtime and slack",
}  # fmt: skip


class ArmNumbers(Record):
    """What the training of one arm takes, its helpers included."""

    name: str
    tuning: str
    trainable: int
    """Parameters that are trained."""
    steps: int
    """Optimiser steps."""
    step_s: float
    """Seconds of one of them."""
    row_tokens: float
    """Of the longest kind of row."""
    memory: Memory
    """Bytes on one device."""
    memory_bytes: float
    """All of them."""
    seconds: float
    """Of all steps."""


class QuestionNumbers(Record):
    """How many questions a plan is for."""

    train: int
    test: int
    source: str
    """Whether they were counted, or are published sizes."""


class PlanNumbers(Record):
    """What `aot plan --json` prints; where the shape of the student is known nowhere, only its name."""

    student: str
    reckoned: bool
    """Whether anything below could be reckoned."""
    model_type: str = ""
    source: str = ""
    """Where the shape of the model is known from."""
    parameters: int | None = None
    vision_parameters: int | None = None
    weight_bytes: int | None = None
    """Of one weight of the base."""
    device: Device | None = None
    processes: int | None = None
    zero_stage: int | None = None
    frame: FrameCost | None = None
    """What one frame costs; None for text."""
    num_frames: int | None = None
    """Shown with a question."""
    arms: tuple[ArmNumbers, ...] = ()
    memory_by_stage: dict[str, float] = Field(default_factory=dict)
    """`zeroSxN`, stage of ZeRO and processes, to the bytes of one device in training, for the arm that takes most."""
    evaluation_memory: Memory | None = None
    """Bytes on one device."""
    evaluation_bytes: float | None = None
    """All of them."""
    training_s: float | None = None
    evaluation_s: float | None = None
    answers: int | None = None
    """That are given in the evaluation."""
    gpu_hours: float | None = None
    questions: QuestionNumbers | None = None


class PlanError(Record):
    """What would stop a run at once."""

    boundary: str
    """Where it was found out, such as `config`, `source`, `checkpoint`."""
    message: str


class DryRun(Record):
    """What `aot run CONFIG --dry-run --json` and `aot doctor --config CONFIG --json` print."""

    settings: JsonDict
    """Every setting that the run reads (docs/settings.md)."""
    plan: PlanNumbers
    error: PlanError | None
    """None where the run can begin."""
    lines: tuple[str, ...]
    """What the command prints without `--json`."""


def planned_lines(planned: Planned | None, config: RunConfig, *, chain_calls: tuple[int, int, int]) -> list[str]:
    """What a run takes, line by line; one line where nothing is known of its student.

    Args:
        planned: what was reckoned.
        config: of the run.
        chain_calls: calls of the chat teacher, and tokens read and written in one; zeros where there is none.
    """
    if planned is None:
        stored = shape_of(config.student)
        if stored is None:
            return [UNKNOWN.format(base=config.student.base, names=", ".join(published()))]
        return [
            f"student: {config.student.base}, {stored.model_type} ({stored.source}), {stored.parameters:,} parameters; "
            f"adapters have {stored.trainable(config.train.lora):,}",
            f"plan: memory and hours unknown, because {stored.model_type} is none of the types reckoned here "
            f"({', '.join(FAMILIES)}); run with --limit 8 first and scale up",
        ]
    return [
        *_student_lines(planned, config),
        *_memory_lines(planned),
        *_time_lines(planned),
        *_chain_lines(planned, config, chain_calls),
        *_assumptions(planned, config),
    ]


def _student_lines(planned: Planned, config: RunConfig) -> list[str]:
    shape, decoder, lora = planned.shape, planned.shape.decoder, config.train.lora
    assert decoder
    lines = [
        f"student: {config.student.base}, {shape.model_type} ({shape.source}), {shape.parameters:,} parameters: "
        f"language model and output {shape.speaking:,}" + (f", vision part {shape.seeing:,}" if shape.tower else "")
    ]
    for arm in planned.arms:
        share = arm.trainable / (shape.parameters + (arm.trainable if arm.tuning == "lora" else 0))
        what = "the language model" if arm.tuning == "full" else _lora_words(planned, config)
        lines.append(f"arm {arm.name}: trains {arm.trainable:,} parameters ({share:.2%}), {what}; {arm.steps:,} steps")
    longest = max(arm.row_tokens for arm in planned.arms)
    if planned.frame:
        frame, count = planned.frame, planned.num_frames
        views = f", as {frame.views} pictures" if frame.views > 1 else ""
        lines.append(
            f"visual tokens: {frame.tokens:,} for a frame{views}, {count * frame.tokens:,} for the "
            f"{counted(count, 'frame')} of a sample ({frame.patches * count:,} patches in the vision tower)"
        )
    lines.append(f"row: about {longest:,.0f} tokens of student.max_tokens {config.student.max_tokens:,}")
    most = min(config.student.max_tokens, decoder.context or config.student.max_tokens)
    if longest > most:
        lines.append(
            f"note: such rows are longer than the {most:,} tokens that are allowed, and would be dropped; show fewer "
            "frames (student.num_frames), smaller ones (frames.max_side_px), or raise student.max_tokens"
            + (f" (the model knows {decoder.context:,} positions)" if decoder.context else "")
        )
    if lora.target_pattern and not any(arm.tuning == "lora" for arm in planned.arms):
        lines.append("note: no arm has adapters, so train.lora is not read")
    return lines


def _lora_words(planned: Planned, config: RunConfig) -> str:
    layers = len(planned.shape.adapted(config.train.lora))
    return f"adapters of rank {config.train.lora.rank} on {layers} layers"


def memory_words(memory: Memory) -> str:
    """Its parts in GB, those of nothing left out."""
    parts = [f"{words} {getattr(memory, name) / GB:.2f}" for name, words in _PARTS.items() if getattr(memory, name)]
    return f"{memory.total / GB:.1f} GB ({', '.join(parts)})"


def _memory_lines(planned: Planned) -> list[str]:
    device, largest = planned.device, max((arm.memory for arm in planned.arms), key=lambda memory: memory.total)
    processes = "1 process" if planned.processes == 1 else f"{planned.processes} processes"
    set_up = f"{processes}, ZeRO {planned.stage}"
    lines = [
        f"memory of one {device.name} in training ({set_up}): {memory_words(largest)}",
        f"memory of one {device.name} in evaluation: {memory_words(planned.answering)}",
    ]
    counts = sorted({count for _, count in planned.by_stage if count > 1})
    alone = planned.by_stage[0, 1] / GB
    cells = [
        f"ZeRO {stage}: " + ", ".join(f"{planned.by_stage[stage, count] / GB:.1f}" for count in counts)
        for stage in range(4)
    ]
    on = ", ".join(map(str, counts))
    lines.append(f"memory of each in GB, on 1 process {alone:.1f}; on {on} processes {'; '.join(cells)}")
    room = device.memory_gb * 0.97
    if room and (short := max(largest.total, planned.answering.total) / GB) > room:
        ways = fits(planned)
        hint = f"train.zero_stage={ways[0][0]} train.procs={ways[0][1]} fits for training" if ways else "no stage fits"
        lines.append(
            f"note: {short:.0f} GB are more than a {device.name} has; {hint}; else train.questions_per_device, "
            "train.gradient_checkpointing=true, evaluate.batch_size or student.dtype=bfloat16 make it less"
        )
    return lines


def _time_lines(planned: Planned) -> list[str]:
    device, volume = planned.device, planned.volume
    unit, each = ("min", 60) if planned.gpu_hours < 0.5 else ("h", 3600)
    arms = ", ".join(f"{arm.name} {arm.steps:,} x {arm.step_s:.2f} s" for arm in planned.arms)
    on = f"{planned.processes} x {device.name}"
    lines = [f"training: {planned.training_s / each:.1f} {unit} on {on} ({arms})"]
    if volume.test:
        lines.append(
            f"evaluation: {planned.answering_s / each:.1f} {unit} on one {device.name} ({planned.replies:,} answers to "
            f"{volume.test:,} questions)"
        )
    else:
        lines.append("evaluation: unknown, because the number of questions is")
    if device.memory_gb:
        lines.append(f"GPU-hours of training and evaluation: {planned.gpu_hours:.1f}")
    if volume.train:
        counts = f"questions to train on: {volume.train:,} ({volume.source})"
        per_step = sum(arm.steps for arm in planned.arms) / len(planned.arms)
        lines.append(counts + (f", {volume.clips:,} clips" if volume.clips else "") + f"; {per_step:,.0f} steps an arm")
    else:
        lines.append(f"questions: {volume.source}")
    return lines


def _chain_lines(planned: Planned, config: RunConfig, calls: tuple[int, int, int]) -> list[str]:
    """GPU-hours for a thousand chains, by who thinks in this run."""
    thinks = chat_jobs(config).get("thinks", ("", None))[1]
    if thinks is None:
        return [f"chains: from planner {config.teacher.planner}, which needs no GPU"]
    per_chain, read, written = calls
    tokens = 1000 * per_chain * (read + written)
    hours = thousand_chains_hours(planned, config, calls)
    where = f"1,000 chains: {1000 * per_chain:,} calls of {thinks.model}, about {tokens / 1e6:.1f} million tokens"
    if thinks.backend == "scripted":
        return [f"{where}, from a script, no GPU"]
    if hours is None:
        return [f"{where}; GPU-hours unknown: the size of {thinks.model} is not among the facts of this package"]
    every = planned.volume.train + planned.volume.test
    whole = f"; {hours * every / 1000:,.0f} for all {every:,} questions" if every else ""
    return [f"{where}, {hours:.2f} GPU-hours of {planned_gpu(planned)} where you serve it yourself{whole}"]


def planned_gpu(planned: Planned) -> str:
    """The GPU that chains are reckoned for: that of the plan, or of a plan for a CPU the usual one."""
    return planned.device.name if planned.device.memory_gb else "a100-80gb"


def thousand_chains_hours(planned: Planned, config: RunConfig, calls: tuple[int, int, int]) -> float | None:
    """GPU-hours of the teacher's model for 1,000 chains; None where its size is known nowhere.

    Args:
        planned: the plan of the run.
        config: of the run.
        calls: for a chain, and tokens read and written in one.
    """
    thinks = chat_jobs(config).get("thinks", ("", None))[1]
    if thinks is None or thinks.backend == "scripted":
        return 0.0
    shape = published_shape(thinks.model)
    per_chain, read, written = calls
    tokens = 1000 * per_chain * (read + written)
    return None if shape is None else served_gpu_hours(shape, tokens=tokens, device=DEVICES[planned_gpu(planned)])


def _assumptions(planned: Planned, config: RunConfig) -> list[str]:
    device, lengths = planned.device, planned.volume.lengths
    peak = f"{device.tflops:g} TFLOP/s, {device.bandwidth_gbs:,.0f} GB/s"
    weights = {4: "float32", 2: "bfloat16"}[planned.weight_bytes]
    lines = [
        f"assumed: {device.name} with {peak}, of which training reaches {device.train_mfu:.0%}, and "
        f"{device.layer_s * 1e3:g} ms a layer and micro-batch at least; weights of the base in {weights}, what is "
        "trained in float32",
        f"assumed: rows of {lengths.question:g} tokens for a question, {lengths.answer:g} for an answer, "
        f"{lengths.chain:g} for a chain; {KEPT:.0%} of the training questions have a kept chain",
    ]
    if planned.num_frames and planned.frame:
        once = "looks at each frame once, which is not counted (train.vision_cache)"
        sees = "sees each clip once a step" if planned.looks else once
        lines.append(f"assumed: frames of 16:9 at frames.max_side_px, unless drawn; a frozen vision tower {sees}")
    if chat_jobs(config):
        lines.append(f"assumed: a server of the chat model reaches {SERVED_MFU:.0%} of the peak")
    return lines


def plan_numbers(planned: Planned | None, config: RunConfig) -> PlanNumbers:
    """The same in numbers."""
    if planned is None:
        return PlanNumbers(student=config.student.base, reckoned=False)
    shape, volume = planned.shape, planned.volume
    return PlanNumbers(
        student=config.student.base, reckoned=True, model_type=shape.model_type, source=shape.source,
        parameters=shape.parameters, vision_parameters=shape.seeing, weight_bytes=planned.weight_bytes,
        device=planned.device, processes=planned.processes, zero_stage=planned.stage, frame=planned.frame,
        num_frames=planned.num_frames,
        arms=tuple(
            ArmNumbers(**{field.name: getattr(arm, field.name) for field in fields(arm)},
                       memory_bytes=arm.memory.total, seconds=arm.seconds)
            for arm in planned.arms
        ),
        memory_by_stage={f"zero{stage}x{count}": total for (stage, count), total in planned.by_stage.items()},
        evaluation_memory=planned.answering, evaluation_bytes=planned.answering.total,
        training_s=planned.training_s, evaluation_s=planned.answering_s, answers=planned.replies,
        gpu_hours=planned.gpu_hours,
        questions=QuestionNumbers(train=volume.train, test=volume.test, source=volume.source),
    )  # fmt: skip


def dry_run(config: RunConfig, lines: list[str], error: AotError | None) -> DryRun:
    """Lines of a dry run and what would stop the run, with all settings and the numbers of `aot plan`."""
    return DryRun(
        settings=config.model_dump(mode="json"), plan=plan_numbers(reckon(config), config), lines=tuple(lines),
        error=None if error is None else PlanError(boundary=error.boundary, message=str(error)),
    )  # fmt: skip
