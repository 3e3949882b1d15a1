"""Questions and annotated clips of a published data set: reads the official files, settles splits, finds the clips.

Groups are clips: all questions about one clip stand in one split, and intervals are clustered by it. Where the files do
not tell two splits, whole clips are held out, chosen by a hash of the seed and the clip's id.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from aot.files.jsonl import RefusedRow
from aot.seeds import in_random_order
from video_data.datasets.clip_folder import ClipFolder
from video_data.datasets.next_steps import MIN_SEEN_S, NextRule, next_questions, num_started_together
from video_data.datasets.official import MAX_ID_CHARS, TEST, TRAIN, Official, StepClip, Wanted
from video_data.datasets.question_readers import read_egoplan, read_nextqa, read_star
from video_data.datasets.rows import AnnotationRow, QuestionRow, VideoData, set_aside
from video_data.datasets.step_readers import read_coin, read_crosstask, read_epic100, read_youcook2

READERS: dict[str, Callable[[Wanted], Official]] = {
    "youcook2": read_youcook2,
    "coin": read_coin,
    "crosstask": read_crosstask,
    "epic100": read_epic100,
    "nextqa": read_nextqa,
    "star": read_star,
    "egoplan": read_egoplan,
}
"""Each of them raises a SourceError where a file or folder is missing, unreadable or of another layout."""
RULES = {"youcook2": NextRule(labels="free"), "epic100": NextRule(cut="before_next")}
"""How next steps are asked, where it is not the common way."""
Row = TypeVar("Row", StepClip, QuestionRow)


def read_annotated(dataset: str, wanted: Wanted, *, clips: Path | None) -> VideoData:
    """The questions and annotations of a data set, about the clips that are there.

    Args:
        dataset: one of READERS.
        wanted: which files, and which questions.
        clips: folder of the clips; None looks for none, keeps all questions, and leaves official ids as uris.

    Raises:
        SourceError: an official file or the folder is missing or unreadable.
    """
    official = READERS[dataset](wanted)
    official, notes = _with_splits(official, wanted)
    rule = RULES.get(dataset, NextRule())
    made, unasked = next_questions(official.clips, wanted=wanted, rule=rule)
    if together := num_started_together(official.clips) if rule.cut == "after_last" else 0:
        pairs = f"{dataset}: pairs of steps that start together: {together}"
        notes = (*notes, f"{pairs}; the window before the second shows up to {MIN_SEEN_S:g} s of it")
    questions = (*official.questions, *made)
    annotations = tuple(
        AnnotationRow(clip.id, clip.split, clip.task, clip.duration_s, clip.segments) for clip in official.clips
    )
    refused = [*official.refused, *unasked]
    notes = (*official.notes, *notes)
    if clips is None:
        return VideoData(questions, annotations, (), _writable(refused), notes)
    folder = ClipFolder(clips)
    places = {**official.places, **{clip.id: clip.places for clip in official.clips}}
    there: dict[str, tuple[str, Path]] = {}
    named = list(dict.fromkeys(question.uri for question in questions))  # clips that nobody asks about need no file
    for clip_id in named:
        with set_aside(clip_id, refused):
            there[clip_id] = folder.find(clip_id, places=places.get(clip_id, ()))
    questions = tuple(replace(q, uri=there[q.uri][0]) for q in questions if q.uri in there)
    notes += (f"{dataset}: {len(there)} of {len(named)} clips available in {clips}",)
    annotations = tuple(replace(a, uri=there[a.uri][0]) if a.uri in there else a for a in annotations)
    return VideoData(questions, annotations, tuple(there.values()), _writable(refused), notes)


def _writable(refused: Iterable[RefusedRow]) -> tuple[RefusedRow, ...]:
    """The rows with names of a sane length, in which half characters are escaped."""
    return tuple(
        replace(row, item=row.item[:MAX_ID_CHARS].encode("utf-8", "backslashreplace").decode()) for row in refused
    )


def _with_splits(official: Official, wanted: Wanted) -> tuple[Official, tuple[str, ...]]:
    """`official` with a split for every row and no clip in two of them; and what was settled, in words."""
    rows: list[StepClip | QuestionRow] = [*official.clips, *official.questions]
    if wanted.test or {TRAIN, TEST} <= {row.split for row in rows}:
        return _without_leaks(official), ()
    groups = sorted({_group(row) for row in rows})
    # By clip and not by row: questions about one clip on both sides would give it away.
    held_out = held_out_groups(groups, share=wanted.test_share, seed=wanted.seed)

    def settled(row: Row) -> Row:
        return replace(row, split=TEST if _group(row) in held_out else TRAIN)

    note = f"the files define no test split: {len(held_out)} of {len(groups)} clips are held out as {TEST}"
    clips, questions = tuple(map(settled, official.clips)), tuple(map(settled, official.questions))
    return replace(official, clips=clips, questions=questions), (note,)


def held_out_groups(groups: Iterable[str], *, share: float, seed: int) -> set[str]:
    """About `share` of the groups, at least one and never all; which ones depends on the seed and the names only."""
    ranked = in_random_order(groups, seed=seed)
    count = min(max(1, round(share * len(ranked))), len(ranked) - 1)
    return set(ranked[: max(count, 0)])


def _without_leaks(official: Official) -> Official:
    """`official` without training rows about clips that are tested on."""
    rows: list[StepClip | QuestionRow] = [*official.clips, *official.questions]
    tested = {_group(row) for row in rows if row.split == TEST}

    def leaks(row: StepClip | QuestionRow) -> bool:
        return row.split != TEST and _group(row) in tested

    detail = "the clip is tested on, so nothing about it is trained on"
    return replace(
        official,
        clips=tuple(clip for clip in official.clips if not leaks(clip)),
        questions=tuple(question for question in official.questions if not leaks(question)),
        refused=(*official.refused, *(RefusedRow(row.id, "two_splits", detail) for row in rows if leaks(row))),
    )


def _group(row: StepClip | QuestionRow) -> str:
    return row.id if isinstance(row, StepClip) else row.group
