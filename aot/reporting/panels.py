"""What one gallery panel shows: a trace taken apart into frames, calls, linked sentences, verdicts and answers."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from aot.evaluation.groups import MODES
from aot.evaluation.scoring import score
from aot.rationales.findings import first_listing, sightings
from aot.rationales.notation import CITATION, PARTS, parse_rationale, sentences_of
from aot.records import ClipAnnotation, JsonDict, Prediction, Question, Step, Trace, Verdict
from aot.reporting.charts import Drawing, timeline
from aot.reporting.numbers import clip_text, short
from aot.reporting.thumbs import Thumb, ThumbBook

BOX_TOLERANCE_S = 0.051
"""Tools give the time of a box in tenths of a second."""
FRAMES_A_STEP = 8
RESULT_ROWS = 10
ROW_CHARS, TEXT_CHARS = 200, 170
TEXT_LIMIT = 1500
_PART = re.compile(rf"\s*(?=\b(?:{'|'.join(PARTS)})\s?:)")


@dataclass(frozen=True)
class Box:
    """A detection over one frame, in pixels of the true frame."""

    x: float
    y: float
    width: float
    height: float
    name: str


@dataclass(frozen=True)
class FrameView:
    """One frame with what was detected in it."""

    thumb: Thumb
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class StepView:
    """One call."""

    step: Step
    anchor: str
    arguments: str
    result: tuple[str, ...]
    frames: tuple[FrameView, ...]
    hidden_frames: int
    cited: bool


@dataclass(frozen=True)
class Sentence:
    """One sentence of a rationale and the step it points to; an empty anchor means that it cites no existing step."""

    text: str
    anchor: str


@dataclass(frozen=True)
class PartView:
    """One part of a rationale; an empty heading means text before any heading."""

    heading: str
    sentences: tuple[Sentence, ...]


@dataclass(frozen=True)
class AnswerView:
    """What one arm said."""

    arm: str
    mode: str
    said: str
    mark: str
    """right, wrong, none or failed."""
    text: str
    """All it wrote, if that is more than its answer."""


@dataclass(frozen=True)
class Panel:
    """One trace of the gallery."""

    anchor: str
    trace: Trace
    question: Question
    state: str
    """kept, rejected, held out or not filtered."""
    planted: str
    """Kind of the defect that was planted in it; empty if none was."""
    note: str
    timeline: Drawing | None
    steps: tuple[StepView, ...]
    rationale: tuple[PartView, ...]
    verdicts: tuple[Verdict, ...]
    answers: tuple[AnswerView, ...]

    @property
    def modes(self) -> list[str]:
        """Modes in which anybody answered."""
        return [mode for mode in MODES if any(answer.mode == mode for answer in self.answers)]

    @property
    def by_arm(self) -> dict[str, dict[str, AnswerView]]:
        """Answers by arm and mode."""
        arms: dict[str, dict[str, AnswerView]] = {}
        for answer in self.answers:
            arms.setdefault(answer.arm, {})[answer.mode] = answer
        return arms


@dataclass(frozen=True)
class PanelSource:
    """The rows a panel is made from."""

    trace: Trace
    question: Question
    state: str
    annotation: ClipAnnotation | None
    verdicts: Sequence[Verdict]
    predictions: Sequence[Prediction]
    planted: str = ""


def make_panel(source: PanelSource, book: ThumbBook, *, anchor: str) -> Panel:
    """The panel of one trace; its frames are embedded into `book`."""
    trace, question = source.trace, source.question
    uri = question.media.uri if question.media else ""
    chosen = {step.index: pick_frames(step) for step in trace.steps}
    times_s = [time_s for times in chosen.values() for time_s in times]
    note = book.load(uri, times_s) if uri and times_s else ""
    cited = {number for claim in parse_rationale(trace.rationale).claims for number in claim.citations}
    steps = tuple(_step_view(step, uri, chosen[step.index], book, anchor, step.index in cited) for step in trace.steps)
    return Panel(
        anchor=anchor,
        trace=trace,
        question=question,
        state=source.state,
        planted=source.planted,
        note=note,
        timeline=_timeline(source) if source.annotation or _seen_steps(trace) else None,
        steps=steps,
        rationale=rationale_view(trace, anchor=anchor),
        verdicts=tuple(sorted(source.verdicts, key=lambda v: v.keep)),
        answers=tuple(answer_view(prediction, question) for prediction in source.predictions),
    )


def pick_frames(step: Step) -> list[float]:
    """At most `FRAMES_A_STEP` of the times a step saw: those with detections first, then evenly spread."""
    seen = sorted(set(step.frame_times_s))
    if len(seen) <= FRAMES_A_STEP:
        return seen
    boxed = sorted({box_time for box_time, _ in _boxes(step)})
    with_boxes = [t for t in seen if any(abs(t - b) <= BOX_TOLERANCE_S for b in boxed)]
    if with_boxes:
        return _spread(with_boxes, FRAMES_A_STEP)
    return _spread(seen, FRAMES_A_STEP)


def rationale_view(trace: Trace, *, anchor: str) -> tuple[PartView, ...]:
    """The rationale as written, each sentence linked to the first existing step it cites."""
    indices = {step.index for step in trace.steps}
    parts = []
    for chunk in _PART.split(clip_text(trace.rationale, 2 * TEXT_LIMIT)):
        heading, colon, body = chunk.partition(":")
        if not colon or heading.strip() not in PARTS:
            heading, body = "", chunk
        sentences = []
        for text in sentences_of(body.strip()):
            cited = [int(match[1]) for match in CITATION.finditer(text)]
            target = next((number for number in cited if number in indices), None)
            sentences.append(Sentence(text, f"{anchor}-s{target}" if target is not None else ""))
        if heading or sentences:
            parts.append(PartView(heading.strip(), tuple(sentences)))
    return tuple(parts)


def answer_view(prediction: Prediction, question: Question) -> AnswerView:
    """What `prediction` said, marked by the grader."""
    graded = score(prediction, question)
    marks = {"failed": "failed", "no_answer": "none", "scored": "right" if graded.correct else "wrong"}
    nothing = "cut off before its end" if prediction.finish_reason == "length" else "no answer found"
    said = prediction.answer if prediction.answer is not None else (prediction.error or nothing)
    raw = prediction.raw_text.strip()
    more = raw if raw != said.strip() else ""
    return AnswerView(prediction.arm, prediction.mode, said, marks[graded.state], clip_text(more, TEXT_LIMIT))


def result_lines(result: JsonDict | None) -> tuple[str, ...]:
    """A tool result in short lines: scalars by name, one line for each row of a list."""
    lines: list[str] = []
    for name, value in (result or {}).items():
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            lines += [_row_line(item) for item in value[:RESULT_ROWS] if isinstance(item, dict)]
            if len(value) > RESULT_ROWS:
                lines.append(f"… {len(value) - RESULT_ROWS} more")
        elif isinstance(value, (list, dict)):
            lines.append(f"{name}: {clip_text(json.dumps(value), 200) if value else 'none'}")
        else:
            lines.append(f"{name}: {clip_text(short(value), 200)}")
    return tuple(lines)


def _row_line(row: JsonDict) -> str:
    words = []
    if "start_s" in row and "end_s" in row:
        words.append(f"{short(row['start_s'])}–{short(row['end_s'])} s")
    if "time_s" in row:
        words.append(f"{short(row['time_s'])} s")
    rest = {k: v for k, v in row.items() if k not in ("start_s", "end_s", "time_s", "label", "score", "prob")}
    words += [str(row["label"])] if "label" in row else []
    words += [
        f"{key} {clip_text(_argument(value), TEXT_CHARS if key == 'text' else 80)}" for key, value in rest.items()
    ]
    number = row.get("score", row.get("prob"))
    words += [f"({short(number)})"] if number is not None else []
    return clip_text(" ".join(words), ROW_CHARS)


def _step_view(step: Step, uri: str, times_s: list[float], book: ThumbBook, anchor: str, cited: bool) -> StepView:
    boxes = _boxes(step)
    frames = []
    for time_s in times_s:
        thumb = book.at(uri, time_s)
        if thumb is not None:
            frames.append(FrameView(thumb, tuple(box for at_s, box in boxes if abs(at_s - time_s) <= BOX_TOLERANCE_S)))
    arguments = ", ".join(f"{k}={_argument(v)}" for k, v in step.call.arguments.items()) if step.call else ""
    return StepView(
        step=step,
        anchor=f"{anchor}-s{step.index}",
        arguments=clip_text(arguments, 400),
        result=result_lines(step.result),
        frames=tuple(frames),
        hidden_frames=len(set(step.frame_times_s)) - len(frames),
        cited=cited,
    )


def _argument(value: object) -> str:
    if isinstance(value, (int, float)):
        return short(value)
    if isinstance(value, list) and all(isinstance(item, (int, float)) for item in value):
        return "[" + ", ".join(f"{item:.1f}".removesuffix(".0") for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _boxes(step: Step) -> list[tuple[float, Box]]:
    boxes = []
    for one in step.findings:
        if one.box_xyxy is not None:
            x0, y0, x1, y1 = one.box_xyxy
            box = Box(x0, y0, x1 - x0, y1 - y0, clip_text(f"{one.label} {short(one.score)}".strip(), 40))
            boxes += [(start_s, box) for start_s, _ in one.spans_s]
    return boxes


def _seen_steps(trace: Trace) -> list[tuple[float, float, str]]:
    listing = first_listing(trace.steps)
    return [(one.start_s, one.end_s, one.label) for one in sightings([listing])] if listing else []


def _timeline(source: PanelSource) -> Drawing:
    media, truth = source.question.media, source.annotation
    seen = _seen_steps(source.trace)
    ends = [end for _, end, _ in seen] + ([truth.duration_s] if truth else [])
    end_s = max(ends, default=1.0)
    rows = [("tools saw", seen)] if seen else []
    if truth:
        rows.insert(0, ("truth", [(s.start_s, s.end_s, s.label) for s in truth.segments]))
    window = (media.start_s, media.end_s if media.end_s is not None else end_s) if media else (0.0, end_s)
    return timeline(rows, end_s=end_s, window=window, name="steps over time; dashed lines bound what may be seen")


def _spread(times_s: list[float], count: int) -> list[float]:
    if len(times_s) <= count:
        return times_s
    return [times_s[round(i * (len(times_s) - 1) / (count - 1))] for i in range(count)]
