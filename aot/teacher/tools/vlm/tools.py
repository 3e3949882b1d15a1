"""Tools behind which a vision-language chat model stands: `ask`, `caption`, `recognise_action`, `find_moments`.

The last two answer in the records of the pixel tools of those names, so that planners, filters and accuracy need not
know which of them looked.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from pydantic import Field

from aot.chat.prompts import Prompt, data_slot, load_prompt
from aot.errors import ToolError
from aot.records import Finding, JsonDict
from aot.teacher.tools.base import (
    AnyTool,
    Moment,
    Tool,
    ToolArguments,
    ToolContext,
    ToolPart,
    ToolResult,
    WindowArguments,
    clamp_window,
)
from aot.teacher.tools.pixels.steps import (
    Alternative,
    EventArguments,
    FindMomentsResult,
    RecogniseActionResult,
    known_name,
)
from aot.teacher.tools.vlm.view import (
    MAX_FRAMES,
    Look,
    Vision,
    look,
    rows_said,
    score_said,
    span_said,
    text_said,
)

VERSION = "chat-1"
Looks = Callable[[Vision, Any, ToolContext], ToolResult]
MAX_ANSWER, MAX_CAPTION, MAX_EVENT, MAX_LABEL = 400, 800, 200, 80
MAX_MOMENTS, MAX_ALTERNATIVES = 64, 3
MAX_LISTED = 400
"""So many known labels are listed to the model at most; the others are still taken from it."""


class AskArguments(WindowArguments):
    """A question about a stretch."""

    question: str = Field(
        min_length=1, max_length=500, description="What to find out from the frames, such as `What is in the pan?`."
    )


class SaidSpan(ToolPart):
    """A stretch of the clip, in seconds."""

    start_s: float
    end_s: float


class AskResult(ToolResult):
    """What the model answered."""

    answer: str
    moments: tuple[SaidSpan, ...]
    """Where it saw that; empty when it named no time."""

    def findings(self, arguments: AskArguments) -> tuple[Finding, ...]:
        """The answer, of all the stretches that show it."""
        spans_s = tuple((one.start_s, one.end_s) for one in self.moments)
        said = Finding(kind="text", how="answered", text=self.answer, question=arguments.question, spans_s=spans_s)
        return (said,)


class SaidEvent(SaidSpan):
    """One action of a caption."""

    text: str


class CaptionResult(ToolResult):
    """What happens in the stretch."""

    text: str
    events: tuple[SaidEvent, ...]
    """Single actions in time order; may be empty."""

    def findings(self, arguments: WindowArguments) -> tuple[Finding, ...]:
        """The caption, then its actions."""
        actions = (
            Finding(kind="text", how="seen", text=one.text, spans_s=((one.start_s, one.end_s),)) for one in self.events
        )
        return (Finding(kind="text", how="seen", text=self.text), *actions)


def ask(vision: Vision, arguments: AskArguments, context: ToolContext) -> AskResult:
    """The model's answer; raises ToolError when it gave none that can be used."""
    span = clamp_window(arguments.start_s, arguments.end_s, context.clip)
    slots = {"question": data_slot("question", arguments.question)}
    row = look(vision, Look("ask", _prompt("ask"), _ASK, slots), span=span, context=context)
    spans = [span_said(one, span=span) for one in rows_said(row["moments"], what="moments", most=MAX_MOMENTS)]
    return AskResult(
        answer=text_said(row["answer"], what="answer", most=MAX_ANSWER),
        moments=tuple(SaidSpan(start_s=start_s, end_s=end_s) for start_s, end_s in sorted(spans)),
    )


def caption(vision: Vision, arguments: WindowArguments, context: ToolContext) -> CaptionResult:
    """What happens in the stretch; raises ToolError when the model told nothing that can be used."""
    span = clamp_window(arguments.start_s, arguments.end_s, context.clip)
    row = look(vision, Look("caption", _prompt("caption"), _CAPTION, {}), span=span, context=context)
    events = []
    for one in rows_said(row["events"], what="events", most=MAX_MOMENTS):
        start_s, end_s = span_said(one, span=span)
        text = text_said(one.get("text"), what="an event", most=MAX_EVENT)
        events.append(SaidEvent(start_s=start_s, end_s=end_s, text=text))
    return CaptionResult(
        text=text_said(row["text"], what="text", most=MAX_CAPTION),
        events=tuple(sorted(events, key=lambda event: (event.start_s, event.end_s))),
    )


def recognise_action(vision: Vision, arguments: WindowArguments, context: ToolContext) -> RecogniseActionResult:
    """The step shown by the stretch: a known label where the card or the annotations know some.

    Raises:
        ToolError: the stretch shows no step, or the model named one that is not known.
    """
    span = clamp_window(arguments.start_s, arguments.end_s, context.clip)
    labels = context.known_labels
    slots = {"labels": data_slot("labels", "\n".join(labels[:MAX_LISTED]) or "(none)")}
    look_for = Look("recognise_action", _prompt("recognise_action"), _RECOGNISE, slots)
    row = look(vision, look_for, span=span, context=context)
    label = text_said(row["label"], what="label", most=MAX_LABEL)
    if label.casefold().strip(".") == "none":
        raise ToolError(f"no known step recognised in {span.start_s:.1f}-{span.end_s:.1f} s; ask for another stretch")
    if labels:
        label = known_name(label, labels, what="step")
    others: dict[str, float] = {}
    for one in rows_said(row.get("alternatives"), what="alternatives", most=MAX_ALTERNATIVES):
        other = text_said(one.get("label"), what="an alternative", most=MAX_LABEL)
        if labels:
            other = next((name for name in labels if name.casefold() == other.casefold()), label)
        if other != label:
            others.setdefault(other, score_said(one.get("score")))
    return RecogniseActionResult(
        label=label,
        score=score_said(row["score"]),
        alternatives=tuple(Alternative(label=name, score=score) for name, score in others.items()),
    )


def find_moments(vision: Vision, arguments: EventArguments, context: ToolContext) -> FindMomentsResult:
    """When something happens: a known step, or anything else that can be told in a few words."""
    span = clamp_window(arguments.start_s, arguments.end_s, context.clip)
    event = text_said(arguments.event, what="event", most=MAX_EVENT)
    event = next((name for name in context.known_labels if name.casefold() == event.casefold()), event)
    look_for = Look("find_moments", _prompt("find_moments"), _FIND, {"event": data_slot("event", event)})
    row = look(vision, look_for, span=span, context=context)
    moments = []
    for one in rows_said(row["moments"], what="moments", most=MAX_MOMENTS):
        start_s, end_s = span_said(one, span=span)
        moments.append(Moment(start_s=start_s, end_s=end_s, score=score_said(one.get("score"))))
    kept = [moment for moment in moments if moment.score >= arguments.min_score]
    return FindMomentsResult(event=event, moments=tuple(sorted(kept, key=lambda one: (one.start_s, one.end_s))))


def chat_tools(vision: Vision) -> dict[str, AnyTool]:
    """The four tools on one model, by name."""
    return {
        run.__name__: Tool(
            name=run.__name__,
            version=VERSION,
            description=description,
            Arguments=arguments,
            Result=result,
            run=partial(run, vision),
            source="chat",
            digest=f"{vision.model.name} {_prompt(run.__name__).digest}",
            max_frames=MAX_FRAMES,
        )
        for run, arguments, result, description in _TOOLS
    }


_TOOLS: tuple[tuple[Looks, type[ToolArguments], type[ToolResult], str], ...] = (
    (ask, AskArguments, AskResult, "Answer a question from the frames between start_s and end_s, by looking at them."),
    (caption, WindowArguments, CaptionResult, "Tell in words what happens between start_s and end_s."),
    (
        recognise_action, WindowArguments, RecogniseActionResult,
        "Tell which step the stretch between start_s and end_s shows best, with alternatives.",
    ),
    (
        find_moments, EventArguments, FindMomentsResult,
        "Find when a step or event happens between start_s and end_s.",
    ),
)  # fmt: skip


@cache
def _prompt(tool: str) -> Prompt:
    return load_prompt("aot.teacher", f"tool_{tool}.txt")


def _object(**properties: JsonDict) -> JsonDict:
    return {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip


def _list(item: JsonDict) -> JsonDict:
    return {"type": "array", "items": item}


_TEXT: JsonDict = {"type": "string"}
_NUMBER: JsonDict = {"type": "number"}
_SPAN = {"start_s": _NUMBER, "end_s": _NUMBER}
_ASK = _object(answer=_TEXT, moments=_list(_object(**_SPAN)))
_CAPTION = _object(text=_TEXT, events=_list(_object(**_SPAN, text=_TEXT)))
_RECOGNISE = _object(label=_TEXT, score=_NUMBER, alternatives=_list(_object(label=_TEXT, score=_NUMBER)))
_FIND = _object(moments=_list(_object(**_SPAN, score=_NUMBER)))
