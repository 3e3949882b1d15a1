"""Reads data sets that come as annotated steps of clips: YouCook2, COIN, CrossTask and EPIC-KITCHENS-100.

Questions about their next steps are made by next_steps.py.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from aot.errors import SourceError
from aot.files.jsonl import RefusedRow, RowProblem, empty_words
from video_data.datasets.official import (
    TEST,
    TRAIN,
    UNTOLD,
    Official,
    StepClip,
    Wanted,
    clip_id_of,
    is_not_utf8,
    kitchen_places,
    read_csv,
    read_database,
    read_plain_csv,
    seconds_of,
    text_of,
)
from video_data.datasets.rows import SegmentRow, good_lines, in_time_order, set_aside

SUBSETS = {"training": TRAIN, "validation": TEST, "testing": TEST}
"""COIN's README says validation where its file says testing."""
END_TOLERANCE_S = 0.5
"""A segment may end this much after its clip; annotators round."""


def _segment(start_s: float, end_s: float, label: str, *, duration_s: float) -> SegmentRow:
    if end_s <= start_s:
        raise RowProblem("bad_segment", f"{start_s:g}-{end_s:g} s {empty_words(start_s, end_s)}")
    if end_s > duration_s + END_TOLERANCE_S:
        raise RowProblem("bad_segment", f"{start_s:g}-{end_s:g} s ends after the clip, {duration_s:g} s")
    return SegmentRow(start_s, end_s, label)


# YouCook2 and COIN: one JSON object `database`, video id to subset, task and labelled segments

_ClipOf = Callable[[str, dict[str, Any], str, list[RefusedRow]], StepClip]
"""Makes the clip of an id and an entry, in a split unless that is untold; its bad segments are refused rows."""


def read_youcook2(wanted: Wanted) -> Official:
    """The annotated clips of the official file or files.

    Traps: the recipe type is a text of digits; the sentences are free, with no closed set of steps, so a next step is
    asked only among sentences; the testing subset has no annotations.
    """
    note = "youcook2 describes steps in free sentences: next_open has no list of answers and is not asked"
    return _read_databases(wanted, _youcook2_clip, notes=(note,) if "next_open" in wanted.kinds else ())


def read_coin(wanted: Wanted) -> Official:
    """The annotated clips of the official file or files.

    Traps: step ids are texts while task ids are numbers, and 749 labels stand for 778 step ids, so that only task and
    label together name a step; segments count from the start of the whole video, not of its region `start`. Other
    splits are published as a list of entries for each side: there the file tells the split, and `subset` still tells
    the official one.
    """
    return _read_databases(wanted, _coin_clip)


def _read_databases(wanted: Wanted, clip_of: _ClipOf, *, notes: tuple[str, ...] = ()) -> Official:
    clips: dict[str, StepClip] = {}
    refused: list[RefusedRow] = []
    for path, side in wanted.files():
        database, bad, layout = read_database(path)
        refused += bad
        for name, entry in database.items():
            with set_aside(name, refused):
                clip = clip_of(name, entry, side if layout == "list" else UNTOLD, refused)
                earlier = clips.get(name)
                if earlier and not (clip.split == TEST and earlier.split == TRAIN):
                    raise RowProblem("duplicate_id", "an earlier file has this clip")
                if earlier:
                    refused.append(RefusedRow(name, "two_splits", "a file of each split has it; it is tested on"))
                clips[name] = clip
    return Official(tuple(clips.values()), refused=tuple(refused), notes=notes)


def _youcook2_clip(name: str, entry: Any, split: str, refused: list[RefusedRow]) -> StepClip:  # noqa: ANN401 - JSON
    if not isinstance(entry, dict) or not entry.get("annotations"):
        raise RowProblem("no_annotation", "the entry has no `annotations`, as in the testing subset")
    subset = entry.get("subset")
    if not isinstance(subset, str) or subset not in SUBSETS or not isinstance(entry["annotations"], list):
        raise RowProblem("bad_subset", f"subset must be one of {', '.join(SUBSETS)}, with a list of annotations")
    duration_s = seconds_of(entry.get("duration"), "duration")
    segments = _segments(entry["annotations"], "sentence", clip=name, duration_s=duration_s, refused=refused)
    clip_id, task = clip_id_of(name), clip_id_of(str(entry.get("recipe_type") or ""))
    places = (f"{task}/{clip_id}", f"{subset}/{task}/{clip_id}")
    return StepClip(clip_id, SUBSETS[subset], task, duration_s, segments, places=places)


def _coin_clip(name: str, entry: Any, split: str, refused: list[RefusedRow]) -> StepClip:  # noqa: ANN401
    if not isinstance(entry, dict) or not isinstance(entry.get("annotation"), list):
        raise RowProblem("no_annotation", "the entry has no list `annotation`")
    subset = str(entry.get("subset"))
    if not split and subset not in SUBSETS:
        raise RowProblem("bad_subset", f"subset must be one of {', '.join(SUBSETS)}, got {subset!r}"[:200])
    duration_s = seconds_of(entry.get("duration"), "duration")
    segments = _segments(entry["annotation"], "label", clip=name, duration_s=duration_s, refused=refused)
    clip_id, task = clip_id_of(name), clip_id_of(entry.get("class"))
    start_s = seconds_of(entry.get("start", 0.0), "start")
    places = (f"{task}/{clip_id}", f"{entry.get('recipe_type')}/{clip_id}")
    return StepClip(clip_id, split or SUBSETS[subset], task, duration_s, segments, start_s, places)


def _segments(
    rows: list[Any], label: str, *, clip: str, duration_s: float, refused: list[RefusedRow]
) -> tuple[SegmentRow, ...]:
    """Steps given as `segment: [start, end]` with a text under `label`, by start; bad ones go to `refused`."""
    segments = []
    for number, row in enumerate(rows):
        with set_aside(f"{clip}:{number}", refused):
            span = row.get("segment") if isinstance(row, dict) else None
            if not isinstance(span, list) or len(span) != 2:
                raise RowProblem("bad_segment", "a segment must be [start, end] in seconds")
            start_s, end_s = (seconds_of(time_s, "segment") for time_s in span)
            text = text_of(row.get(label), label)
            if label == "sentence":
                text = text.rstrip(" .")  # half of YouCook2's sentences end in a full stop
            segments.append(_segment(start_s, end_s, text, duration_s=duration_s))
    return in_time_order(segments)


# CrossTask: a release folder with task blocks, lists of videos, and one CSV of steps for each annotated video

TASKS, VALIDATION, ANNOTATIONS = "tasks_primary.txt", "videos_val.csv", "annotations"
LINES_OF_BLOCK = 5
_Task = tuple[str, tuple[str, ...]]
"""Title and steps."""


def read_crosstask(wanted: Wanted) -> Official:
    """The annotated clips of the release folder; those that `videos_val.csv` names are the test split.

    Traps: a step number counts from 1 within its task; segments overlap and are not always sorted; the lists name
    videos without annotations too; nothing tells how long a video is, so the end of its last step stands for that.
    """
    folder = wanted.train or wanted.test
    if folder is None or not (folder / ANNOTATIONS).is_dir():
        raise SourceError(f"{folder} must be a CrossTask release, with {TASKS} and a folder {ANNOTATIONS}")
    refused: list[RefusedRow] = []
    tasks = _crosstask_tasks(folder / TASKS, refused)
    validation = None
    if (folder / VALIDATION).exists():
        rows = good_lines(read_plain_csv(folder / VALIDATION), refused)
        validation = {(row[0], row[1]) for row in rows if len(row) >= 2}
    clips: dict[str, StepClip] = {}
    for path in sorted((folder / ANNOTATIONS).glob("*.csv")):
        task_id, _, name = path.stem.partition("_")
        split = UNTOLD if validation is None else TEST if (task_id, name) in validation else TRAIN
        with set_aside(path.name, refused):
            if task_id not in tasks:
                raise RowProblem("unknown_task", f"no task {task_id!r} in {TASKS}; the name must be <task>_<video>.csv")
            clip = _crosstask_clip(path, tasks[task_id], split, refused)
            if clip.id in clips:
                raise RowProblem("duplicate_id", f"the video {clip.id} was annotated for another task already")
            clips[clip.id] = clip
    return Official(tuple(clips.values()), refused=tuple(refused))


def _crosstask_tasks(path: Path, refused: list[RefusedRow]) -> dict[str, _Task]:
    """Task id to task; blocks whose number of steps is not that of their list are added to `refused`."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError:
        raise SourceError(f"{path} is missing or unreadable; give the official release folder") from None
    filled = [line.strip() for line in text.splitlines() if line.strip()]
    tasks: dict[str, _Task] = {}
    for at in range(0, len(filled), LINES_OF_BLOCK):
        block = filled[at : at + LINES_OF_BLOCK]  # id, title, address, number of steps, steps
        steps = tuple(" ".join(step.split()) for step in block[-1].split(","))
        if len(block) < LINES_OF_BLOCK or block[3] != str(len(steps)) or "" in steps:
            refused.append(RefusedRow(f"{path.name}:{block[0]}"[:200], "bad_task", "not the number of steps it tells"))
        elif is_not_utf8("".join(block)):
            refused.append(RefusedRow(f"{path.name}:{block[0]}"[:200], "not_utf8", "the task holds a byte of no UTF-8"))
        else:
            tasks[block[0]] = block[1], steps
    return tasks


def _crosstask_clip(path: Path, task: _Task, split: str, refused: list[RefusedRow]) -> StepClip:
    """One annotated clip; its bad rows are added to `refused`."""
    task_id, _, name = path.stem.partition("_")
    clip_id, (title, steps) = clip_id_of(name), task
    try:
        rows = read_plain_csv(path)
    except SourceError as error:
        raise RowProblem("broken_csv", str(error)) from None
    segments: list[SegmentRow] = []
    for number, row in enumerate(rows, start=1):
        with set_aside(f"{path.name}:{number}", refused):
            if isinstance(row, RefusedRow):
                raise RowProblem(row.reason, row.detail)
            if len(row) != 3:
                raise RowProblem("broken_csv", f"a row must be step,start,end, got {len(row)} fields")
            step = row[0].strip()
            if not re.fullmatch("[0-9]{1,4}", step) or not 1 <= int(step) <= len(steps):
                raise RowProblem("bad_step", f"the step must be a number from 1 to {len(steps)}, got {row[0]!r}"[:200])
            start_s, end_s = seconds_of(row[1], "start"), seconds_of(row[2], "end")
            segments.append(_segment(start_s, end_s, steps[int(step) - 1], duration_s=end_s))
    if not segments:
        raise RowProblem("no_annotation", "no usable step")
    end_s, places = max(one.end_s for one in segments), (f"{task_id}/{clip_id}", f"{task_id}_{clip_id}")
    return StepClip(clip_id, split, title, end_s, in_time_order(segments), places=places)


# EPIC-KITCHENS-100: CSV files of narrated actions in long kitchen videos, as verb and noun classes

EPIC_COLUMNS = (
    "narration_id", "participant_id", "video_id", "start_timestamp", "stop_timestamp",
    "verb", "verb_class", "noun", "noun_class",
)  # fmt: skip
_EPIC_TIME = re.compile(r"(\d{1,4}):([0-5]?\d):([0-5]?\d(?:\.\d+)?)", re.ASCII)
_Action = tuple[str, str]
"""Verb class and noun class, as the file writes them."""


def read_epic100(wanted: Wanted) -> Official:
    """The annotated videos of the official files; an action's task is its kitchen, as no other is told.

    Traps: times are HH:MM:SS.ss; one class has many spellings (put, put-in, put-into), so an action is called by the
    commonest verb of its verb class and the commonest noun of its noun class; `a:b` nouns are read `b a`; actions
    overlap and the last one often still runs when the next starts; the test files have no labels.
    """
    refused: list[RefusedRow] = []
    actions_of: defaultdict[str, list[tuple[float, float, _Action]]] = defaultdict(list)
    split_of: dict[str, str] = {}
    kitchen: dict[str, str] = {}
    verbs: defaultdict[str, Counter[str]] = defaultdict(Counter)
    nouns: defaultdict[str, Counter[str]] = defaultdict(Counter)
    ids: set[str] = set()
    for path, split in wanted.files():
        for place, row in good_lines(read_csv(path, columns=EPIC_COLUMNS), refused):
            with set_aside(place, refused):
                video, times, action = _epic_action(row, ids)
                if split_of.setdefault(video, split) != split:
                    raise RowProblem("two_splits", f"the video {video} is in another file already")
                kitchen[video] = clip_id_of(row["participant_id"])
                actions_of[video].append((*times, action))
                verbs[action[0]][_spoken(row["verb"])] += 1
                nouns[action[1]][_spoken(row["noun"])] += 1
    verb_names, noun_names = _commonest(verbs), _commonest(nouns)
    clips = []
    for video, actions in actions_of.items():
        segments = [SegmentRow(start, stop, f"{verb_names[a[0]]} {noun_names[a[1]]}") for start, stop, a in actions]
        last_s = max(segment.end_s for segment in segments)
        ordered, places = in_time_order(segments), kitchen_places(kitchen[video], video)
        clips.append(StepClip(video, split_of[video], kitchen[video], last_s, ordered, places=places))
    return Official(tuple(clips), refused=tuple(refused))


def epic_seconds(text: str) -> float:
    """Seconds of HH:MM:SS.ss.

    >>> epic_seconds("00:01:02.50")
    62.5
    """
    match = _EPIC_TIME.fullmatch(text.strip())
    if not match:
        raise RowProblem("bad_value", f"a time must be HH:MM:SS.ss, got {text!r}"[:200])
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])


def _epic_action(row: dict[str, str], ids: set[str]) -> tuple[str, tuple[float, float], _Action]:
    """Video, times and classes of a row, whose id is added to `ids`."""
    name = text_of(row["narration_id"], "narration_id")
    if name in ids:
        raise RowProblem("duplicate_id", f"the narration {name!r} was read already")
    start_s, stop_s = epic_seconds(row["start_timestamp"]), epic_seconds(row["stop_timestamp"])
    _segment(start_s, stop_s, name, duration_s=stop_s)
    text_of(row["verb"], "verb")
    text_of(row["noun"], "noun")
    clip_id_of(row["participant_id"])
    if not (row["verb_class"].isdecimal() and row["noun_class"].isdecimal()):
        raise RowProblem("bad_value", "verb_class and noun_class must be numbers")
    ids.add(name)
    return clip_id_of(row["video_id"]), (start_s, stop_s), (row["verb_class"], row["noun_class"])


def _spoken(name: str) -> str:
    """A verb or noun as one says it.

    >>> _spoken("turn-on"), _spoken("board:cutting")
    ('turn on', 'cutting board')
    """
    return " ".join(" ".join(reversed(name.split(":"))).replace("-", " ").split())


def _commonest(counts: dict[str, Counter[str]]) -> dict[str, str]:
    """Class to its commonest spelling; of equally common ones the first by name, so that file order does not matter."""

    def best(spellings: Iterable[tuple[str, int]]) -> str:
        return min(spellings, key=lambda one: (-one[1], one[0]))[0]

    return {name: best(spellings.items()) for name, spellings in counts.items()}
