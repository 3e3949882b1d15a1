"""`aot retrain-advice RUN`: the questions that are worth new traces, as a file that a run with own data takes.

They are canaries that were answered wrong, answers of the traffic that a person or an audit found wrong, and questions
farthest from all that was trained on. What has a gold answer goes to one file, what has none to another beside it. A
question of the run itself is listed only where people rejected or corrected its trace in training: the others of
training taught it already, and those of other splits must stay unseen.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aot.config import load_saved
from aot.display import counted
from aot.drift.look import read_canaries, wrong_canaries
from aot.errors import RunError, SourceError
from aot.evaluation.memorisation import nearest_distances
from aot.files.jsonl import MAX_QUESTION_CHARS, JsonLine, read_json_lines
from aot.files.run_folder import RunFolder, publish, read_rows
from aot.pipeline.student.reviewed import wrong_answers, wrong_traces
from aot.records import Question
from aot.review.rows import read_reviews

WRONG, DISAGREED, FAR = "wrong", "the big model disagrees", "far from training"


@dataclass(frozen=True)
class Sources:
    """Where questions come from."""

    logs: tuple[Path, ...] = ()
    canaries: Path | None = None
    state: Path | None = None
    """Of the watch that asked the canaries; None: those count that were wrong at export."""
    most_far: int = 50
    """Questions that are listed for their distance alone."""


@dataclass
class Advice:
    """What is worth new traces, and why."""

    labelled: list[dict[str, Any]] = field(default_factory=list)
    unlabelled: list[dict[str, Any]] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


def advise(root: Path, sources: Sources, out: Path) -> tuple[Advice, Path]:
    """Write the files of questions; returns what is in them, and the path of the one without gold answers.

    Raises:
        AotError: a file cannot be read or written, something lies at `out`, or there is nothing to look through.
    """
    unlabelled = out.with_name(f"{out.stem}-unlabelled{out.suffix}")
    if there := [path for path in (out, unlabelled) if path.exists()]:
        raise RunError(f"{there[0]} is there already; name another file with --out")
    run = RunFolder(root)
    if not sources.logs and sources.canaries is None and not read_reviews(run):
        raise SourceError(
            "nothing to look through: name what was served with --log FILE, or --canaries FILE, or let a person look "
            "with `aot review RUN`"
        )
    load_saved(run.config)
    ours = list(read_rows(run.questions, Question))
    advice = Advice()
    seen = {_key(one.text, one.choices, one.media.uri if one.media else "") for one in ours}
    _add_reviewed(advice, run, seen)
    _add_canaries(advice, sources, seen)
    others = [one for log in sources.logs for one in _of_log(log, advice, seen)]
    _add_far(advice, others, [one.text for one in ours if one.split == "train"], most=sources.most_far)
    for path, rows in ((out, advice.labelled), (unlabelled, advice.unlabelled)):
        if rows:
            publish(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return advice, unlabelled


def advice_lines(advice: Advice, out: Path, unlabelled: Path) -> list[str]:
    """What was listed and why, for people."""
    lines = [f"{reason}: {counted(count, 'question')}" for reason, count in advice.reasons.items()]
    lines += [f"left out, {reason}: {count}" for reason, count in advice.left_out.items()]
    if advice.labelled:
        lines.append(
            f"{out}: {counted(len(advice.labelled), 'question')} with gold answers, for data.dataset=text_jsonl (or "
            "plain, for clips); canaries among them are training data from now on: draw new ones"
        )
    if advice.unlabelled:
        lines.append(
            f"{unlabelled}: {counted(len(advice.unlabelled), 'question')} without; add an `answer` to each, or let a "
            "person or a stronger model write it"
        )
    return lines or ["no question is worth new traces, as far as these files tell"]


def _add_reviewed(advice: Advice, run: RunFolder, seen: set[str]) -> None:
    """What people rejected or corrected; of training questions too, because a trace that was dropped taught nothing."""
    for question, answer, reason in wrong_traces(run):
        _list(advice, _row_of(question) | {"answer": answer}, reason)
    for _, row, reason in wrong_answers(run):
        if _is_new(_key(row["question"], row.get("choices", []), row.get("video", "")), seen, advice):
            _list(advice, row, reason)


def _add_canaries(advice: Advice, sources: Sources, seen: set[str]) -> None:
    if sources.canaries is None:
        return
    for one in wrong_canaries(read_canaries(sources.canaries), sources.state):
        question = one.question
        if _is_new(_key(question.text, question.choices, question.media.uri if question.media else ""), seen, advice):
            advice.labelled.append(_row_of(question))
            advice.reasons[f"canary answered {WRONG}"] += 1


def _row_of(question: Question) -> dict[str, Any]:
    """As a file of own data has it: that of clips where there is one, else that of texts."""
    row: dict[str, Any] = {"id": question.id, "question": question.text, "answer": question.answer,
                           "kind": question.kind, "group": question.group, "split": "train"}  # fmt: skip
    if question.choices:
        row["choices"] = list(question.choices)
    if question.media is None:
        return row | {"answer_type": question.answer_type}
    window = {"start_s": question.media.start_s, "end_s": question.media.end_s}
    return row | {"video": question.media.uri} | {name: value for name, value in window.items() if value is not None}


def _of_log(log: Path, advice: Advice, seen: set[str]) -> Iterator[dict[str, Any]]:
    """Rows that nobody found wrong; the others are listed at once."""
    for line in read_json_lines(log):
        if not isinstance(line, JsonLine):
            advice.left_out[line.reason] += 1
            continue
        fields = line.fields
        text = fields.get("question")
        if not isinstance(text, str) or not text.strip() or len(text) > MAX_QUESTION_CHARS:
            advice.left_out["no_text"] += 1
            continue
        listed = fields.get("choices")
        choices = [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
        if not _is_new(_key(text, choices, ""), seen, advice):
            continue
        digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]
        row: dict[str, Any] = {"id": f"served/{digest}", "question": text, "kind": _word(fields.get("kind"))}
        row |= {"choices": choices} if choices else {}
        gold = fields.get("gold")
        if isinstance(gold, str | int | float) and not isinstance(gold, bool):
            row |= {"answer": gold, "split": "train"}
        if fields.get("right") is False or fields.get("correct") is False:
            _list(advice, row, f"answered {WRONG}")
        elif fields.get("agreed") is False:
            _list(advice, row, DISAGREED)
        else:
            yield row


def _add_far(advice: Advice, rows: Sequence[dict[str, Any]], learned: Sequence[str], *, most: int) -> None:
    if not rows or not learned or not most:
        return
    far = nearest_distances([row["question"] for row in rows], learned, sense="template")
    ranked = sorted(range(len(rows)), key=lambda at: (-far[at], rows[at]["id"]))
    for at in ranked[:most]:
        if far[at] > 0:  # at 0 it is a wording of training with other numbers
            _list(advice, rows[at], FAR)


def _list(advice: Advice, row: dict[str, Any], reason: str) -> None:
    (advice.labelled if "answer" in row else advice.unlabelled).append(row)
    advice.reasons[reason] += 1


def _is_new(key: str, seen: set[str], advice: Advice) -> bool:
    if key in seen:
        advice.left_out["in the run, or listed already"] += 1
        return False
    seen.add(key)
    return True


def _key(text: str, choices: Sequence[str], clip: str) -> str:
    return "\n".join((" ".join(text.split()), *sorted(choices), clip))


def _word(kind: object) -> str:
    return kind if isinstance(kind, str) and kind.strip() else "text"
