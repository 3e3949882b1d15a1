"""Single traces, spread over kinds of question and over what became of them: frames, calls, sentences, replies.

A trace of calls is taken apart into its steps, each sentence linked to the step it cites; others stand as written.
"""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

from aot.evaluation.scoring import score
from aot.filtering.chain import judge_alone
from aot.filtering.subject import Subject
from aot.rationales.findings import first_listing, sightings
from aot.rationales.notation import CITATION, PARTS, parse_rationale, sentences_of
from aot.records import THOUGHT_MODES, ClipAnnotation, JsonDict, Prediction, Question, Step, Trace
from aot.reporting.charts import Drawing, timeline
from aot.reporting.load import Key, RunData, key_of, rows_or_none, working_traces
from aot.reporting.pivot import clip_text, short
from aot.reporting.sections import Block, absent, words
from aot.reporting.students import MODES
from aot.reporting.thumbs import ThumbBook

BOX_TOLERANCE_S = 0.051
"""Tools give the time of a box in tenths of a second."""
FRAMES_A_STEP = 8
RESULT_ROWS = 10
ROW_CHARS, TEXT_CHARS = 200, 170
TEXT_LIMIT = 1500
_PART = re.compile(rf"\s*(?=\b(?:{'|'.join(PARTS)})\s?:)")
_MARKS = {"failed": "failed", "no_answer": "none", "scored": "wrong"}


Panel = dict[str, Any]
"""What gallery.html.j2 shows of one trace, by the names that it uses there."""


class Box(NamedTuple):
    """A detection over one frame, in pixels of the true frame."""

    x: float
    y: float
    width: float
    height: float
    name: str


def make_gallery(data: RunData, book: ThumbBook) -> list[Panel]:
    """As many traces as report.gallery says with all that is known of them; their frames are embedded into `book`.

    Traces of other splits than train are not filtered by a run; here they get the verdicts that need no other trace.
    """
    picked = data.shown
    traces: dict[Key, Trace] = {}
    # The working files first, because only they know how long a call took.
    files = (working_traces(data), rows_or_none(data.run.kept, Trace), rows_or_none(data.run.dropped, Trace))
    for trace in chain(*files):
        if key_of(trace) in picked:
            traces.setdefault(key_of(trace), trace)
    replies: defaultdict[str, defaultdict[str, list[Panel]]] = defaultdict(lambda: defaultdict(list))
    shown = {key[0] for key in picked}
    for said in data.predictions:
        if said.question_id in shown:
            replies[said.question_id][said.arm].append(reply_view(said, data.questions[said.question_id]))
    panels = []
    for number, key in enumerate(picked, start=1):
        subject = Subject(traces[key], data.questions[key[0]], data.config.filter)
        panel = _panel(data, subject, book, anchor=f"t{number}")
        panel["verdicts"] = sorted(
            data.verdicts.of_shown.get(key) or judge_alone(subject), key=lambda verdict: verdict.keep
        )
        panels.append({**panel, "state": picked[key], "planted": data.planted.get(key, ""), "replies": replies[key[0]]})
    return panels


def _panel(data: RunData, subject: Subject, book: ThumbBook, *, anchor: str) -> Panel:
    """All of a panel that trace and question tell."""
    trace, question = subject.trace, subject.question
    uri = question.media.uri if question.media else ""
    calls = [step for step in trace.steps if step.call is not None]
    all_times = [time_s for step in calls for time_s in pick_frames(step)]
    claims = parse_rationale(trace.rationale).claims if calls else ()
    cited = {number for claim in claims for number in claim.citations}
    note = book.load(uri, all_times) if uri and all_times else ""
    return {
        "anchor": anchor,
        "trace": trace,
        "question": question,
        "note": note,
        "timeline": timeline_of(trace, question, data.annotations.get(uri)),
        "steps": [_step_view(step, uri, book, anchor, step.index in cited) for step in calls],
        "rationale": rationale_view(trace, anchor=anchor) if calls else [],
        "chain": "" if calls else clip_text(trace.rationale, TEXT_LIMIT),
    }


def pick_frames(step: Step) -> list[float]:
    """At most `FRAMES_A_STEP` of the times a step saw: those with detections first, then evenly spread."""
    seen = sorted(set(step.frame_times_s))
    boxed = {box_time for box_time, _ in _boxes(step)}
    with_boxes = [t for t in seen if any(abs(t - b) <= BOX_TOLERANCE_S for b in boxed)]
    if len(seen) <= FRAMES_A_STEP:
        return seen
    times_s = with_boxes or seen
    last = len(times_s) - 1
    spread = [times_s[round(i * last / (FRAMES_A_STEP - 1))] for i in range(FRAMES_A_STEP)]
    return spread if len(times_s) > FRAMES_A_STEP else times_s


def rationale_view(trace: Trace, *, anchor: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """The rationale as written: heading and sentences of each part, each with a link to the first step it cites.

    A text before any heading has an empty one, and a sentence that cites no existing step an empty link.
    """
    indices = {step.index for step in trace.steps}
    parts = []
    for chunk in _PART.split(clip_text(trace.rationale, 2 * TEXT_LIMIT)):
        heading, colon, body = chunk.partition(":")
        if not colon or heading.strip() not in PARTS:
            heading, body = "", chunk
        sentences = []
        for text in sentences_of(body.strip()):
            cited = (int(match[1]) for match in CITATION.finditer(text))
            target = next((number for number in cited if number in indices), None)
            sentences.append((text, f"{anchor}-s{target}" if target is not None else ""))
        if heading or sentences:
            parts.append((heading.strip(), sentences))
    return parts


def reply_view(prediction: Prediction, question: Question) -> Panel:
    """What `prediction` said, marked by the grader; all it wrote, if that is more; and of a chosen way how sure."""
    graded = score(prediction, question)
    nothing = "cut off before its end" if prediction.finish_reason == "length" else "no answer found"
    said = prediction.answer if prediction.answer is not None else (prediction.error or nothing)
    raw = prediction.raw_text.strip()
    probabilities = zip(THOUGHT_MODES, prediction.thought_probs, strict=False)
    ways = ", ".join(f"{way} {probability:.0%}" for way, probability in probabilities)
    return {
        "mode": MODES.get(prediction.mode, prediction.mode),
        "said": clip_text(said, 200),
        "mark": "right" if graded.correct else _MARKS[graded.state],
        "text": clip_text(raw, TEXT_LIMIT) if raw != said.strip() else "",
        "tokens": prediction.completion_tokens,
        "chose": f"chose {prediction.thought}{f' ({ways})' if ways else ''}" if prediction.thought else "",
    }


def result_lines(result: JsonDict | None) -> tuple[str, ...]:
    """A tool result in short lines: scalars by name, one line for each row of a list."""
    lines: list[str] = []
    for name, value in (result or {}).items():
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            lines += [_row_line(item) for item in value[:RESULT_ROWS] if isinstance(item, dict)]
            lines += [f"… {len(value) - RESULT_ROWS} more"] if len(value) > RESULT_ROWS else []
        elif isinstance(value, (list, dict)):
            lines.append(f"{name}: {clip_text(json.dumps(value), 200) if value else 'none'}")
        else:
            lines.append(f"{name}: {clip_text(short(value), 200)}")
    return tuple(lines)


def _row_line(row: JsonDict) -> str:
    fields = dict(row)
    words = []
    if "start_s" in fields and "end_s" in fields:
        words.append(f"{short(fields.pop('start_s'))}–{short(fields.pop('end_s'))} s")
    words += [f"{short(fields.pop('time_s'))} s"] if "time_s" in fields else []
    words += [str(fields.pop("label"))] if "label" in fields else []
    number = fields.pop("score", fields.pop("prob", None))
    words += [
        f"{name} {clip_text(_written(value), TEXT_CHARS if name == 'text' else 80)}" for name, value in fields.items()
    ]
    return clip_text(" ".join([*words, *([f"({short(number)})"] if number is not None else [])]), ROW_CHARS)


def _step_view(step: Step, uri: str, book: ThumbBook, anchor: str, cited: bool) -> Panel:
    """A call, what it returned, and the frames it saw with what was detected in each."""
    boxes = _boxes(step)
    frames = [
        (thumb, [box for at_s, box in boxes if abs(at_s - time_s) <= BOX_TOLERANCE_S])
        for time_s in pick_frames(step)
        if (thumb := book.at(uri, time_s)) is not None
    ]
    arguments = ", ".join(f"{k}={_written(v)}" for k, v in step.call.arguments.items()) if step.call else ""
    return {
        "step": step,
        "anchor": f"{anchor}-s{step.index}",
        "arguments": clip_text(arguments, 400),
        "result": result_lines(step.result),
        "frames": frames,
        "hidden_frames": len(set(step.frame_times_s)) - len(frames),
        "cited": cited,
    }


def _written(value: object) -> str:
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


def timeline_of(trace: Trace, question: Question, truth: ClipAnnotation | None) -> Drawing | None:
    """What is true and what the first listing of steps saw, over time."""
    listing = first_listing(trace.steps)
    seen = [(one.start_s, one.end_s, one.label) for one in sightings([listing])] if listing else []
    true = [(s.start_s, s.end_s, s.label) for s in truth.segments] if truth else []
    if not seen and truth is None:
        return None
    end_s = max([end for _, end, _ in seen] + ([truth.duration_s] if truth else []), default=1.0)
    media = question.media
    window = (media.start_s, end_s if media.end_s is None else media.end_s) if media else (0.0, end_s)
    rows = [("truth", true)] * bool(truth) + [("tools saw", seen)] * bool(seen)
    return timeline(rows, end_s=end_s, window=window, name="steps over time; dashed lines bound what may be seen")


def gallery_blocks(data: RunData, panels: Sequence[Panel]) -> list[Block]:
    """The panels with a word on what they show."""
    if not panels:
        return [absent(data, "no traces yet", "generate")]
    frames = "the frames that its tools saw with what they detected, its calls, " if data.has_frames else ""
    return [
        words(
            f"Each trace with {frames}the teacher's rationale, the verdicts of the filters, and the replies of the "
            "students. Students learn from traces of the training split; the held-out ones are only compared."
        ),
        Block("template", "gallery.html.j2", values={"panels": panels}),
    ]
