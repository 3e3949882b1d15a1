"""What a run would do (`--dry-run`): resolved config, counts, and estimates of time and disk. Starts nothing."""

import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aot.config import EMBEDDED_STUDENTS, RunConfig, dump_config
from aot.pipeline.chat_plan import chat_lines
from aot.pipeline.gates import KITCHEN_ONLY, knows_only_the_kitchen
from aot.pipeline.inputs import check_paths, look_at_student
from aot.runs import RunFolder, run_root
from text_cot.datasets.toy_math import OOD_SPLITS
from video_data.datasets.rows import AnnotationRow

# Seconds on 2 cores for the tiny student, from docs/measurements.md; larger students and faster machines differ.
DRAW_AND_DECODE_S_PER_CLIP = 0.03
GENERATE_S_PER_QUESTION = 0.003
TRAIN_S_PER_ROW = 0.0115
PREDICT_S_PER_ROW = 0.007
TRAIN_S_PER_LESSON = 0.005
WRITE_S_PER_REPLY = 0.005
TEXT_RUN_MB = 120.0
UNKNOWN_CLIP_S = 60.0
UNKNOWN_PIXELS = 640 * 360
MOST_DRAWN = 1000
"""Of clips or problems that a run draws, so many of each split are looked at; more are counted by arithmetic."""
DRAWN: dict[str, tuple[str, dict[str, str]]] = {
    "toy_kitchen": ("toy", {"train": "train_clips", "test": "test_clips", "test_ood": "test_ood_clips"}),
    "toy_math": ("math", {"train": "train", "test": "test", **dict.fromkeys(OOD_SPLITS, "test_ood")}),
    "gym": ("gym", {"train": "train", "test": "test", "test_ood": "test"}),
}
"""Drawn data sets to their section of `data`, and to the key that says how large each split is (of gym, each task)."""


def plan_lines(config: RunConfig, *, config_path: Path) -> list[str]:
    """The plan of a run, line by line.

    Raises:
        AotError: the run would stop at once, because a path or a split is wrong.
    """
    run = RunFolder(run_root(config, config_path=config_path))
    check_paths(config, run)
    head = [*dump_config(config).splitlines(), "", f"run folder: {run.root}"]
    plan = _text_plan(config, run) if config.door == "text" else _video_plan(config, run)
    free_mb = shutil.disk_usage(_existing(run.root)).free / 1e6
    lines = [*head, *plan.lines, f"estimated disk: {plan.disk_mb:.0f} MB of {free_mb:.0f} MB free"]
    if config.student.base in EMBEDDED_STUDENTS:
        lines.append(f"estimated time: {plan.seconds / 60:.1f} min on 2 cores")
    else:
        lines.append("estimated time: unknown for this student; run with --limit 8 first and scale up")
    return [*lines, "nothing was started"]


@dataclass(frozen=True)
class _Plan:
    lines: list[str]
    disk_mb: float
    seconds: float
    """With an embedded student on 2 cores."""


def _video_plan(config: RunConfig, run: RunFolder) -> _Plan:
    from aot.pipeline.prepare import usable_questions
    from aot.pipeline.source import clips_root, usable_source

    small, times = _drawn_small(config)
    source = usable_source(small, run)
    splits = _counted((row.split for row in source.questions), times)
    clips = _counted((split for split, _ in {(row.split, row.uri) for row in source.questions}), times)
    about = "about " if small is not config else ""
    lines = [f"{split}: {clips[split]} clips, {about}{splits[split]} questions" for split in sorted(splits)]
    lines += source.notes
    if source.refused:
        lines.append(f"refused rows: {len(source.refused)}")
    lines.append(f"clips are read from {clips_root(config, run)}")
    if knows_only_the_kitchen(config):
        lines.append(f"note: {KITCHEN_ONLY}")
    lines += chat_lines(config, questions=sum(splits.values()), training=splits["train"])
    first = [row for row in source.questions if row.split == "train"][:1]
    lines += look_at_student(config, run, *usable_questions(first, dataset=config.data.dataset)[0])
    num_clips = len(source.clips) if small is config else sum(clips.values())
    disk_mb = _disk_mb(config, source.clips, source.annotations) * num_clips / max(1, len(source.clips))
    return _Plan(lines, disk_mb + 60.0, _seconds(config, splits, num_clips))


def _text_plan(config: RunConfig, run: RunFolder) -> _Plan:
    from text_cot.budget import planned_steps
    from text_cot.prepare import usable_source

    small, times = _drawn_small(config)
    source = usable_source(small)
    splits = _counted((question.split for question in source.questions), times)
    about = "about " if small is not config and config.data.dataset == "gym" else ""
    lines = [f"{split}: {about}{splits[split]} questions" for split in sorted(splits)]
    if source.refusals:
        lines.append(f"refused rows: {len(source.refusals)}")
    lines += chat_lines(config, questions=sum(splits.values()), training=splits["train"])
    lines += look_at_student(config, run, *[row for row in source.questions if row.split == "train"][:1])
    rows = sum(planned_steps(arm, config) for arm in config.train.arms) * config.train.questions_per_step
    asked = sum(splits[split] for split in config.evaluate.splits) * (len(config.train.arms) + 2)
    seconds = rows * TRAIN_S_PER_LESSON + asked * WRITE_S_PER_REPLY
    return _Plan(lines, TEXT_RUN_MB, seconds)


def _drawn_small(config: RunConfig) -> tuple[RunConfig, dict[str, float]]:
    """`config` with fewer clips or problems where it draws very many; how many times larger each split truly is."""
    data = config.data
    if data.dataset not in DRAWN:
        return config, {}
    name, fields = DRAWN[data.dataset]
    section = getattr(data, name)
    fewer = {field: min(getattr(section, field), MOST_DRAWN) for field in fields.values()}
    times: dict[str, float] = {}
    for split, field in fields.items():
        tasks = len(data.gym.unseen_tasks if split == "test_ood" else data.gym.tasks) if name == "gym" else 1
        wanted, small = tasks * getattr(section, field), tasks * fewer[field]
        times[split] = min(wanted, data.limit or wanted) / max(1, min(small, data.limit or small))
    if all(getattr(section, field) == count for field, count in fewer.items()):
        return config, {}
    cut = data.model_copy(update={name: section.model_copy(update=fewer)})
    return config.model_copy(update={"data": cut}), times


def _counted(splits: Iterable[str], times: dict[str, float]) -> Counter[str]:
    return Counter({split: round(count * times.get(split, 1)) for split, count in Counter(splits).items()})


def _seconds(config: RunConfig, splits: Counter[str], num_clips: int) -> float:
    train, evaluate = config.train, config.evaluate
    steps = sum((2 if arm.rationale_weight > 0 else 1) * config.steps_of(arm) for arm in train.arms)
    rows = steps * train.questions_per_step
    asked = sum(splits[split] for split in evaluate.splits)
    modes = 3 * (len(train.arms) + 1) + 1
    return (
        num_clips * DRAW_AND_DECODE_S_PER_CLIP
        + sum(splits.values()) * GENERATE_S_PER_QUESTION
        + rows * TRAIN_S_PER_ROW
        + asked * modes * PREDICT_S_PER_ROW
    )


def _disk_mb(config: RunConfig, clips: tuple[tuple[str, Path], ...], annotations: tuple[AnnotationRow, ...]) -> float:
    durations_s = {row.uri: row.duration_s for row in annotations}
    pixels = 96 * 72 if config.data.dataset == "toy_kitchen" else min(UNKNOWN_PIXELS, config.frames.max_side_px**2)
    frames = sum(
        min(durations_s.get(uri, UNKNOWN_CLIP_S) * config.frames.fps, config.frames.max_stored_frames)
        for uri, _ in clips
    )
    drawn_mb = 0.25 * len(clips) if config.data.dataset == "toy_kitchen" else 0.0
    return frames * pixels * 3 / 1e6 + drawn_mb


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent if path.parent != path else Path()
    return path
