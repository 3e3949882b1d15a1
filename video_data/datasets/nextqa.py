"""Reads NExT-QA's multiple-choice CSV files: a question about a whole clip, five options, the index of the right one.

Traps: the answer is an index from 0; a question's id counts within its clip only; some rows have two equal options,
of which only the index tells the right one; the videos lie in folders that only map_vid_vidorID.json tells.
"""

from pathlib import Path

from aot.files.jsonl import RefusedRow, RowProblem
from video_data.datasets.official import (
    Official,
    Wanted,
    clip_id_of,
    given_choice,
    read_csv,
    read_json,
    text_of,
)
from video_data.datasets.rows import QuestionRow

OPTIONS = ("a0", "a1", "a2", "a3", "a4")
COLUMNS = ("video", "question", "answer", "qid", "type", *OPTIONS)
MAP = "map_vid_vidorID.json"
"""Looked for beside each CSV file."""


def read_nextqa(wanted: Wanted) -> Official:
    """The questions of the official files; their kind is the official type, such as CW or TN.

    Raises:
        SourceError: a file is missing or has other columns.
    """
    questions: dict[str, QuestionRow] = {}
    refused: list[RefusedRow] = []
    places: dict[str, tuple[str, ...]] = {}
    for path, split in wanted.files():
        places |= _places(path.parent / MAP)
        for line in read_csv(path, columns=COLUMNS):
            if isinstance(line, RefusedRow):
                refused.append(line)
                continue
            place, row = line
            try:
                question = _question(row, split)
                if question.id in questions:
                    raise RowProblem("duplicate_id", f"the question {question.id} was read already")
            except RowProblem as problem:
                refused.append(problem.row(place))
            else:
                questions[question.id] = question
    return Official(questions=tuple(questions.values()), refused=tuple(refused), places=places)


def _question(row: dict[str, str], split: str) -> QuestionRow:
    """One question.

    Raises:
        RowProblem: it cannot be used.
    """
    video, number = clip_id_of(row["video"]), clip_id_of(row["qid"])
    choices = [text_of(row[name], name) for name in OPTIONS]
    if row["answer"] not in ("0", "1", "2", "3", "4"):
        raise RowProblem("bad_answer", f"the answer must be an index from 0 to 4, got {row['answer']!r}"[:200])
    return given_choice(
        id=f"{video}-{number}", split=split, kind=text_of(row["type"], "type"),
        text=text_of(row["question"], "question"), choices=choices, answer_index=int(row["answer"]), clip_id=video,
    )  # fmt: skip


def _places(path: Path) -> dict[str, tuple[str, ...]]:
    """Video id to its place below the folder of the clips, if the map is there."""
    if not path.exists():
        return {}
    value, _ = read_json(path)
    pairs = value.items() if isinstance(value, dict) else ()
    return {video: (place,) for video, place in pairs if isinstance(place, str)}
