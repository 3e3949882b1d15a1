"""Reads EgoPlan's question files: the next action towards a goal, after some progress in an egocentric video.

Traps: the right option is a letter, checked against the answer's text; training rows have no options but wrong
answers to choose from; places are frame numbers. Ego4D's canonical videos have 30 frames a second; those of
EPIC-KITCHENS differ, so EPIC_100_video_info.csv must lie beside the file (or the row tell its `fps`): no rate is
guessed.
"""

import random
from pathlib import Path
from typing import Any

from video_data.datasets.official import (
    Official,
    Wanted,
    clip_id_of,
    given_choice,
    read_csv,
    read_rows,
    seconds_of,
    text_of,
)
from video_data.datasets.rows import QuestionRow, RefusedRow
from video_data.datasets.strict_jsonl import RowProblem

LETTERS = "ABCD"
EGO4D_FPS = 30.0
VIDEO_INFO = "EPIC_100_video_info.csv"
NO_PROGRESS_S = 10.0
"""What is shown before the current frame where the row tells no progress."""


def read_egoplan(wanted: Wanted) -> Official:
    """The questions of the official files, of kind next_choice; the window ends at the current observation.

    Raises:
        VideoError: a file is missing or holds no list.
    """
    questions: dict[str, QuestionRow] = {}
    refused: list[RefusedRow] = []
    places: dict[str, tuple[str, ...]] = {}
    for path, split in wanted.files():
        rates = _rates(path.parent / VIDEO_INFO, refused)
        for number, row in enumerate(read_rows(path)):
            try:
                question = _question(row, split, rates, wanted)
                if question.id in questions:
                    raise RowProblem("duplicate_id", f"the question {question.id} was read already")
            except RowProblem as problem:
                refused.append(problem.row(f"{path.name}[{number}]"))
            else:
                questions[question.id] = question
                kitchen = question.uri.partition("_")[0]
                places[question.uri] = (f"{kitchen}/{question.uri}", f"{kitchen}/videos/{question.uri}")
    return Official(questions=tuple(questions.values()), refused=tuple(refused), places=places)


def _rates(path: Path, refused: list[RefusedRow]) -> dict[str, float]:
    """Video id to frames for each second, if the file is there."""
    rates: dict[str, float] = {}
    for line in read_csv(path, columns=("video_id", "fps")) if path.exists() else ():
        if isinstance(line, RefusedRow):
            refused.append(line)
            continue
        try:
            rates[line[1]["video_id"]] = seconds_of(line[1]["fps"], "fps")
        except RowProblem as problem:
            refused.append(problem.row(line[0]))
    return rates


def _question(row: object, split: str, rates: dict[str, float], wanted: Wanted) -> QuestionRow:
    """One question.

    Raises:
        RowProblem: it cannot be used.
    """
    if not isinstance(row, dict):
        raise RowProblem("bad_value", "a question must be an object")
    video = clip_id_of(row.get("video_id"))
    question_id = f"{video}-{clip_id_of(str(row.get('sample_id', '')))}"
    answer = text_of(row.get("answer"), "answer")
    start_s, end_s = _window(row, _fps(row, video, rates))
    return given_choice(
        id=question_id, split=split, kind="next_choice", text=text_of(row.get("question"), "question"),
        choices=_choices(row, answer, question_id, wanted), answer=answer, clip_id=video, start_s=start_s, end_s=end_s,
    )  # fmt: skip


def _choices(row: dict[str, Any], answer: str, question_id: str, wanted: Wanted) -> list[str]:
    """The four options as given, or, in the training file, the answer among some of the wrong ones.

    Raises:
        RowProblem: the letter is none, or names another option than the answer.
    """
    if "golden_choice_idx" not in row:
        negatives = row.get("negative_answers")
        if not isinstance(negatives, list):
            raise RowProblem("no_answer", "neither golden_choice_idx nor negative_answers is there")
        free = sorted({text_of(one, "negative answer") for one in negatives} - {answer})
        if len(free) < wanted.num_choices - 1:
            raise RowProblem("too_few_labels", f"{len(free)} wrong answers, {wanted.num_choices - 1} are wanted")
        rng = random.Random(f"{wanted.seed}|{question_id}")
        options = [answer, *rng.sample(free, wanted.num_choices - 1)]
        rng.shuffle(options)
        return options
    letter = row["golden_choice_idx"]
    if not isinstance(letter, str) or letter not in tuple(LETTERS):
        raise RowProblem("bad_answer", f"golden_choice_idx must be one of {LETTERS}, got {letter!r}"[:200])
    choices = [text_of(row.get(f"choice_{name.lower()}"), f"choice_{name.lower()}") for name in LETTERS]
    if choices[LETTERS.index(letter)] != answer:
        raise RowProblem("bad_answer", f"option {letter} is not the answer {answer!r}"[:200])
    return choices


def _fps(row: dict[str, Any], video: str, rates: dict[str, float]) -> float:
    """Frames for each second.

    Raises:
        RowProblem: nobody tells.
    """
    fps = seconds_of(row["fps"], "fps") if "fps" in row else rates.get(video, 0.0)
    if not fps and row.get("video_source") == "Ego4D":
        fps = EGO4D_FPS
    if fps <= 0:
        raise RowProblem("fps_unknown", f"frame numbers of {video} need {VIDEO_INFO} beside the file")
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
