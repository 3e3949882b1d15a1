"""Reads YouCook2's annotation file: one JSON object `database`, video id to recipe type and described segments.

Traps: the recipe type is a text of digits; the sentences are free, with no closed set of steps, so a next step is asked
only among sentences; the testing subset has no annotations.
"""

from aot.files.jsonl import RefusedRow, RowProblem
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


def read_youcook2(wanted: Wanted) -> Official:
    """The annotated clips of the official file or files.

    Raises:
        SourceError: a file is missing or not of this layout.
    """
    clips: dict[str, StepClip] = {}
    refused: list[RefusedRow] = []
    places: dict[str, tuple[str, ...]] = {}
    for path, _ in wanted.files():
        database, bad, _ = read_database(path)
        refused += bad
        for name, entry in database.items():
            try:
                if name in clips:
                    raise RowProblem("duplicate_id", "an earlier file has this clip")
                clip = clips[name] = _clip(name, entry, refused)
                subset = entry["subset"]
                places[clip.id] = (f"{clip.task}/{clip.id}", f"{subset}/{clip.task}/{clip.id}")
            except RowProblem as problem:
                refused.append(problem.row(name))
    notes = ("youcook2 describes steps in free sentences: next_open has no list of answers and is not asked",)
    return Official(
        tuple(clips.values()), refused=tuple(refused), places=places, notes=notes if "next_open" in wanted.kinds else ()
    )


def _clip(name: str, entry: object, refused: list[RefusedRow]) -> StepClip:
    """One clip; its bad segments are added to `refused`.

    Raises:
        RowProblem: nothing of it can be used.
    """
    if not isinstance(entry, dict) or not entry.get("annotations"):
        raise RowProblem("no_annotation", "the entry has no `annotations`, as in the testing subset")
    subset = entry.get("subset")
    if not isinstance(subset, str) or subset not in SUBSETS or not isinstance(entry["annotations"], list):
        raise RowProblem("bad_subset", f"subset must be one of {', '.join(SUBSETS)}, with a list of annotations")
    duration_s = seconds_of(entry.get("duration"), "duration")
    segments = segments_of(
        entry["annotations"], "sentence", clip=name, duration_s=duration_s, refused=refused, ending=" ."
    )
    return StepClip(
        id=clip_id_of(name),
        split=SUBSETS[subset],
        task=clip_id_of(str(entry.get("recipe_type") or "")),
        duration_s=duration_s,
        segments=in_time_order(segments),
    )
