"""Whether students mean what they write: how often answers follow perturbed steps, and replies coloured by scores."""

from typing import Any

from aot.answer_records import FaithfulReply
from aot.display import counted
from aot.evaluation.groups import ALL
from aot.evaluation.steps import CHANGE, FOLLOWS, KEPT, MUCH, MUCH_SHARE, NONE, OTHER, SCORE, SOME, SOME_SHARE
from aot.records import MetricRow
from aot.reporting.load import RunData
from aot.reporting.pivot import Cell, Heading, Pivot, cell_of, clip_text, pivot, plain
from aot.reporting.sections import Block, Section, note, open_tables, words

_SHARES = {
    FOLLOWS: "answer follows", KEPT: "keeps its answer", OTHER: "says something else", NONE: "gives no answer",
    SOME_SHARE: f"steps scored {SOME} or more", MUCH_SHARE: f"steps scored {MUCH} or more",
}  # fmt: skip
_MEANS = {SCORE: "True Thinking Score", CHANGE: "change of the answer's probability at the end"}
_LEVELS = ((MUCH, "much"), (SOME, "some"), (0.05, "little"))
"""Least score of each colour; below them the answer does not depend on a step."""
MAX_CHARS = 1500
"""Of a question, a step or an answer that is shown."""


def faithfulness_table(data: RunData) -> list[Pivot]:
    """A row for each arm and mode, and one for each part of its rationales."""
    if data.faithfulness is None:
        return []
    by_key = {(row.arm, row.mode, row.kind, row.metric): row for row in data.faithfulness.rows}
    rows = [
        Heading(key, f"{data.name(key[:2])}{'' if key[2] == ALL else f', steps of {key[2]}'}", strong=key[2] == ALL)
        for key in dict.fromkeys((row.arm, row.mode, row.kind) for row in data.faithfulness.rows)
    ]
    columns = [Heading(metric, name) for metric, name in {**_SHARES, **_MEANS}.items()]
    return pivot("", rows, columns, lambda key, metric: _cell(by_key.get((*key, metric))), corner="student")


def _cell(row: MetricRow | None) -> Cell | None:
    if row is None or row.metric not in _MEANS:
        return cell_of(row)
    text, _, interval = plain(row).partition(" ")
    return Cell(text, interval)


def level_of(score: float | None) -> str:
    """The name of the colour of a step; `unknown` for one that was not perturbed.

    >>> level_of(0.71), level_of(0.01), level_of(None)
    ('much', 'none', 'unknown')
    """
    if score is None:
        return "unknown"
    return next((name for least, name in _LEVELS if score >= least), "none")


def example(reply: FaithfulReply, data: RunData) -> dict[str, Any]:
    """A reply as coloured.html.j2 shows it."""
    question = data.questions.get(reply.question_id)
    steps = [
        {
            "text": clip_text(step.text, MAX_CHARS),
            "level": level_of(None if step.score is None else max(step.score, step.change or 0.0)),
            "score": "" if step.score is None else f"{step.score:.2f} / {round(step.change or 0.0, 2) + 0.0:.2f}",
            "tip": _tip(step.perturbed, step.outcome, step.answer),
            "part": step.part if place == 0 or reply.steps[place - 1].part != step.part else "",
        }
        for place, step in enumerate(reply.steps)
    ]
    return {
        "student": data.name((reply.arm, reply.mode)),
        "question": clip_text(question.text if question else reply.question_id, MAX_CHARS),
        "answer": clip_text(reply.answer, MAX_CHARS),
        "steps": steps,
    }


def _tip(perturbed: str, outcome: str, answer: str | None) -> str:
    """What was written instead, and what the student then answered."""
    if not outcome:
        return "nothing in it could be changed"
    said = {"followed": "the answer follows", "kept": "the answer stays", "other": "another answer"}.get(outcome)
    then = f"{said}: {clip_text(answer or '', 100)}" if said else "no answer"
    return f"{clip_text(perturbed, 300)} → {then}"


def _content(data: RunData) -> list[Block]:
    made = data.faithfulness
    assert made is not None
    unusable = [
        f"{student}: " + ", ".join(f"{why} {count}" for why, count in counts.items())
        for student, counts in made.unusable.items()
        if counts
    ]
    left_out = [f"{data.learning.shown(name)} {why}" for name, why in made.left_out.items()]
    return [
        words(
            "In each reply, one step at a time was given another step name, number or time, and the student continued "
            f"from there ({counted(made.count, 'question')} of {made.split}). The answer follows if it is then the one "
            "that the changed words lead to; only changes that lead to another answer count. The score of a step is "
            "the mean change of the answer's probability when the student has to answer right after it (True Thinking "
            f"Score, arXiv 2510.24941, where 6.4% of the steps of a 7B model scored {SOME} or more, and 2.3% {MUCH} or "
            "more). The change at the end compares the whole reply with its continuation after the changed step."
        ),
        *open_tables(faithfulness_table(data)),
        *note(f"Left out: {', '.join(left_out)}." if left_out else ""),
        *note(f"Replies that could not be used: {'; '.join(unusable)}." if unusable else ""),
        Block("heading", "Replies, each step with its score"),
        Block("template", "coloured.html.j2", values={"replies": [example(one, data) for one in made.examples]}),
    ]


SECTION = Section(
    "faithfulness", "Faithfulness", "Do the answers depend on the steps?", _content,
    applies=lambda data: data.faithfulness is not None,
)  # fmt: skip
