"""The pixel tools that tell steps apart: list and find them, count them, put them in order, recognise one.

All but the last read one segmentation of the stretch, so that they cannot contradict each other.
"""

import difflib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from pydantic import Field

from aot.errors import ToolError
from aot.records import Finding
from aot.teacher.tools.base import (
    A,
    LabelledSpan,
    Moment,
    R,
    Tool,
    ToolContext,
    ToolPart,
    ToolResult,
    WindowArguments,
    clamp_window,
    events,
    rounded_s,
)
from aot.teacher.tools.pixels.segmentation import NOTHING_SCORE, SHARPNESS, FoundStep, find_steps, see_window


class ListStepsArguments(WindowArguments):
    """A stretch, and how closely to look."""

    fps: float | None = Field(
        default=None, gt=0, le=60, description="Frames a second to look at; all stored ones if absent."
    )


class ListStepsResult(ToolResult):
    """Steps in time order; empty when no known step was seen."""

    steps: tuple[LabelledSpan, ...]

    def findings(self, arguments: WindowArguments) -> tuple[Finding, ...]:
        """The steps."""
        return events(self.steps)


class EventArguments(WindowArguments):
    """A step to look for in a stretch."""

    event: str = Field(min_length=1, description="Label of the step to look for, such as `chop onion`.")
    min_score: float = Field(default=0.0, ge=0, le=1, description="Leave out moments that score less.")

    @property
    def sought(self) -> tuple[str, ...]:
        """The step."""
        return (self.event,)


class FindMomentsResult(ToolResult):
    """Moments in time order; empty when the step was not seen."""

    event: str
    moments: tuple[Moment, ...]

    def findings(self, arguments: EventArguments) -> tuple[Finding, ...]:
        """The moments."""
        return events(self.moments, label=self.event)


class CountEventsResult(ToolResult):
    """The count and its evidence."""

    event: str
    count: int
    moments: tuple[Moment, ...]

    def findings(self, arguments: EventArguments) -> tuple[Finding, ...]:
        """The count, then the moments."""
        number = Finding(kind="count", label=self.event, count=self.count)
        return (number, *events(self.moments, label=self.event))


class ReadOrderArguments(WindowArguments):
    """Steps to look for in a stretch."""

    events: tuple[str, ...] = Field(min_length=1, description="Labels of the steps to put in order.")

    @property
    def sought(self) -> tuple[str, ...]:
        """The steps."""
        return self.events


class ReadOrderResult(ToolResult):
    """Each sighting of one of the steps, in time order; empty when none was seen."""

    order: tuple[LabelledSpan, ...]

    def findings(self, arguments: ReadOrderArguments) -> tuple[Finding, ...]:
        """The sightings."""
        return events(self.order)


class Alternative(ToolPart):
    """Another step that the stretch might show."""

    label: str
    score: float


class RecogniseActionResult(ToolResult):
    """The best step, and the next best ones."""

    label: str
    score: float = Field(ge=0, le=1)
    """Share of belief among all labels and nothing."""
    alternatives: tuple[Alternative, ...]

    def findings(self, arguments: WindowArguments) -> tuple[Finding, ...]:
        """The best step for all of the stretch, and those that it might be instead."""
        others = (Finding(kind="option", label=one.label, score=one.score) for one in self.alternatives)
        return (Finding(kind="action", label=self.label, score=self.score), *others)


def known_name(name: str, names: Iterable[str], *, what: str) -> str:
    """The one of `names` that equals `name` but for case and spaces; never guesses, but says which is near.

    Raises:
        ToolError: there is none; the nearest names are told.
    """
    by_key = {" ".join(one.casefold().split()): one for one in names}
    key = " ".join(name.casefold().split())
    if key in by_key:
        return by_key[key]
    near = [by_key[k] for k in difflib.get_close_matches(key, by_key, n=3, cutoff=0.6)] or list(by_key.values())[:5]
    raise ToolError(f"no known {what} is called {name!r}; near: {', '.join(near) or 'the card lists none'}")


def list_steps(arguments: ListStepsArguments, context: ToolContext) -> ListStepsResult:
    """Steps seen in the stretch; raises ToolError when it lies outside the visible window."""
    return ListStepsResult(steps=_spans(_steps_in(arguments, context, fps=arguments.fps)))


def find_moments(arguments: EventArguments, context: ToolContext) -> FindMomentsResult:
    """When the step happens; raises ToolError for a step that the card does not know."""
    event = known_name(arguments.event, context.looker.card.labels, what="step")
    moments = tuple(
        Moment(start_s=rounded_s(one.start_s), end_s=rounded_s(one.end_s), score=round(one.score, 2))
        for one in _steps_in(arguments, context)
        if one.label == event and one.score >= arguments.min_score
    )
    return FindMomentsResult(event=event, moments=moments)


def count_events(arguments: EventArguments, context: ToolContext) -> CountEventsResult:
    """How often the step happens; raises ToolError for a step that the card does not know."""
    seen = find_moments(arguments, context)
    return CountEventsResult(event=seen.event, count=len(seen.moments), moments=seen.moments)


def read_order(arguments: ReadOrderArguments, context: ToolContext) -> ReadOrderResult:
    """The order of the steps; raises ToolError for a step that the card does not know."""
    labels = {known_name(event, context.looker.card.labels, what="step") for event in arguments.events}
    return ReadOrderResult(order=_spans(one for one in _steps_in(arguments, context) if one.label in labels))


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


def _steps_in(arguments: WindowArguments, context: ToolContext, *, fps: float | None = None) -> list[FoundStep]:
    span = clamp_window(arguments.start_s, arguments.end_s, context.clip)
    seen = see_window(context.clip, context.looker, span, fps=fps)
    return find_steps(seen, labels=context.looker.card.labels, span=span)


def _spans(steps: Iterable[FoundStep]) -> tuple[LabelledSpan, ...]:
    """Steps as results give them: times with one decimal, score with two."""
    return tuple(
        LabelledSpan(
            label=one.label,
            start_s=rounded_s(one.start_s),
            end_s=rounded_s(one.end_s),
            score=round(one.score, 2),
        )
        for one in steps
    )


def _tool(run: Callable[[Any, ToolContext], Any], arguments: type[A], result: type[R], description: str) -> Tool[A, R]:
    return Tool(
        name=run.__name__, version="1", description=description, Arguments=arguments, Result=result, run=run,
        source="pixels",
    )  # fmt: skip


LIST_STEPS = _tool(
    list_steps, ListStepsArguments, ListStepsResult,
    "List the steps (action and object) between start_s and end_s, with their times and scores.",
)  # fmt: skip
FIND_MOMENTS = _tool(
    find_moments, EventArguments, FindMomentsResult, "Find when a step happens between start_s and end_s."
)
COUNT_EVENTS = _tool(
    count_events, EventArguments, CountEventsResult, "Count how often a step happens between start_s and end_s."
)
READ_ORDER = _tool(
    read_order, ReadOrderArguments, ReadOrderResult,
    "Put steps in the order in which they happen between start_s and end_s.",
)  # fmt: skip
RECOGNISE_ACTION = _tool(
    recognise_action, WindowArguments, RecogniseActionResult,
    "Tell which step the stretch between start_s and end_s shows best, with alternatives.",
)  # fmt: skip
