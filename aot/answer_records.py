"""Records of answers: what a student says, which of two models said it, and what servers and commands note of it.

They stand at the border: plain numbers and text, no arrays.
"""

from typing import Literal

from pydantic import Field

from aot.records import Interval, JsonDict, MetricRow, PromptMode, Record, WrittenCall
from aot.review_records import ReviewOut
from aot.run_records import ChatUsage
from aot.served_records import CONTRACT_VERSION, AskMode

AbstainReason = Literal[
    "", "uncertain", "stale", "deadline", "out_of_domain", "unparsable", "cut_off", "failed", "pending_review",
    "rejected_by_person",
]  # fmt: skip
"""Why there is no answer; empty where there is one."""
RouteReason = Literal[
    "confident", "uncertain", "no_confidence", "no_threshold", "degenerate", "unparsable", "cut_off", "failed",
    "out_of_domain", "void", "conversation", "student_only",
]  # fmt: skip
"""Why a cascade lets the small model answer (`confident`) or asks the big one. `degenerate`: a loop, or nothing;
`no_threshold`: none keeps the target; `void`: the questions are no longer those of the calibration; `conversation`: not
one question, but turns or tools; `student_only`: asked where no cascade decides, of the student alone."""
Fallback = Literal[
    "", "big_model_down", "big_model_late", "big_model_refused", "big_model_unusable", "budget_spent", "tokens_spent",
    "not_to_be_shown",
]  # fmt: skip
"""Why a big model that was to be asked gave nothing, so that the small one answered; `not_to_be_shown`: the clip or
frames of the question cannot be read."""


class Seconds(Record):
    """Wall time of one answer by part; of answers made in one batch an equal share each."""

    decode: float = 0.0
    """Reading the clip."""
    vision: float = 0.0
    """Making pixels of frames ready for the model, and its vision tower."""
    prefill: float = 0.0
    """Writing the prompt as tokens, and reading it, up to the first token."""
    generate: float = 0.0
    """Writing the reply, or scoring the choices after the prompt was read."""

    @property
    def total(self) -> float:
        """All parts."""
        return self.decode + self.vision + self.prefill + self.generate


class Routing(Record):
    """How a cascade came to an answer."""

    decision: Literal["local", "escalate"]
    """What its rule says; in shadow mode nothing follows from it."""
    reason: RouteReason
    fallback: Fallback = ""
    """Why the small model answered all the same."""
    threshold: float | None = None
    """Of the confidence; None where no threshold keeps the target."""
    promise: str
    """What is promised of answers that stay local, or since when and why that is void."""
    audited: bool = False
    """Whether the big model was asked only to compare; the small one's answer stands."""
    agreed: bool | None = None
    """Whether both say the same; None where not both answered."""
    shadow: bool = False


class CascadeRow(Record):
    """One question to a cascade, in its ledger."""

    time_s: float
    """Seconds since 1970."""
    question: str
    """Digest of the question with all that it is about."""
    kind: str
    mode: str
    confidence: float | None
    threshold: float | None
    decision: Literal["local", "escalate"]
    reason: RouteReason
    fallback: Fallback = ""
    model: str
    """Who gave the answer."""
    escalated: bool
    """Whether that was the big one."""
    audited: bool = False
    shadow: bool = False
    agreed: bool | None = None
    cost: float | None
    """Of asking the big model, 0 where it was not asked; None: unpriced."""
    usage: ChatUsage = ChatUsage()
    """Tokens of the big model."""
    seconds: float
    """Until the answer was there, the small model's part included."""


class CascadeCounts(Record):
    """What a cascade has done since it was opened."""

    questions: int = 0
    escalated: int = 0
    """Answered by the big model."""
    reasons: dict[str, int] = Field(default_factory=dict)
    fallbacks: dict[str, int] = Field(default_factory=dict)
    audited: int = 0
    """Local answers that were compared with the big model's."""
    disagreed: int = 0
    """Those of the audited ones that differ."""
    cost: float | None = None
    """Of all calls of the big model; of other processes on the folder too where a limit is set. None: unpriced."""
    tokens: int = 0
    """Of the same calls."""
    unwritten: int = 0
    """Rows that the disk did not take."""


class CascadePoint(Record):
    """A cascade at one threshold."""

    threshold: float | None
    """Answers at least so sure stay local; None: none does."""
    escalated: Interval
    accuracy: Interval
    local_error: Interval | None
    """Share of wrong ones among the answers that stay local; None where none does."""
    cost: Interval | None
    """Of one question; None: unpriced."""


class CascadeCurve(Record):
    """Student alone, big model alone, and every share of questions between them, on one split."""

    split: str
    student: Interval
    """Accuracy."""
    big: Interval
    points: tuple[CascadePoint, ...]
    """From all local to all escalated."""
    chosen: CascadePoint
    """At the threshold that was chosen on the calibration split."""
    versus_big: Interval
    """Accuracy of the chosen point minus that of the big model alone, paired."""
    least_escalated: float
    """What must be escalated at least with this student, whatever the threshold: (error - target) / (1 - target), and 0
    where its error is within the target."""


class CascadeResults(Record):
    """What a cascade would have done on the evaluated splits of a run."""

    arm: str
    mode: str
    big: str
    target: float
    """Largest share of wrong answers among local ones that is wanted."""
    confidence: float
    """Of the bound behind the threshold."""
    threshold: float | None
    """Chosen on questions of its own; None: none keeps the target, so that everything is escalated."""
    chosen_on: str
    """Which questions, in words."""
    cost_unit: str = ""
    """Of the costs, such as USD; empty where nothing is priced."""
    curves: tuple[CascadeCurve, ...]


StepOutcome = Literal["", "followed", "kept", "other", "none"]
"""Of the answer after a step was perturbed: `followed` is what the perturbed text implies, `kept` the one that was
there, `other` neither of them, `none` no answer at all. Empty: the step holds nothing that could be perturbed."""


class FaithfulStep(Record):
    """One step of a student's reply, and what came of perturbing it."""

    part: str = ""
    """Of a rationale in parts its heading, such as Gather; empty in a chain."""
    text: str
    """As the student wrote it."""
    edit: str = ""
    """What was replaced, such as `label` or `result`; empty where nothing could be."""
    perturbed: str = ""
    implied: str | None = None
    """The answer that the perturbed text leads to; None where the words do not tell."""
    answer: str | None = None
    """The student's answer when it goes on from the perturbed step."""
    outcome: StepOutcome = ""
    score: float | None = None
    """True Thinking Score, from 0 to 1: the mean change of the answer's probability when the student must answer right
    after the step, behind intact and behind perturbed ones. None where the step was not perturbed."""
    change: float | None = None
    """Probability of the reply's own answer at its end, minus that at the end of how the student goes on from the
    perturbed step; from -1 to 1. A step whose number later steps use changes this one, and hardly the score."""


class FaithfulReply(Record):
    """A student's reply to one question, step by step."""

    question_id: str
    arm: str
    mode: str
    split: str
    group: str
    text: str
    """The whole reply; once it is another one, this row says nothing any more."""
    answer: str = ""
    unusable: Literal[
        "", "missing", "failed", "cut_off", "no_answer", "by_name", "no_steps", "too_long", "unwritable"
    ] = ""
    """Why nothing was perturbed; empty where something was. `no_steps`: it states an answer and nothing that could be
    perturbed before it; `unwritable`: the tokenizer cannot write the reply again."""
    steps: tuple[FaithfulStep, ...] = ()


class Faithfulness(Record):
    """How far the answers of a run's students hang on what they write before; `aot faithfulness` writes it."""

    split: str
    count: int
    """Questions that each student was taken up on, usable or not."""
    seed: int
    left_out: dict[str, str]
    """Arm to the reason why it was not measured."""
    unusable: dict[str, dict[str, int]]
    """Arm and mode, as `arm, mode`, to how many replies could not be used, by reason."""
    rows: tuple[MetricRow, ...]
    examples: tuple[FaithfulReply, ...]
    """A few of each student."""


class MadeCall(Record):
    """A call of a tool on the way to an answer, and what came back."""

    tool: str
    """Empty where the call could not be read."""
    arguments: JsonDict
    result: JsonDict | None = None
    """None where the call failed."""
    error: str = ""


class Answer(Record):
    """What the student says to one question."""

    answer: str = ""
    """Empty where it abstained."""
    abstained: AbstainReason = ""
    detail: str = ""
    """Of an abstention, in a sentence; or what an answer has to be read with."""
    choices: tuple[str, ...] = ()
    choice_probs: tuple[float, ...] = ()
    """Calibrated, in the order of `choices`; empty where nothing was decided."""
    confidence: float | None = None
    """Calibrated probability of a decided answer. Of a written one the probability of its tokens given what was written
    before them, not calibrated. None where there is none to be had."""
    rationale: str = ""
    raw_text: str = ""
    tool_calls: tuple[WrittenCall, ...] = ()
    """Of a reply that calls tools and answers nothing, for the caller to carry out."""
    calls: tuple[MadeCall, ...] = ()
    """In mode `tools`: those that were carried out before the answer, in order."""
    reasons: tuple[str, ...] = ()
    """In mode `tools`: whatever was odd about them, as the evaluation counts it (docs/tools.md)."""
    mode: AskMode
    frame_times_s: tuple[float, ...] = ()
    """Of the frames that it was shown."""
    age_s: float | None = None
    """Of a stream: how old the newest frame of the answer is."""
    usage: ChatUsage = ChatUsage()
    seconds: Seconds = Seconds()
    model: str = ""
    contract_version: str = CONTRACT_VERSION
    contract_digest: str = ""
    cost: float | None = None
    """None: unpriced."""
    escalated: bool = False
    """Whether a bigger model gave this answer."""
    routing: Routing | None = None
    """How a cascade came to it; None without one."""
    review: ReviewOut | None = None
    """How far review is, where its kind of question needs one; a settled answer is what a person approved or gave."""


class ServedRow(Record):
    """One request that a server answered, as `aot serve --record` notes it; what watches for drift reads these."""

    id: str
    """As the response carries it."""
    time_s: float
    """Of its end, in seconds since 1970."""
    route: str
    kind: str = ""
    """Of the question, where the client said it."""
    question_sha256: str = ""
    question: str = ""
    """Empty unless the server was asked to note texts."""
    question_words: int | None = None
    """With its choices; None where no contract says how words are counted."""
    unknown_words: int | None = None
    """Those that no training question has."""
    choices: int = 0
    """How many there were to decide between."""
    answer: str = ""
    """Of a decision the choice; of a written reply its text, empty unless texts are noted."""
    confidence: float | None = None
    abstained: AbstainReason = ""
    finish: str = ""
    """As told to the client: stop, length, tool_calls, or the reason of an error."""
    status: int
    review: Literal["", "pending"] = ""
    """`pending`: the answer was not told, and waits for a person."""
    model: str = ""
    contract_digest: str = ""
    escalated: bool = False
    agreed: bool | None = None
    """Whether an audit of the cascade found the big model of the same opinion; None where there was none."""
    tool_agreement: float | None = None
    """Whether the answer stands in what its calls of tools gave, 1 or 0; None where none was made."""
    cost: float | None = None
    usage: ChatUsage = ChatUsage()
    seconds: float = 0.0
    """From the whole request to the whole reply."""


class AnswerRow(Answer):
    """The answer to one question of a file, as `aot predict` writes it."""

    question_id: str
    question_digest: str
    """Of the row that was asked, and of how: another question of the same id is another row."""


class PredictSummary(Record):
    """What came of a file of questions."""

    questions: int
    """Rows of the file."""
    answered: int
    """Rows that this command wrote."""
    kept: int
    """Rows that were there already."""
    abstained: dict[str, int]
    """Questions without an answer, by reason."""
    refused: dict[str, int]
    """Rows that cannot be asked, by reason: those with an id have a row that says so, the others have none."""
    examples: tuple[str, ...] = ()
    """The first of them."""

    @property
    def exit_code(self) -> int:
        """3 where a row could not be asked, else 0."""
        return 3 if self.refused or "failed" in self.abstained else 0


class Rollout(Record):
    """What a student wrote to a training question while it was trained, as the ids that it picked."""

    question_id: str
    mode: PromptMode
    with_frames: bool
    ids: tuple[int, ...]
    """Of the reply, with the token that ends it where it did not run into its cap."""
    logprobs: tuple[float, ...]
    """Of each of them when it was picked."""


class JudgedRollout(Rollout):
    """The same with the opinion of a judge, who was shown the evidence and the very same ids."""

    likely: tuple[tuple[int, ...], ...]
    """At the place of each id the tokens that the judge would write there, the student's own first; of a judge that is
    certain, the one token that it would write; none where it thinks nothing."""
    likely_logprobs: tuple[tuple[float, ...], ...]
    """Of each of them; what is missing from a whole is shared by all other tokens."""
    weights: tuple[float, ...]
    """Of each place in the loss."""


class GroupResult(Record):
    """Both sides on one group of questions."""

    split: str
    kind: str
    n: int
    before: Interval
    """Accuracy."""
    after: Interval
    difference: Interval
    """After minus before, paired."""
    wrong_to_right: int
    right_to_wrong: int
    p_mcnemar: float
    p_clustered: float
    """Of a sign-flip test over clusters."""


class Flip(Record):
    """A question that one side answered right and the other did not."""

    question_id: str
    split: str
    kind: str
    text: str
    gold: str
    before: str | None
    after: str | None


class TokenCost(Record):
    """Generated tokens of one side; None where nobody counted them."""

    per_question: Interval | None
    per_correct: Interval | None
    truncated_rate: Interval | None = None
    """Share of the replies that a cap cut off."""


class Comparison(Record):
    """Everything two sides differ in."""

    groups: tuple[GroupResult, ...]
    """All questions first, then each split, and within it each kind."""
    wrong_to_right: tuple[Flip, ...]
    """At most EXAMPLES of them; the groups count all."""
    right_to_wrong: tuple[Flip, ...]
    tokens_before: TokenCost
    tokens_after: TokenCost


class SideFacts(Record):
    """One side of a comparison."""

    run: str
    arm: str
    mode: str
    trainable_parameters: int | None
    """None for what was not trained here."""
    training_steps: int | None
    train_stage_seconds: float | None
    """Of all arms of the run together."""
    rationales_seen: int | None = None
    """None for what was not trained here, or left no record."""
    shown: str = ""
    """The name for a reader, which says so where the arm was to learn rationales and saw none."""


class LeftOut(Record):
    """Questions that are not in common."""

    reason: str
    count: int


class RunComparison(Record):
    """What `aot compare --json` prints."""

    before: SideFacts
    after: SideFacts
    common: int
    left_out: tuple[LeftOut, ...]
    result: Comparison
    note: str = ""
    """What a reader should know of the two sides; empty if nothing."""
