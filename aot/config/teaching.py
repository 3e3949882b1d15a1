"""Who writes traces, with which tools, and which of them are kept."""

from typing import ClassVar, Literal

from pydantic import Field

from aot.config.base import HubModel, Kinds, PathText, Section, YamlWord


class FaultsConfig(Section):
    """Defects planted in verified traces, so that filters can be measured."""

    rate: float = Field(default=0.37, ge=0, le=1)


class ToolsConfig(Section):
    """What stands behind each tool of the video agent; `off` does not offer it."""

    detect_objects: YamlWord[Literal["pixels", "hf", "off"]] = "pixels"
    find_moments: YamlWord[Literal["pixels", "hf", "chat", "off"]] = "pixels"
    recognise_action: YamlWord[Literal["pixels", "chat", "off"]] = "pixels"
    pixel_tools: bool = True
    """Whether the tools that only the pixel tools can do (list_steps, count_events, read_order) are offered."""
    propose_next: Literal["counts", "bayes"] = "counts"
    """How what comes next is told from the steps so far: `counts` takes them as they were recognised, `bayes` each for
    as sure as it is."""

    def behind(self, source: str) -> tuple[str, ...]:
        """Names of the tools that use `source`."""
        return tuple(name for name, value in self.model_dump().items() if value == source)


class ChatToolsConfig(ToolsConfig):
    """And behind those that the rules call never."""

    ask: YamlWord[Literal["chat", "off"]] = "off"
    caption: YamlWord[Literal["chat", "off"]] = "off"
    subtitles: YamlWord[Literal["file", "off"]] = "off"
    """Searches the .srt or .vtt file beside the clip."""


class TextToolsConfig(Section):
    """What works on the chains of a text teacher."""

    calculator: YamlWord[Literal["on", "off"]] = "off"
    """`on` makes a call of each equation that holds, with its result; of a given solution by its calculator notes."""


class HfConfig(Section):
    """Zero-shot models of the transformers library behind tools."""

    detector: PathText | None = None
    """Folder or hub name of an OWLv2 or Grounding DINO model."""
    detector_hub: HubModel | None = None
    """Where `aot prefetch` gets the folder `detector` from."""
    similarity: PathText | None = None
    """Folder or hub name of a SigLIP or CLIP model, for finding moments."""
    similarity_hub: HubModel | None = None
    """Where `aot prefetch` gets the folder `similarity` from."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_frames: int = Field(default=8, ge=1, le=10_000)
    max_frames: int = Field(default=64, ge=1)
    """Frames of one call at most, evenly spaced."""


BUILT_IN_PROMPTS = ("built-in", "bare")
"""Prompt files of the chat teacher of text that come with the package."""
ChainSteps = Literal["auto", "coarse", "fine", "mixed"]
"""How small the steps of a text chain are; `auto` follows the size of the student: mixed below 3B parameters (weak
students want coarser steps, arXiv 2502.18001), fine above."""


class AnyTeacher(Section):
    """Who writes traces, and how the work is shared out."""

    planner: str
    workers: int = Field(default=2, ge=1, le=1000)
    engine: Literal["processes", "ray"] = "processes"
    ray_address: str | None = None
    """Address of a Ray cluster; None starts one on this machine."""
    gpus_per_worker: float = Field(default=0.0, ge=0)
    """Share of a GPU that each Ray worker asks for."""
    faults: FaultsConfig | None = None
    unanswered: Literal["ask_again", "refuse"] = "ask_again"
    """What becomes of questions that a chat model did not answer, and traces that it did not judge, for a reason that
    passes (no quota left, time-outs, a parameter that is not taken, a server that is down or says nothing readable):
    `ask_again` ends the stage with exit code 4, and the same command asks them again; `refuse` counts questions as
    refused, if others were answered after them, and keeps such traces."""
    max_failed_share: float = Field(default=0.8, ge=0, le=1)
    """If more than this share of the training traces came to no answer, the run stops after generate (exit code 4) and
    says why they failed: tools, prompts or model do not fit the data then. 1 goes on whatever failed."""


class TryingTeacher(AnyTeacher):
    """One that can try a question in several ways."""

    candidates: int = Field(default=3, ge=1, le=1000)
    """k: plans tried for each question until one verifies; a chat teacher of text writes all k."""
    shuffle_checks: int = Field(default=0, ge=0, le=1000)
    """So many times a verified answer to a multiple-choice training question is tried again with its options in another
    order, by the agent or a chat teacher of text; the filter `option_shuffle` drops traces whose answer changes."""


class ClipTeacher(TryingTeacher):
    """The video agent."""

    rationale: Literal["template", "chat"] = "template"
    """Who turns the trace into prose."""
    max_turns: int = Field(default=8, ge=1)
    """Turns of the planner; the rules make one call in each."""
    max_calls: int = Field(default=12, ge=1)
    time_limit_s: float = Field(default=60.0, gt=0)
    """For one candidate trace."""
    tools: ToolsConfig = ToolsConfig()
    hf: HfConfig = HfConfig()
    appearance: PathText | None = None
    """JSON file of what objects look like for the pixel tools; None means the synthetic kitchen's own."""
    granularity: ClassVar[ChainSteps] = "auto"


class RulesTeacher(ClipTeacher):
    """Plans by rules."""

    planner: Literal["rules"] = "rules"


class PlanningTeacher(ClipTeacher):
    """A chat model plans tool calls."""

    planner: Literal["chat"]
    tools: ChatToolsConfig = ChatToolsConfig()


class ProcedureTeacher(AnyTeacher):
    """Solves a text problem by its state."""

    planner: Literal["procedural"]
    granularity: ChainSteps = "auto"
    tools: TextToolsConfig = TextToolsConfig()
    candidates: ClassVar[int] = 1
    shuffle_checks: ClassVar[int] = 0


class GivenTeacher(AnyTeacher):
    """Takes the solutions that come with a text data set."""

    planner: Literal["given"]
    granularity: ChainSteps = "fine"
    """`fine` takes them as they come; `coarse` their equations alone, one a line, and where these do not pass the
    filters the whole solution; `mixed` half of each."""
    tools: TextToolsConfig = TextToolsConfig()
    candidates: ClassVar[int] = 1
    shuffle_checks: ClassVar[int] = 0


class SolvingTeacher(TryingTeacher):
    """A chat model solves text problems."""

    planner: Literal["chat"]
    granularity: ChainSteps = "auto"
    order: Literal["pre", "post"] = "pre"
    """Whether it thinks first or answers first; picks its prompt file."""
    prompts: PathText = "built-in"
    """Prompt files: `built-in`; `bare`, which only asks the question, for a model that was trained on it; or a folder
    with files of your own (docs/chat.md)."""
    tools: TextToolsConfig = TextToolsConfig()
    structured: YamlWord[Literal["auto", "off"]] = "auto"
    """Whether it asks for replies of a fixed form (JSON schema); `auto` stops asking a server that refuses it."""


VideoTeacher = RulesTeacher | PlanningTeacher
TextTeacher = ProcedureTeacher | GivenTeacher | SolvingTeacher
TeacherConfig = VideoTeacher | TextTeacher
BY_PLANNER = Kinds("planner", default="rules")


class FilterConfig(Section):
    """Thresholds of the filters."""

    min_words: int = Field(default=8, ge=0)
    max_words: int = Field(default=400, gt=0)
    min_ngram_novelty: float = Field(default=0.5, ge=0, le=1)
    """Share of distinct 4-grams in the rationale."""
    min_word_ratio: float = Field(default=0.8, ge=0, le=1)
    """Share of tokens that look like words, numbers or marks of the working language."""
    time_tolerance_s: float = Field(default=0.11, ge=0)
    """A cited time may differ this much from one a tool returned (rounding to one decimal)."""
    strict_flow: YamlWord[Literal["auto", "on", "off"]] = "auto"
    """Whether a text chain must lead from the question to its answer without a gap; `auto` asks it of chains that are
    nothing but equations."""
    flow_constants: tuple[float, ...] = (7, 12, 24, 60, 100)
    """Numbers that a chain may use though nobody gave them."""
    judge: bool = False
    """Whether a chat model reads each trace and names its faults (`judge_chat`, else `chat`)."""
    near_duplicate_jaccard: float = Field(default=0.97, ge=0, le=1)
    leak_jaccard: float = Field(default=0.97, ge=0, le=1)
    min_kept: int = Field(default=8, ge=0)
    """If fewer training traces are kept, the run stops before it trains (exit code 4) and says why they were dropped.
    From fewer than these nobody learns to reason; a real job wants hundreds. 0 goes on with none, for arms that learn
    answers only."""
