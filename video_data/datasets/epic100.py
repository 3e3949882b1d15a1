"""Reads EPIC-KITCHENS-100 CSV files: narrated actions of long kitchen videos, as verb and noun classes.

Traps: times are HH:MM:SS.ss; one class has many spellings (put, put-in, put-into), so an action is called by the
commonest verb of its verb class and the commonest noun of its noun class; `a:b` nouns are read `b a`; actions overlap
and the last one often still runs when the next starts; the test files have no labels.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from aot.files.jsonl import RefusedRow, RowProblem
from video_data.datasets.official import (
    Official,
    StepClip,
    Wanted,
    clip_id_of,
    in_time_order,
    read_csv,
    segment_of,
    text_of,
)
from video_data.datasets.rows import SegmentRow

COLUMNS = (
    "narration_id", "participant_id", "video_id", "start_timestamp", "stop_timestamp",
    "verb", "verb_class", "noun", "noun_class",
)  # fmt: skip
_TIME = re.compile(r"(\d{1,4}):([0-5]?\d):([0-5]?\d(?:\.\d+)?)", re.ASCII)
Action = tuple[str, str]
"""Verb class and noun class, as the file writes them."""


def read_epic100(wanted: Wanted) -> Official:
    """The annotated videos of the official files; an action's task is its kitchen, as no other is told.

    Raises:
        SourceError: a file is missing, or has no labels.
    """
    refused: list[RefusedRow] = []
    found: defaultdict[str, list[tuple[float, float, Action]]] = defaultdict(list)
    split_of: dict[str, str] = {}
    kitchen: dict[str, str] = {}
    verbs: defaultdict[str, Counter[str]] = defaultdict(Counter)
    nouns: defaultdict[str, Counter[str]] = defaultdict(Counter)
    ids: set[str] = set()
    for path, split in wanted.files():
        for line in read_csv(path, columns=COLUMNS):
            if isinstance(line, RefusedRow):
                refused.append(line)
                continue
            place, row = line
            try:
                video, times, action = _row(row, ids)
                if split_of.setdefault(video, split) != split:
                    raise RowProblem("two_splits", f"the video {video} is in another file already")
            except RowProblem as problem:
                refused.append(problem.row(place))
                continue
            kitchen[video] = clip_id_of(row["participant_id"])
            found[video].append((*times, action))
            verbs[action[0]][_spoken(row["verb"])] += 1
            nouns[action[1]][_spoken(row["noun"])] += 1
    verb_names, noun_names = _commonest(verbs), _commonest(nouns)
    clips = []
    for video, actions in found.items():
        segments = [SegmentRow(start, stop, f"{verb_names[a[0]]} {noun_names[a[1]]}") for start, stop, a in actions]
        last_s = max(segment.end_s for segment in segments)
        clips.append(StepClip(video, split_of[video], kitchen[video], last_s, in_time_order(segments)))
    places = {video: (f"{name}/{video}", f"{name}/videos/{video}") for video, name in kitchen.items()}
    return Official(tuple(clips), refused=tuple(refused), places=places)


def time_s(text: str) -> float:
    """Seconds of HH:MM:SS.ss.

    Raises:
        RowProblem: it is no such time.

    >>> time_s("00:01:02.50")
    62.5
    """
    match = _TIME.fullmatch(text.strip())
    if not match:
        raise RowProblem("bad_value", f"a time must be HH:MM:SS.ss, got {text!r}"[:200])
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])


def _row(row: dict[str, str], ids: set[str]) -> tuple[str, tuple[float, float], Action]:
    """Video, times and classes of a row.

    Raises:
        RowProblem: it cannot be used.
    """
    name = text_of(row["narration_id"], "narration_id")
    if name in ids:
        raise RowProblem("duplicate_id", f"the narration {name!r} was read already")
    start_s, stop_s = time_s(row["start_timestamp"]), time_s(row["stop_timestamp"])
    segment_of(start_s, stop_s, name)
    text_of(row["verb"], "verb")
    text_of(row["noun"], "noun")
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
    def best(spellings: Iterable[tuple[str, int]]) -> str:
        return min(spellings, key=lambda one: (-one[1], one[0]))[0]

    return {name: best(spellings.items()) for name, spellings in counts.items()}
