"""Tool `recognise_action`: the one step that a short stretch shows best."""

import numpy as np
from pydantic import Field

from aot.errors import ToolError
from aot.teacher.tools.base import Tool, ToolContext, ToolResult, WindowArguments, clamp_window
from aot.teacher.tools.pixels.segmentation import NOTHING_SCORE, SHARPNESS, see_window


class Alternative(ToolResult):
    """Another step that the stretch might show."""

    label: str
    score: float


class RecogniseActionResult(ToolResult):
    """The best step, and the next best ones."""

    label: str
    score: float = Field(ge=0, le=1)
    """Share of belief among all labels and nothing."""
    alternatives: tuple[Alternative, ...]


def recognise_action(arguments: WindowArguments, context: ToolContext) -> RecogniseActionResult:
    """The step shown by the stretch.

    Raises:
        ToolError: the stretch lies outside the window, or shows no known step.
    """
    span = clamp_window(arguments.start_s, arguments.end_s, context.clip)
    labels = context.looker.card.labels
    scores_S = np.append(see_window(context.clip, context.looker, span).scores_TS.mean(axis=0), NOTHING_SCORE)
    beliefs_S = np.exp(SHARPNESS * (scores_S - scores_S.max()))
    beliefs_S /= beliefs_S.sum()
    ranked = sorted(range(len(labels) + 1), key=lambda i: (-beliefs_S[i], i))
    if ranked[0] == len(labels):
        raise ToolError(f"no known step recognised in {span.start_s:.1f}-{span.end_s:.1f} s; ask for another stretch")
    scored = [Alternative(label=labels[i], score=round(float(beliefs_S[i]), 3)) for i in ranked[:4] if i < len(labels)]
    return RecogniseActionResult(label=scored[0].label, score=scored[0].score, alternatives=tuple(scored[1:4]))


RECOGNISE_ACTION = Tool(
    name="recognise_action",
    version="1",
    description="Tell which step the stretch between start_s and end_s shows best, with alternatives.",
    Arguments=WindowArguments,
    Result=RecogniseActionResult,
    run=recognise_action,
    source="pixels",
)
