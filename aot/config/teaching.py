"""Who writes traces, with which tools, and which of them are kept."""

from typing import Literal

from pydantic import Field

from aot.config.base import Section


class FaultsConfig(Section):
    """Defects planted in verified traces, so that filters can be measured."""

    rate: float = Field(default=0.37, ge=0, le=1)


class TeacherConfig(Section):
    """Who writes traces."""

    planner: Literal["rules", "procedural", "given", "chat"] = "rules"
    """`rules`: the video agent. For text: `procedural` solves a problem by its state, `given` takes the data set's own
    solutions, `chat` asks a chat model."""
    granularity: Literal["auto", "coarse", "fine", "mixed"] = "auto"
    """How small the steps of a text chain are; `auto` follows the size of the student: mixed below 3B parameters (weak
    students want coarser steps, arXiv 2502.18001), fine above."""
    candidates: int = Field(default=3, ge=1)
    """k: plans tried for each question until one verifies."""
    max_calls: int = Field(default=12, ge=1)
    time_limit_s: float = Field(default=60.0, gt=0)
    """For one candidate trace."""
    workers: int = Field(default=2, ge=1)
    appearance: str | None = None
    """JSON file of what objects look like for the pixel tools; None means the drawn kitchen's own."""
    faults: FaultsConfig | None = None


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
    strict_flow: Literal["auto", "on", "off"] = "auto"
    """Whether a text chain must lead from the question to its answer without a gap; `auto` asks it of chains that are
    nothing but equations."""
    flow_constants: tuple[float, ...] = (7, 12, 24, 60, 100)
    """Numbers that a chain may use though nobody gave them."""
    near_duplicate_jaccard: float = Field(default=0.97, ge=0, le=1)
    leak_jaccard: float = Field(default=0.97, ge=0, le=1)
