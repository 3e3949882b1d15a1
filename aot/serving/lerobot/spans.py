"""Subtasks of a LeRobot data set as our segments and training questions, and a student's answers as its rows.

A subtask row is active until the next one; so a segment ends where the next begins, and the last with the episode. A
rationale becomes a `memory` row where its subtask begins: LeRobot's style `trace` is a path in pixels, and none of its
styles is a chain of thought.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from aot.answer_records import Answer
from aot.errors import SourceError
from aot.files.disk import whole_file
from aot.files.jsonl import RefusedRow
from aot.records import ClipAnnotation, JsonDict, Refusal, Segment
from aot.serving.lerobot.checks import LanguageRow
from aot.serving.lerobot.columns import Episode, VideoSpan, read_episodes
from video_data.datasets.next_steps import NextRule, next_questions
from video_data.datasets.official import StepClip, Wanted
from video_data.datasets.rows import QuestionRow, SegmentRow


def snap_to_frame(at_s: float, frame_times_s: Sequence[float]) -> float:
    """The time of the nearest frame, exactly as it is stored; of two equally near the earlier one.

    >>> snap_to_frame(0.16, (0.0, 0.1, 0.2))
    0.2
    """
    if not frame_times_s:
        raise SourceError("the episode has no frames, so no time of one can be given")
    return min(frame_times_s, key=lambda one: (abs(one - at_s), one))


def subtask_segments(episode: Episode) -> tuple[Segment, ...]:
    """The subtasks of an episode in time order, in its seconds, without rows that are active on no frame."""
    rows = sorted((row for row in episode.rows if row.style == "subtask"), key=lambda row: row.timestamp)
    ends_s = [row.timestamp for row in rows[1:]] + [episode.end_s]
    return tuple(
        Segment(start_s=max(row.timestamp, 0.0), end_s=end_s, label=row.content.strip())
        for row, end_s in zip(rows, ends_s, strict=False)  # without rows there is one end too many
        if row.content and row.content.strip() and end_s > max(row.timestamp, 0.0)
    )


def rows_of_segments(
    segments: Sequence[Segment], frame_times_s: Sequence[float], *, rationales: Sequence[str] = ()
) -> tuple[LanguageRow, ...]:
    """Subtask rows that begin on the frames nearest to the segments' starts, with a memory row for each rationale.

    Raises:
        SourceError: two segments would begin on one frame, a label is empty, or rationales do not match in number.
    """
    if rationales and len(rationales) != len(segments):
        raise SourceError(f"{len(rationales)} rationales and {len(segments)} segments; give one for each, or none")
    rows: list[LanguageRow] = []
    taken: dict[float, str] = {}
    pairs = zip(segments, rationales or [""] * len(segments), strict=True)
    for segment, rationale in sorted(pairs, key=lambda pair: pair[0].start_s):
        at_s = snap_to_frame(segment.start_s, frame_times_s)
        if not segment.label.strip():
            raise SourceError(f"the segment from {segment.start_s} s has no label")
        if at_s in taken:
            raise SourceError(
                f"{taken[at_s]!r} and {segment.label!r} both begin on the frame at {at_s} s; leave one out"
            )
        taken[at_s] = segment.label
        rows.append(LanguageRow(style="subtask", content=segment.label.strip(), timestamp=at_s))
        if rationale.strip():
            rows.append(LanguageRow(style="memory", content=rationale.strip(), timestamp=at_s))
    return tuple(rows)


def rows_of_answers(
    answers: Sequence[tuple[float, Answer]], frame_times_s: Sequence[float], *, before: str = ""
) -> tuple[LanguageRow, ...]:
    """The rows that a student's answers along an episode come to; an abstention leaves the subtask as it is.

    Args:
        answers: the moment of each, in seconds of the episode, with the answer.
        frame_times_s: of every frame of the episode.
        before: the subtask of the frames before the first answer; without it the first frame must have an answer.

    Raises:
        SourceError: the first frames would have no subtask.
    """
    segments: list[Segment] = []
    rationales: list[str] = []
    if before and frame_times_s:
        segments.append(Segment(start_s=frame_times_s[0], end_s=frame_times_s[-1], label=before))
        rationales.append("")
    for at_s, answer in sorted(answers, key=lambda one: one[0]):
        label = answer.answer.strip()
        if answer.abstained or not label:
            continue
        start_s = snap_to_frame(at_s, frame_times_s)
        if segments and segments[-1].start_s == start_s and segments[-1].label != label:
            segments.pop(), rationales.pop()  # what came last about a frame counts
        if segments and segments[-1].label == label:
            continue
        segments.append(Segment(start_s=start_s, end_s=frame_times_s[-1], label=label))
        rationales.append(answer.rationale)
    if not segments or segments[0].start_s > frame_times_s[0]:
        first = f"the first answer is about {segments[0].start_s} s" if segments else "no answer names one"
        raise SourceError(f"the first frame has no subtask: {first}; say with before=... what it is")
    return rows_of_segments(segments, frame_times_s, rationales=rationales if any(rationales) else ())


def read_annotations(
    root: Path, *, camera: str = "", split: str = "train"
) -> tuple[list[ClipAnnotation], list[Refusal]]:
    """What happens in each video of one camera, episodes one after another, and what could not be used.

    Args:
        root: the data set.
        camera: such as `observation.images.front`; the first of each episode if not given.
        split: the name of the split that all of it belongs to.
    """
    clips, refused = _clips(root, camera, split)
    return _annotations(clips, split), refused


def _annotations(clips: Sequence[tuple[VideoSpan, StepClip]], split: str) -> list[ClipAnnotation]:
    by_uri: dict[str, list[tuple[VideoSpan, StepClip]]] = {}
    for span, clip in clips:
        by_uri.setdefault(span.uri, []).append((span, clip))
    return [
        ClipAnnotation(
            uri=uri,
            split=split,
            task="; ".join(dict.fromkeys(clip.task for _, clip in parts if clip.task)) or "unnamed",
            duration_s=max(span.end_s for span, _ in parts),
            segments=tuple(
                Segment(start_s=one.start_s, end_s=one.end_s, label=one.label)
                for one in sorted((one for _, clip in parts for one in clip.segments), key=lambda one: one.start_s)
            ),
        )
        for uri, parts in by_uri.items()
    ]


def plain_rows(
    root: Path, *, camera: str = "", split: str = "train", seed: int = 0
) -> tuple[list[JsonDict], list[JsonDict], list[Refusal]]:
    """Next-step questions and annotations as lines of a plain data set (docs/plain_data.md), and what was left out.

    A question's window begins with its episode, so no student looks into the one before.
    """
    clips, refused = _clips(root, camera, split)
    spans = {clip.id: span for span, clip in clips}
    wanted = Wanted(train=None, test=None, per_clip=None, gap_s=0.0, seed=seed)
    questions, left_out = next_questions([clip for _, clip in clips], wanted=wanted, rule=NextRule())
    refused += [_refusal(row) for row in left_out]
    return (
        [_question_line(one, spans[one.uri].uri) for one in questions],
        [
            {"video": row.uri, **row.model_dump(include={"task", "duration_s", "split", "segments"})}
            for row in _annotations(clips, split)
        ],
        refused,
    )


def write_plain(root: Path, out: Path, *, camera: str = "", split: str = "train", seed: int = 0) -> list[Refusal]:
    """Write `questions` and `annotations` of a plain data set into `out`; returns what was left out.

    Point `data.root` at the LeRobot data set, and `data.questions` and `data.annotations` at the two files.

    Raises:
        SourceError: no episode gives a question.
    """
    from aot.files.run_folder import RunFolder

    questions, annotations, refused = plain_rows(root, camera=camera, split=split, seed=seed)
    if not questions:
        reasons = sorted({row.reason for row in refused})
        raise SourceError(f"{root} gives no next-step question; left out for: {', '.join(reasons) or 'no episodes'}")
    out.mkdir(parents=True, exist_ok=True)
    names = RunFolder(out)
    for path, rows in ((names.questions, questions), (names.annotations, annotations)):
        with whole_file(path) as file:
            file.writelines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
    return refused


def _clips(root: Path, camera: str, split: str) -> tuple[list[tuple[VideoSpan, StepClip]], list[Refusal]]:
    """Each episode that has subtasks and a video, with its steps in seconds of that video."""
    episodes, refused = read_episodes(root)
    clips: list[tuple[VideoSpan, StepClip]] = []
    for episode in episodes:
        item = f"episode {episode.index}"
        span = episode.videos.get(camera) if camera else next(iter(episode.videos.values()), None)
        reason, segments = "", subtask_segments(episode)
        lost = sum(row.style == "subtask" for row in episode.rows) - len(segments)
        if lost:
            detail = f"{lost} subtask rows are empty, or active on no frame"
            refused.append(Refusal(item=item, boundary="source", reason="idle_rows", detail=detail))
        if not segments:
            reason = "no_subtasks"
        elif span is None:
            reason = "no_video"
        elif not (root / span.uri).is_file():
            reason = "clip_missing"
        if reason or span is None:
            detail = f"of camera {camera or 'any'}: {', '.join(episode.videos) or 'none'}" if span is None else span.uri
            refused.append(Refusal(item=item, boundary="source", reason=reason, detail=detail))
            continue
        clips.append((span, _step_clip(episode, span, segments, split)))
    return clips, refused


def _step_clip(episode: Episode, span: VideoSpan, segments: Sequence[Segment], split: str) -> StepClip:
    moved = tuple(_shifted(segments, span, episode.frame_times_s[0]))
    return StepClip(
        id=f"episode-{episode.index:06d}", split=split, task=episode.task, duration_s=span.end_s, segments=moved,
        start_s=span.start_s,
    )  # fmt: skip


def _shifted(segments: Sequence[Segment], span: VideoSpan, first_s: float) -> Iterator[SegmentRow]:
    """Segments on the clock of the video, where the episode is one stretch of many."""
    for one in segments:
        start_s, end_s = (span.start_s + at_s - first_s for at_s in (one.start_s, one.end_s))
        if start_s < span.end_s:
            yield SegmentRow(start_s=start_s, end_s=min(end_s, span.end_s), label=one.label)


def _question_line(row: QuestionRow, uri: str) -> JsonDict:
    fields = dataclasses.asdict(row)
    line = {name: fields[name] for name in ("id", "split", "kind", "start_s", "end_s", "answer", "group")}
    choices = {"choices": list(row.choices)} if row.choices else {}
    return {**line, "video": uri, "question": row.text, **choices}


def _refusal(row: RefusedRow) -> Refusal:
    return Refusal(item=row.item, boundary="source", reason=row.reason, detail=row.detail)
