"""What a run would do (`--dry-run`): resolved config, counts, and estimates of time, disk and calls of chat models.

Starts nothing. The actual use of chat models stands in the run folder afterwards.
"""

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from math import ceil, prod
from pathlib import Path

from aot import STAGES
from aot.arms.jobs import planned_students
from aot.chat.spend import estimate
from aot.config import (
    EMBEDDED_STUDENTS,
    ChatConfig,
    ClipTeacher,
    GymData,
    KitchenData,
    LoraSection,
    PlanningTeacher,
    RunConfig,
    SolvingTeacher,
    TextRun,
    VideoRun,
    chat_for,
    dump_config,
)
from aot.display import counted
from aot.files.jsonl import read_json, refused_words
from aot.files.run_folder import RunFolder, run_root, stage_done
from aot.files.shards import shard_states
from aot.pipeline.commands.inputs import check_paths, look_at_student
from aot.pipeline.doors import Plan, Run, door_of
from aot.pipeline.gates import KITCHEN_ONLY, knows_only_the_kitchen
from aot.student.model.folders import WEIGHT_INDEX
from text_cot.datasets.toy_math import OOD_SPLITS
from video_data.datasets.rows import AnnotationRow

# Seconds on 2 cores for the tiny student, from docs/measurements.md; larger students and faster machines differ.
DRAW_AND_DECODE_S_PER_CLIP = 0.03
GENERATE_S_PER_QUESTION = 0.003
TRAIN_S_PER_ROW = 0.0115
PREDICT_S_PER_ROW = 0.007
TRAIN_S_PER_LESSON = 0.005
WRITE_S_PER_REPLY = 0.005
KB_PER_QUESTION, KB_PER_TRACE = 2.0, 2.0
"""Of a text run: a question with its verdicts and lessons, and a trace wherever it is written."""
REPLY_KB, KB_PER_TOKEN = 0.5, 0.004
"""Of a prediction without its text, and of a token of it."""
PAGE_MB = 5.0
"""Report, card and logs."""
VIDEO_REST_MB = 40.0
TRAINED_BYTES, ADAM_BYTES, MASTER_BYTES = 4, 8, 4
"""Of one trained weight: float32, the two moments of AdamW in a checkpoint, and the copy that ZeRO keeps besides."""
_NOT_ADAPTED = ("embed", "wte", "wpe", "lm_head", ".experts.")
_SEES = ("vision", "visual", "connector", "projector", "image")
"""Parts of names of weights that are no linear layers of the language model."""
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


def plan_lines(config: RunConfig, *, config_path: Path) -> list[str]:
    """The plan of a run, line by line.

    Raises:
        AotError: the run would stop at once, because a path or a split is wrong.
    """
    run = RunFolder(run_root(config, config_path=config_path))
    check_paths(config, run)
    head = [*dump_config(config).splitlines(), "", f"run folder: {run.root}"]
    plan = door_of(config).plan(config, run)
    free_mb = shutil.disk_usage(_existing(run.root)).free / 1e6
    trained_mb = students_mb(config)
    disk_mb = plan.disk_mb + (trained_mb or 0)
    students = "without students, as the weights of the base are not here to be measured"
    students = students if trained_mb is None else f"students and their checkpoints {trained_mb:.0f} MB"
    lines = [*head, *plan.lines, f"estimated disk: {disk_mb:.0f} MB of {free_mb:.0f} MB free ({students})"]
    if disk_mb > free_mb:
        lines.append(
            "note: that is more than there is; train fewer arms, let LoRA train them, or lower train.keep_checkpoints"
        )
    if config.student.base in EMBEDDED_STUDENTS:
        lines.append(f"estimated time: {plan.seconds / 60:.1f} min on 2 cores")
    else:
        lines.append("estimated time: unknown for this student; run with --limit 8 first and scale up")
    return [*lines, *_shard_notes(run), "nothing was started"]


def _shard_notes(run: RunFolder) -> Iterator[str]:
    """Where a run would stop, because shards of one of its stages are missing."""
    for stage in STAGES:
        shards = shard_states(run, stage)
        done = sum(one.is_done for one in shards)
        if done < len(shards) and not stage_done(run, stage):
            yield f"note: {done} of {len(shards)} shards of {stage} are done; a run stops there (aot status)"


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
    lines += _chat_lines(config, questions=sum(splits.values()), training=splits["train"])
    first = [row for row in source.questions if row.split == "train"][:1]
    lines += look_at_student(config, run, *usable_questions(first, dataset=config.data.dataset)[0])
    num_clips = len(source.clips) if small is config else sum(clips.values())
    disk_mb = _disk_mb(config, source.clips, source.annotations) * num_clips / max(1, len(source.clips))
    return Plan(lines, disk_mb + VIDEO_REST_MB, _seconds(config, splits, num_clips))


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
    lines += _chat_lines(config, questions=sum(splits.values()), training=splits["train"])
    lines += look_at_student(config, run, *[row for row in source.questions if row.split == "train"][:1])
    rows = sum(sum(planned_students(arm, config)) for arm in config.train.arms) * config.train.questions_per_step
    replies = sum(splits[split] for split in config.evaluate.splits) * (len(config.train.arms) + 2)
    seconds = rows * TRAIN_S_PER_LESSON + replies * WRITE_S_PER_REPLY
    reply_kb = REPLY_KB + KB_PER_TOKEN * config.student.max_rationale_tokens
    traces = config.teacher.candidates if config.teacher.planner == "chat" else 2
    rows_kb = (KB_PER_QUESTION + KB_PER_TRACE * traces) * sum(splits.values()) + reply_kb * replies
    return Plan(lines, PAGE_MB + rows_kb / 1000, seconds)


def students_mb(config: RunConfig) -> float | None:
    """What trained students and their checkpoints take at most; None where the weights of the base are not here."""
    shapes = _weight_shapes(config.student.base)
    if shapes is None:
        return None
    train = config.train
    language = {name: shape for name, shape in shapes.items() if not any(part in name for part in _SEES)}
    whole = sum(map(prod, shapes.values()))
    optimised = {"lora": _num_adapted(language, train.lora), "full": sum(map(prod, language.values()))}
    total, largest = 0.0, 0.0
    for arm in train.arms:
        stored = TRAINED_BYTES * (whole if arm.tuning == "full" else optimised["lora"])
        state = (ADAM_BYTES + (MASTER_BYTES if train.zero_stage else 0)) * optimised[arm.tuning]
        for steps in planned_students(arm, config):
            saves = ceil(steps / train.save_steps)
            total += stored + min(saves, train.keep_checkpoints) * (stored + state)
            if saves > train.keep_checkpoints:  # one is whole before the oldest goes
                largest = max(largest, stored + state)
    return (total + largest) / 1e6


def _num_adapted(shapes: dict[str, tuple[int, ...]], lora: LoraSection) -> int:
    """Weights of fresh adapters on the linear layers of the language model, or on those of the pattern."""
    linear = {
        name.removesuffix(".weight"): shape
        for name, shape in shapes.items()
        if len(shape) == 2 and name.endswith(".weight") and not any(part in name for part in _NOT_ADAPTED)
    }
    wanted = {name for name in linear if lora.target_pattern and re.fullmatch(lora.target_pattern, name)}
    # A model may be stored under other names than those it has in memory, which the pattern is about.
    return lora.rank * sum(sum(linear[name]) for name in wanted or linear)


def _weight_shapes(base: str) -> dict[str, tuple[int, ...]] | None:
    """Name to shape of every stored weight of a base, from the headers of its files; None where they are not here."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        return None
    embedded = EMBEDDED_STUDENTS.get(base)
    folder = Path(str(resources.files("aot.student"))) / embedded if embedded else Path(base)
    index = folder / WEIGHT_INDEX
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        whole = (folder / "model.safetensors").is_file()  # which transformers takes first
        names = {"model.safetensors"} if whole else set(read_json(index)["weight_map"].values())
        for name in sorted(names):
            with safe_open(folder / name, framework="np") as file:
                shapes |= {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError):
        return None
    return shapes


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


def _seconds(config: RunConfig, splits: Counter[str], num_clips: int) -> float:
    train, evaluate = config.train, config.evaluate
    steps = sum((2 if arm.rationale_weight > 0 else 1) * sum(planned_students(arm, config)) for arm in train.arms)
    rows = steps * train.questions_per_step
    questions = sum(splits[split] for split in evaluate.splits)
    modes = 3 * (len(train.arms) + 1) + 1
    return (
        num_clips * DRAW_AND_DECODE_S_PER_CLIP
        + sum(splits.values()) * GENERATE_S_PER_QUESTION
        + rows * TRAIN_S_PER_ROW
        + questions * modes * PREDICT_S_PER_ROW
    )


def _disk_mb(config: VideoRun, clips: tuple[tuple[str, Path], ...], annotations: tuple[AnnotationRow, ...]) -> float:
    durations_s = {row.uri: row.duration_s for row in annotations}
    pixels = 96 * 72 if isinstance(config.data, KitchenData) else min(UNKNOWN_PIXELS, config.frames.max_side_px**2)
    frames = sum(
        min(durations_s.get(uri, UNKNOWN_CLIP_S) * config.frames.fps, config.frames.max_stored_frames)
        for uri, _ in clips
    )
    drawn_mb = 0.25 * len(clips) if isinstance(config.data, KitchenData) else 0.0
    return frames * pixels * 3 / 1e6 + drawn_mb


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
