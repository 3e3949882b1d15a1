"""Reads COIN's annotation file: one JSON object `database`, video id to task, region of interest and labelled segments.

Traps: step ids are texts while task ids are numbers (labels are compared here, not ids); the subset is called testing
in the file and validation in its README; segments count from the start of the whole video, not of its region `start`.
"""

from video_data.datasets.official import (
    SUBSETS,
    Official,
    StepClip,
    Wanted,
    clip_id_of,
    in_time_order,
    read_database,
    seconds_of,
    segments_of,
)
from video_data.datasets.rows import RefusedRow
from video_data.datasets.strict_jsonl import RowProblem


def read_coin(wanted: Wanted) -> Official:
    """The annotated clips of the official file or files.

    Raises:
        VideoError: a file is missing or not of this layout.
    """
    clips: dict[str, StepClip] = {}
    refused: list[RefusedRow] = []
    places: dict[str, tuple[str, ...]] = {}
    for path, split in wanted.files():
        database, twice = read_database(path)
        refused += twice
        for name, entry in database.items():
            try:
                if name in clips:
                    raise RowProblem("duplicate_id", "an earlier file has this clip")
                clip = clips[name] = _clip(name, entry, split, refused)
                places[clip.id] = (f"{clip.task}/{clip.id}", f"{entry.get('recipe_type')}/{clip.id}")
            except RowProblem as problem:
                refused.append(problem.row(name))
    return Official(tuple(clips.values()), refused=tuple(refused), places=places)


def _clip(name: str, entry: object, split: str, refused: list[RefusedRow]) -> StepClip:
    """One clip; its bad segments are added to `refused`.

    Raises:
        RowProblem: nothing of it can be used.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("annotation"), list):
        raise RowProblem("no_annotation", "the entry has no list `annotation`")
    subset = entry.get("subset")
    if not isinstance(subset, str) or subset not in SUBSETS:
        raise RowProblem("bad_subset", f"subset must be one of {', '.join(SUBSETS)}, got {subset!r}"[:200])
    duration_s = seconds_of(entry.get("duration"), "duration")
    segments = segments_of(entry["annotation"], "label", clip=name, duration_s=duration_s, refused=refused)
    return StepClip(
        id=clip_id_of(name),
        split=SUBSETS[subset],
        task=clip_id_of(entry.get("class")),
        duration_s=duration_s,
        segments=in_time_order(segments),
        start_s=seconds_of(entry.get("start", 0.0), "start"),
    )
