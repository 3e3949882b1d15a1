"""Reads data sets that come as multiple-choice questions: NExT-QA, STAR and EgoPlan, each in its official files.

Every row becomes a question or a refused row; a question's group is its clip.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from aot.files.jsonl import RefusedRow, RowProblem, empty_words
from aot.seeds import text_rng
from video_data.datasets.official import (
    Official,
    Wanted,
    clip_id_of,
    folded,
    kitchen_places,
    read_csv,
    read_json,
    read_rows,
    seconds_of,
    text_of,
)
from video_data.datasets.rows import QuestionRow, good_lines, set_aside

_Rows = Iterable[tuple[str, dict[str, Any]] | RefusedRow]
"""Place and fields of each row of a file."""


def _questions(
    wanted: Wanted, rows_of: Callable[[Path], _Rows], question_of: Callable[[dict[str, Any], str], QuestionRow]
) -> Official:
    """The question of each row of the official files, and the rows that cannot be used."""
    questions: dict[str, QuestionRow] = {}
    refused: list[RefusedRow] = []
    for path, split in wanted.files():
        for place, row in good_lines(rows_of(path), refused):
            with set_aside(place, refused):
                if not isinstance(row, dict):
                    raise RowProblem("bad_value", "a question must be an object")
                question = question_of(row, split)
                if question.id in questions:
                    raise RowProblem("duplicate_id", f"the question {question.id} was read already")
                questions[question.id] = question
    return Official(questions=tuple(questions.values()), refused=tuple(refused))


def _given_choice(
    *, id: str, split: str, kind: str, text: str, choices: list[str], answer_index: int, clip_id: str,
    start_s: float = 0.0, end_s: float | None = None, ends_loosely: bool = False,
) -> QuestionRow:  # fmt: skip
    """A multiple-choice question as its data set gives it."""
    # Options with the same text stay: a published score counts them too, by their place.
    if len(choices) < 2:
        raise RowProblem("bad_choices", f"a choice needs at least two options, got {len(choices)}")
    if end_s is not None and end_s <= start_s:
        raise RowProblem("bad_window", f"the window {start_s:g}-{end_s:g} s {empty_words(start_s, end_s)}")
    return QuestionRow(
        id=id, split=split, kind=kind, text=text, choices=tuple(choices), answer=choices[answer_index],
        answer_type="choice", uri=clip_id, start_s=start_s, end_s=end_s, group=clip_id, ends_loosely=ends_loosely,
        answer_index=answer_index,
    )  # fmt: skip


# NExT-QA: CSV files with a question about a whole clip, five options, the index of the right one

NEXTQA_OPTIONS = ("a0", "a1", "a2", "a3", "a4")
NEXTQA_COLUMNS = ("video", "question", "answer", "qid", "type", *NEXTQA_OPTIONS)
NEXTQA_MAP = "map_vid_vidorID.json"
"""Looked for beside each CSV file: the videos lie in folders that only it tells."""


def read_nextqa(wanted: Wanted) -> Official:
    """The questions of the official files; their kind is the official type, such as CW or TN.

    Traps: the answer is an index from 0; a question's id counts within its clip only; some rows have two equal options,
    of which only the index tells the right one.
    """
    places: dict[str, tuple[str, ...]] = {}
    for path, _ in wanted.files():
        if (path.parent / NEXTQA_MAP).exists():
            value, _ = read_json(path.parent / NEXTQA_MAP)
            pairs = value.items() if isinstance(value, dict) else ()
            places |= {video: (place,) for video, place in pairs if isinstance(place, str)}
    official = _questions(wanted, lambda path: read_csv(path, columns=NEXTQA_COLUMNS), _nextqa_question)
    return replace(official, places=places)


def _nextqa_question(row: dict[str, str], split: str) -> QuestionRow:
    video, number = clip_id_of(row["video"]), clip_id_of(row["qid"])
    choices = [text_of(row[name], name) for name in NEXTQA_OPTIONS]
    if row["answer"] not in ("0", "1", "2", "3", "4"):
        raise RowProblem("bad_answer", f"the answer must be an index from 0 to 4, got {row['answer']!r}"[:200])
    return _given_choice(
        id=f"{video}-{number}", split=split, kind=text_of(row["type"], "type"),
        text=text_of(row["question"], "question"), choices=choices, answer_index=int(row["answer"]), clip_id=video,
    )  # fmt: skip


# STAR: a JSON list of questions about [start, end] of a Charades video, with four options

STAR_KINDS = ("Interaction", "Sequence", "Prediction", "Feasibility")


def read_star(wanted: Wanted) -> Official:
    """The questions of the official files.

    Traps: options are objects with a `choice` text; the answer is that text, not a letter; the kind is the beginning of
    the question's id; the test file has no answers.
    """
    return _questions(wanted, _star_rows, _star_question)


def _star_rows(path: Path) -> _Rows:
    for number, row in enumerate(read_rows(path)):
        name = row.get("question_id") if isinstance(row, dict) else None
        yield name[:100] if isinstance(name, str) and name.isprintable() else f"{path.name}[{number}]", row


def _star_question(row: dict[str, Any], split: str) -> QuestionRow:
    name = text_of(row.get("question_id"), "question_id")
    kind = name.partition("_")[0]
    if kind not in STAR_KINDS:
        raise RowProblem("unknown_kind", f"the id must begin with one of {', '.join(STAR_KINDS)}, got {name!r}"[:200])
    options = row.get("choices")
    if not isinstance(options, list) or not all(isinstance(option, dict) for option in options):
        raise RowProblem("bad_choices", "choices must be a list of objects with a text `choice`")
    if row.get("answer") is None:
        raise RowProblem("no_answer", "the question has no answer, as in the official test file")
    choices = [text_of(option.get("choice"), "choice") for option in options]
    answer = text_of(row["answer"], "answer")
    if answer not in choices:
        raise RowProblem("bad_answer", f"the answer {answer!r} is none of the options"[:200])
    # Windows may run past the end of the video, as Charades' actions do: its authors say to cut them there.
    return _given_choice(
        id=name, split=split, kind=kind, text=text_of(row.get("question"), "question"),
        choices=choices, answer_index=choices.index(answer), clip_id=clip_id_of(row.get("video_id")),
        start_s=seconds_of(row.get("start"), "start"), end_s=seconds_of(row.get("end"), "end"), ends_loosely=True,
    )  # fmt: skip


# EgoPlan: the next action towards a goal, after some progress in an egocentric video

LETTERS = "ABCD"
EPIC_55_FPS, EPIC_100_FPS, EGO4D_FPS = 60.0, 50.0, 30.0
_EPIC_VIDEO = re.compile(r"P\d\d_(\d\d|1\d\d)", re.ASCII)
NO_PROGRESS_S = 10.0
"""What is shown before the current frame where the row tells no progress."""


def read_egoplan(wanted: Wanted) -> Official:
    """The questions of the official files, of kind next_choice; the window ends at the current observation.

    Traps: the right option is a letter, checked against the answer's text; training rows have no options but wrong
    answers to choose from; places are frame numbers.
    """
    official = _questions(
        wanted,
        lambda path: ((f"{path.name}[{number}]", row) for number, row in enumerate(read_rows(path))),
        lambda row, split: _egoplan_question(row, split, wanted),
    )
    videos = {question.uri for question in official.questions}
    return replace(official, places={video: kitchen_places(video.partition("_")[0], video) for video in videos})


def _egoplan_question(row: dict[str, Any], split: str, wanted: Wanted) -> QuestionRow:
    video = clip_id_of(row.get("video_id"))
    question_id = f"{video}-{clip_id_of(str(row.get('sample_id', '')))}"
    answer = text_of(row.get("answer"), "answer")
    start_s, end_s = _egoplan_window(row, _egoplan_fps(row, video))
    choices, answer_index = _egoplan_choices(row, answer, question_id, wanted)
    return _given_choice(
        id=question_id, split=split, kind="next_choice", text=text_of(row.get("question"), "question"),
        choices=choices, answer_index=answer_index, clip_id=video, start_s=start_s, end_s=end_s,
    )  # fmt: skip


def _egoplan_choices(row: dict[str, Any], answer: str, question_id: str, wanted: Wanted) -> tuple[list[str], int]:
    """The four options as given, or, in the training file, the answer among wrong ones; and the right one's place."""
    if "golden_choice_idx" not in row:
        negatives = row.get("negative_answers")
        if not isinstance(negatives, list):
            raise RowProblem("no_answer", "neither golden_choice_idx nor negative_answers is there")
        others = {folded(text): text for text in (text_of(one, "negative answer") for one in negatives)}
        free = sorted(text for key, text in others.items() if key != folded(answer))
        if len(free) < wanted.num_choices - 1:
            raise RowProblem("too_few_labels", f"{len(free)} wrong answers, {wanted.num_choices - 1} are wanted")
        rng = text_rng(wanted.seed, question_id)
        options = [answer, *rng.sample(free, wanted.num_choices - 1)]
        rng.shuffle(options)
        return options, options.index(answer)
    letter = row["golden_choice_idx"]
    if not isinstance(letter, str) or letter not in tuple(LETTERS):
        raise RowProblem("bad_answer", f"golden_choice_idx must be one of {LETTERS}, got {letter!r}"[:200])
    choices = [text_of(row.get(f"choice_{name.lower()}"), f"choice_{name.lower()}") for name in LETTERS]
    if choices[LETTERS.index(letter)] != answer:
        raise RowProblem("bad_answer", f"option {letter} is not the answer {answer!r}"[:200])
    return choices, LETTERS.index(letter)


def _egoplan_fps(row: dict[str, Any], video: str) -> float:
    """So many frame numbers make a second."""
    # EPIC-KITCHENS' authors counted the frames that they extracted, after all videos were brought to one rate: 60 a
    # second for those of EPIC-KITCHENS-55 (`P01_01`), 50 for the later ones (`P01_101`), whatever the rate of the file.
    if epic := _EPIC_VIDEO.fullmatch(video):
        return EPIC_55_FPS if len(epic[1]) == 2 else EPIC_100_FPS
    # Ego4D's canonical videos have 30; no other rate is guessed, since a wrong one moves every window.
    fps = seconds_of(row.get("fps", EGO4D_FPS if row.get("video_source") == "Ego4D" else 0), "fps")
    if fps <= 0:
        raise RowProblem("fps_unknown", f"{video} is neither of EPIC-KITCHENS (P01_01, P01_101) nor of Ego4D")
    return fps


def _egoplan_window(row: dict[str, Any], fps: float) -> tuple[float, float]:
    """From the first progress to the current observation, in seconds."""
    end_s = seconds_of(row.get("current_observation_frame"), "current_observation_frame") / fps
    steps = row.get("task_progress_metadata") or []
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise RowProblem("bad_value", "task_progress_metadata must be a list of objects")
    starts_s = [seconds_of(step.get("start_frame"), "start_frame") / fps for step in steps]
    start_s = min(starts_s, default=max(0.0, end_s - NO_PROGRESS_S))
    return round(start_s, 3), round(end_s, 3)
