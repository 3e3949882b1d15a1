"""Records of a run folder beside the trunk's (aot.records): what a stage notes of its own work for those after it.

In the order of the stages; at the end what commands print as JSON. A record that one room alone writes and reads, such
as a line of a cache, stands with its code.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, PlainSerializer

from aot.records import Interval, JsonDict, MetricRow, Record
from aot.review_records import ReviewTotals


def _rounded(interval: Interval) -> dict[str, float]:
    return {name: round(float(getattr(interval, name)), 6) for name in ("value", "low", "high")}


StoredInterval = Annotated[Interval, PlainSerializer(_rounded)]
"""An interval in a file whose rows say elsewhere how many items it is over."""


class ChatUsage(Record):
    """Tokens of one or more calls, by kind."""

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    """Those of the prompt tokens that the server had already."""
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    """Those of the completion tokens that were thinking."""

    def __add__(self, other: "ChatUsage") -> "ChatUsage":
        """The sum of both."""
        mine, theirs = self.model_dump(), other.model_dump()
        return ChatUsage(**{name: mine[name] + theirs[name] for name in mine})


class GivenRationale(Record):
    """The worked solution that came with a question of a text data set."""

    question_id: str
    text: str


class SpendSummary(Record):
    """What one chat model has cost a run so far."""

    model: str
    calls: int
    """Calls that the server may charge, unusable and repeated ones included."""
    calls_without_usage: int
    """Those for which no tokens were told; they are in no sum."""
    calls_by_purpose: dict[str, int]
    unusable_calls: int
    usage: ChatUsage
    cost: float | None
    """None: unpriced."""
    currency: str
    price_date: str
    busy_s: float
    """Wall time in which any call was in flight."""
    gpu_hours: float | None
    """busy_s on all GPUs of the server; None where their number is not given."""

    def gpu_hours_per_thousand(self, chains: int) -> float | None:
        """GPU-hours for a thousand chains, of which `chains` came to an end; None where they are not known."""
        return None if self.gpu_hours is None or not chains else 1000 * self.gpu_hours / chains


class RecipeCard(Record):
    """One card of a recipe book."""

    name: str = Field(min_length=1)
    steps: tuple[str, ...] = Field(min_length=1)
    """In order, as they stand on the card."""
    questions: tuple[str, ...] = Field(default=(), exclude_if=lambda ids: not ids)
    """Ids of the questions beside which it lies; of all those that have no card of their own where it names none."""


class FailedTraces(Record):
    """Traces without an answer that failed for one reason."""

    boundary: str
    reason: str
    count: int
    training: int
    """Those of the train split among them."""
    example: str
    """The message of the first one, after the id of its question."""


class SettingsRows(Record):
    """How many rows were made under which settings of the chat models."""

    config_digest: str
    """As the rows carry it."""
    rows: int
    answered: int
    """Those among them whose chat model gave a reply."""
    settings: JsonDict = Field(default_factory=dict)
    """How the chat models were asked; empty where only a shard was run so."""


class PieceState(Record):
    """How far a piece of a stage is that works beside others (aot.files.pieces); its file names it."""

    model_config = ConfigDict(extra="ignore")  # earlier versions noted the number of a shard too

    state: Literal["running", "done", "stopped", "failed"]
    done: int = 0
    total: int = 0
    """Of what the piece counts: questions of a shard, steps of a training job."""
    seconds: float = 0.0
    """Since the work began, or began again."""
    updated_s: float = 0.0
    """When this was written, in seconds since the epoch."""
    error: str = ""


class Agreement(Record):
    """How far the samples of a question agree, over questions with at least two readable answers.

    Agreement is the share of a question's answers that say what most of them say. How far it tells right from wrong is
    printed beside it, because a model may be sure and wrong.
    """

    n: int
    """Such questions."""
    mean: StoredInterval
    """Mean share of the answers that say the same as most of them."""
    plurality_right: StoredInterval
    """Share of questions whose most frequent answer is the gold answer; of equally frequent ones the first counts."""
    when_right: float | None
    """Mean agreement where the most frequent answer is right; None where that never happened."""
    when_wrong: float | None


class YieldRow(Record):
    """How many questions of one split and kind got a trace that comes to the gold answer."""

    split: str
    kind: str
    n: int
    pass_at_1: StoredInterval
    pass_at_k: StoredInterval | None
    """None where questions got one attempt only: outside the training split no gold answer may pick among several."""
    attempts: float | None = None
    """Mean attempts at a question; None where every attempt is a row."""
    agreement: Agreement | None = None
    """None where no question has two readable answers."""


class ToolCost(Record):
    """How often a tool was called, and how long it took."""

    tool: str
    calls: int
    failed: int
    mean_ms: float


class ToolAccuracy(Record):
    """One figure about one tool."""

    tool: str
    metric: str
    share: StoredInterval
    """Over the n cases: a share of right ones, or a mean IoU, clustered by clip."""
    n: int
    clips: int


class TeacherStats(Record):
    """The content of teacher.json."""

    planner: str
    questions: int
    candidates: int | None
    """k: attempts at each training question until one verified; None where every attempt is a row."""
    samples: int | None
    """Traces of all questions together; None where each question has one."""
    train_traces: int
    train_failed: int
    """Those of the training traces that came to no answer."""
    train_verified: int
    """Training questions with a trace that comes to the gold answer; the filters keep some of their traces."""
    seconds_per_verified_trace: float | None
    """Worker seconds of all attempts at training questions for each verified one; None where nobody took the time."""
    status: dict[str, int]
    """Traces by status; failed ones by the boundary where they failed."""
    yields: tuple[YieldRow, ...]
    tool_accuracy: tuple[ToolAccuracy, ...] | None = None
    """Of an exam, against annotations; empty where there are none."""
    tool_cost: tuple[ToolCost, ...] | None
    failures: dict[str, int] = Field(default_factory=dict)
    """Failed traces by boundary and reason, where there is one."""
    failed_traces: tuple[FailedTraces, ...] = ()
    """The same with countable reasons for all, and an example of each."""
    prompts: dict[str, str] | None = None
    """Content hash of each prompt file of a chat teacher."""
    model_turns: int | None = None
    """Turns of the teacher's model that the traces of questions keep; None where they have none."""
    model_turns_with_logprobs: int | None = None
    """Those among them that came with log-probabilities, as chat.logprobs asks for."""
    spend: SpendSummary | None = None
    """What the chat model that plans, solves and writes has cost this run."""
    vision_spend: SpendSummary | None = None
    """The same of the chat model that looks, where it is another one."""
    chat_settings: tuple[SettingsRows, ...] = ()
    """The rows by the settings of the chat models that made them; those may be mended between two lives of a run."""
    gpu_hours_per_thousand_chains: float | None = None
    """Of training questions with a verified trace; None where `chat.gpus` is not given."""

    def as_json(self) -> str:
        """The file, without what this run has no figure for."""
        left_out: dict[str, Any] = {name: True for name in _OPTIONAL if getattr(self, name) is None}
        of_rows = {name for name in ("attempts", "agreement") if all(getattr(row, name) is None for row in self.yields)}
        return self.model_dump_json(indent=1, exclude={**left_out, "yields": {"__all__": of_rows}})


_OPTIONAL = (
    "candidates", "samples", "seconds_per_verified_trace", "tool_accuracy", "tool_cost", "prompts", "vision_spend",
    "model_turns", "model_turns_with_logprobs",
)  # fmt: skip


class PlantedFault(Record):
    """A defect put into a trace on purpose; stored apart, where no filter can see it."""

    question_id: str
    sample_index: int
    fault: str


class FilterCount(Record):
    """What one filter dropped for one reason."""

    filter: str
    reason: str
    first: int
    """Traces for which this was the first problem; these sum to the dropped traces."""
    any: int
    """Traces for which this was a problem at all."""


class FaultScore(Record):
    """How well one kind of planted defect was caught."""

    fault: str
    planted: int
    caught: int
    recall: float
    precision: float | None
    """Among verified traces dropped for a first reason that caught this kind: the share with any planted defect.
    None when none was caught."""
    caught_by: dict[str, int]
    """`filter.reason` to the number of this kind that it caught first."""


class FaultTotals(Record):
    """Planted defects of all kinds together; precision and recall are None when there is nothing to divide by."""

    planted: int
    caught: int
    dropped_verified: int
    """Verified traces that filters dropped, defect or not."""
    precision: float | None
    recall: float | None
    kinds: tuple[FaultScore, ...]


class Share(Record):
    """A count out of n with Wilson's 95% interval."""

    count: int
    n: int
    value: float | None
    """None when n is 0."""
    low: float
    high: float


class ShuffleTotals(Record):
    """What became of answers when the options stood in another order."""

    checked: int
    """Traces that were tried again at least once."""
    changed: int
    lucky: float
    """How many of the checked ones would have passed, had each answer been drawn at random: the sum of 1/m^c over m
    options and c checks."""


class JudgedFault(Record):
    """How often the judge dropped traces with one kind of planted defect, and how often it named that kind."""

    fault: str
    recall: Share
    named: Share
    """Of those dropped: the share for which the defect was called by its name."""


class JudgeTotals(Record):
    """What the judge did, and how well on planted defects."""

    judged: int
    dropped: int
    failed: int
    """Asked about, without a usable reply: these are kept by nobody's word."""
    not_asked: int
    """Traces without a right answer, which are dropped anyway."""
    precision: Share | None
    """Of the traces that the judge dropped: the share with a planted defect. None when nothing was planted."""
    recall: Share | None
    kinds: tuple[JudgedFault, ...]


class Funnel(Record):
    """How many traces came in, why some left, and what is kept."""

    traces: int
    verified: int
    """Traces with status ok and the right answer."""
    natural_failures: int
    """The others."""
    kept: int
    dropped: int
    by_filter: dict[str, int]
    """Traces that each filter drops, alone or with others, in filter order."""
    reasons: tuple[FilterCount, ...]
    faults: FaultTotals | None = None
    """Of the filters without the judge; None when nothing was planted."""
    shuffle: ShuffleTotals | None = None
    """None when no trace was tried with its options in another order."""
    judge: JudgeTotals | None = None
    """None when no judge was asked."""
    review: ReviewTotals | None = Field(default=None, exclude_if=lambda totals: totals is None)
    """What people's verdicts did; left out of a file where nobody gave any."""


class OfferedTool(Record):
    """A tool that a student may call, as models are told of it in OpenAI's function-calling format."""

    type: Literal["function"] = "function"
    function: JsonDict
    """Name, description and parameters."""


class Accuracy(Record):
    """What a student reached on a split; reported, never used to decide anything."""

    split: str
    accuracy: float
    low: float
    high: float
    """95% interval."""
    n: int
    truncated_rate: float | None = None
    """Share of its replies that the cap cut off; None in rounds of before this was counted."""

    @property
    def interval(self) -> Interval:
        """The accuracy with its interval; the number of clusters is unknown and taken as that of questions."""
        return Interval(value=self.accuracy, low=self.low, high=self.high, n=self.n, num_clusters=self.n)


class Round(Accuracy):
    """What one round of an arm that writes its own chains had, brought, and reached.

    The last row of rounds.json may be of the final student, from which nothing was sampled.
    """

    round: int
    teacher_chains: int
    own_chains: int
    """Those the student of this round was trained on."""
    sampled: int
    new_chains: int
    """Questions that this round's samples gave a chain for the first time."""


class FileEntry(Record):
    """One file of a folder whose files are checked before they are used: a checkpoint, a trained arm, an export."""

    name: str
    """Path relative to the folder."""
    size: int
    sha256: str


class Baselines(Record):
    """Every number of the label-only baselines, and what they were counted from."""

    dataset: str
    questions: dict[str, int]
    """Usable questions of each split."""
    annotated_clips: dict[str, int]
    """Clips of each split whose steps are known."""
    refused: dict[str, int]
    """Unusable rows by reason."""
    notes: tuple[str, ...]
    rows: tuple[MetricRow, ...]


class Scores(Record):
    """Every number of somebody's predictions, and what was wrong with their rows."""

    dataset: str
    questions: dict[str, int]
    """Questions of each split that is scored."""
    predictions: int
    """Rows that were read."""
    problems: dict[str, int]
    """Prediction rows by what is wrong: `missing` (counts as wrong), `doubled` (the first counts), `unknown`, or why
    one cannot be read."""
    refused: dict[str, int]
    """Rows of the annotation files that make no question, by reason."""
    notes: tuple[str, ...]
    rows: tuple[MetricRow, ...]

    @property
    def exit_code(self) -> int:
        """3 where anything was missing, doubled, unknown or refused, else 0."""
        return 3 if self.problems or self.refused else 0


class JobFacts(Record):
    """One job of the train stage, for people and for scripts that start jobs."""

    name: str
    """What `aot train CONFIG --job` takes."""
    state: Literal["waits", "ready", "running", "stopped", "failed", "done", "not_needed"]
    needs: tuple[str, ...]
    """Jobs that must be done before."""
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    """Both as paths within the run folder."""
    steps: int
    """Optimiser steps it takes."""
    error: str = ""
