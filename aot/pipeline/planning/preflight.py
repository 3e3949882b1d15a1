"""Notes about data, words and servers before a run: what it would go on with, and what would come of little then.

Whether it can begin at all is judged in inputs.py. Nothing is decoded, and no model is loaded or paid for.
"""

import csv
import json
import logging
import os
import re
import socket
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

from aot.chat.server.keys import PORT
from aot.config import (
    EMBEDDED_STUDENTS,
    GymData,
    KitchenData,
    MathData,
    RulesTeacher,
    RunConfig,
    TextRun,
    VideoRun,
    chat_jobs,
)
from aot.display import counted
from aot.errors import AotError, CheckpointError, ConfigError, ParseError
from aot.files.run_folder import RunFolder, stage_done
from aot.pipeline.planning.reckon import reckon
from aot.records import Question
from aot.student.model.folders import TOKENIZER_FILES
from aot.teacher.planner import Scene
from text_cot.datasets.source import TextSource
from video_data.datasets.rows import VideoData

log = logging.getLogger(__name__)
TRAIN = "train"
THREE_WAYS = (
    "which of three ways fits: zero-shot models that find things by their names (teacher.tools), a vision-language "
    "model behind a server (aot init real DIR), or a card of colours and shapes (teacher.appearance): "
    "docs/own_clips.md"
)
REAL = {"tiny-text": "Qwen3-0.6B", "tiny-names": "Qwen3-0.6B", "tiny-video": "SmolVLM2-2.2B-Instruct"}
"""A small real model that takes the place of an embedded one."""
MOST_ASKED = 2000
"""Questions that are looked at, so that a large data set does not hold up a dry run."""
REACH_S = 3.0


@dataclass(frozen=True)
class Gpu:
    """One GPU of this machine, as its driver sees it now."""

    name: str
    free_gb: float
    total_gb: float


def gpus_here() -> list[Gpu]:
    """The GPUs that a run here would use; none where no driver of NVIDIA answers."""
    fields = "--query-gpu=index,uuid,name,memory.free,memory.total"
    command = ["nvidia-smi", fields, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return read_gpus(done.stdout if done.returncode == 0 else "", visible=os.environ.get("CUDA_VISIBLE_DEVICES"))


def read_gpus(table: str, *, visible: str | None) -> list[Gpu]:
    r"""Rows of nvidia-smi (index, UUID, name, MiB free, MiB in all); of `visible` numbers or UUIDs only, if not None.

    >>> read_gpus("0, GPU-ab, NVIDIA L40S, 1024, 46068\n1, GPU-cd, NVIDIA L40S, [N/A], [N/A]", visible=None)
    [Gpu(name='NVIDIA L40S', free_gb=1.073741824, total_gb=48.305799168)]
    """
    gpus = []
    for row in csv.reader(table.splitlines(), skipinitialspace=True):
        if len(row) != 5 or not (row[3].isdigit() and row[4].isdigit()):
            continue
        named = [one.strip() for one in (visible or "").split(",") if one.strip()]
        if visible is None or any(one == row[0] or (not one.isdigit() and row[1].startswith(one)) for one in named):
            gpus.append(Gpu(row[2], int(row[3]) * 2**20 / 1e9, int(row[4]) * 2**20 / 1e9))
    return gpus


def gpu_lines(needed_gb: float, gpus: Sequence[Gpu]) -> list[str]:
    """What a plan needs of one GPU beside what the one with the least free memory has; nothing without a GPU."""
    if not gpus:
        return []
    least = min(gpus, key=lambda gpu: gpu.free_gb)
    has = f"{least.free_gb:.1f} of {least.total_gb:.1f} GB are free on {least.name}"
    line = f"GPU memory: {needed_gb:.1f} GB are needed by this plan, {has}"
    if needed_gb > least.total_gb:
        return [
            f"note: {line}; that is more than it has: see the ZeRO stages above, or make it less by "
            "train.questions_per_device, train.gradient_checkpointing=true or evaluate.batch_size"
        ]
    if needed_gb > least.free_gb:
        return [f"note: {line}; something else uses it: wait for that, or set CUDA_VISIBLE_DEVICES to another GPU"]
    return [line]


def gpu_notes(config: RunConfig) -> list[str]:
    """The same of this machine; nothing where the student is small enough for any, or runs on the CPU."""
    if config.student.base in EMBEDDED_STUDENTS or config.student.device == "cpu":
        return []
    if not (gpus := gpus_here()) or (planned := reckon(config)) is None:
        return []
    return gpu_lines(max([arm.memory.total for arm in planned.arms] + [planned.answering.total]) / 1e9, gpus)


def begin(config: RunConfig, run: RunFolder) -> VideoData | TextSource | None:
    """Log what a run would go on with that its user should know, before its first stage.

    Returns:
        The data that were read for it, for prepare; None where none were, or where prepare has to say why not.

    Raises:
        ConfigError: the rules can plan for so few training questions that the run would stop after generate.
    """
    if not stage_done(run, "train") and config.run.shard is None:
        for line in gpu_notes(config):
            log.log(logging.WARNING if line.startswith("note") else logging.INFO, "%s", line)
    if stage_done(run, "prepare") or isinstance(config.data, KitchenData | MathData | GymData):
        return None
    from aot.pipeline.source import usable_source
    from text_cot.prepare import usable_source as usable_problems

    source: VideoData | TextSource
    try:
        if isinstance(config, VideoRun):
            source = usable_source(config, run)
            notes = clip_notes(config, source)
        else:
            source = usable_problems(config.data, seed=config.seed, splits=config.evaluate.splits)
            notes = problem_notes(config, source)
    except AotError:  # prepare says it, and marks the stage as failed
        return None
    for note in notes:
        log.warning("%s", note)
    return source


def clip_notes(config: VideoRun, source: VideoData) -> Iterator[str]:
    """Questions for which the rules can plan no call, and words that an embedded student does not know."""
    from aot.pipeline.prepare import usable_questions

    if isinstance(config.data, KitchenData):
        return
    questions = usable_questions(source.questions[:MOST_ASKED], dataset=config.data.dataset)[0]
    learned = {one.label for row in source.annotations if row.split == TRAIN for one in row.segments}
    if isinstance(config.teacher, RulesTeacher):
        yield from _unplanned(config.teacher, questions, learned, has_book=config.data.recipes is not None)
    yield from _unknown_words(config.student.base, [(one.id, _texts(one)) for one in questions], "question")


def problem_notes(config: TextRun, source: TextSource) -> Iterator[str]:
    """Words that an embedded student does not know, and training problems without a worked solution."""
    if isinstance(config.data, MathData | GymData):
        return
    solutions = {one.question_id: one.text for one in source.rationales}
    train = [one for one in source.questions if one.split == TRAIN]
    alone = [one.id for one in train if not solutions.get(one.id, "").strip()]
    if config.teacher.planner == "given" and alone:
        yield (
            f"note: {len(alone)} of {counted(len(train), 'training problem')} without a worked solution, such as "
            f"{alone[0]}: no training on these; teacher.planner: chat has a model write one (aot init chat DIR)"
        )
    texts = [(one.id, [*_texts(one), solutions.get(one.id, "")]) for one in source.questions[:MOST_ASKED]]
    yield from _unknown_words(config.student.base, texts, "problem")


def try_to_reach(address: str) -> None:
    """Open a connection to the host of an address once, and close it; nothing is tried behind a proxy.

    Raises:
        OSError: nobody answers.
        ValueError: it is no address.
    """
    if not any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")):
        parts = urlsplit(address)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), REACH_S).close()


def check_hub_name(name: str) -> None:
    """Look whether the model hub gives a configuration by this name.

    Raises:
        CheckpointError: it does not, or cannot be reached; that is tried once.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from transformers import AutoConfig
    from transformers.utils import CONFIG_NAME

    try:
        if not constants.HF_HUB_OFFLINE and not isinstance(try_to_load_from_cache(name, CONFIG_NAME), str):
            try_to_reach(constants.ENDPOINT)  # or the hub's client tries six times, and says so each time
        AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # whatever a library throws at the files of strangers
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise CheckpointError(
            f"student.base {name!r} is no folder here, and no model hub gives it ({reason}); "
            f"give the folder of a model, or one of {', '.join(EMBEDDED_STUDENTS)}"
        ) from error


def server_notes(config: RunConfig) -> Iterator[str]:
    """Chat servers that nobody answers at now."""
    sections = {section.base_url: setting for setting, section in chat_jobs(config).values()
                if section and section.backend == "openai" and PORT not in section.base_url}  # fmt: skip
    for address, setting in sections.items():
        try:
            try_to_reach(address)
        except (OSError, ValueError) as error:
            why = f"nobody answers at {address} ({error}), where {setting} asks"
            yield f"note: {why}; start the server, or correct base_url"


def model_notes(config: RunConfig) -> Iterator[str]:
    """Models behind tools that are not here."""
    hf = getattr(config.teacher, "hf", None)
    for key in ("detector", "similarity"):
        name = getattr(hf, key, None)
        if name and not Path(name).is_dir():
            yield (
                f"note: teacher.hf.{key} {name} is no folder of a model here, so generate asks the hub for it; where "
                "there is no network give a folder (aot prefetch)"
            )


def _texts(question: Question) -> list[str]:
    return [question.text, *question.choices, question.answer]


def _unplanned(
    teacher: RulesTeacher, questions: Sequence[Question], learned: set[str], *, has_book: bool
) -> Iterator[str]:
    from aot.teacher.rules import RulesPlanner
    from aot.teacher.tools.pixels.appearance import load_appearance

    card, planner = load_appearance(teacher.appearance), RulesPlanner()
    labels = tuple(sorted({*card.labels, *learned}))
    scene = Scene(0.0, 1.0, card.labels, labels, tuple(card.objects), book="there" if has_book else "none")
    why: dict[str, str] = {}
    for one in questions:
        try:
            planner.start(one, scene=scene, candidate=0).next(())
        except ParseError as error:
            why[one.id] = str(error)
        else:
            if one.kind.startswith("next_") and not learned and not has_book:
                why[one.id] = "what comes next is counted in data.annotations of the train split, and there are none"
    if not why:
        return
    examples = "; ".join(f"{name}: {words[:160]}" for name, words in list(why.items())[:2])
    total = counted(len(questions), "question")
    yield f"note: the tools cannot know {len(why)} of {total}, such as {examples}; {THREE_WAYS}"
    train = [one.id for one in questions if one.split == TRAIN]
    if train and len(why.keys() & set(train)) > teacher.max_failed_share * len(train):
        raise ConfigError(
            f"the tools cannot know {len(why.keys() & set(train))} of {counted(len(train), 'training question')}, so "
            f"the run would stop after generate (teacher.max_failed_share is {teacher.max_failed_share:g}); such as "
            f"{examples}; {THREE_WAYS}"
        )


def _unknown_words(base: str, texts: Iterable[tuple[str, list[str]]], what: str) -> Iterator[str]:
    """Words of the data that an embedded student does not know; its tokenizer is a list of words."""
    if base not in EMBEDDED_STUDENTS:
        return
    file = resources.files("aot") / "student" / EMBEDDED_STUDENTS[base] / TOKENIZER_FILES[0]
    vocabulary = {word.lstrip("▁") for word in json.loads(file.read_text(encoding="utf-8"))["model"]["vocab"]}
    unknown: dict[str, None] = {}
    count = rows = 0
    for _, row in texts:
        words = [word for text in row for word in re.findall(r"\b[^\W\d_]+\b", text) if word not in vocabulary]
        unknown |= dict.fromkeys(words)
        count, rows = count + bool(words), rows + 1
    if count:
        shown = ", ".join(list(unknown)[:8]) + (", ..." if len(unknown) > 8 else "")
        yield (
            f"note: {base} does not know {counted(len(unknown), 'word')} of {count} of {counted(rows, what)} "
            f"({shown}); it cannot tell them apart, and is not trained on answers or rationales that have them. For "
            f"your own data give student.base the folder of a real model, such as {REAL[base]} (docs/students.md)"
        )
