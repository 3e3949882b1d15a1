"""Reads what a server recorded, from where the last look ended: rows as the watch needs them, and why others are not.

A row may be one of `aot serve --record`, an answer of `aot predict`, or anybody's: names that are common for the same
thing are understood. Nothing is required of a row but that it is a JSON object; what it lacks is counted. No text of a
question is kept.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from aot.drift.records import LogPlace
from aot.errors import SourceError
from aot.files.jsonl import MAX_LINE_BYTES, RefusedRow, RowProblem, parse_object
from aot.files.run_folder import whole_lines
from aot.serving.cascade.watch import features_of, question_sha256
from aot.serving.replies import tool_agreement

_HEAD_BYTES = 4096
_YEAR_2000_S = 946_684_800
SIGNS: dict[str, str] = {
    "confidence": "the student's confidence",
    "length": "the number of words in questions",
    "unknown_words": "the number of words that no training question has",
    "reply_tokens": "the length of replies in tokens",
    "abstained": "the share of questions without an answer",
    "unparsed": "the share of replies that are cut off or state no answer",
    "escalated": "the share of questions that went to the big model",
    "disagreed": "the share of audited answers that the big model contradicts",
    "tool_agreement": "how far tools and answers agree",
}
"""What is watched without labels, in words."""


@dataclass(frozen=True)
class SeenRow:
    """One row of a log."""

    place: str
    id: str
    """Of the request; a row of the same id counts once."""
    question_id: str
    """As a file of questions names it; empty where the row does not say."""
    time_s: float | None
    question_sha256: str
    mode: str
    answer: str | None
    """None where the row has no field for it, or its text was not noted."""
    confidence: float | None
    is_abstained: bool
    digest: str
    is_escalated: bool
    right: bool | None
    """What a person or a gold answer says of it, where the row has that."""
    signs: Mapping[str, float] = field(default_factory=dict)


def new_rows(path: Path, place: LogPlace | None, *, words: frozenset[str]) -> Iterator[SeenRow | RefusedRow | LogPlace]:
    """Rows behind a place in a log, refused ones among them, and last the place where the next look begins.

    A log that is another file than before is read from its beginning, which is told as a refused row. A half-written
    last line is left for the next look.

    Raises:
        SourceError: the log cannot be read.
    """
    start = 0
    if place is not None:
        if (
            path.is_file()
            and path.stat().st_size >= place.offset
            and _head(path, place.head_bytes) == place.head_sha256
        ):
            start = place.offset
        else:
            yield RefusedRow(path.name, "other_log", "the file is another one than at the last look; all of it is read")
    offset, number = start, 0
    try:
        for line in whole_lines(path, start=start):
            number += 1
            offset += len(line)
            name = f"{path.name}:{number}" if not start else f"{path.name}:+{number}"
            try:
                if len(line) > MAX_LINE_BYTES:
                    raise RowProblem("line_too_long", f"a line may have {MAX_LINE_BYTES} bytes")
                if line.strip():
                    yield _row(parse_object(line), name, words)
            except RowProblem as problem:
                yield problem.row(name)
    except SourceError as error:
        raise SourceError(f"{path} cannot be read; name a log of `aot serve --record`, or other JSON lines") from error
    head_bytes = min(offset, _HEAD_BYTES)
    yield LogPlace(path=str(path), offset=offset, head_sha256=_head(path, head_bytes), head_bytes=head_bytes)


def _head(path: Path, count: int) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(count)).hexdigest()


def _row(fields: dict[str, Any], place: str, words: frozenset[str]) -> SeenRow:
    status = _number(fields, "status")
    if status is not None and status >= 400:
        raise RowProblem("error_status", f"the request ended with status {status:g}")
    question, answer = _text(fields, "question", "prompt"), _text(fields, "answer", "prediction")
    abstained = _text(fields, "abstained") or ""
    finish = _text(fields, "finish", "finish_reason") or ""
    confidence = _number(fields, "confidence")
    listed = fields.get("choices")
    is_closed = bool(listed) if isinstance(listed, list | int) else False
    signs = {
        "confidence": confidence,
        "length": _number(fields, "question_words"),
        "unknown_words": _number(fields, "unknown_words"),
        "reply_tokens": _number(fields, "reply_tokens", ("usage", "completion_tokens")),
        "abstained": float(bool(abstained)) if "abstained" in fields else None,
        "unparsed": float(abstained in ("unparsable", "cut_off") or finish == "length")
        if {"abstained", "finish", "finish_reason"} & fields.keys()
        else None,
        "escalated": _truth(fields, "escalated"),
        "disagreed": None if (agreed := _truth(fields, "agreed", ("routing", "agreed"))) is None else 1.0 - agreed,
        "tool_agreement": _agreement(fields, answer or ""),
    }
    if question and signs["length"] is None and words:
        shown = [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
        signs |= {**features_of(question, choices=shown, confidence=None, words=words), "confidence": confidence}
    if is_closed:
        signs["reply_tokens"] = None  # a decision writes nothing
    if signs["escalated"]:  # what follows is the big model's
        signs |= {"reply_tokens": None, "abstained": None, "unparsed": None}
    if not any(value is not None for value in signs.values()) and answer is None:
        raise RowProblem("nothing_to_watch", "no answer, confidence, abstained, finish or other field that is watched")
    right = _truth(fields, "right", "correct")
    return SeenRow(
        place=place, id=_text(fields, "id") or "", question_id=_text(fields, "question_id") or "", time_s=_time(fields),
        question_sha256=_text(fields, "question_sha256") or (question_sha256(question) if question else ""),
        mode=_text(fields, "mode") or ("decide" if is_closed else "written"), answer=answer or None,
        confidence=confidence, is_abstained=bool(abstained), digest=_text(fields, "contract_digest") or "",
        is_escalated=bool(signs["escalated"]), right=None if right is None else bool(right),
        signs={name: value for name, value in signs.items() if value is not None},
    )  # fmt: skip


def _agreement(fields: Mapping[str, Any], answer: str) -> float | None:
    """As the row says it; of a row of `aot predict`, which has the calls themselves, as a server would."""
    calls = fields.get("calls")
    if "tool_agreement" in fields or not isinstance(calls, list):
        return _number(fields, "tool_agreement")
    return tool_agreement(answer, [one["result"] for one in calls if isinstance(one, dict) and "result" in one])


def _values(fields: Mapping[str, Any], names: tuple[str | tuple[str, str], ...]) -> Iterator[Any]:
    for name in names:
        if isinstance(name, str):
            yield fields.get(name)
        elif isinstance(inner := fields.get(name[0]), dict):
            yield inner.get(name[1])


def _text(fields: Mapping[str, Any], *names: str) -> str | None:
    """The first of some fields that is a text, or a number as one; None where there is none."""
    for value in _values(fields, names):
        if isinstance(value, str):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return f"{value:g}" if isinstance(value, float) else str(value)
    return None


def _number(fields: Mapping[str, Any], *names: str | tuple[str, str]) -> float | None:
    for value in _values(fields, names):
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
            return float(value)
    return None


def _truth(fields: Mapping[str, Any], *names: str | tuple[str, str]) -> float | None:
    for value in _values(fields, names):
        if isinstance(value, bool):
            return float(value)
    return None


def _time(fields: Mapping[str, Any]) -> float | None:
    """Seconds since 1970, from a number or from ISO 8601; None where there is none that can be."""
    value = _number(fields, "time_s", "timestamp", "time", "created")
    if value is None and (text := _text(fields, "time_s", "timestamp", "time", "created")):
        try:
            value = datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError, OSError):
            return None
    return value if value is not None and math.isfinite(value) and value > _YEAR_2000_S else None
