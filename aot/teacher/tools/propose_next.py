"""Tool `propose_next`: which task a history of steps fits, and what comes next; counted, not seen.

Either the steps are taken as they are told, or each for as sure as it was recognised (aot.teacher.tools.bayes).
"""

from functools import lru_cache

from pydantic import Field

from aot.errors import ToolError
from aot.records import Finding
from aot.teacher.tools.base import Tool, ToolArguments, ToolContext, ToolPart, ToolResult
from aot.teacher.tools.bayes import BayesHistory, SoftLabel
from aot.teacher.tools.procedure import Forecast, ProcedureModel

MAX_CANDIDATES = 8


class ProposeNextArguments(ToolArguments):
    """What has happened so far."""

    history: tuple[str, ...] = Field(min_length=1, description="Labels of the steps so far, in order.")
    among: tuple[str, ...] = Field(default=(), description="Only rank these steps; all known ones if absent.")


class SoftHistoryArguments(ProposeNextArguments):
    """What has happened so far, as far as somebody is sure of it."""

    scores: tuple[float, ...] = Field(
        default=(), description="How sure each step of the history is, from 0 to 1; all of them are, if absent."
    )


class Candidate(ToolPart):
    """A step that may come next."""

    label: str
    prob: float


class ProposeNextResult(ToolResult):
    """The likeliest task and next steps, likeliest first."""

    task: str
    task_prob: float
    last: str
    candidates: tuple[Candidate, ...]

    def findings(self, arguments: ProposeNextArguments) -> tuple[Finding, ...]:
        """The task, the step that the others follow, and these."""
        options = (Finding(kind="option", label=one.label, score=one.prob) for one in self.candidates)
        task = Finding(kind="task", label=self.task, score=self.task_prob)
        return (task, Finding(kind="after", label=self.last), *options)


def propose_next(arguments: ProposeNextArguments, context: ToolContext) -> ProposeNextResult:
    """Next steps by their probability.

    Raises:
        ToolError: no training annotations were given, or none of the steps to rank was ever seen.
    """
    forecast = _procedure(context).forecast(arguments.history, exclude_uri=context.clip.uri)
    return _result(arguments, forecast)


def propose_after_doubt(arguments: SoftHistoryArguments, context: ToolContext) -> ProposeNextResult:
    """Next steps by their probability, each step of the history taken for as sure as it is.

    Raises:
        ToolError: as for `propose_next`, or there are not as many scores as steps.
    """
    procedure = _procedure(context)
    scores = arguments.scores or (1.0,) * len(arguments.history)
    if len(scores) != len(arguments.history):
        raise ToolError(f"{len(arguments.history)} steps and {len(scores)} scores; give one score for each, or none")
    soft = [SoftLabel(label, score) for label, score in zip(arguments.history, scores, strict=True)]
    return _result(arguments, _filter_of(procedure).forecast(soft, exclude_uri=context.clip.uri))


def _procedure(context: ToolContext) -> ProcedureModel:
    if context.procedure is None:
        raise ToolError("no procedural knowledge: give data.annotations with rows of the train split")
    return context.procedure


@lru_cache(maxsize=2)
def _filter_of(procedure: ProcedureModel) -> BayesHistory:
    return BayesHistory(procedure)


def _result(arguments: ProposeNextArguments, forecast: Forecast) -> ProposeNextResult:
    candidates = [c for c in forecast.candidates if not arguments.among or c.label in arguments.among]
    if not candidates:
        raise ToolError(f"none of {list(arguments.among)} occurs in the training annotations; leave `among` out")
    return ProposeNextResult(
        task=forecast.task,
        task_prob=round(forecast.task_prob, 3),
        last=arguments.history[-1],
        candidates=tuple(Candidate(label=c.label, prob=round(c.prob, 4)) for c in candidates[:MAX_CANDIDATES]),
    )


PROPOSE_NEXT = Tool(
    name="propose_next",
    version="2",
    description="Tell which task the steps so far fit, and which step comes next, with probabilities.",
    Arguments=ProposeNextArguments,
    Result=ProposeNextResult,
    run=propose_next,
    source="annotations",
)
PROPOSE_AFTER_DOUBT = Tool(
    name="propose_next",
    version="bayes-1",
    description="Tell which task the steps so far fit, and which step comes next, with probabilities.",
    Arguments=SoftHistoryArguments,
    Result=ProposeNextResult,
    run=propose_after_doubt,
    source="annotations",
)
