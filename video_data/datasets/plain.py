"""The `plain` data set: a folder of clips, a JSONL file of questions and, if there is one, a JSONL file of annotations.

`docs/plain_data.md` describes the files. A bad row is refused with its line number and never hurts its neighbours; no
row can name a file outside the folder. Clips are only looked for here, not opened.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

from aot.files.jsonl import JsonLine, RefusedRow, RowProblem, Splits, check_choices, empty_words, read_json_lines
from video_data.datasets.clip_folder import DiskNames, composed, regular_inside
from video_data.datasets.plain_fields import AnnotationFields, QuestionFields, checked_fields, segments_of, typed_answer
from video_data.datasets.rows import AnnotationRow, QuestionRow, VideoData, good_lines, set_aside
from video_data.decode.facts import Spans
from video_data.decode.timeline import first_hole

WINDOW_TOLERANCE_S = 0.5
"""How far a window may reach past the last frame; players round durations."""
_Row = TypeVar("_Row")


@dataclass(frozen=True)
class CheckedQuestions:
    """Questions whose windows lie inside their clips and show frames, and the others with one of three reasons."""

    questions: tuple[QuestionRow, ...]
    refused: tuple[RefusedRow, ...]
    num_cut: int = 0
    """So many windows ran past the end of their clip and were cut there."""


def read_plain(
    root: Path, questions: str, annotations: str | None, *, clips: Literal["needed", "not_needed"] = "needed"
) -> VideoData:
    """The plain data set in the folder `root`, whose questions lie in the file `questions`.

    Args:
        root: folder of the clips.
        questions: path of the questions file, relative to `root`.
        annotations: path of the annotations file, relative to `root`, or None.
        clips: `not_needed` looks for none, for work on labels only.

    Raises:
        SourceError: a file is missing or unreadable. Bad lines are refused rows, not errors.
    """
    reader = _Reader(Path(root).resolve(), clips)
    question_rows = reader.rows(read_json_lines(Path(root) / questions), reader.question)
    annotation_rows: tuple[AnnotationRow, ...] = ()
    if annotations is not None:
        annotation_rows = reader.rows(read_json_lines(Path(root) / annotations), reader.annotation)
    return VideoData(question_rows, annotation_rows, tuple(reader.clips.items()), tuple(reader.refused))


def check_windows(
    questions: Sequence[QuestionRow],
    durations_s: Mapping[str, float],
    *,
    times_s: Mapping[str, Sequence[float]] | None = None,
    partial_spans_s: Mapping[str, Spans] | None = None,
) -> CheckedQuestions:
    """Questions sorted by whether their window lies inside their clip, and shows any of its stored frames.

    A window that may end loosely (`QuestionRow.ends_loosely`) is cut at the end of its clip, if it starts before that.

    Reasons: `clip_refused` where the clip could not be decoded, `window_outside` where the window is outside it,
    `window_not_decoded` where a part of the window is damaged, and `window_without_frames` where no stored frame lies
    in the window, so that nobody could see what is asked about.

    Args:
        questions: as read.
        durations_s: length of each clip that could be decoded.
        times_s: times of the stored frames of each of these clips; None leaves `window_without_frames` unchecked.
        partial_spans_s: for each clip that is partial, the stretches that came out undamaged.
    """
    good: list[QuestionRow] = []
    refused: list[RefusedRow] = []
    num_cut = 0
    for row in questions:
        with set_aside(row.id, refused):
            checked = _cut(row, durations_s)
            _check_window(checked, durations_s, times_s, (partial_spans_s or {}).get(row.uri))
            good.append(checked)
            num_cut += checked is not row
    return CheckedQuestions(tuple(good), tuple(refused), num_cut)


def _cut(row: QuestionRow, durations_s: Mapping[str, float]) -> QuestionRow:
    duration_s = durations_s.get(row.uri)
    if duration_s is None or not row.ends_loosely or row.end_s is None or not row.start_s < duration_s < row.end_s:
        return row
    return replace(row, end_s=duration_s)


def _check_window(
    row: QuestionRow,
    durations_s: Mapping[str, float],
    times_s: Mapping[str, Sequence[float]] | None,
    spans_s: Spans | None,
) -> None:
    """Refuse a question that cannot be answered by looking, with one of the reasons that `check_windows` names."""
    duration_s = durations_s.get(row.uri)
    if duration_s is None:
        raise RowProblem("clip_refused", f"the clip {row.uri!r} could not be decoded")
    window = f"{row.start_s:g}-{'end' if row.end_s is None else f'{row.end_s:g}'} s"
    if row.start_s >= duration_s or (row.end_s is not None and row.end_s > duration_s + WINDOW_TOLERANCE_S):
        raise RowProblem("window_outside", f"{window} is outside {row.uri!r}, 0-{duration_s:.2f} s")
    end_s = duration_s if row.end_s is None else row.end_s
    hole = None if spans_s is None else first_hole(spans_s, start_s=row.start_s, end_s=min(end_s, duration_s))
    if hole is not None:
        raise RowProblem(
            "window_not_decoded",
            f"{window} of {row.uri!r} cannot be seen whole: the clip is damaged at {hole[0]:.2f}-{hole[1]:.2f} s; "
            "ask about another window, or mend the clip",
        )
    if times_s is not None and not any(row.start_s <= time_s <= end_s for time_s in times_s[row.uri]):
        near_s = min(times_s[row.uri], key=lambda time_s: max(row.start_s - time_s, time_s - end_s))
        raise RowProblem(
            "window_without_frames",
            f"no stored frame of {row.uri!r} lies in {window}, the nearest is at {near_s:.2f} s; widen the window, "
            "or store more frames for each second (frames.fps)",
        )


class _Reader:
    """Turns lines into rows and remembers what earlier lines used."""

    def __init__(self, root: Path, wanted: Literal["needed", "not_needed"]) -> None:
        self.root = root
        self._wanted = wanted
        self._names = DiskNames(root)
        self.clips: dict[str, Path] = {}
        self.refused: list[RefusedRow] = []
        self._ids: set[str] = set()
        self._annotated: set[str] = set()
        self._splits = Splits()

    def rows(self, lines: Iterable[JsonLine | RefusedRow], make: Callable[[dict[str, Any]], _Row]) -> tuple[_Row, ...]:
        """Good rows of a file; the refused ones are added to `refused`."""
        good = []
        for line in good_lines(lines, self.refused):
            with set_aside(line.place, self.refused):
                good.append(make(line.fields))
        return tuple(good)

    def question(self, fields: dict[str, Any]) -> QuestionRow:
        """The question of a line; a RowProblem where it cannot be used."""
        line = checked_fields(QuestionFields, fields)
        if isinstance(line.answer, float) and not line.answer.is_integer():
            raise RowProblem("bad_value", f"field 'answer': a number must be a whole one, got {line.answer}")
        answer = line.answer if isinstance(line.answer, str) else str(int(line.answer))
        if not answer:
            raise RowProblem("bad_value", "field 'answer': a text must not be empty")
        if line.id in self._ids:
            raise RowProblem("duplicate_id", f"the id {line.id!r} was used by an earlier line")
        if line.end_s is not None and line.end_s <= line.start_s:
            wrong = empty_words(line.start_s, line.end_s)
            raise RowProblem("bad_window", f"the window {line.start_s:g}-{line.end_s:g} s {wrong}")
        if line.choices:
            check_choices(answer, line.choices)
        answer, answer_type = typed_answer(line.kind, answer, line.choices)
        uri, path = self._clip(line.video)
        group = line.group or uri
        # The last check, because it claims the clip and the group: a refused line must claim nothing.
        names = {f"clip {uri}": f"the clip {uri!r}", f"group {group}": f"the group {group!r}"}
        self._splits.claim(names, line.split)
        self._ids.add(line.id)
        self.clips[uri] = path
        return QuestionRow(
            id=line.id, split=line.split, kind=line.kind, text=line.question, choices=tuple(line.choices),
            answer=answer.lower() if answer_type == "yes_no" else answer, answer_type=answer_type, uri=uri,
            start_s=line.start_s, end_s=line.end_s, group=group,
        )  # fmt: skip

    def annotation(self, fields: dict[str, Any]) -> AnnotationRow:
        """The annotated clip of a line; a RowProblem where it cannot be used."""
        line = checked_fields(AnnotationFields, fields)
        segments = segments_of(line)
        uri, path = self._clip(line.video)
        if uri in self._annotated:
            raise RowProblem("duplicate_id", f"the clip {uri!r} was annotated by an earlier line")
        self._splits.claim({f"clip {uri}": f"the clip {uri!r}"}, line.split)
        self._annotated.add(uri)
        self.clips[uri] = path
        return AnnotationRow(uri=uri, split=line.split, task=line.task, duration_s=line.duration_s, segments=segments)

    def _clip(self, video: str) -> tuple[str, Path]:
        """Uri and file of a clip inside the root."""
        relative = PurePosixPath(video)
        if relative.is_absolute() or ".." in relative.parts or "\0" in video:
            raise RowProblem("path_outside", f"{video!r} must be a path inside the data folder")
        if self._wanted == "not_needed":
            return composed(relative.as_posix()), self.root / relative
        relative = self._names.spelled(relative)
        path = regular_inside(self.root, relative.as_posix(), named=video, folder="the data folder")
        return relative.as_posix(), path
