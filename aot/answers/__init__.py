"""Finds the final answer in a text, parses it by the question's answer type, and grades it: right, wrong, cannot tell.

`finding` knows only text, the parsers only their type, `grading` binds them; `workers` alone talks to the processes
that hold math-verify and reasoning-gym. `python -m aot.answers` prints the error rates on the folder's own case table.
"""

from aot.answers.exact import NUMBER_WORDS
from aot.answers.finding import find_answer
from aot.answers.forms import FoundAnswer, Grade, ParsedAnswer
from aot.answers.grading import (
    check_packages,
    compare_answers,
    grade,
    is_right,
    mixed_options,
    parse_answer,
    same_answer,
    verifies,
)
from aot.answers.kinds.choices import RIGHT_IOU, iou
from aot.answers.workers import stop_workers

__all__ = [
    "NUMBER_WORDS",
    "RIGHT_IOU",
    "FoundAnswer",
    "Grade",
    "ParsedAnswer",
    "check_packages",
    "compare_answers",
    "find_answer",
    "grade",
    "is_right",
    "iou",
    "mixed_options",
    "parse_answer",
    "same_answer",
    "stop_workers",
    "verifies",
]
