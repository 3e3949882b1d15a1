"""What a run would do: by its config alone (`aot plan`), or with its data looked over and counted (`--dry-run`).

Starts nothing. The actual use of chat models stands in the run folder afterwards. Memory, steps and hours are reckoned
in aot.pipeline.planning.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from aot import STAGES
from aot.chat.spend import estimate
from aot.config import (
    EMBEDDED_STUDENTS,
    ChatConfig,
    ClipTeacher,
    GymData,
    KitchenData,
    PlanningTeacher,
    RunConfig,
    SolvingTeacher,
    TextRun,
    VideoRun,
    chat_for,
    dump_config,
)
from aot.display import counted
from aot.errors import AotError, ConfigError
from aot.files.jsonl import refused_words
from aot.files.run_folder import RunFolder, run_root, stage_done
from aot.files.shards import shard_states
from aot.pipeline.commands.inputs import check_paths, look_at_student, missing_inputs
from aot.pipeline.doors import Plan, Run, door_of
from aot.pipeline.gates import KITCHEN_ONLY, knows_only_the_kitchen
from aot.pipeline.planning.costs import DEVICES
from aot.pipeline.planning.lines import planned_lines
from aot.pipeline.planning.preflight import clip_notes, gpu_notes, model_notes, problem_notes, server_notes
from aot.pipeline.planning.reckon import Planned, planned_steps, reckon
from aot.pipeline.planning.shapes import shape_of
from aot.pipeline.planning.volume import Volume, volume_of
from text_cot.datasets.toy_math import OOD_SPLITS
from video_data.datasets.rows import AnnotationRow

# Seconds on 2 cores, from docs/measurements.md.
DRAW_AND_DECODE_S_PER_CLIP = 0.03
GENERATE_S_PER_QUESTION = 0.003
KB_PER_QUESTION, KB_PER_TRACE = 2.0, 2.0
"""Of a text run: a question with its verdicts and lessons, and a trace wherever it is written."""
REPLY_KB, KB_PER_TOKEN = 0.5, 0.004
"""Of a prediction without its text, and of a token of it."""
PAGE_MB = 5.0
"""Report, card and logs."""
VIDEO_REST_MB = 40.0
TRAINED_BYTES, ADAM_BYTES, MASTER_BYTES = 4, 8, 4
"""Of one trained weight: float32, the two moments of AdamW in a checkpoint, and the copy that ZeRO keeps besides."""
PLANNER_TURNS = 4
"""Turns of a chat planner until it answers, if it answers at its first try."""
PLAN_TOKENS, TEXT_TOKENS, REWRITE_TOKENS, JUDGE_TOKENS = (2500, 200), (700, 350), (1200, 250), (1500, 150)
"""Prompt and completion tokens of one call, as rough means; thinking models need more."""
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


def config_plan(config: RunConfig, *, device: str | None = None) -> Planned | None:
    """What a run takes by its config alone: no data, no weights and no network are needed.

    Args:
        config: of the run.
        device: that it would run on, one of `DEVICES`; None takes the usual one.

    Raises:
        ConfigError: there is no such device.
    """
    if device is not None and device not in DEVICES:
        raise ConfigError(f"--device {device[:60]!r} is none of those known: {', '.join(DEVICES)}")
    return reckon(config, device=DEVICES[device] if device else None)


def config_plan_lines(config: RunConfig, *, device: str | None = None) -> list[str]:
    """The same in lines, with chat models and disk."""
    planned = config_plan(config, device=device)
    volume = planned.volume if planned else volume_of(config)
    lines = planned_lines(planned, config, chain_calls=chain_calls(config))
    if volume.train:
        lines += _chat_lines(config, questions=volume.train + volume.test, training=volume.train)
    sizes = {"stored frames": frames_mb(config, volume), "students and their checkpoints": students_mb(config) or 0.0}
    if planned and config.student.base not in EMBEDDED_STUDENTS:
        sizes["the base in bfloat16"] = planned.shape.parameters * 2 / 1e6
    if sizes_text := ", ".join(f"{what} {mb / 1000:,.2f} GB" for what, mb in sizes.items() if mb):
        lines.append(f"disk: {sizes_text}")
    return [*lines, "nothing was started"]


def told_plan(
    config: RunConfig, *, config_path: Path, with_settings: bool = False
) -> tuple[list[str], AotError | None]:
    """The plan of a run, and what stops it; where something is missing, what the config alone says and all that is.

    With `with_settings` every setting of the run follows.
    """
    settings = ["", *dump_config(config).splitlines()] if with_settings else []
    run = RunFolder(run_root(config, config_path=config_path))
    try:
        return [*plan_lines(config, config_path=config_path), *settings], None
    except AotError as error:
        missing = [f"missing: {one}" for one in missing_inputs(config, run)] or [f"missing: {error}"]
        notes = [*model_notes(config), *server_notes(config)]
        return [*config_plan_lines(config)[:-1], *gpu_notes(config), *notes, *missing, *settings], error


def plan_lines(config: RunConfig, *, config_path: Path) -> list[str]:
    """The plan of a run, line by line.

    Raises:
        AotError: the run would stop at once, because a path or a split is wrong.
    """
    run = RunFolder(run_root(config, config_path=config_path))
    check_paths(config, run)
    plan = door_of(config).plan(config, run)
    planned = reckon(config, volume=_counted_volume(config, plan))
    free_mb = shutil.disk_usage(_existing(run.root)).free / 1e6
    trained_mb = students_mb(config)
    disk_mb = plan.disk_mb + (trained_mb or 0)
    students = "without students, as the weights of the base are not here to be measured"
    students = students if trained_mb is None else f"students and their checkpoints {trained_mb:.0f} MB"
    lines = [f"run folder: {run.root}", *plan.lines, *model_notes(config), *server_notes(config), *_shard_notes(run)]
    lines.append(f"estimated disk: {disk_mb:.0f} MB of {free_mb:.0f} MB free ({students})")
    if disk_mb > free_mb:
        lines.append(
            "note: that is more than there is; train fewer arms, let LoRA train them, or lower train.keep_checkpoints"
        )
    if planned and config.student.base in EMBEDDED_STUDENTS:
        seconds = plan.seconds + planned.training_s + planned.answering_s
        lines.append(f"estimated time: {seconds / 60:.1f} min on 2 cores")
    else:
        lines.append("estimated time: as assumed above; run with --limit 8 first and scale up")
    lines += [*planned_lines(planned, config, chain_calls=chain_calls(config)), *gpu_notes(config)]
    return [*lines, "nothing was started"]


def _shard_notes(run: RunFolder) -> Iterator[str]:
    """Where a run would stop, because shards of one of its stages are missing."""
    for stage in STAGES:
        shards = shard_states(run, stage)
        done = sum(one.is_done for one in shards)
        if done < len(shards) and not stage_done(run, stage):
            yield f"note: {done} of {len(shards)} shards of {stage} are done; a run stops there (aot status)"


def _counted_volume(config: RunConfig, plan: Plan) -> Volume:
    """The questions that were counted, with the lengths that are assumed of them."""
    test = sum(plan.splits[split] for split in config.evaluate.splits)
    return replace(volume_of(config), train=plan.splits["train"], test=test, source="counted")


def video_plan(config: VideoRun, run: RunFolder) -> Plan:
    """What a run about clips would do."""
    from aot.pipeline.prepare import usable_questions
    from aot.pipeline.source import clips_root, usable_source

    small, times = _drawn_small(config)
    source = usable_source(small, run)
    splits = _counted((row.split for row in source.questions), times)
    clips = _counted((split for split, _ in {(row.split, row.uri) for row in source.questions}), times)
    about = "about " if small is not config else ""
    lines = [
        f"{split}: {counted(clips[split], 'clip')}, {about}{counted(splits[split], 'question')}"
        for split in sorted(splits)
    ]
    lines += source.notes
    if source.refused:
        lines.append(refused_words(source.refused, most=3))
    lines.append(f"clips are read from {clips_root(config.data, run)}")
    if knows_only_the_kitchen(config.teacher, config.data):
        lines.append(f"note: {KITCHEN_ONLY}")
    lines += clip_notes(config, source)
    lines += _chat_lines(config, questions=sum(splits.values()), training=splits["train"])
    first = [row for row in source.questions if row.split == "train"][:1]
    lines += look_at_student(config, run, *usable_questions(first, dataset=config.data.dataset)[0])
    num_clips = len(source.clips) if small is config else sum(clips.values())
    disk_mb = _disk_mb(config, source.clips, source.annotations) * num_clips / max(1, len(source.clips))
    seconds = num_clips * DRAW_AND_DECODE_S_PER_CLIP + sum(splits.values()) * GENERATE_S_PER_QUESTION
    return Plan(lines, disk_mb + VIDEO_REST_MB, seconds, splits)


def text_plan(config: TextRun, run: RunFolder) -> Plan:
    """What a run of text would do."""
    from text_cot.prepare import usable_source

    small, times = _drawn_small(config)
    source = usable_source(small.data, seed=small.seed, splits=small.evaluate.splits)
    splits = _counted((question.split for question in source.questions), times)
    about = "about " if small is not config and isinstance(config.data, GymData) else ""
    lines = [f"{split}: {about}{counted(splits[split], 'question')}" for split in sorted(splits)]
    if source.refusals:
        lines.append(refused_words(source.refusals, most=3))
    lines += problem_notes(config, source)
    lines += _chat_lines(config, questions=sum(splits.values()), training=splits["train"])
    lines += look_at_student(config, run, *[row for row in source.questions if row.split == "train"][:1])
    replies = sum(splits[split] for split in config.evaluate.splits) * (len(config.train.arms) + 2)
    reply_kb = REPLY_KB + KB_PER_TOKEN * config.student.max_rationale_tokens
    traces = config.teacher.candidates if config.teacher.planner == "chat" else 2
    rows_kb = (KB_PER_QUESTION + KB_PER_TRACE * traces) * sum(splits.values()) + reply_kb * replies
    return Plan(lines, PAGE_MB + rows_kb / 1000, sum(splits.values()) * GENERATE_S_PER_QUESTION, splits)


def students_mb(config: RunConfig) -> float | None:
    """What trained students and their checkpoints take at most; None where the shape of the base is known nowhere."""
    shape = shape_of(config.student)
    if shape is None:
        return None
    train = config.train
    optimised = {"lora": shape.trainable(train.lora), "full": shape.speaking}
    total, largest, questions = 0.0, 0.0, volume_of(config).train
    for arm in train.arms:
        stored = TRAINED_BYTES * (shape.parameters if arm.tuning == "full" else optimised["lora"])
        state = (ADAM_BYTES + (MASTER_BYTES if train.zero_stage else 0)) * optimised[arm.tuning]
        for steps in planned_steps(arm, config, questions=questions):
            saves = ceil(steps / train.save_steps)
            total += stored + min(saves, train.keep_checkpoints) * (stored + state)
            if saves > train.keep_checkpoints:  # one is whole before the oldest goes
                largest = max(largest, stored + state)
    return (total + largest) / 1e6


def _drawn_small(config: Run) -> tuple[Run, dict[str, float]]:
    """`config` with fewer clips or problems where it draws very many; how many times larger each split truly is."""
    data = config.data
    if data.dataset not in DRAWN:
        return config, {}
    name, fields = DRAWN[data.dataset]
    section = getattr(data, name)
    fewer = {field: min(getattr(section, field), MOST_DRAWN) for field in fields.values()}
    times: dict[str, float] = {}
    for split, field in fields.items():
        tasks = 1
        if isinstance(data, GymData):
            tasks = len(data.gym.unseen_tasks if split == "test_ood" else data.gym.tasks)
        wanted, small = tasks * getattr(section, field), tasks * fewer[field]
        times[split] = min(wanted, data.limit or wanted) / max(1, min(small, data.limit or small))
    if all(getattr(section, field) == count for field, count in fewer.items()):
        return config, {}
    cut = data.model_copy(update={name: section.model_copy(update=fewer)})
    return config.model_copy(update={"data": cut}), times


def _counted(splits: Iterable[str], times: dict[str, float]) -> Counter[str]:
    return Counter({split: round(count * times.get(split, 1)) for split, count in Counter(splits).items()})


def _disk_mb(config: VideoRun, clips: tuple[tuple[str, Path], ...], annotations: tuple[AnnotationRow, ...]) -> float:
    durations_s = {row.uri: row.duration_s for row in annotations}
    frames = sum(
        min(durations_s.get(uri, UNKNOWN_CLIP_S) * config.frames.fps, config.frames.max_stored_frames)
        for uri, _ in clips
    )
    drawn_mb = 0.25 * len(clips) if isinstance(config.data, KitchenData) else 0.0
    return frames * _frame_mb(config) + drawn_mb


def _frame_mb(config: VideoRun) -> float:
    """Of one stored frame: three bytes a pixel."""
    pixels = (
        96 * 72 if isinstance(config.data, KitchenData) else min(UNKNOWN_PIXELS, config.frames.max_side_px**2 * 9 / 16)
    )
    return pixels * 3 / 1e6


def frames_mb(config: RunConfig, volume: Volume) -> float:
    """What the stored frames of so many clips take; 0 without clips."""
    if not isinstance(config, VideoRun):
        return 0.0
    stored = min(volume.clip_s * config.frames.fps, config.frames.max_stored_frames)
    return volume.clips * stored * _frame_mb(config)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent if path.parent != path else Path()
    return path


@dataclass(frozen=True)
class _Share:
    """Calls of a chat model for one purpose."""

    what: str
    section: ChatConfig | None
    likely: int
    at_most: int
    tokens: tuple[int, int]


def chain_calls(config: RunConfig) -> tuple[int, int, int]:
    """Calls of a chat model for a kept chain, and tokens read and written in one; zeros where none thinks."""
    teacher = config.teacher
    if isinstance(teacher, SolvingTeacher):
        return (teacher.candidates, *TEXT_TOKENS)
    if isinstance(teacher, PlanningTeacher):
        return (min(PLANNER_TURNS, teacher.max_turns), *PLAN_TOKENS)
    return (1, *REWRITE_TOKENS) if isinstance(teacher, ClipTeacher) and teacher.rationale == "chat" else (0, 0, 0)


def _chat_lines(config: RunConfig, *, questions: int, training: int) -> list[str]:
    """A line for each purpose that a chat model is asked for; `training` questions are for training, and judged."""
    teacher = config.teacher
    shares: list[_Share] = []
    tries = teacher.candidates * questions
    if isinstance(teacher, SolvingTeacher):
        at_most = tries * (1 + teacher.shuffle_checks)  # where the questions have options
        shares.append(_Share("chains", config.chat, tries, at_most, TEXT_TOKENS))
    elif isinstance(teacher, PlanningTeacher):
        checks = 1 + teacher.shuffle_checks
        likely = questions * min(PLANNER_TURNS, teacher.max_turns) * checks
        at_most = (tries + questions * teacher.shuffle_checks) * teacher.max_turns
        shares.append(_Share("plans", config.chat, likely, at_most, PLAN_TOKENS))
    if isinstance(teacher, ClipTeacher) and teacher.rationale == "chat":
        shares.append(_Share("rationales", config.chat, questions, tries, REWRITE_TOKENS))
    shares.append(_Share("judgements", chat_for(config, "judges"), training, training, JUDGE_TOKENS))
    return [_chat_line(share, share.section) for share in shares if share.section]


def _chat_line(share: _Share, section: ChatConfig) -> str:
    prompt, completion = share.tokens[0], min(share.tokens[1], section.max_tokens)
    prices = section.prices
    estimates = []
    for calls in dict.fromkeys((share.likely, share.at_most)):
        cost = estimate(calls=calls, prompt_tokens=prompt, completion_tokens=completion, prices=prices)
        money = "unpriced" if cost is None or prices is None else f"{cost:.2f} {prices.currency}"
        tokens = f"{calls * prompt:,} prompt and {calls * completion:,} completion tokens"
        estimates.append(f"{counted(calls, 'call')}, {tokens}, {money}")
    dated = f" (prices of {prices.date})" if prices else ""
    return f"chat model {section.model}, {share.what}: about {'; at most '.join(estimates)}{dated}"
