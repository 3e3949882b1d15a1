"""The attempts at one question: candidate after candidate, until a training question has a trace that verifies.

The gold answer is used in one place, to stop at the first training trace that verifies; questions of other splits get
candidate 0 and nothing else. What a question gives depends on (seed, question) only.
"""

from typing import Protocol

from aot.answers import verifies
from aot.errors import DecodeError, SourceError, ToolError
from aot.generate.option_shuffle import with_shuffled_answers
from aot.records import MediaRef, Question, Trace
from aot.teacher.executor import failed_trace, run_candidate, with_attempts_cost
from aot.teacher.parts import TRAIN, Parts
from aot.teacher.tools.clipview import ClipView


class Shelf(Protocol):
    """Whatever hands out the visible part of clips."""

    def view(self, media: MediaRef | None) -> ClipView:
        """The window of a question; raises SourceError, DecodeError or ToolError where there is none."""
        ...


def solve(question: Question, shelf: Shelf, kit: Parts, *, candidates: int) -> list[Trace]:
    """The attempts at one question, in order; the last is its row: the first that verifies, else the last one tried."""
    try:
        clip = shelf.view(question.media)
    except (SourceError, DecodeError, ToolError) as error:
        return [failed_trace(question, kit, error)]
    attempts: list[Trace] = []
    for candidate in range(candidates if question.split == TRAIN else 1):
        attempts.append(run_candidate(question, clip, kit, candidate=candidate))
        if question.split == TRAIN and verifies(attempts[-1], question):
            break
    *earlier, last = attempts
    charged = with_attempts_cost(last, attempts)
    if kit.shuffle_checks and question.split == TRAIN and question.choices and verifies(last, question):
        charged = with_shuffled_answers(charged, question, clip, kit)
    return [*earlier, charged]
