"""What tests of the student at work share."""

from pathlib import Path

from aot.config import StudentConfig
from aot.served_records import FrameRule, StudentContract
from aot.serving.export import write_export


def export_base(base: str, out: Path, **changes: object) -> Path:
    """An embedded base as an exported folder, with changes to its contract."""
    from aot.student.model.loading import load_student

    student = load_student(base, config=StudentConfig(base=base, device="cpu"))
    sees = student.renderer.takes_images
    contract = StudentContract(
        name=base,
        arm="base",
        base=base,
        base_digest=student.base_digest,
        config_digest="0" * 12,
        model_type=student.model_type,
        dtype="float32",
        template_hash=student.renderer.template_hash(),
        template_date=student.renderer.date,
        frames=FrameRule(num_frames=8, stored_fps=3.0, max_side_px=480) if sees else None,
        kinds=("next_choice",) if sees else ("sum",),
        modes=("direct", "reason"),
        max_tokens=2048 if sees else 512,
        max_answer_tokens=24,
        max_rationale_tokens=160,
    )
    write_export(student, contract.model_copy(update=changes), out)
    return out
