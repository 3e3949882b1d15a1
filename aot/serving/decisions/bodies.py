"""Bodies of `/v1/decide`: typed questions about one state, and what was decided about each."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from aot.answer_records import AbstainReason
from aot.review_records import ReviewOut
from aot.serving.decisions.questions import MOST_LEVELS, QuestionType
from aot.serving.decisions.systemone import MOST_QUESTIONS
from aot.serving.server.chat_reply import AotOut, ChoiceProb
from aot.serving.server.chat_request import VideoPath

_Text = Annotated[str, Field(max_length=1_000_000)]


class Strict(BaseModel):
    """A part of a body in which a field that nobody knows is a mistake."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class DescribedChoice(Strict):
    """An allowed answer, and what it means."""

    answer: str
    description: str = ""


class ChoiceIn(Strict):
    """One of a closed set."""

    type: Literal["choice"]
    name: str = ""
    text: _Text = ""
    choices: list[str | DescribedChoice] = Field(min_length=1)
    kind: str = Field(default="", max_length=200)


class YesNoIn(Strict):
    """Yes or no."""

    type: Literal["yes_no"]
    name: str = ""
    text: _Text = ""
    yes: str = ""
    """What yes means, where that needs saying."""
    no: str = ""
    kind: str = Field(default="", max_length=200)


class ScoreIn(Strict):
    """A number on a scale, or one of some levels in words, the lowest first."""

    type: Literal["score"]
    name: str = ""
    text: _Text = ""
    low: float = 0
    high: float = 10
    step: float = 1
    levels: list[str] = Field(default=[], max_length=MOST_LEVELS)
    kind: str = Field(default="", max_length=200)


class DecideBody(Strict):
    """Questions about one state."""

    model: str = Field(default="", max_length=500)
    """Empty: the one that is served."""
    state: _Text = ""
    """A text that stands before each question."""
    frames: list[str] = []
    """Data URLs of PNG or JPEG pictures, in the order of their times."""
    times_s: list[Annotated[float, Field(strict=True)]] | None = None
    """Of the frames, ascending; only a single frame needs none."""
    clip: VideoPath | None = None
    """A file under an allowed folder, instead of frames."""
    questions: list[Annotated[ChoiceIn | YesNoIn | ScoreIn, Field(discriminator="type")]] = Field(
        min_length=1, max_length=MOST_QUESTIONS
    )


class DecisionOut(BaseModel):
    """What was decided about one question."""

    name: str
    type: QuestionType
    answer: str | None
    """The likeliest; null where there is a reason for none."""
    probabilities: list[ChoiceProb] = []
    """Calibrated, of every allowed answer in the order of the request; they sum to 1."""
    confidence: float | None = None
    """Of the answer; null for a kind of question that the contract does not name, whose probabilities are the model's
    own."""
    score: float | None = None
    """Of a score: what the levels count, each by its probability."""
    abstained: AbstainReason = ""
    detail: str = ""
    review: ReviewOut | None = None
    """How far the review by a person is; null where none is required."""


class DecideReply(BaseModel):
    """The answers in the order of the questions."""

    id: str
    object: Literal["decision"] = "decision"
    created: int
    model: str
    answers: list[DecisionOut]
    usage: dict[str, Any]
    aot: AotOut
