"""What a family of problems is: it draws a state, asks about it, and solves it step by step.

A state is a record that is stored with its question, so a chain can be written again alone. Nothing here knows a data
set, a split or a model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from numpy.random import Generator

from aot.records import AnswerType, Record

Granularity = Literal["coarse", "fine"]
PHRASINGS = 2
"""Each family words its chains in so many ways."""


class State(Record):
    """What a problem was drawn from; families add their own fields."""

    family: str
    category: str
    steps: int
    """Operations, or relations, that lead to the answer."""
    extra: str = ""
    """A clause that has nothing to do with the question; empty in most problems."""


@dataclass(frozen=True)
class Scope:
    """What problems may be made of."""

    names: Sequence[str]
    things: Sequence[str]
    low: int = 2
    high: int = 49
    """Amounts lie between these two."""
    most: int = 99
    """No running total is above this, or below 0."""


@dataclass(frozen=True)
class Family:
    """How to draw, ask and solve one kind of problem."""

    name: str
    answer_type: AnswerType
    max_steps: int
    """Of problems in distribution."""
    state_type: type[State]
    make: Callable[[Generator, int, Scope], Any]
    """A new state with so many steps."""
    ask: Callable[[Any], str]
    """The question."""
    solve: Callable[[Any, Granularity, int], tuple[str, ...]]
    """The lines of a chain at a granularity, in one of the phrasings; without the answer line."""
    answer: Callable[[Any], str]
    """The final answer."""
    renumber: Callable[[Any, Generator, Scope], Any] | None = None
    """The same problem with other numbers of the same size."""
    reorder: Callable[[Any, Generator], Any] | None = None
    """The same problem told in another order; None where order cannot change."""


def pick(rng: Generator, options: Sequence[str]) -> str:
    """One of `options`."""
    return options[int(rng.integers(len(options)))]


def pick_some(rng: Generator, options: Sequence[str], count: int) -> list[str]:
    """Different ones of `options`, in random order."""
    return [options[int(i)] for i in rng.permutation(len(options))[:count]]
