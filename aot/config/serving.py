"""How a cascade works: a small model that answers what it is sure of, and a big one that is asked where it is not."""

from typing import Literal, Self

from pydantic import Field, model_validator

from aot.config.base import PathText, Section, Seed, YamlWord
from aot.config.chat import ChatConfig


class ServingConfig(Section):
    """How the students of a run are served, wherever that is: their exports carry it."""

    review: YamlWord[Literal["off", "required"]] = "off"
    """`required`: a server tells nobody an answer before a person has looked at it (docs/review.md)."""
    review_kinds: tuple[str, ...] = ()
    """Kinds of questions that this holds for; empty for every kind."""

    @property
    def kinds_under_review(self) -> tuple[str, ...]:
        """As a contract names them."""
        return () if self.review == "off" else self.review_kinds or ("*",)


class CapsConfig(Section):
    """What asking the big model may cost; its money has a limit of its own, `big.max_cost`."""

    max_tokens: int | None = Field(default=None, ge=1)
    """Of all its calls together, prompts included; None sets no limit."""
    wait_s: float = Field(default=30.0, gt=0)
    """For its answer to one question; after that the small model's stands."""
    rest_s: float = Field(default=30.0, ge=0)
    """For so long nobody asks it after it failed several times in a row; then one question tries."""


class CascadeSection(Section):
    """A cascade of a student and a bigger model."""

    student: PathText | None = None
    """Exported folder of the small model; None takes the one that is served."""
    big: ChatConfig
    """Who is asked where the small model is not sure."""
    target: float | None = Field(default=None, gt=0, lt=1)
    """Largest share of wrong answers among those that stay local; the contract has a threshold for each such target
    that it was calibrated for. None where threshold is set by hand."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """With which the bound behind the threshold holds."""
    loss: Literal["wrong", "disagrees"] = "wrong"
    """What is lost by keeping an answer: that it is wrong, or that the big model says something else."""
    threshold: float | None = Field(default=None, ge=0, le=1)
    """Set by hand, with no promise; None takes that of the contract."""
    on_void: Literal["escalate", "say"] = "escalate"
    """Once the questions are no longer those of the calibration: escalate everything, or only say so."""
    audit: float = Field(default=0.02, ge=0, le=1)
    """Share of local answers that are compared with the big model's."""
    shadow: YamlWord[Literal["off", "small", "big"]] = "off"
    """Ask both, follow no rule and record everything; answers are those of the named one."""
    caps: CapsConfig = CapsConfig()
    folder: PathText | None = "cascade"
    """Where every decision and every call is recorded; None records nothing, and limits end with the process."""
    seed: Seed = 0
    """Of the choice of audited answers."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.big.record is not None or self.big.hedge_after_s is not None:
            raise ValueError("a cascade takes no big.record and no big.hedge_after_s: leave them out")
        if self.target is None and self.threshold is None:
            raise ValueError("target: is needed, such as 0.05; or set threshold by hand, without a promise")
        return self
