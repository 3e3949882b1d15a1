"""What a planner is: it sees a question and the steps so far, and says what to do next.

Planners keep no state: the same question, scene, steps and candidate always give the same action, so a trace can be
made again alone. The `rules` planner needs no model; others fit behind the same protocol.
"""

from dataclasses import dataclass
from typing import Protocol

from aot.errors import ParseError
from aot.records import Question, Step, ToolCall


@dataclass(frozen=True)
class FinalAnswer:
    """The plan has come to its end."""

    answer: str
    support: tuple[int, ...]
    """Indices of the steps that the answer rests on."""


@dataclass(frozen=True)
class Scene:
    """What a planner may know before any tool has looked."""

    start_s: float
    end_s: float
    """The visible window of the question, in seconds of the clip."""
    labels: tuple[str, ...]
    """Step labels that the pixel tools can recognise."""
    known_labels: tuple[str, ...]
    """Those, and the labels of the training annotations: what a question may name."""
    objects: tuple[str, ...]
    """Objects that can be detected."""


class Planner(Protocol):
    """Anything that turns questions into tool calls."""

    @property
    def name(self) -> str:
        """Stored with each trace; changes when its plans change."""
        ...

    def next_action(
        self, question: Question, steps: tuple[Step, ...], *, scene: Scene, candidate: int
    ) -> ToolCall | FinalAnswer:
        """The next tool call, or the answer.

        Args:
            question: its gold answer must not be read.
            steps: what was called so far, failed calls included.
            scene: the window and the known names.
            candidate: which of the k plans for this question to follow, from 0.

        Raises:
            ParseError: the question asks for something the planner does not understand.
            ToolError: the steps so far do not give an answer, and there is no other way.
        """
        ...


def named_in(text: str, names: tuple[str, ...], *, what: str) -> str:
    """The longest known name that stands in `text` as whole words.

    Raises:
        ParseError: none does.
    """
    spaced = f" {_words(text)} "
    inside = [name for name in names if f" {_words(name)} " in spaced]
    if not inside:
        known = ", ".join(sorted(names)[:6]) or "none"
        raise ParseError(f"no known {what} in {text!r}; ask about one of: {known}{', ...' if len(names) > 6 else ''}")
    return max(inside, key=lambda name: (len(name), name))


def _words(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())
