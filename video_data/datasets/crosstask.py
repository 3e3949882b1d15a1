"""Reads a CrossTask release folder: task blocks, lists of videos, and one CSV of steps for each annotated video.

Traps: a step number counts from 1 within its task; segments overlap and are not always sorted; the lists name videos
without annotations too; nothing tells how long a video is, so the end of its last step stands for that.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from aot.errors import SourceError
from aot.files.jsonl import RefusedRow, RowProblem
from video_data.datasets.official import (
    TEST,
    TRAIN,
    UNTOLD,
    Official,
    StepClip,
    Wanted,
    clip_id_of,
    in_time_order,
    is_not_utf8,
    read_plain_csv,
    seconds_of,
    segment_of,
)
from video_data.datasets.rows import SegmentRow

TASKS, VALIDATION, ANNOTATIONS = "tasks_primary.txt", "videos_val.csv", "annotations"
LINES_OF_BLOCK = 5


@dataclass(frozen=True)
class _Task:
    title: str
    steps: tuple[str, ...]


def read_crosstask(wanted: Wanted) -> Official:
    """The annotated clips of the release folder; those that `videos_val.csv` names are the test split.

    Raises:
        SourceError: the folder is missing, or one of its files.
    """
    folder = wanted.train or wanted.test
    if folder is None or not (folder / ANNOTATIONS).is_dir():
        raise SourceError(f"{folder} must be a CrossTask release, with {TASKS} and a folder {ANNOTATIONS}")
    refused: list[RefusedRow] = []
    tasks = _tasks(folder / TASKS, refused)
    validation = None
    if (folder / VALIDATION).exists():
        rows = read_plain_csv(folder / VALIDATION)
        refused += [row for row in rows if isinstance(row, RefusedRow)]
        validation = {(row[0], row[1]) for row in rows if not isinstance(row, RefusedRow) and len(row) >= 2}
    clips: dict[str, StepClip] = {}
    places: dict[str, tuple[str, ...]] = {}
    for path in sorted((folder / ANNOTATIONS).glob("*.csv")):
        task_id, _, name = path.stem.partition("_")
        split = UNTOLD if validation is None else TEST if (task_id, name) in validation else TRAIN
        try:
            clip = _clip(path, task_id, name, tasks, split, refused)
            if clip.id in clips:
                raise RowProblem("duplicate_id", f"the video {clip.id} was annotated for another task already")
        except RowProblem as problem:
            refused.append(problem.row(path.name))
        else:
            clips[clip.id] = clip
            places[clip.id] = (f"{task_id}/{clip.id}", f"{task_id}_{clip.id}")
    return Official(tuple(clips.values()), refused=tuple(refused), places=places)


def _tasks(path: Path, refused: list[RefusedRow]) -> dict[str, _Task]:
    """Task id to task; blocks whose number of steps is not that of their list are added to `refused`."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError:
        raise SourceError(f"{path} is missing or unreadable; give the official release folder") from None
    filled = [line.strip() for line in text.splitlines() if line.strip()]
    tasks: dict[str, _Task] = {}
    for at in range(0, len(filled), LINES_OF_BLOCK):
        block = filled[at : at + LINES_OF_BLOCK]
        steps = tuple(" ".join(step.split()) for step in block[-1].split(","))
        if len(block) < LINES_OF_BLOCK or block[3] != str(len(steps)) or "" in steps:
            refused.append(RefusedRow(f"{path.name}:{block[0]}"[:200], "bad_task", "not the number of steps it tells"))
        elif is_not_utf8("".join(block)):
            refused.append(RefusedRow(f"{path.name}:{block[0]}"[:200], "not_utf8", "the task holds a byte of no UTF-8"))
        else:
            tasks[block[0]] = _Task(block[1], steps)
    return tasks


def _clip(
    path: Path, task_id: str, name: str, tasks: dict[str, _Task], split: str, refused: list[RefusedRow]
) -> StepClip:
    """One annotated clip; its bad rows are added to `refused`.

    Raises:
        RowProblem: nothing of it can be used.
    """
    if task_id not in tasks:
        raise RowProblem("unknown_task", f"no task {task_id!r} in {TASKS}; the name must be <task>_<video>.csv")
    clip_id = clip_id_of(name)
    try:
        rows = read_plain_csv(path)
    except SourceError as error:
        raise RowProblem("broken_csv", str(error)) from None
    segments: list[SegmentRow] = []
    for number, row in enumerate(rows, start=1):
        try:
            if isinstance(row, RefusedRow):
                raise RowProblem(row.reason, row.detail)
            segments.append(_segment(row, tasks[task_id].steps))
        except RowProblem as problem:
            refused.append(problem.row(f"{path.name}:{number}"))
    if not segments:
        raise RowProblem("no_annotation", "no usable step")
    return StepClip(
        id=clip_id,
        split=split,
        task=tasks[task_id].title,
        duration_s=max(segment.end_s for segment in segments),
        segments=in_time_order(segments),
    )


def _segment(row: list[str], steps: tuple[str, ...]) -> SegmentRow:
    """One row `step,start,end`.

    Raises:
        RowProblem: it cannot be used.
    """
    if len(row) != 3:
        raise RowProblem("broken_csv", f"a row must be step,start,end, got {len(row)} fields")
    number = row[0].strip()
    if not re.fullmatch("[0-9]{1,4}", number) or not 1 <= int(number) <= len(steps):
        raise RowProblem("bad_step", f"the step must be a number from 1 to {len(steps)}, got {row[0]!r}"[:200])
    return segment_of(seconds_of(row[1], "start"), seconds_of(row[2], "end"), steps[int(number) - 1])
