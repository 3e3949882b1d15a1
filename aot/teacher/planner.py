"""What a planner is: it starts a plan for a question, and the plan says turn by turn which tools to call.

The same question, scene, candidate and steps always give the same calls (a chat model's replies are stored), so a trace
can be made again alone. The `rules` planner needs no model, the `chat` planner asks one.
"""

from dataclasses import dataclass, field
from typing import Literal, Protocol

from aot.chat.messages import ChatReply
from aot.errors import ParseError
from aot.records import Question, Step, ToolCall, Turn, TurnPurpose
from aot.run_records import ChatUsage


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
    book: Literal["there", "none"] = "none"
    """Whether recipe cards can be looked up."""
    weighs_scores: bool = False
    """Whether what proposes the next step takes how sure each step so far is."""


@dataclass(frozen=True)
class BadCall:
    """A call that a model wrote in a form that no tool takes: it becomes a failed step."""

    tool: str
    written: str
    problem: str


@dataclass(frozen=True)
class Calls:
    """The calls of one turn, at least one; they may be carried out at the same time."""

    calls: tuple[ToolCall | BadCall, ...]


@dataclass
class Transcript:
    """What a chat model said for one trace, what it was told, and what that cost."""

    turns: list[Turn] = field(default_factory=list)
    calls: int = 0
    usage: ChatUsage = field(default_factory=ChatUsage)
    is_known: bool = True
    """False when the server left out the tokens of a call."""

    def hear(self, reply: ChatReply, purpose: TurnPurpose) -> None:
        """Note a reply, before anybody judges it."""
        self.turns.append(reply.turn(purpose))
        self.calls += 1
        self.usage += reply.usage or ChatUsage()
        self.is_known = self.is_known and reply.usage is not None


class Plan(Protocol):
    """The way to one answer."""

    @property
    def transcript(self) -> Transcript:
        """What was said so far, and its cost; the writer of the rationale goes on in it."""
        ...

    def next(self, steps: tuple[Step, ...]) -> Calls | FinalAnswer:
        """The next turn of calls, or the answer.

        Args:
            steps: everything that was called so far, one step for each call in order, failed calls included.

        Raises:
            ParseError: the question asks for something the planner does not understand, or a model wrote what no tool
                and no answer takes.
            ToolError: the steps so far do not give an answer, and there is no other way.
            ChatError: a chat model gave no reply.
        """
        ...


class Planner(Protocol):
    """Anything that turns questions into tool calls; many threads may start plans at once."""

    @property
    def name(self) -> str:
        """Stored with each trace; changes when its plans change."""
        ...

    def start(self, question: Question, *, scene: Scene, candidate: int) -> Plan:
        """A plan for a question; its gold answer must not be read.

        Args:
            question: what is asked.
            scene: the window and the known names.
            candidate: which of the k plans for this question to follow, from 0.
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
        examples = ", ".join(sorted(names)[:6]) or "none"
        raise ParseError(
            f"no known {what} in {text!r}; ask about one of: {examples}{', ...' if len(names) > 6 else ''}"
        )
    return max(inside, key=lambda name: (len(name), name))


def _words(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())
