"""What every tool is: a name, a version, typed arguments and a typed result, and one function that looks.

A tool sees a `ToolContext`: the frames of the question's window, the appearance card and procedural knowledge. It never
sees the question's gold answer or an annotation of the clip asked about. Times are true clip seconds, boxes pixels of
the true frame.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field

from aot.errors import ToolError
from aot.rationales.calls import ToolArguments, ToolPart, ToolResult
from aot.records import Finding, JsonDict, Record, Step, TimeSpan
from aot.run_records import ChatUsage
from aot.teacher.tools.clipview import ClipView
from aot.teacher.tools.pixels.looks import Sight
from aot.teacher.tools.procedure import ProcedureModel

Source = Literal["pixels", "annotations", "models", "chat", "subtitles", "arithmetic", "book"]
"""Where a tool's knowledge comes from: pixels and the card; training annotations; a model in this process that sees
frames; a chat model that is shown frames; the file of subtitles beside the clip; the arguments alone; recipe cards."""
CACHED: tuple[Source, ...] = ("pixels", "models", "chat")
"""The others cost nothing, and depend on files that are not part of the key."""
EDGE_S = 0.051
"""Spans are rounded to one decimal, so a call may reach this far past the window; it is cut back to it."""


class CachedResult(Record):
    """One stored result; its key stands first in the line (aot.files.parts). Failures are never stored."""

    key: str
    result: JsonDict
    reply_keys: tuple[str, ...] = Field(default=(), exclude_if=lambda keys: not keys)
    """Of the chat replies that it rests on."""


class WindowArguments(ToolArguments):
    """A stretch of the clip to look at."""

    start_s: float = Field(ge=0, description="Start of the stretch to look at, in seconds of the clip.")
    end_s: float = Field(gt=0, description="End of the stretch to look at, in seconds of the clip.")


class Moment(ToolPart):
    """When something happens."""

    start_s: float
    end_s: float
    score: float


class LabelledSpan(Moment):
    """When which step happens."""

    label: str


def events(moments: Iterable[Moment], *, label: str = "") -> tuple[Finding, ...]:
    """The moments as findings, of one event or each with its own label."""
    return tuple(
        Finding(
            kind="event",
            label=one.label if isinstance(one, LabelledSpan) else label,
            spans_s=((one.start_s, one.end_s),),
            score=one.score,
        )
        for one in moments
    )


@dataclass(frozen=True)
class ToolContext:
    """Everything a tool may use."""

    view: ClipView | Callable[[], ClipView] | None = None
    """The clip, or what opens it for the first tool that looks; None where the question is about none."""
    sight: Sight | None = None
    """Sees looks in frames; it holds the appearance card. None where nothing looks at pixels."""
    procedure: ProcedureModel | None = None
    usage: list[ChatUsage] = field(default_factory=list)
    """Tools append what each of their chat calls cost, from any thread."""
    reply_keys: list[str] = field(default_factory=list)
    """Of one call: where the chat replies that it rests on are stored."""
    question_id: str = ""
    """Of the question that is asked: some cards of a book lie beside one question only."""
    question_text: str = ""
    steps: tuple[Step, ...] = ()
    """Finished in earlier turns of the plan."""
    index: int = 0
    """Of the step that the call becomes."""

    @property
    def clip(self) -> ClipView:
        """What the question shows.

        Raises:
            ToolError: it shows nothing, or what it shows cannot be opened.
        """
        if self.view is None:
            raise ToolError("this question is about no clip; call a tool that looks at none")
        return self.view if isinstance(self.view, ClipView) else self.view()

    @property
    def looker(self) -> Sight:
        """Who sees looks in frames.

        Raises:
            ToolError: nobody does.
        """
        if self.sight is None:
            raise ToolError("nothing here recognises looks in frames; call a tool that needs no appearance card")
        return self.sight

    @property
    def known_labels(self) -> tuple[str, ...]:
        """Labels of steps that the card or the training annotations know."""
        learned = self.procedure.labels if self.procedure else ()
        return tuple(sorted({*(self.sight.card.labels if self.sight else ()), *learned}))


A = TypeVar("A", bound=ToolArguments)
R = TypeVar("R", bound=ToolResult)


@dataclass(frozen=True)
class Tool(Generic[A, R]):
    """One tool; `name` and `version` are part of the key under which results are cached."""

    name: str
    version: str
    description: str
    Arguments: type[A]
    Result: type[R]
    run: Callable[[A, ToolContext], R]
    """Raises ToolError when the call makes no sense; finding nothing is a result, not an error."""
    source: Source
    digest: str = ""
    """Identity of the model and prompt behind it; empty for tools that see through the appearance card."""
    max_frames: int | None = None
    """So many frames of a stretch it looks at, evenly spaced; None for all of them."""


AnyTool = Tool[Any, Any]


def sight_of(tool: Tool[Any, Any], context: ToolContext) -> str:
    """What the results of a tool depend on besides the clip and its arguments: the card, or a model with its labels."""
    if not tool.digest:
        return context.looker.card.digest
    if tool.source != "chat":
        return tool.digest
    labels = json.dumps(context.known_labels, ensure_ascii=False)
    return f"{tool.digest} {hashlib.sha256(labels.encode()).hexdigest()[:12]}"


def cache_key(tool: Tool[Any, Any], arguments: ToolArguments, context: ToolContext) -> str:
    """A digest of everything that a result depends on: clip, visible frames, tool, arguments, and what it sees with."""
    clip = context.clip
    parts = [
        clip.sha256,
        f"{clip.frames_THWC.shape[1:3]} {clip.indices[0]}-{clip.indices[-1]} {clip.start_s:.3f}-{clip.end_s:.3f}",
        hashlib.sha256(repr(clip.times_s).encode()).hexdigest()[:16],
        tool.name,
        tool.version,
        json.dumps(arguments.model_dump(mode="json"), sort_keys=True, ensure_ascii=False),
        sight_of(tool, context),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def openai_schema(name: str, description: str, arguments: type[ToolArguments]) -> dict[str, Any]:
    """A call in OpenAI function-calling format, generated from its argument model, without titles and docstring."""
    parameters: dict[str, Any] = _without_titles(arguments.model_json_schema())
    parameters.pop("description", None)
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def clamp_window(start_s: float, end_s: float, clip: ClipView) -> TimeSpan:
    """The stretch as a span inside the visible window.

    Raises:
        ToolError: it is empty, or reaches past what the question lets anybody see.
    """
    if start_s < clip.start_s - EDGE_S or end_s > clip.end_s + EDGE_S:
        raise ToolError(
            f"{start_s:.1f}-{end_s:.1f} s reaches past the visible window; "
            f"stay within {clip.start_s:.1f}-{clip.end_s:.1f} s"
        )
    start_s, end_s = max(start_s, clip.start_s), min(end_s, clip.end_s)
    if end_s <= start_s:
        raise ToolError(f"the stretch {start_s:.1f}-{end_s:.1f} s is empty; give an end_s later than start_s")
    return TimeSpan(start_s=start_s, end_s=end_s)


def rounded_s(time_s: float) -> float:
    """A time as traces write it: one decimal, never minus zero."""
    return round(time_s, 1) + 0.0


def _without_titles(node: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(node, dict):
        return {
            key: _without_titles(value)
            for key, value in node.items()
            if not (key == "title" and isinstance(value, str))
        }
    if isinstance(node, list):
        return [_without_titles(item) for item in node]
    return node
