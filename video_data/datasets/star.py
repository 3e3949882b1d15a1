"""Reads STAR's question files: a JSON list of questions about [start, end] of a Charades video, with four options.

Traps: options are objects with a `choice` text; the answer is that text, not a letter; the kind is the beginning of the
question's id; one video has many questions, each with its own window, and windows may run past the end of the video, as
Charades' actions do: its authors say to cut them there; the test file has no answers.
"""

from pathlib import Path

from aot.files.jsonl import RefusedRow, RowProblem
from video_data.datasets.official import (
    Official,
    Wanted,
    clip_id_of,
    given_choice,
    place_of,
    read_rows,
    seconds_of,
    text_of,
)
from video_data.datasets.rows import QuestionRow

KINDS = ("Interaction", "Sequence", "Prediction", "Feasibility")


def read_star(wanted: Wanted) -> Official:
    """The questions of the official files.

    Raises:
        SourceError: a file is missing or holds no list.
    """
    questions: dict[str, QuestionRow] = {}
    refused: list[RefusedRow] = []
    for path, split in wanted.files():
        for number, row in enumerate(read_rows(path)):
            try:
                question = _question(row, split)
                if question.id in questions:
                    raise RowProblem("duplicate_id", f"the question {question.id} was read already")
            except RowProblem as problem:
                refused.append(problem.row(_item(row, path, number)))
            else:
                questions[question.id] = question
    return Official(questions=tuple(questions.values()), refused=tuple(refused))


def _question(row: object, split: str) -> QuestionRow:
    """One question.

    Raises:
        RowProblem: it cannot be used.
    """
    if not isinstance(row, dict):
        raise RowProblem("bad_value", "a question must be an object")
    name = text_of(row.get("question_id"), "question_id")
    kind = name.partition("_")[0]
    if kind not in KINDS:
        raise RowProblem("unknown_kind", f"the id must begin with one of {', '.join(KINDS)}, got {name!r}"[:200])
    options = row.get("choices")
    if not isinstance(options, list) or not all(isinstance(option, dict) for option in options):
        raise RowProblem("bad_choices", "choices must be a list of objects with a text `choice`")
    if row.get("answer") is None:
        raise RowProblem("no_answer", "the question has no answer, as in the official test file")
    choices = [text_of(option.get("choice"), "choice") for option in options]
    place = place_of(text_of(row["answer"], "answer"), choices)
    return given_choice(
        id=name, split=split, kind=kind, text=text_of(row.get("question"), "question"),
        choices=choices, answer_index=place, clip_id=clip_id_of(row.get("video_id")),
        start_s=seconds_of(row.get("start"), "start"), end_s=seconds_of(row.get("end"), "end"), ends_loosely=True,
    )  # fmt: skip


def _item(row: object, path: Path, number: int) -> str:
    name = row.get("question_id") if isinstance(row, dict) else None
    return name[:100] if isinstance(name, str) and name.isprintable() else f"{path.name}[{number}]"
