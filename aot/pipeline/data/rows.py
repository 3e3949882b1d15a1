"""Rows of an exported data set: what others train on, made of questions, traces and lessons; knows no file.

Columns have the names and forms that TRL's SFTTrainer reads as they are: `messages`, or `prompt` and `completion` as
turns, and `images`. TRL refuses rows with pictures that have both forms, so those of lessons have the second one only,
and the chat once more as `conversations` with `<image>` marks, as LLaMA-Factory reads pictures.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aot.arms.lessons import whole_rationale
from aot.rationales.notation import format_time
from aot.records import Lesson, PromptMode, Question, Step, Trace
from aot.student.rows.prompts import asked_text

if TYPE_CHECKING:
    import pyarrow as pa

IMAGE_MARK = "<image>"
Fields = dict[str, Any]


@dataclass(frozen=True)
class Shown:
    """The frames that a row shows, and what they are of."""

    images: tuple[str, ...]
    """Paths in the exported folder; empty where no pictures are written."""
    times_s: tuple[float, ...]
    clip: str
    start_s: float
    end_s: float | None


def trace_row(question: Question, trace: Trace, shown: Shown | None) -> Fields:
    """A kept trace: its question, its rationale as a chat, and the steps that it rests on."""
    chat = _chat(question, ("assistant", whole_rationale(trace)), shown=shown, mode="reason")
    return {
        **_common(question),
        "sample": trace.sample_index,
        "teacher": trace.teacher,
        "teacher_answer": trace.answer,
        "rationale": trace.rationale,
        "support": list(trace.support),
        "evidence": [_evidence(step) for step in trace.steps],
        "messages": chat,
        **_pictures(shown),
        **({"conversations": _sharegpt(chat)} if shown else {}),
    }


def lesson_row(question: Question, lesson: Lesson, shown: Shown | None, *, arm: str, rationale_weight: float) -> Fields:
    """A lesson of an arm: what it is shown, what it says then, and how much each part of that weighs in the loss."""
    reply = lesson.forced + lesson.label + lesson.rationale
    turns = ((turn.role, turn.text) for turn in lesson.turns)
    chat = _chat(question, *turns, ("assistant", reply), shown=shown, mode=lesson.mode)
    return {
        **_common(question),
        "arm": arm,
        "mode": lesson.mode,
        "rationale": lesson.rationale,
        "weights": _weights(lesson, rationale_weight),
        "prompt": chat[:1],
        "completion": chat[1:],
        **({"conversations": _sharegpt(chat)} if shown else {"messages": chat}),
        **_pictures(shown),
    }


def question_row(question: Question, shown: Shown | None) -> Fields:
    """A question of a split that is tested on, with its gold answer and without any reply."""
    return {**_common(question), "prompt": _chat(question, shown=shown, mode="direct"), **_pictures(shown)}


def unfit(question: Question, texts: Sequence[str], shown: Shown | None) -> str:
    """Why a row would be read as something else; empty where it would not."""
    if shown and any(IMAGE_MARK in text for text in (question.text, *question.choices, *texts)):
        return "image_mark_in_text"
    return ""


def _common(question: Question) -> Fields:
    return {
        "question_id": question.id,
        "dataset": question.dataset,
        "split": question.split,
        "kind": question.kind,
        "group": question.group,
        "question": question.text,
        "choices": list(question.choices),
        "answer": question.right_answer,
        "answer_type": question.answer_type,
    }


def _chat(question: Question, *said: tuple[str, str], shown: Shown | None, mode: PromptMode) -> list[Fields]:
    """What is asked and then `said`; with frames each turn has parts, for a column of a table is of one type."""
    user_text = asked_text(question, mode)
    if shown is None:
        return [{"role": role, "content": text} for role, text in (("user", user_text), *said)]
    frames = [
        part
        for time_s in shown.times_s
        for part in ({"type": "text", "text": f"t={format_time(time_s)}"}, {"type": "image", "text": None})
    ]
    return [
        {"role": "user", "content": [*frames, {"type": "text", "text": user_text}]},
        *({"role": role, "content": [{"type": "text", "text": text}]} for role, text in said),
    ]


def _sharegpt(chat: list[Fields]) -> list[Fields]:
    """The same chat with a mark for each picture within its text."""
    said = {"user": "human", "assistant": "gpt", "tool": "observation"}
    return [
        {"from": said[turn["role"]], "value": "".join(part["text"] or IMAGE_MARK for part in turn["content"])}
        for turn in chat
    ]


def _pictures(shown: Shown | None) -> Fields:
    if shown is None:
        return {}
    images = {"images": list(shown.images)} if shown.images else {}
    return {
        **images,
        "image_times_s": list(shown.times_s),
        "clip": shown.clip,
        "clip_start_s": shown.start_s,
        "clip_end_s": shown.end_s,
    }


def _weights(lesson: Lesson, rationale_weight: float) -> list[Fields]:
    """Where each part of the last reply stands in it, in characters, and its weight; what is given has none."""
    parts = (
        ("forced", lesson.forced, 0.0),
        ("label", lesson.label, 1.0),
        ("rationale", lesson.rationale, rationale_weight),
    )
    spans, start = [], 0
    for name, text, weight in parts:
        if text:
            spans.append({"part": name, "start": start, "end": start + len(text), "weight": weight})
        start += len(text)
    return spans


def _evidence(step: Step) -> Fields:
    return {
        "index": step.index,
        "text": step.text,
        "tool": step.call.tool if step.call else "",
        "arguments": json.dumps(step.call.arguments, ensure_ascii=False) if step.call else "",
        "findings": json.dumps([one.model_dump(mode="json") for one in step.findings], ensure_ascii=False),
        "status": step.status,
        "start_s": step.span.start_s if step.span else None,
        "end_s": step.span.end_s if step.span else None,
        "frame_times_s": list(step.frame_times_s),
    }


def schema_of(kind: str, *, shows: bool, images: bool) -> "pa.Schema":
    """The columns of the rows of one kind: traces, lessons or questions; `shows` frames or not, and has `images`."""
    import pyarrow as pa

    text, real, whole = pa.string(), pa.float64(), pa.int64()
    content = pa.list_(pa.struct([("type", text), ("text", text)])) if shows else text
    turns = pa.list_(pa.struct([("role", text), ("content", content)]))
    sharegpt = [("conversations", pa.list_(pa.struct([("from", text), ("value", text)])))]
    evidence = pa.struct(
        [("index", whole), *((name, text) for name in ("text", "tool", "arguments", "findings", "status")),
         ("start_s", real), ("end_s", real), ("frame_times_s", pa.list_(real))]
    )  # fmt: skip
    weights = pa.struct([("part", text), ("start", whole), ("end", whole), ("weight", real)])
    common = [(name, text) for name in ("question_id", "dataset", "split", "kind", "group", "question")]
    common += [("choices", pa.list_(text)), ("answer", text), ("answer_type", text)]
    pictures = [("images", pa.list_(text))] if images else []
    pictures += [("image_times_s", pa.list_(real)), ("clip", text), ("clip_start_s", real), ("clip_end_s", real)]
    columns = {
        "traces": [("sample", whole), ("teacher", text), ("teacher_answer", text), ("rationale", text),
                   ("support", pa.list_(whole)), ("evidence", pa.list_(evidence)), ("messages", turns),
                   *(sharegpt if shows else [])],
        "lessons": [("arm", text), ("mode", text), ("rationale", text), ("weights", pa.list_(weights)),
                    ("prompt", turns), ("completion", turns), *(sharegpt if shows else [("messages", turns)])],
        "questions": [("prompt", turns)],
    }  # fmt: skip
    return pa.schema([*common, *columns[kind], *(pictures if shows else [])])
