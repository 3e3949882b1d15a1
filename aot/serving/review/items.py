"""What a reviewer sees of a trace, of an answer that was served, and of a request that waits.

An item is plain text, numbers and a way to read its pictures; the page escapes all of it. In order come requests that
wait, since somebody waits with them; then the others, the least sure first or as a seed has it.
"""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from aot.display import storable
from aot.errors import AotError
from aot.files.jsonl import MAX_QUESTION_CHARS, JsonLine, read_json_lines
from aot.files.run_folder import RunFolder
from aot.records import Finding, Question, Step, Trace, Verdict
from aot.review.rows import answer_digest, asked_question, trace_digest, trace_item
from aot.review_records import AskedQuestion, PendingRow
from aot.seeds import share

Order = Literal["sure", "seed"]
ReadFrames = Callable[[str, Sequence[float]], tuple[tuple[int, int], list[tuple[float, np.ndarray]]]]
"""Clip and times -> the size of its frames, and each true time with its frame (H, W, 3) RGB."""
MOST_FRAMES = 12
PICTURE_SIDE_PX = 640
_MOST_CHARS = 20_000


@dataclass(frozen=True)
class Item:
    """One thing to be reviewed."""

    subject: Literal["trace", "served"]
    id: str
    digest: str
    question: AskedQuestion
    answer: str
    status: str
    """What automatic checks or the student thought of it, for people."""
    gold: str = ""
    rationale: str = ""
    steps: tuple[dict[str, Any], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    """Names and values that stand beside."""
    frames_s: tuple[float | None, ...] = ()
    read_picture: Callable[[int], bytes] | None = None
    """JPEG of the frame of that number; raises AotError, KeyError or OSError where it is gone."""
    sureness: float = 1.0
    is_waiting: bool = False

    def shown(self) -> dict[str, Any]:
        """Everything that the page shows, as JSON holds it."""
        return {
            "subject": self.subject, "id": self.id, "digest": self.digest, "question": self.question.model_dump(),
            "answer": self.answer, "status": self.status, "gold": self.gold, "rationale": self.rationale[:_MOST_CHARS],
            "steps": list(self.steps), "facts": [list(pair) for pair in self.facts], "frames_s": list(self.frames_s),
            "is_waiting": self.is_waiting,
        }  # fmt: skip


def in_order(items: Iterable[Item], *, order: Order, seed: int) -> list[Item]:
    """Items in the order in which they are reviewed; ties as the seed has it."""
    return sorted(
        items,
        key=lambda one: (not one.is_waiting, one.sureness if order == "sure" else 0.0, share(seed, "review", one.id)),
    )


def of_trace(question: Question, trace: Trace, verdicts: Sequence[Verdict], read_frames: ReadFrames) -> Item:
    """A trace with its evidence, and the verdicts of the filters on it."""
    against = [row for row in verdicts if not row.keep]
    status = "kept by every filter" if not against else "dropped: " + ", ".join(
        f"{row.filter} ({row.reason})" for row in against
    )  # fmt: skip
    times_s = frame_times(trace) if question.media else ()
    uri = question.media.uri if question.media else ""
    facts = [("kind", question.kind), ("teacher", trace.teacher), ("sample", str(trace.sample_index))]
    if question.media:
        facts.append(("clip", uri))
    return Item(
        "trace", trace_item(trace.question_id, trace.sample_index), trace_digest(question, trace),
        asked_question(question), trace.answer, status if verdicts else "not filtered yet", gold=question.answer,
        rationale=trace.rationale, steps=tuple(_step(step, trace.support) for step in trace.steps), facts=tuple(facts),
        frames_s=times_s, read_picture=lambda k: jpeg_of(read_frames(uri, [times_s[k] or 0.0])[1][0][1]),
        sureness=sureness_of(trace, verdicts),
    )  # fmt: skip


def sureness_of(trace: Trace, verdicts: Sequence[Verdict]) -> float:
    """From 0 to 1: the least sure finding that the answer rests on, or how many samples agree, whichever is less."""
    support = [step for step in trace.steps if step.index in trace.support and step.call]
    scores = [one.score for step in support for one in step.findings if one.kind in ("event", "object", "action")]
    agreed = [row.value for row in verdicts if row.filter == "agreement" and row.value is not None]
    return min([1.0, *scores, *agreed])


def frame_times(trace: Trace) -> tuple[float, ...]:
    """When the frames were seen on which the answer rests: evenly chosen where there are many."""
    support = [step for step in trace.steps if step.index in trace.support] or trace.steps
    times_s = sorted({round(time_s, 3) for step in support for time_s in step.frame_times_s})
    if not times_s:
        times_s = sorted({round(time_s, 3) for step in trace.steps for time_s in step.frame_times_s})
    if len(times_s) <= MOST_FRAMES:
        return tuple(times_s)
    return tuple(times_s[round(i * (len(times_s) - 1) / (MOST_FRAMES - 1))] for i in range(MOST_FRAMES))


def _step(step: Step, support: Sequence[int]) -> dict[str, Any]:
    call = f"{step.call.tool}({json.dumps(step.call.arguments, ensure_ascii=False)})" if step.call else ""
    return {
        "index": step.index, "call": call[:_MOST_CHARS], "text": step.text[:_MOST_CHARS], "error": step.error[:1000],
        "findings": [_finding(one) for one in step.findings[:40]], "more": max(0, len(step.findings) - 40),
        "cited": step.index in support,
        "span": [step.span.start_s, step.span.end_s] if step.span else None,
    }  # fmt: skip


def _finding(one: Finding) -> str:
    times = ", ".join(f"{start_s:.1f}-{end_s:.1f} s" for start_s, end_s in one.spans_s[:5])
    words = " ".join(filter(None, (one.kind, one.label, one.text, "" if one.count is None else str(one.count))))
    sure = "" if one.score == 1.0 else f"{one.score:.2f}"
    return " · ".join(filter(None, (words[:500], times, sure)))


def of_pending(row: PendingRow, run: RunFolder) -> Item:
    """A request that waits, with the answer that nobody was told."""
    folder = run.pending_pictures
    facts = [("kind", row.question.kind or "not told"), ("route", row.route), ("model", row.model)]
    if row.confidence is not None:
        facts.append(("confidence", f"{row.confidence:.1%}"))
    return Item(
        "served", row.id, answer_digest(row.question, row.answer, row.rationale), row.question, row.answer,
        f"the student has no answer ({row.abstained})" if row.abstained else "the answer waits for a person",
        rationale=row.rationale, facts=tuple(facts), frames_s=tuple(one.time_s for one in row.pictures),
        read_picture=lambda k: (folder / Path(row.pictures[k].name).name).read_bytes(),
        sureness=-1.0 if row.confidence is None else row.confidence, is_waiting=True,
    )  # fmt: skip


def served_items(log: Path, left_out: Counter[str]) -> Iterator[Item]:
    """Answers in a log of `aot serve --record LOG --record-text`; rows without texts are counted as left out.

    Raises:
        SourceError: the file cannot be read.
    """
    seen = set[str]()
    for line in read_json_lines(log):
        if not isinstance(line, JsonLine):
            left_out[line.reason] += 1
            continue
        fields = line.fields
        text, answer = fields.get("question"), fields.get("answer")
        if not isinstance(text, str) or not text.strip() or len(text) > MAX_QUESTION_CHARS:
            left_out["no_text"] += 1
        elif not isinstance(answer, str) or not answer.strip():
            left_out["no_answer"] += 1
        elif fields.get("review"):  # it waits in the queue already
            left_out["waits_in_the_queue"] += 1
        else:
            item = _served(fields, text, answer[:_MOST_CHARS])
            if item.id in seen:
                left_out["listed_already"] += 1
            else:
                seen.add(item.id)
                yield item


def _served(fields: dict[str, Any], text: str, answer: str) -> Item:
    listed = fields.get("choices")
    choices = tuple(one for one in listed if isinstance(one, str)) if isinstance(listed, list) else ()
    kind = fields.get("kind")
    question = AskedQuestion(text=text, choices=choices[:200], kind=kind[:200] if isinstance(kind, str) else "")
    digest, given = answer_digest(question, answer), fields.get("id")
    confidence = fields.get("confidence")
    is_number = isinstance(confidence, int | float) and not isinstance(confidence, bool) and 0 <= confidence <= 1
    facts = [("kind", question.kind or "not told"), *_texts(fields, "model", "route")]
    if is_number:
        facts.append(("confidence", f"{confidence:.1%}"))
    return Item(
        "served", given[:200] if isinstance(given, str) and given else digest, digest, question, answer,
        "answered by the student", facts=tuple(facts), sureness=float(confidence) if is_number else -1.0,  # type: ignore[arg-type]
    )  # fmt: skip


def _texts(fields: dict[str, Any], *names: str) -> list[tuple[str, str]]:
    return [(name, value[:200]) for name in names if isinstance(value := fields.get(name), str) and value]


def jpeg_of(frame: np.ndarray) -> bytes:
    """A frame as JPEG, its longest side scaled down to PICTURE_SIDE_PX.

    Raises:
        AotError: pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise AotError("frames are shown where pillow is installed") from error
    image = Image.fromarray(np.asarray(frame, dtype=np.uint8))
    image.thumbnail((PICTURE_SIDE_PX, PICTURE_SIDE_PX))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


def clean_name(name: str) -> str:
    """A reviewer's id without spaces around it, or an empty text where it can be none."""
    name = storable(name).strip()
    return name if name.isprintable() else ""
