"""The table of cases by which the answer checker judges itself: what a careful marker says of each answer."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from aot.answers.cases import conventions, numeric, temporal, verbal
from aot.answers.forms import VerdictName
from aot.records import JsonDict, Question

_VERDICTS: dict[str, VerdictName] = {"R": "right", "W": "wrong", "?": "cannot_tell"}


@dataclass(frozen=True)
class Case:
    """One answer to one question, and the verdict it deserves."""

    question: Question
    said: str
    expected: VerdictName
    form: Literal["answer", "reply"] = "answer"
    """Whether `said` is the answer itself, or a reply in which it must first be found."""


def all_cases() -> list[Case]:
    """Every case, in the order of the tables."""
    rows = [row for table in (numeric.TABLE, temporal.TABLE, verbal.TABLE, conventions.TABLE) for row in _rows(table)]
    cases = [Case(_question(kind, gold), said, _VERDICTS[mark]) for kind, mark, gold, said in rows]
    replies = [
        Case(_question(kind, gold), reply, _VERDICTS[mark], "reply")
        for mark, kind, gold, reply in verbal.REPLIES + conventions.REPLIES
    ]
    scored = [
        Case(_question("scored", item["answer"], task, item), said, _VERDICTS[mark])
        for mark, task, item, said in verbal.SCORED
    ]
    return cases + replies + scored


def _rows(table: str) -> Iterator[tuple[str, str, str, str]]:
    kind = ""
    for line in table.strip().splitlines():
        if line.startswith("# "):
            kind = line[2:].strip()
        else:
            mark, gold, said = line.split(" | ", 2)
            yield kind, mark, gold, said


def _question(kind: str, gold: str, task: str = "", item: JsonDict | None = None) -> Question:
    name, kind = kind, kind.partition(" ")[0]
    reading = name.partition(" ")[2] or "strict"
    choices = verbal.CHOICES if kind == "choice" else ()
    return Question.model_validate(
        {"id": f"{name}: {gold}", "dataset": "cases", "split": "test", "kind": kind, "text": "?", "choices": choices,
         "answer": gold, "answer_type": kind, "reading": reading, "group": kind,
         "state": {"task": task, "entry": item} if item else {}}
    )  # fmt: skip
