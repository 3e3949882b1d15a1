"""Reads EgoPlan's question files: the next action towards a goal, after some progress in an egocentric video.

Traps: the right option is a letter, checked against the answer's text; training rows have no options but wrong
answers to choose from; places are frame numbers. For EPIC-KITCHENS they count the frames that its authors extracted,
after all videos were brought to one rate: 60 a second for those of EPIC-KITCHENS-55 (`P01_01`), 50 for the later ones
(`P01_101`), whatever the rate of the file. Ego4D's canonical videos have 30 frames a second. No other rate is guessed.
"""

import random
import re
from typing import Any

from aot.files.jsonl import RefusedRow, RowProblem
from video_data.datasets.official import (
    Official,
    Wanted,
    clip_id_of,
    folded,
    given_choice,
    read_rows,
    seconds_of,
    text_of,
)
from video_data.datasets.rows import QuestionRow

LETTERS = "ABCD"
EPIC_55_FPS, EPIC_100_FPS, EGO4D_FPS = 60.0, 50.0, 30.0
_EPIC_VIDEO = re.compile(r"P\d\d_(\d\d|1\d\d)", re.ASCII)
NO_PROGRESS_S = 10.0
"""What is shown before the current frame where the row tells no progress."""


def read_egoplan(wanted: Wanted) -> Official:
    """The questions of the official files, of kind next_choice; the window ends at the current observation.

    Raises:
        SourceError: a file is missing or holds no list.
    """
    questions: dict[str, QuestionRow] = {}
    refused: list[RefusedRow] = []
    places: dict[str, tuple[str, ...]] = {}
    for path, split in wanted.files():
        for number, row in enumerate(read_rows(path)):
            try:
                question = _question(row, split, wanted)
                if question.id in questions:
                    raise RowProblem("duplicate_id", f"the question {question.id} was read already")
            except RowProblem as problem:
                refused.append(problem.row(f"{path.name}[{number}]"))
            else:
                questions[question.id] = question
                kitchen = question.uri.partition("_")[0]
                places[question.uri] = (f"{kitchen}/{question.uri}", f"{kitchen}/videos/{question.uri}")
    return Official(questions=tuple(questions.values()), refused=tuple(refused), places=places)


def _question(row: object, split: str, wanted: Wanted) -> QuestionRow:
    """One question.

    Raises:
        RowProblem: it cannot be used.
    """
    if not isinstance(row, dict):
        raise RowProblem("bad_value", "a question must be an object")
    video = clip_id_of(row.get("video_id"))
    question_id = f"{video}-{clip_id_of(str(row.get('sample_id', '')))}"
    answer = text_of(row.get("answer"), "answer")
    start_s, end_s = _window(row, _fps(row, video))
    choices, answer_index = _choices(row, answer, question_id, wanted)
    return given_choice(
        id=question_id, split=split, kind="next_choice", text=text_of(row.get("question"), "question"),
        choices=choices, answer_index=answer_index, clip_id=video, start_s=start_s, end_s=end_s,
    )  # fmt: skip


def _choices(row: dict[str, Any], answer: str, question_id: str, wanted: Wanted) -> tuple[list[str], int]:
    """The four options as given, or, in the training file, the answer among some wrong ones; and the right one's place.

    Raises:
        RowProblem: the letter is none, or names another option than the answer.
    """
    if "golden_choice_idx" not in row:
        negatives = row.get("negative_answers")
        if not isinstance(negatives, list):
            raise RowProblem("no_answer", "neither golden_choice_idx nor negative_answers is there")
        others = {folded(text): text for text in (text_of(one, "negative answer") for one in negatives)}
        free = sorted(text for key, text in others.items() if key != folded(answer))
        if len(free) < wanted.num_choices - 1:
            raise RowProblem("too_few_labels", f"{len(free)} wrong answers, {wanted.num_choices - 1} are wanted")
        rng = random.Random(f"{wanted.seed}|{question_id}")
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


def _fps(row: dict[str, Any], video: str) -> float:
    """So many frame numbers make a second.

    Raises:
        RowProblem: nobody tells.
    """
    if epic := _EPIC_VIDEO.fullmatch(video):
        return EPIC_55_FPS if len(epic[1]) == 2 else EPIC_100_FPS
    fps = seconds_of(row.get("fps", EGO4D_FPS if row.get("video_source") == "Ego4D" else 0), "fps")
    if fps <= 0:
        raise RowProblem("fps_unknown", f"{video} is neither of EPIC-KITCHENS (P01_01, P01_101) nor of Ego4D")
    return fps


def _window(row: dict[str, Any], fps: float) -> tuple[float, float]:
    """From the first progress to the current observation, in seconds."""
    end_s = seconds_of(row.get("current_observation_frame"), "current_observation_frame") / fps
    steps = row.get("task_progress_metadata") or []
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise RowProblem("bad_value", "task_progress_metadata must be a list of objects")
    starts_s = [seconds_of(step.get("start_frame"), "start_frame") / fps for step in steps]
    start_s = min(starts_s, default=max(0.0, end_s - NO_PROGRESS_S))
    return round(start_s, 3), round(end_s, 3)
