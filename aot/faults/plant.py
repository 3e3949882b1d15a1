"""Plants defects in verified traces, as a messy teacher would make them, so that filters can be measured.

Each planted defect is real: the rationale then says something that the trace does not support, contradicts itself or
has lost its form. The trace's answer and status stay as they were. What was planted is stored where no filter looks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from numpy.random import Generator, default_rng

from aot.records import PlantedFault, Question, Step, Trace
from aot.seeds import draw as hashed

Target = TypeVar("Target")


@dataclass(frozen=True)
class Edits(Generic[Target]):
    """The defects that rationales of one form can have."""

    kinds: Mapping[str, Callable[[Target, Generator], str | None]]
    """Kind of defect to the edit that makes it: a new rationale, or None where it does not apply."""
    target: Callable[[Trace, Question], Target | None]
    """A verified trace, ready to be damaged; None where its rationale has not the form."""
    name: Callable[[Trace], str]
    """What the random numbers of a trace depend on, besides the seed."""


def plant(
    trace: Trace, question: Question, edits: Edits[Target], *, rate: float, seed: int
) -> tuple[Trace, PlantedFault | None]:
    """The trace with one defect in its rationale with probability `rate`, and which one; or the trace unchanged.

    Call it for verified traces. What happens depends on the seed and the name of the trace only.
    """
    rng = rng_of(seed, f"{edits.name(trace)}:fault")
    if rng.random() >= rate or trace.status != "ok" or (target := edits.target(trace, question)) is None:
        return trace, None
    for place in rng.permutation(len(edits.kinds)):
        kind = tuple(edits.kinds)[int(place)]
        rationale = edits.kinds[kind](target, rng)
        if rationale is not None and rationale != trace.rationale:
            fault = PlantedFault(question_id=trace.question_id, sample_index=trace.sample_index, fault=kind)
            return with_rationale(trace, rationale), fault
    return trace, None


def with_rationale(trace: Trace, rationale: str) -> Trace:
    """The trace with another rationale; where its steps are lines of text, with the steps that it then has.

    Otherwise the old steps would give the defect away. Tool calls stay: they are what was really done.
    """
    update: dict[str, object] = {"rationale": rationale}
    if trace.steps and not uses_tools(trace):
        lines = [line for line in rationale.split("\n") if line.strip() and not line.startswith("Answer:")]
        steps = tuple(Step(index=index, text=line) for index, line in enumerate(lines, start=1))
        update |= {"steps": steps, "support": tuple(step.index for step in steps) if trace.support else ()}
    return trace.model_copy(update=update)


def uses_tools(trace: Trace) -> bool:
    """Whether a chain rests on what tools returned."""
    return any(step.call is not None for step in trace.steps)


def rng_of(seed: int, name: str) -> Generator:
    """Random numbers that depend on a seed and a name only."""
    return default_rng(hashed(seed, name))
