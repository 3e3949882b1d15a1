"""Reads COIN's annotation file: one JSON object `database`, video id to task, region of interest and labelled segments.

Traps: step ids are texts while task ids are numbers, and 749 labels stand for 778 step ids, so that only task and label
together name a step; the subset is called testing in the file and validation in its README; segments count from the
start of the whole video, not of its region `start`. Other splits are published as a list of entries for each side:
there the file tells the split, and `subset` still tells the official one.
"""

from aot.files.jsonl import RefusedRow, RowProblem
from video_data.datasets.official import (
    SUBSETS,
    TEST,
    TRAIN,
    UNTOLD,
    Official,
    StepClip,
    Wanted,
    clip_id_of,
    in_time_order,
    read_database,
    seconds_of,
    segments_of,
)


def read_coin(wanted: Wanted) -> Official:
    """The annotated clips of the official file or files.

    Raises:
        SourceError: a file is missing or not of this layout.
    """
    clips: dict[str, StepClip] = {}
    refused: list[RefusedRow] = []
    places: dict[str, tuple[str, ...]] = {}
    for path, side in wanted.files():
        database, bad, layout = read_database(path)
        refused += bad
        for name, entry in database.items():
            try:
                clip = _clip(name, entry, side if layout == "list" else UNTOLD, refused)
                earlier = clips.get(name)
                if earlier and not (clip.split == TEST and earlier.split == TRAIN):
                    raise RowProblem("duplicate_id", "an earlier file has this clip")
                if earlier:
                    refused.append(RefusedRow(name, "two_splits", "a file of each split has it; it is tested on"))
                clips[name] = clip
                places[clip.id] = (f"{clip.task}/{clip.id}", f"{entry.get('recipe_type')}/{clip.id}")
            except RowProblem as problem:
                refused.append(problem.row(name))
    return Official(tuple(clips.values()), refused=tuple(refused), places=places)


def _clip(name: str, entry: object, split: str, refused: list[RefusedRow]) -> StepClip:
    """One clip, in `split` unless that is untold; its bad segments are added to `refused`.

    Raises:
        RowProblem: nothing of it can be used.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("annotation"), list):
        raise RowProblem("no_annotation", "the entry has no list `annotation`")
    subset = str(entry.get("subset"))
    if not split and subset not in SUBSETS:
        raise RowProblem("bad_subset", f"subset must be one of {', '.join(SUBSETS)}, got {subset!r}"[:200])
    duration_s = seconds_of(entry.get("duration"), "duration")
    segments = segments_of(entry["annotation"], "label", clip=name, duration_s=duration_s, refused=refused)
    return StepClip(
        id=clip_id_of(name),
        split=split or SUBSETS[subset],
        task=clip_id_of(entry.get("class")),
        duration_s=duration_s,
        segments=in_time_order(segments),
        start_s=seconds_of(entry.get("start", 0.0), "start"),
    )
