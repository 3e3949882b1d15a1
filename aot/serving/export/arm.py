"""Writes a trained arm as one folder that a fresh process, or plain transformers, can use alone.

The adapter is merged in float32 into the exact base and the weights are cast once. Everything is written into a hidden
folder beside the wanted one, proved there by a process of its own, and gets its name last: a kill, a full disk or a
failed proof leaves no export.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import GenerationConfig

from aot.acting.carried import BOOK, bench_of, carried_cards, carried_tools, plan_budget, tools_told
from aot.config import RunConfig, VideoRun, load_saved, modes_of
from aot.errors import AotError, CheckpointError, RunError
from aot.files.jsonl import read_json
from aot.files.run_folder import CONTRACT, TRAINING, RunFolder, publish_rows, read_rows
from aot.records import Prediction, PromptMode, Question
from aot.run_records import RecipeCard
from aot.served_records import ExportProof, FrameRule, ServedTool, StudentContract, StudentOrigin
from aot.serving.contract import publish_contract, read_contract
from aot.serving.export.folder import CARD, check_free, export_card, form_of, weight_bytes, whole_folder
from aot.serving.export.probe import (
    Likeness,
    answers,
    fresh_answers,
    latency_rows,
    likeness,
    probe_modes,
    probe_questions,
)
from aot.serving.export.quantise import Bits, Grader, quantised
from aot.student.model import contract as arm_contract
from aot.student.model.base import resolve_base, stored_dtype
from aot.student.model.folders import WEIGHT_INDEX
from aot.student.model.licence import licences_of
from aot.student.model.loading import Student, load_student, pick_dtype
from aot.student.model.lora import size_of
from aot.student.train.checkpoints import read_manifest
from aot.teacher.tools.book import RecipeBook

log = logging.getLogger(__name__)
BASE = "base"
"""As an arm: the student before any training."""
Dtype = Literal["float32", "bfloat16", "float16"]
StoredAs = Dtype | Literal["base", ""]
CAST_SHARE = 0.9
"""Of greedy replies whose answer stays the same when weights are cast to half precision, at least."""
CAST_GAP = 0.05
"""Between choice probabilities before and after that cast, at most."""
MOST_LABELS = 1000


@dataclass(frozen=True)
class ExportOptions:
    """How an arm is exported."""

    name: str = ""
    """As servers and answers name the student; empty takes the names of run and arm."""
    dtype: StoredAs = ""
    """Of the stored weights; `base` takes that of the base's own files, empty that in which the run was graded."""
    quantise: Bits | Literal[""] = ""
    vision: bool = False
    """Whether layers outside the language model are quantised too."""
    probes: int = 50
    """Questions by which the export is proved, at most."""
    limits: tuple[str, ...] = ()
    """Sentences about where the student ends, as far as they were measured."""
    origin: StudentOrigin | None = None
    licences: Mapping[str, str] | None = None
    """Of base, data and student; None takes what their files say."""
    card: str = ""
    """What is known of the student, in Markdown; a section on the export is added."""


@dataclass(frozen=True)
class _Arm:
    """An arm of a run, or its base, with what the run's config says of it."""

    run: RunFolder
    name: str

    @cached_property
    def config(self) -> RunConfig:
        """As it was saved."""
        return load_saved(self.run.config)

    @property
    def modes(self) -> tuple[PromptMode, ...]:
        """How it answers."""
        return modes_of(self.config.train.arms, self.name)

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits of the SHA-256 of what it learned, whose files were compared; empty of the base."""
        if self.name == BASE:
            return ""
        adapter = self.run.arm(self.name)
        arm_contract.read_contract(adapter)
        weights = arm_contract.WEIGHTS[arm_contract.tuning_of(adapter)]
        return next(entry.sha256[:16] for entry in read_manifest(adapter).files if entry.name == weights)

    @cached_property
    def tools(self) -> tuple[ServedTool, ...]:
        """Those that it calls; raises ConfigError where one cannot go with it."""
        return () if self.name == BASE else carried_tools(arm_contract.read_contract(self.run.arm(self.name)).tools)

    @cached_property
    def cards(self) -> tuple[RecipeCard, ...] | None:
        """Those that go with it; None where it looks nothing up.

        Raises:
            RunError: its run has no recipe book.
        """
        if not any(tool.needs == "recipe_book" for tool in self.tools):
            return None
        if not self.run.book.exists():
            raise RunError(
                f"{self.run.book} is not there, and {self.name} looks recipes up in it; prepare the run again"
            )
        return carried_cards(read_rows(self.run.book, RecipeCard))

    def dtype(self, stored_as: StoredAs) -> Dtype:
        """Of the weights that are written: as asked for, or as the arm was graded, maybe on another machine."""
        section, trained = self.config.student, self.run.arm(self.name) / TRAINING
        kind: Any = stored_dtype(resolve_base(section.base)) if stored_as == "base" else stored_as
        if not kind and section.dtype == "auto" and trained.exists():
            kind = read_json(trained).get("dtype")
        return kind or ("bfloat16" if pick_dtype(section) == torch.bfloat16 else "float32")

    def loaded(self, *, merge: bool) -> Student:
        """The student in float32."""
        section = self.config.student.model_copy(update={"dtype": "float32"})
        adapter = None if self.name == BASE else self.run.arm(self.name)
        return load_student(section.base, adapter=adapter, config=section, merge=merge)


def export_arm(run: RunFolder, arm_name: str, out: Path, options: ExportOptions = ExportOptions()) -> StudentContract:
    """Write an arm of a run to the new folder `out`, after a fresh process proved it; returns its contract.

    Raises:
        RunError: something lies at `out`, it cannot be written, or the run lacks the questions that prove an export.
        ConfigError: the arm calls a tool that cannot go with it.
        CheckpointError: the arm cannot be loaded, or the export does not answer as it does.
        GuardStop: the disk is full.
    """
    check_free(out)
    arm = _Arm(run, arm_name)
    config, split = arm.config, arm.config.evaluate.splits[0]
    tests = [q for q in read_rows(run.questions, Question) if q.split == split]
    if not tests:
        raise RunError(
            f"{run.root} holds no questions of split {split}, by which an export is proved; prepare it again"
        )
    asked_of = probe_questions(tests, most=options.probes)
    frames = run.frames if any(q.media for q in tests) else None
    modes, cards = probe_modes(arm.modes, asked_of), arm.cards
    dtype = arm.dtype(options.dtype)
    beside = arm.loaded(merge=False)
    contract = _contract(arm, beside, options, dtype=dtype)
    # The cards that go along, in the run too: those that stay lie beside single questions and would change answers.
    bench = bench_of(contract, RecipeBook(cards or ()))
    before = answers(beside, asked_of, modes=modes, frames=frames, batch_size=16, bench=bench)
    del beside  # before another one is loaded
    student = arm.loaded(merge=True)
    is_cast = form_of(contract) != "float32"
    grader = Grader(tests, frames, modes, config.evaluate.bootstrap_samples, config.seed, bench)
    variants = grader.rows(student, variant="float32", size_bytes=4 * size_of(student.model)) if is_cast else ()
    cast(student.model, getattr(torch, dtype))
    with whole_folder(out) as folder:
        _write(student, folder)
        if cards is not None:
            publish_rows(folder / BOOK, cards)
        student = _quantised(_as_served(student, dtype), folder, options)
        if is_cast:
            variants += grader.rows(student, variant=form_of(contract), size_bytes=weight_bytes(folder))
        publish_contract(folder, contract)
        stored = before
        if is_cast:
            stored = answers(student, asked_of, modes=modes, frames=frames, batch_size=1, bench=bench)
        fresh = fresh_answers(folder, asked_of, frames=frames, device=student.device.type)
        proof = prove(before, stored, fresh, bounded=not options.quantise)
        contract = contract.model_copy(update={"proof": proof, "variants": variants, "latency": latency_rows(fresh)})
        (folder / CARD).write_text(export_card(contract, head=options.card), encoding="utf-8")
        return publish_contract(folder, contract)


def write_export(student: Student, contract: StudentContract, out: Path) -> StudentContract:
    """Write a loaded student and its contract to a new folder, unproved; returns the contract with its files' hashes.

    Raises:
        RunError: something lies at `out` already, or it cannot be written.
        GuardStop: the disk is full.
    """
    check_free(out)
    with whole_folder(out) as folder:
        _write(student, folder)
        (folder / CARD).write_text(export_card(contract), encoding="utf-8")
        return publish_contract(folder, contract)


def same_export(run: RunFolder, arm_name: str, out: Path, options: ExportOptions) -> StudentContract | None:
    """The contract of what lies at `out`, if it is this export and whole; None where it is another, or nothing.

    Raises:
        CheckpointError: it is this export, and was damaged since.
    """
    if not (out / CONTRACT).is_file():
        return None
    try:
        there = read_contract(out, check_files=False)
    except AotError:
        return None
    arm = _Arm(run, arm_name)
    wanted = (arm_name, arm.digest, options.quantise, options.vision)
    same_form = arm.dtype(options.dtype) == there.dtype and options.name in ("", there.name)
    form = (there.arm, there.adapter_digest, there.quantised, there.vision_quantised)
    if form != wanted or not same_form:
        return None
    return read_contract(out) if there.base == arm.config.student.base else None


def prove(
    before: Sequence[Prediction], stored: Sequence[Prediction], fresh: Sequence[Prediction], *, bounded: bool
) -> ExportProof:
    """How alike the answers are of the student in the run, of its stored weights, and of a fresh process.

    Args:
        before: what the arm says in the run, adapter beside base, in float32.
        stored: what the weights say that were stored; the same list where nothing was cast.
        fresh: what a fresh process says that has the export alone.
        bounded: whether a cast must keep within CAST_SHARE of answers and CAST_GAP.

    Raises:
        CheckpointError: they differ by more than is allowed.
    """
    if all(row.error for row in before):
        raise CheckpointError(f"no export was made: no question of the run can be asked ({before[0].error})")
    alike = likeness(stored, fresh)
    if not alike.is_proof:
        raise CheckpointError(_failed("a fresh process answers otherwise", alike, "99%, 0.001"))
    beside = None if stored is before else likeness(before, stored)
    if bounded and beside and (beside.same_answers < CAST_SHARE * beside.replies or beside.largest_gap > CAST_GAP):
        bounds = f"{CAST_SHARE:.0%} of answers, {CAST_GAP}"
        raise CheckpointError(_failed("weights in half precision answer otherwise", beside, bounds, "float32"))
    return ExportProof(
        questions=len({row.question_id for row in before}),
        replies=alike.replies,
        same_replies=alike.same,
        decided=alike.decided,
        largest_gap=alike.largest_gap,
        largest_token_gap=alike.largest_token_gap,
        cast_same_replies=beside.same if beside else None,
        cast_same_answers=beside.same_answers if beside else None,
        cast_largest_gap=beside.largest_gap if beside else None,
    )


def _failed(what: str, alike: Likeness, bounds: str, dtype: str = "") -> str:
    hint = f"; export with --dtype {dtype}" if dtype else ""
    first = f"; first {alike.differs}" if alike.differs else ""
    return f"no export was made: {what}: {alike} (bounds: {bounds}){first}{hint}"


def cast(model: Any, dtype: torch.dtype) -> None:  # noqa: ANN401
    """Round the weights of a model once; what it computes for itself, such as rotations, stays as it was."""
    for tensor in model.state_dict(keep_vars=True).values():
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)


def _as_served(student: Student, dtype: Dtype) -> Student:
    """The student with its weights in the type that it calculates in once it is loaded from the export."""
    if dtype == "float16":  # stored so, and never calculated in
        cast(student.model, torch.float32)
    served = "bfloat16" if dtype == "bfloat16" else "float32"
    return replace(student, config=student.config.model_copy(update={"dtype": served}))


def _quantised(student: Student, folder: Path, options: ExportOptions) -> Student:
    """The student in `folder` with quantised weights, which replace those that are there."""
    if not options.quantise:
        return student
    made = quantised(
        folder, bits=options.quantise, vision=options.vision, dtype=getattr(torch, student.config.dtype),
        with_images=student.renderer.takes_images, device=student.device,
    )  # fmt: skip
    for path in (*folder.glob("*.safetensors"), folder / WEIGHT_INDEX):
        path.unlink(missing_ok=True)
    if made.left:
        log.warning(
            "%d layers stay as they are, whose width no group of weights divides, first %s",
            len(made.left),
            made.left[0],
        )
    made.model.save_pretrained(folder, safe_serialization=True)
    return replace(student, model=made.model)


def _write(student: Student, folder: Path) -> None:
    student.model.generation_config = GenerationConfig(
        eos_token_id=list(student.end_ids), pad_token_id=student.pad_id, do_sample=False
    )
    student.model.save_pretrained(folder, safe_serialization=True)
    student.processor.save_pretrained(folder)


def _contract(arm: _Arm, student: Student, options: ExportOptions, *, dtype: Dtype) -> StudentContract:
    run, config, section = arm.run, arm.config, arm.config.student
    training = [q for q in read_rows(run.questions, Question) if q.split == "train"]
    frames = None
    if isinstance(config, VideoRun):
        frames = FrameRule(
            num_frames=section.num_frames,
            stored_fps=config.frames.fps,
            max_side_px=config.frames.max_side_px,
            max_stored_frames=config.frames.max_stored_frames,
        )
    kinds = tuple(sorted({q.kind for q in training}))
    learned = None if arm.name == BASE else arm_contract.read_contract(run.arm(arm.name))
    run_name = re.sub(r"[^\w.-]+", "-", run.root.resolve().name)
    limits = [
        *([f"It looks at no more than {frames.num_frames} frames of a clip."] if frames else []),
        f"It was trained on questions of these kinds only: {', '.join(kinds)}." if learned else "It was not trained.",
        *([tools_told(arm.tools, arm.cards or ())] if arm.tools else []),
        *options.limits,
    ]
    return StudentContract(
        name=options.name or f"{run_name}-{arm.name}",
        arm=arm.name,
        base=section.base,
        base_digest=student.base_digest,
        adapter_digest=arm.digest,
        config_digest=learned.config_digest if learned else config.digest(),
        model_type=student.model_type,
        dtype=dtype,
        quantised=options.quantise,
        vision_quantised=options.vision,
        template_hash=student.renderer.template_hash(),
        template_date=student.renderer.date,
        think_tags=section.think_tags,
        frames=frames,
        labels=closed_labels(training),
        kinds=kinds,
        review=config.serving.kinds_under_review,
        modes=arm.modes,
        tools=arm.tools,
        plan=plan_budget(config.teacher) if arm.tools else None,
        talk_hash=learned.talk_hash if learned else "",
        max_tokens=section.max_tokens,
        max_answer_tokens=section.max_answer_tokens,
        max_rationale_tokens=section.max_rationale_tokens,
        thought_confidence=section.effort,
        licences=dict(options.licences or licences_of(section.base, config.data.dataset)),
        origin=options.origin,
        limits=tuple(dict.fromkeys(limits)),
    )


def closed_labels(questions: Sequence[Question]) -> tuple[str, ...]:
    """All choices of the questions, where they come from one closed set: on average each is offered twice or more.

    Empty where questions have no choices, options of their own each, or options that only letters tell apart.
    """
    offered = [choice for q in questions if q.answer_index is None for choice in q.choices]
    labels = sorted(set(offered))
    return tuple(labels) if len(labels) <= min(MOST_LABELS, len(offered) // 2) else ()
