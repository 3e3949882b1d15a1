"""Small runs with an arm that was really trained for a few steps, to export."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "student"))

import text_kit
from student_kit import make_question, make_run, run_config, save_idefics3

from aot.config import load_saved
from aot.files.run_folder import RunFolder, publish_rows, read_rows
from aot.records import Prediction, Question
from aot.serving.export import probe
from aot.student.train.arm import train_arm


def trained_video_run(root: Path) -> RunFolder:
    """Drawn noise, a random image-text base, and the arm `distilled` after six steps; eight test questions."""
    save_idefics3(root / "base")
    config = run_config(root / "base")
    run = make_run(root / "kitchen", config)
    tests = [make_question(20 + i, uri=f"c{i % 4}.mp4", kind=kind, split="test")
             for i, kind in enumerate(("next_choice", "next_open") * 4)]  # fmt: skip
    publish_rows(run.questions, [*read_rows(run.questions, Question), *tests])
    train_arm(run, config, config.train.arms[1])
    return run


def trained_text_run(root: Path, **arm: object) -> RunFolder:
    """Sums, a random text base, and the arm `all` (adaptive) after six steps; six test questions."""
    config = text_kit.text_config(text_kit.save_text_base(root / "base"), arm=arm)
    run = text_kit.text_run(root / "sums", config)
    tests = [q.model_copy(update={"id": f"t{q.id}", "group": f"t{q.id}", "split": "test"}) for q in text_kit.sums(6)]
    publish_rows(run.questions, [*read_rows(run.questions, Question), *tests])
    train_arm(run, config, config.train.arms[0])
    return run


def proof_questions(run: RunFolder) -> list[Question]:
    """The questions that prove an export of this run."""
    split = load_saved(run.config).evaluate.splits[0]
    return [q for q in read_rows(run.questions, Question) if q.split == split]


def in_this_process(
    folder: Path, questions: Sequence[Question], *, frames: Path | None, device: str
) -> list[Prediction]:
    """What the probe's program does, without the seconds that a process takes to begin."""
    place = folder.with_name(folder.name + "-probe")
    asked_at = RunFolder(place)
    publish_rows(asked_at.questions, questions)
    probe.main([str(folder), str(place), device, *([str(frames)] if frames else [])])
    return list(read_rows(asked_at.predictions_of("probe", "none"), Prediction))
