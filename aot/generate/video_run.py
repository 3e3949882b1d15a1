"""The generate stage: solves the questions that have no row yet, in one of four ways, then publishes teacher.json.

A kill at any moment loses at most a half-written line of each writer, which is left out by the readers
(aot.files.traces) and solved again. A run that is one shard of many writes parts of its own and publishes nothing.
"""

import logging
from collections.abc import Callable, Iterator

from aot.chat.spend import spend_summary
from aot.config import RunConfig
from aot.files.run_folder import RunFolder, publish, read_rows
from aot.files.shards import Shard
from aot.files.todo import Pending, pending_questions, read_places
from aot.files.traces import read_solved, rows_by_settings
from aot.generate.exam import examine
from aot.generate.processes import solve_in_processes
from aot.generate.video_stats import TeacherStats, teacher_stats
from aot.generate.video_work import chat_threads, solve_all, solve_in_threads
from aot.records import ClipAnnotation
from aot.teacher.clip_shelf import open_shelf
from aot.teacher.parts import pixel_parts, sections
from aot.teacher.tools.pixels.appearance import load_appearance

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
FEW_QUESTIONS = 24
"""So many are solved in this process: starting workers would take longer."""


def generate(run: RunFolder, config: RunConfig, *, progress: Progress) -> dict[str, int]:
    """Write a trace row for each question of the shard that has none; for a whole run publish teacher.json too.

    Returns:
        How many traces there are, and of them failed ones and those that a chat model refused.

    Raises:
        ConfigError: the appearance card cannot be read, or a chat model cannot be asked.
        DecodeError: the frame store is damaged.
        RunError: the disk refuses a row.
        GuardStop: a worker was killed; the same command goes on where it stopped.
    """
    load_appearance(config.teacher.appearance)  # A bad card is told before any worker starts.
    shard = Shard.of(config.run.shard)
    pending = pending_questions(run, shard)
    finished = pending.total - len(pending.places)
    progress(finished, pending.total)
    writer = "" if config.run.shard is None else shard.writer
    if pending.places:
        for _ in _solve(run, config, pending, writer=writer):
            finished += 1
            progress(finished, pending.total)
    if config.run.shard is not None:
        return {"questions": pending.total}
    return _publish_stats(run, config)


def _solve(run: RunFolder, config: RunConfig, pending: Pending, *, writer: str) -> Iterator[str]:
    """Ids of questions as their rows get on disk."""
    if config.teacher.engine == "ray":
        from aot.generate.ray_engine import solve_on_ray  # here, because the package is optional

        return solve_on_ray(run, config, pending, writer=f"{writer}-ray".strip("-"))
    workers = min(config.teacher.workers, len(pending.places))
    threads = chat_threads(config)
    if not threads and workers > 1 and len(pending.places) > FEW_QUESTIONS:
        return solve_in_processes(run, config, pending, writer=writer, workers=workers)
    questions = read_places(pending.questions, pending.places)
    if threads:
        return solve_in_threads(run, config, questions, writer=writer or "0", threads=threads)
    return solve_all(run, config, questions, writer=writer or "0")


def _publish_stats(run: RunFolder, config: RunConfig) -> dict[str, int]:
    kit = pixel_parts(run, config, writer="exam")
    with kit.cache:
        accuracy = examine(read_rows(run.annotations, ClipAnnotation), open_shelf(run), kit)
    stats = teacher_stats(read_solved(run), tool_accuracy=accuracy, candidates=config.teacher.candidates)
    stats = _with_spend(run, config, stats)
    publish(run.teacher_stats, stats.model_dump_json(indent=1) + "\n")
    traces = sum(stats.status.values())
    refused = sum(count for status, count in stats.status.items() if status.endswith("_chat"))
    return {"traces": traces, "failed": traces - stats.status.get("ok", 0), "refused": refused}


def _with_spend(run: RunFolder, config: RunConfig, stats: TeacherStats) -> TeacherStats:
    """`stats` with what the chat models of the run have cost so far."""
    spent = {
        name: spend_summary(run, section)
        for name, section in zip(("spend", "vision_spend"), sections(config), strict=True)
        if section
    }
    for summary in spent.values():
        log.info(summary.line(stats.train_verified))
    hours = [summary.gpu_hours_per_thousand(stats.train_verified) for summary in spent.values()]
    known = [one for one in hours if one is not None]
    settings = rows_by_settings(run) if spent else ()
    return stats.model_copy(
        update={**spent, "chat_settings": settings, "gpu_hours_per_thousand_chains": sum(known) if known else None}
    )
