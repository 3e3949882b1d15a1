"""Writes a trained arm as one folder that a fresh process, or plain transformers, can use alone."""

from pathlib import Path
from typing import TYPE_CHECKING

from aot.config import VideoRun, load_saved
from aot.errors import RunError
from aot.files.run_folder import RunFolder, read_rows
from aot.records import PromptMode, Question
from aot.served_records import FrameRule, StudentContract
from aot.serving.contract import publish_contract

if TYPE_CHECKING:
    from aot.student.model.loading import Student

MODES: dict[str, tuple[PromptMode, ...]] = {
    "both": ("direct", "reason"), "answers_only": ("direct",), "pre": ("reason",), "post": ("explain",),
    "adaptive": ("adaptive",),
}  # fmt: skip


def export_arm(run: RunFolder, arm_name: str, out: Path) -> StudentContract:
    """Merge an arm into its base, write it to `out`, and publish its contract.

    Raises:
        RunError: something lies at `out` already.
        CheckpointError: the arm cannot be loaded.
    """
    from aot.student.model import contract as arm_contract
    from aot.student.model.loading import load_student

    config = load_saved(run.config)
    adapter = run.arm(arm_name)
    learned = arm_contract.read_contract(adapter)
    section = config.student.model_copy(update={"dtype": "float32", "device": "cpu"})
    student = load_student(config.student.base, adapter=adapter, config=section)
    questions = [q for q in read_rows(run.questions, Question) if q.split == "train"]
    frames = None
    if isinstance(config, VideoRun):
        frames = FrameRule(
            num_frames=config.student.num_frames,
            stored_fps=config.frames.fps,
            max_side_px=config.frames.max_side_px,
            max_stored_frames=config.frames.max_stored_frames,
        )
    order = next((arm.order for arm in config.train.arms if arm.name == arm_name), "both")
    contract = StudentContract(
        name=arm_name,
        arm=arm_name,
        base=config.student.base,
        base_digest=student.base_digest,
        adapter_digest="",
        config_digest=learned.config_digest,
        model_type=student.model_type,
        dtype="float32",
        template_hash=student.renderer.template_hash(),
        template_date=student.renderer.date,
        think_tags=config.student.think_tags,
        frames=frames,
        labels=(),
        kinds=tuple(sorted({q.kind for q in questions})),
        modes=MODES[order],
        max_tokens=config.student.max_tokens,
        max_answer_tokens=config.student.max_answer_tokens,
        max_rationale_tokens=config.student.max_rationale_tokens,
        thought_confidence=config.student.thought_confidence,
    )
    return write_export(student, contract, out)


def write_export(student: "Student", contract: StudentContract, out: Path) -> StudentContract:
    """Write a loaded student and its contract to a new folder; returns the contract with the hashes of its files.

    Raises:
        RunError: something lies at `out` already.
    """
    if out.exists() and any(out.iterdir()):
        raise RunError(f"{out} is not empty; give a new folder")
    out.mkdir(parents=True, exist_ok=True)
    student.model.save_pretrained(out, safe_serialization=True)
    student.processor.save_pretrained(out)
    return publish_contract(out, contract)
