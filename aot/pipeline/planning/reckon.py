"""Puts a plan together: what the student is, what a GPU holds in each stage, steps, hours and disk.

Reads the config and facts of models; opens no data and no weights. Settings that other versions of the config may have
(a dtype that is chosen by the device, epochs, FSDP2, offload, cached features) are read where they are there.
"""

from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from aot.arms.jobs import planned_students
from aot.config import (
    EMBEDDED_STUDENTS,
    MODES_OF_ORDER,
    ArmConfig,
    EvaluateConfig,
    FramesConfig,
    KitchenData,
    RunConfig,
    StudentConfig,
    TrainConfig,
    VideoRun,
)
from aot.pipeline.planning.costs import (
    DEVICES,
    PACK_FILL,
    RAGGED,
    Batch,
    Device,
    Memory,
    Training,
    answering_memory,
    micro_batches,
    reading_flops,
    step_flops,
    step_seconds,
    tower_flops,
    training_memory,
    writing_seconds,
)
from aot.pipeline.planning.frames import FrameCost, frame_cost
from aot.pipeline.planning.shapes import ModelShape, shape_of
from aot.pipeline.planning.volume import RowLengths, Volume, volume_of
from aot.student.rows.packing import PACKABLE, TEXT_PACKABLE

KITCHEN_HW = (72, 96)
KEPT = 0.63
"""Share of training questions whose chain is kept, as in both embedded jobs; their planted faults take the others."""
TAIL = 4
"""Last words of a prompt, which say how to reply, where its beginning is shared."""
OPEN_S, GRADE_S = 1.0, 0.0003
"""To open a student, and to grade one answer, on two cores."""
LONGEST_REPLY = 1.6
"""How much longer the longest reply of a batch is than the mean."""


@dataclass(frozen=True)
class ArmPlan:
    """What the training of one arm takes, its helpers included."""

    name: str
    tuning: str
    trainable: int
    steps: int
    step_s: float
    row_tokens: float
    """Of the longest kind of row."""
    memory: Memory

    @property
    def seconds(self) -> float:
        """Of all its steps."""
        return self.steps * self.step_s


@dataclass(frozen=True)
class Planned:
    """What a run takes, as far as its config says."""

    shape: ModelShape
    device: Device
    weight_bytes: int
    frame: FrameCost | None
    num_frames: int
    looks: int
    """Frames that the vision tower looks at for a question and step of training."""
    volume: Volume
    arms: tuple[ArmPlan, ...]
    by_stage: dict[tuple[int, int], float]
    """ZeRO stage and number of processes to the bytes of one device in training, for the arm that takes most."""
    answering: Memory
    answering_s: float
    replies: int
    processes: int
    stage: int

    @property
    def training_s(self) -> float:
        """Of all arms, one after another on all processes."""
        return sum(arm.seconds for arm in self.arms)

    @property
    def gpu_hours(self) -> float:
        """Of training and evaluation."""
        return (self.training_s * self.processes + self.answering_s) / 3600


def reckon(config: RunConfig, *, device: Device | None = None, volume: Volume | None = None) -> Planned | None:
    """What a run takes; None where the shape of its student is known nowhere.

    Args:
        config: of the run.
        device: that it would run on; None takes the usual one, `usual_device`.
        volume: counted questions; None takes published or drawn sizes.
    """
    shape = shape_of(config.student)
    if shape is None or shape.decoder is None:
        return None
    device = device or usual_device(config.student)
    frames = config.frames if isinstance(config, VideoRun) else None
    view = _View(shape, config.student, config.train, frames, volume or volume_of(config), device, config.data)
    arms = tuple(view.arm(arm, planned_steps(arm, config, questions=view.volume.train)) for arm in config.train.arms)
    largest = max(config.train.arms, key=lambda arm: view.arm(arm, [1]).memory.total)
    counts = sorted({1, 2, 4, 8, view.processes})
    by_stage = {
        (stage, count): view.memory(largest, stage=stage, processes=count).total
        for stage in (0, 1, 2, 3)
        for count in counts
        if count > 1 or stage == 0
    }
    answering, seconds, replies = view.answers(config.train.arms, config.evaluate)
    return Planned(
        shape=shape, device=device, weight_bytes=view.weight_bytes, frame=view.frame, num_frames=view.num_frames,
        looks=view.looks,
        volume=view.volume, arms=arms, by_stage=by_stage, answering=answering, answering_s=seconds, replies=replies,
        processes=view.processes, stage=view.stage,
    )  # fmt: skip


def planned_steps(arm: ArmConfig, config: RunConfig, *, questions: int) -> list[int]:
    """Optimiser steps of each student that an arm trains, at most: its helpers, then itself.

    Where the config counts epochs, they are those over so many training questions.
    """
    steps, epochs = planned_students(arm, config), getattr(config.train, "epochs", None)
    if not epochs or arm.max_steps:
        return steps
    return [ceil(epochs * questions / config.train.questions_per_step)] * max(1, len(steps))


def usual_device(student: StudentConfig) -> Device:
    """The device that a plan is for if none is named: two CPU cores for embedded students, else a GPU."""
    return DEVICES["cpu" if student.base in EMBEDDED_STUDENTS or student.device == "cpu" else "a100-80gb"]


@dataclass(frozen=True)
class _View:
    """One run, seen by whoever reckons its parts."""

    shape: ModelShape
    student: StudentConfig
    train: TrainConfig
    frames: FramesConfig | None
    volume: Volume
    device: Device
    data: Any

    @property
    def weight_bytes(self) -> int:
        """Of one weight of the base."""
        by_device = "float32" if self.device.memory_gb == 0 else "bfloat16"
        return 4 if (self.student.dtype if self.student.dtype != "auto" else by_device) == "float32" else 2

    @property
    def processes(self) -> int:
        return self.train.procs

    @property
    def stage(self) -> int:
        """Of ZeRO; FSDP2 spreads what its third stage does."""
        return 3 if getattr(self.train, "sharding", "zero") == "fsdp2" else int(self.train.zero_stage)

    @property
    def num_frames(self) -> int:
        return self.student.num_frames if self.frames else 0

    @property
    def looks(self) -> int:
        """Frames that the vision tower looks at for a question and step: none where those of all are kept."""
        frame, decoder = self.frame, self.shape.decoder
        if self.train.vision_cache == "off" or frame is None or decoder is None:
            return self.num_frames
        levels = 1 + len(self.shape.settings.get("vision_config", {}).get("deepstack_visual_indexes", ()))
        needed = self.volume.train * self.num_frames * frame.tokens * decoder.hidden * self.weight_bytes * levels
        return 0 if needed <= self.train.vision_cache_mb << 20 else self.num_frames

    @property
    def kept_pixels(self) -> float:
        """Bytes of the pixels of frames that a process without a GPU of its own keeps beside the model."""
        frame, tower = self.frame, self.shape.tower
        if self.device.memory_gb or frame is None or tower is None:
            return 0.0
        each = frame.patches * tower.patch**2 * 3 * 4
        return min(self.train.frame_cache_mb << 20, self.volume.clips * self.num_frames * each)

    @property
    def frame(self) -> FrameCost | None:
        if self.frames is None:
            return None
        side = self.frames.max_side_px  # wide clips of 16:9 are assumed
        size_hw = KITCHEN_HW if isinstance(self.data, KitchenData) else (side * 9 // 16, side)
        return frame_cost(self.shape, size_hw, whole=self.student.frame_view == "whole")

    @property
    def prompt(self) -> float:
        """Tokens of a prompt, frames included."""
        lengths, frame = self.volume.lengths, self.frame
        of_frame = (frame.length if frame else 0) + lengths.frame_words
        return lengths.question + self.num_frames * of_frame

    def how(self, arm: ArmConfig, *, stage: int, processes: int) -> Training:
        whole = arm.tuning == "full"
        adapted = self.shape.adapted(self.train.lora)
        trainable = self.shape.speaking if whole else self.shape.trainable(self.train.lora)
        return Training(
            trainable=trainable, whole=whole, rank=self.train.lora.rank, adapted_layers=len(adapted),
            weight_bytes=4 if whole else self.weight_bytes, checkpointing=self.train.gradient_checkpointing,
            stage=stage, processes=processes, offload=getattr(self.train, "offload", "none") == "cpu",
        )  # fmt: skip

    def batch(self, arm: ArmConfig, questions: int, *, longest: bool = False) -> Batch:
        """So many questions of an arm as one micro-batch; `longest` where every row has its chain."""
        lengths = self.volume.lengths
        if not self.frames:
            return self._text_batch(arm, questions, lengths)
        chains = 0.0 if arm.rationale_weight == 0 else 1.0 if longest else KEPT
        replies = lengths.answer + chains * (lengths.chain + TAIL)
        if self.shape.model_type in PACKABLE:
            any_chain = 1 - (1 - chains) ** questions  # all rows are padded to the longest
            width = self.prompt + lengths.answer + any_chain * (lengths.chain + TAIL)
            width *= 1.0 if questions == 1 else 1.05
            return Batch(questions, width, questions * (replies + TAIL), questions * self.looks, masked=True)
        width = self.prompt + (lengths.chain if chains else lengths.answer)
        rows = questions * (1 + chains)
        kept = rows * (width - self.prompt + RAGGED)
        return Batch(rows, width, kept, questions * self.looks, masked=False)

    def _text_batch(self, arm: ArmConfig, questions: int, lengths: RowLengths) -> Batch:
        reply = lengths.answer if arm.order == "answers_only" else lengths.chain
        reply *= 0.8 if arm.order == "adaptive" else 1.0  # some of its lessons are answers alone
        row = lengths.question + reply
        if self.train.pack_tokens and self.shape.model_type in TEXT_PACKABLE:
            tokens = questions * row / PACK_FILL
            width = min(max(self.train.pack_tokens, row), tokens)
            return Batch(max(1.0, tokens / width), width, questions * reply, 0, masked=True)
        return Batch(questions, row * RAGGED, questions * reply * RAGGED, 0, masked=False)

    def memory(self, arm: ArmConfig, *, stage: int, processes: int) -> Memory:
        at_once, _ = self.cut(processes)
        batch = self.batch(arm, at_once, longest=True)
        batch = replace(batch, width=batch.width * RAGGED)
        memory = training_memory(
            self.shape, self.how(arm, stage=stage, processes=processes), batch, self.frame, self.device
        )
        return replace(memory, vision=memory.vision + self.kept_pixels)

    def cut(self, processes: int) -> tuple[int, int]:
        return micro_batches(
            self.train.questions_per_step, per_device=self.train.questions_per_device, processes=processes
        )

    def arm(self, arm: ArmConfig, steps: list[int]) -> ArmPlan:
        at_once, times = self.cut(self.processes)
        how, batch = self.how(arm, stage=self.stage, processes=self.processes), self.batch(arm, at_once)
        flops = step_flops(self.shape, how, batch, self.frame)
        seconds = times * step_seconds(self.shape, flops, checkpointing=how.checkpointing, device=self.device)
        memory = self.memory(arm, stage=self.stage, processes=self.processes)
        lengths = self.volume.lengths
        reply = lengths.chain if arm.learns_rationales else lengths.answer
        return ArmPlan(arm.name, arm.tuning, how.trainable, sum(steps), seconds, self.prompt + reply, memory)

    def answers(self, arms: tuple[ArmConfig, ...], evaluate: EvaluateConfig) -> tuple[Memory, float, int]:
        """Peak memory and seconds of one process that gives all answers of the evaluation, and how many there are."""
        lengths, size = self.volume.lengths, evaluate.batch_size
        rows = min(size, max(1, self.volume.test))
        reply = min(self.student.max_rationale_tokens, LONGEST_REPLY * lengths.chain)
        memory = answering_memory(
            self.shape, rows=rows, prompt=self.prompt, reply=reply, weight_bytes=self.weight_bytes,
            frames=rows * self.num_frames, frame=self.frame, device=self.device,
        )  # fmt: skip
        seconds, replies = 0.0, 0
        for modes in (MODES_OF_ORDER["both"], *(MODES_OF_ORDER[arm.order] for arm in arms)):
            for mode in modes:
                seconds += self._reply_s(self.volume.test, size, lengths.answer if mode == "direct" else lengths.chain)
                replies += self.volume.test
            if self.volume.choices:
                of_choices = round(self.volume.test * self.volume.choices)
                seconds += self._reply_s(of_choices, size, 2 * lengths.answer)
                replies += of_choices
        return memory, seconds + OPEN_S * (1 + len(arms)) + GRADE_S * replies, replies

    def _reply_s(self, questions: int, size: int, tokens: float) -> float:
        flops = reading_flops(self.shape, rows=questions, width=self.prompt)
        flops += questions * self.num_frames * tower_flops(self.shape, self.frame)
        reading = flops / (self.device.tflops * 1e12 * self.device.train_mfu)
        writing = writing_seconds(
            self.shape, rows=min(size, questions), mean=tokens, longest=LONGEST_REPLY * tokens,
            weight_bytes=self.weight_bytes, device=self.device,
        )  # fmt: skip
        return reading + questions / size * writing


def fits(planned: Planned) -> list[tuple[int, int]]:
    """ZeRO stage and processes with which training fits the memory of the device, least first."""
    room = planned.device.memory_gb * 1e9 * 0.97
    return [] if not room else [key for key, total in sorted(planned.by_stage.items()) if total <= room]
