"""Records of a student at work: what an exported folder promises, what the student answers, and what was decided.

They stand at the border: plain numbers and text, no arrays. A folder of another major version of the contract is
refused; a newer minor version may have fields that this one does not know.
"""

from typing import Literal

from pydantic import Field

from aot.records import Interval, PromptMode, Record, WrittenCall
from aot.run_records import ChatUsage

CONTRACT_VERSION = "1.0"
"""Of the contract, as major.minor: the major number is raised when an old reader would go wrong."""

AskMode = PromptMode | Literal["decide"]
"""`decide` scores the choices and writes nothing; the others write a reply."""
AbstainReason = Literal["", "uncertain", "stale", "deadline", "out_of_domain", "unparsable", "cut_off", "failed"]
"""Why there is no answer; empty where there is one."""


RouteReason = Literal[
    "confident", "uncertain", "no_confidence", "no_threshold", "degenerate", "unparsable", "cut_off", "failed",
    "out_of_domain", "void", "conversation",
]  # fmt: skip
"""Why a cascade lets the small model answer (`confident`) or asks the big one. `degenerate`: a loop, or nothing;
`no_threshold`: none keeps the target; `void`: the questions are no longer those of the calibration; `conversation`: not
one question, but turns or tools."""
Fallback = Literal[
    "", "big_model_down", "big_model_late", "big_model_refused", "big_model_unusable", "budget_spent", "tokens_spent",
    "not_to_be_shown",
]  # fmt: skip
"""Why a big model that was to be asked gave nothing, so that the small one answered; `not_to_be_shown`: the clip or
frames of the question cannot be read."""


class FileHash(Record):
    """One file of an exported folder."""

    name: str
    """Path relative to the folder."""
    size: int
    sha256: str


class FrameRule(Record):
    """How a clip becomes the frames of a prompt: as in training."""

    num_frames: int
    """At most; those nearest to the midpoints of so many equal slices of the window."""
    stored_fps: float
    """Frames are first taken so often in each second, then chosen from."""
    max_side_px: int
    """Frames are scaled down to this longest side."""
    max_stored_frames: int = 512
    """A clip that would give more is sampled evenly instead."""


class KindTemperature(Record):
    """How the choice probabilities of one kind of question are made honest: softmax(log p / temperature)."""

    kind: str
    """A question kind, or `*` for every other one."""
    temperature: float = Field(gt=0)
    n: int
    """Questions that it was fitted on."""
    mode: AskMode = "decide"
    """Of a written reply, `decide` apart, the probability of the whole reply is made honest: p ** (1 / temperature)."""


class CascadeThreshold(Record):
    """How sure the student must be for its answer to stay, and what is promised of the answers that stay."""

    mode: AskMode
    loss: Literal["wrong", "disagrees"]
    """An answer that stays costs 1 where it is not the gold answer, or is not what the big model answers; else 0."""
    target: float = Field(gt=0, lt=1)
    """Of the answers that stay at most this share is to be lost."""
    confidence: float = Field(gt=0, lt=1)
    """Probability, over calibration data, that the promise holds."""
    threshold: float | None
    """Answers with at least this calibrated confidence stay; None where nothing can be promised: all are escalated."""
    n: int
    """Calibration questions that the bound rests on, one of each group."""
    kept: int
    """Those that stay at the threshold; where there is none, at the one that was tried."""
    errors: int
    """Lost among the kept."""
    upper: float
    """Upper bound on the share that is lost among answers that stay (Clopper and Pearson), at `confidence`."""
    base_risk: float
    """Share of the n that would be lost if every answer stayed; without an answer counts as lost."""
    must_escalate: float
    """Least share that any threshold must escalate for the target: (base_risk - target) / (1 - target), at least 0."""
    missing: int = 0
    """Where there is no threshold: so many more calibration questions, at least, may bring one; 0: more do not help."""

    @property
    def share_kept(self) -> float:
        """Of the calibration questions."""
        return self.kept / self.n if self.n and self.threshold is not None else 0.0


class ReliabilityRow(Record):
    """Answers whose calibrated confidence lies in one tenth of [0, 1]."""

    n: int
    confidence: float
    """Their mean."""
    right: float
    """Share of right answers."""


class ModeCalibration(Record):
    """What the temperatures did in one mode, measured on questions that they were not fitted on."""

    mode: AskMode
    n: int
    ece_before: float
    ece_after: float
    brier_before: float
    brier_after: float
    bins_before: tuple[ReliabilityRow, ...]
    bins_after: tuple[ReliabilityRow, ...]


class WatchFeature(Record):
    """How one measured feature of requests is spread over the calibration questions."""

    name: str
    edges: tuple[float, ...]
    """Ascending; a value belongs to the bin of as many edges as lie below it."""
    counts: tuple[int, ...]
    """Calibration questions in each bin; one more than edges."""


class WatchBaseline(Record):
    """What requests look like as long as the promise holds (aot.serving.watch)."""

    mode: AskMode
    features: tuple[WatchFeature, ...]
    words: tuple[str, ...]
    """Words of training questions and of their choices, digits as #."""


class WatchRun(Record):
    """Bets against one feature that began at one request: log of the wealth of each way to bet."""

    started: int
    logs: tuple[float, ...]


class WatchState(Record):
    """How far a watch has come; enough to go on in another process."""

    observed: int = 0
    counts: tuple[tuple[int, ...], ...] = ()
    """Requests in each bin of each feature."""
    runs: tuple[tuple[WatchRun, ...], ...] = ()
    void_at: int | None = None
    """Number of the request at which the promise ended; None while it holds."""
    void_by: str = ""
    """The feature that ended it."""


class ServedCalibration(Record):
    """Temperatures, thresholds and the data they come from."""

    temperatures: tuple[KindTemperature, ...]
    source: str
    """Which questions, in words."""
    questions_digest: str
    n: int
    ece_before: float
    ece_after: float
    brier_before: float
    brier_after: float
    """These four are means over the modes, by their questions."""
    modes: tuple[ModeCalibration, ...] = ()
    thresholds: tuple[CascadeThreshold, ...] = ()
    watches: tuple[WatchBaseline, ...] = ()
    """One for each mode."""

    def temperature(self, kind: str, mode: AskMode = "decide") -> float:
        """Of a kind of question, or of every other one; 1 where nothing was fitted."""
        by_kind = {one.kind: one.temperature for one in self.temperatures if one.mode == mode}
        return by_kind.get(kind, by_kind.get("*", 1.0))

    def threshold(
        self, mode: AskMode, *, target: float, loss: Literal["wrong", "disagrees"] = "wrong"
    ) -> CascadeThreshold | None:
        """The row for a mode and a target; None where it was not calibrated for them."""
        rows = (row for row in self.thresholds if row.mode == mode and row.loss == loss)
        return next((row for row in rows if abs(row.target - target) < 1e-9), None)

    def watch(self, mode: AskMode) -> WatchBaseline | None:
        """What requests in a mode look like while the promise holds; None where it was not calibrated."""
        return next((one for one in self.watches if one.mode == mode), None)


class LatencyRow(Record):
    """How long one answer takes in one mode, measured at export."""

    mode: str
    p50_s: float
    p95_s: float
    p99_s: float
    n: int
    machine: str


class ExportProof(Record):
    """How a fresh process that had nothing but the folder answered, beside the student in the run."""

    questions: int
    replies: int
    """Greedy ones, over all modes."""
    same_replies: int
    decided: int
    """Questions whose choices were scored."""
    largest_gap: float
    """Between two probabilities of one choice, or of one way to begin a reply."""
    largest_token_gap: float
    """Between two probabilities of one written token."""
    cast_same_replies: int | None = None
    """Of the stored weights, cast or quantised, beside those of the run in float32; None where they are those."""
    cast_same_answers: int | None = None
    cast_largest_gap: float | None = None


class VariantRow(Record):
    """One form of a student's weights, measured on the run's own test questions."""

    variant: str
    """Such as float32 or int8."""
    mode: str
    size_bytes: int
    """Of the weight files."""
    seconds: float
    """For one answer in a batch."""
    accuracy: Interval
    ece: Interval | None = None
    """Expected calibration error of choice probabilities; None where nothing was decided."""


class StudentContract(Record):
    """What an exported student was trained to be shown, what it can do, and what it is made of."""

    version: str = CONTRACT_VERSION
    name: str
    """As servers and answers name it."""
    arm: str
    base: str
    """As the run's config names it."""
    base_digest: str
    adapter_digest: str = ""
    """Of the weights that the arm learned; empty for the untrained base."""
    config_digest: str
    model_type: str
    dtype: Literal["float32", "bfloat16", "float16"]
    quantised: Literal["", "int8", "int4"] = ""
    vision_quantised: bool = False
    """Whether layers outside the language model are quantised too."""
    template_hash: str
    template_date: str = ""
    think_tags: Literal["auto", "none"] = "auto"
    frames: FrameRule | None = None
    """None for a student that is shown no frames."""
    labels: tuple[str, ...] = ()
    """The closed set of answers, where the training questions have one."""
    kinds: tuple[str, ...]
    """Kinds of questions that it was trained on: its domain."""
    modes: tuple[PromptMode, ...]
    """How it was taught to answer; the first is the default of open questions."""
    max_tokens: int
    max_answer_tokens: int
    max_rationale_tokens: int
    thought_confidence: float = 0.7
    calibration: ServedCalibration | None = None
    latency: tuple[LatencyRow, ...] = ()
    licences: dict[str, str] = Field(default_factory=dict)
    """Of the base, the data and this folder; `unknown` where no file says."""
    limits: tuple[str, ...] = ()
    """Sentences a user should read first."""
    proof: ExportProof | None = None
    """None for a folder that was written without one."""
    variants: tuple[VariantRow, ...] = ()
    """Of a student in half precision or quantised, beside itself in float32."""
    files: tuple[FileHash, ...] = ()
    """Everything in the folder but the contract itself."""

    def digest(self) -> str:
        """Sixteen hex digits over all that shapes an answer: a changed label set, template or budget changes it."""
        import hashlib

        left_out = {"latency", "licences", "limits", "name", "proof", "variants"}
        # Without defaults, so that a field which a later minor version adds changes no digest of an earlier export.
        text = self.version + self.model_dump_json(exclude=left_out, exclude_defaults=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


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
    choices: int = 0
    """How many there were to decide between."""
    answer: str = ""
    """Of a decision the choice; of a written reply its text, empty unless texts are noted."""
    confidence: float | None = None
    abstained: AbstainReason = ""
    finish: str = ""
    """As told to the client: stop, length, tool_calls, or the reason of an error."""
    status: int
    model: str = ""
    contract_digest: str = ""
    escalated: bool = False
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
