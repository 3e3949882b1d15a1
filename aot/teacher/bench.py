"""What plans are carried out with: a planner, tools and what these see with, a cache, a budget and a writer.

Nothing here needs a package of video, so that questions about no clip are answered without one; who makes these things
from a config does (parts.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from aot.config import PricesConfig
from aot.errors import ConfigError, DecodeError, SourceError, ToolError
from aot.files.parts import KeyedRows
from aot.records import MediaRef, Question
from aot.teacher.planner import Planner, Scene
from aot.teacher.rewrite import TemplateWriter, Writer
from aot.teacher.tools.base import AnyTool, CachedResult, ToolArguments, ToolContext, ToolResult
from aot.teacher.tools.clipview import ClipView
from aot.teacher.tools.look_up_recipe import NAME as LOOK_UP_RECIPE
from aot.teacher.tools.pixels.looks import Sight
from aot.teacher.tools.procedure import ProcedureModel


@dataclass(frozen=True)
class Budget:
    """What one candidate trace may cost."""

    max_calls: int
    time_limit_s: float
    max_turns: int = 64
    """Turns of the planner; several calls of one turn count once."""


class Hands(Protocol):
    """What calls are carried out with, whoever plans them."""

    @property
    def tools(self) -> Mapping[str, AnyTool]: ...  # noqa: D102
    @property
    def looker(self) -> Sight | None: ...  # noqa: D102
    @property
    def procedure(self) -> ProcedureModel | None: ...  # noqa: D102
    @property
    def cache(self) -> KeyedRows[CachedResult]: ...  # noqa: D102
    @property
    def budget(self) -> Budget: ...  # noqa: D102
    @property
    def config_digest(self) -> str: ...  # noqa: D102
    @property
    def prices(self) -> PricesConfig | None: ...  # noqa: D102
    @property
    def vision_prices(self) -> PricesConfig | None: ...  # noqa: D102


@dataclass(frozen=True)
class Bench:
    """The tools of a student, which plans and writes by itself."""

    tools: Mapping[str, AnyTool]
    budget: Budget
    looker: Sight | None = None
    procedure: ProcedureModel | None = None
    cache: KeyedRows[CachedResult] = field(default_factory=lambda: KeyedRows(None, CachedResult))
    config_digest: str = ""
    prices: PricesConfig | None = None
    vision_prices: PricesConfig | None = None
    open_clip: Callable[[MediaRef | None], ClipView] | None = None
    """The clip of a question, for the first tool that looks; None where there are no clips."""
    closes: tuple[Callable[[], None], ...] = ()
    """What is open behind its tools."""

    def offering(self, names: Sequence[str]) -> "Bench":
        """The same with these tools only; with all of them where none is named.

        Raises:
            ConfigError: one is not among them.
        """
        if missing := [name for name in names if name not in self.tools]:
            raise ConfigError(
                f"the student learned to call {missing[0]}, which is not among the tools of this run "
                f"({', '.join(self.tools) or 'none'}); give the teacher of the run that tool"
            )
        return replace(self, tools={name: self.tools[name] for name in names}) if names else self

    def context(self, question: Question) -> ToolContext:
        """What the tools may use for a question; its clip is opened when one of them looks."""
        shown = partial(self._clip, question.media) if self.open_clip and question.media else None
        return ToolContext(view=shown, sight=self.looker, procedure=self.procedure)

    def _clip(self, media: MediaRef) -> ClipView:
        assert self.open_clip is not None
        try:
            return self.open_clip(media)
        except (DecodeError, SourceError) as error:  # of a clip that is damaged or not stored: no tool can look
            raise ToolError(str(error)) from error

    def close(self) -> None:
        """Close the file of the cache, and what is open behind the tools."""
        self.cache.close()
        for close in self.closes:
            close()


def switched_off(tools: Mapping[str, AnyTool]) -> dict[str, AnyTool]:
    """The same tools, each of which says that it is not there: a control, in which calls give nothing."""
    return {name: replace(tool, run=_absent, source="annotations") for name, tool in tools.items()}


def _absent(arguments: ToolArguments, context: ToolContext) -> ToolResult:
    raise ToolError("no tool is there")


@dataclass(frozen=True)
class Parts:
    """Everything a teacher has besides the clip; one for each worker, shared by its threads."""

    planner: Planner
    tools: Mapping[str, AnyTool]
    looker: Sight | None
    procedure: ProcedureModel | None
    cache: KeyedRows[CachedResult]
    budget: Budget
    seed: int
    config_digest: str
    writer: Writer = field(default_factory=lambda: TemplateWriter(0))
    """Turns finished traces into prose."""
    prices: PricesConfig | None = None
    """Of the model that plans and writes."""
    vision_prices: PricesConfig | None = None

    @property
    def teacher_name(self) -> str:
        """What traces name as their teacher: the planner, and the writer where it is a model."""
        return " ".join(part for part in (self.planner.name, self.writer.name) if part)

    @property
    def known_labels(self) -> tuple[str, ...]:
        """Step labels of the training annotations; where there are none, those that the pixel tools recognise."""
        recognised = self.looker.card.labels if self.looker else ()
        return self.procedure.labels if self.procedure else recognised

    def scene(self, clip: ClipView) -> Scene:
        """What the planner may know about the clip before looking."""
        card = self.looker.card if self.looker else None
        labels, learned = card.labels if card else (), self.procedure.labels if self.procedure else ()
        return Scene(
            start_s=clip.start_s,
            end_s=clip.end_s,
            labels=labels,
            known_labels=tuple(sorted({*labels, *learned})),
            objects=tuple(card.objects) if card else (),
            book="there" if LOOK_UP_RECIPE in self.tools else "none",
            weighs_scores="propose_next" in self.tools
            and "scores" in self.tools["propose_next"].Arguments.model_fields,
        )
