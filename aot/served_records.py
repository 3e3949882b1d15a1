"""Records of a student at work: what an exported folder promises, what the student answers, and what was decided.

They stand at the border: plain numbers and text, no arrays. A folder of another major version of the contract is
refused; a newer minor version may have fields that this one does not know.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from aot.records import Interval, JsonDict, MetricRow, PromptMode, Question, Record
from aot.run_records import FileEntry

CONTRACT_VERSION = "1.2"
"""Of the contract, as major.minor: the major number is raised when an old reader would go wrong."""

AskMode = PromptMode | Literal["decide"]
"""`decide` scores the choices and writes nothing; the others write a reply."""


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


GENERAL = "*"
"""The kind of a temperature that holds for every other one."""


class KindTemperature(Record):
    """How the choice probabilities of one kind of question are made honest: softmax(log p / temperature)."""

    kind: str
    """A question kind, or `*` for every other one."""
    temperature: float = Field(gt=0)
    n: int
    """Questions that it was fitted on."""
    mode: AskMode = "decide"
    """Of a written reply, `decide` apart, the probability of the whole reply is made honest: p ** (1 / temperature)."""


def temperature_of(kind: str, temperatures: Sequence[KindTemperature]) -> float:
    """Of a kind of question among those of one mode, or the general one; 1 where there is none."""
    by_kind = {row.kind: row.temperature for row in temperatures}
    return by_kind.get(kind, by_kind.get(GENERAL, 1.0))


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
    """What requests look like as long as the promise holds (aot.serving.cascade.watch)."""

    mode: AskMode
    features: tuple[WatchFeature, ...]
    words: tuple[str, ...]
    """Words of training questions and of their choices, each digit as 0."""


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


class Alarm(Record):
    """What moved, since when, and how sure that is."""

    test: str
    what: str
    """In a sentence."""
    e_value: float
    """Wealth at the alarm; while all is well it is expected to be 1."""
    level: float
    """The probability that this test would ever alarm while all is well."""
    since_s: float | None
    """Estimate of when it began, in seconds since 1970; None without times."""
    found_s: float | None
    """Time of the row at which it was found."""
    row: int
    """Number of that row among those that were read."""
    voids_promise: bool = False
    """Whether it ends what the contract promises of answers above its threshold."""


class Sight(Record):
    """What one look found."""

    looks: int
    read: int
    """Rows in all looks."""
    used: int
    new: int
    """Rows of this look."""
    odd: dict[str, int]
    examples: dict[str, str]
    canaries: int
    canaries_asked: int
    canaries_lost: int
    """Right at export, and wrong when they were last asked."""
    canaries_gained: int
    promised: float | None
    promised_by: str
    wealth: dict[str, float]
    """Of each test, as a log; at an alarm it passed the log of 1/level."""
    alarms: tuple[Alarm, ...]
    advice: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """3 while there is an alarm."""
        return 3 if self.alarms else 0


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
        return temperature_of(kind, [one for one in self.temperatures if one.mode == mode])

    def threshold(
        self, mode: AskMode, *, target: float, loss: Literal["wrong", "disagrees"] = "wrong"
    ) -> CascadeThreshold | None:
        """The row for a mode and a target; None where it was not calibrated for them."""
        rows = (row for row in self.thresholds if row.mode == mode and row.loss == loss)
        return next((row for row in rows if abs(row.target - target) < 1e-9), None)

    def strictest(self, mode: AskMode) -> CascadeThreshold | None:
        """The row of a mode with the least share of wrong answers that could be promised; None where none could."""
        rows = [row for row in self.thresholds if (row.mode, row.loss) == (mode, "wrong") and row.threshold is not None]
        return min(rows, key=lambda row: row.target, default=None)

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


class ServerProof(Record):
    """How far a server replied as the engine of an evaluation does, before it was asked in its place."""

    base_url: str
    model: str
    """As the server names it."""
    arm: str
    modes: tuple[PromptMode, ...]
    replies: int
    """Compared; greedy ones, of the same questions in each mode."""
    same: int
    refused: tuple[str, ...] = ()
    """Reasons of requests without a reply, which count as different."""
    differs: str = ""
    """The first question whose replies differ, with both."""


class ServerProofs(Record):
    """Those of every model that an evaluation asked."""

    proofs: tuple[ServerProof, ...]


class StudentOrigin(Record):
    """Where what a student knows comes from; whoever is answered by it is told so."""

    distilled: bool
    """Whether it learned from rationales of a teacher; else from answers alone, or from nothing."""
    teacher: str
    """Who wrote the rationales; empty where it saw none."""
    data: str
    """The data set, as the run's config names it."""
    questions: int
    """That it was trained on."""
    rationales: int
    """Of the teacher."""


ToolNeed = Literal["", "recipe_book"]
"""What lies in the folder for a tool; empty where its arguments are all that it needs."""


class ServedTool(Record):
    """A tool that a student calls; whoever lets the student answer carries the calls out."""

    name: str
    version: str
    """Of what the tool does: another version may give other results for the same call."""
    definition: JsonDict
    """As the student was told of it: name, description and parameters in OpenAI's function-calling form."""
    needs: ToolNeed = ""
    """`recipe_book`: the cards in book.jsonl, or those of a user."""


class PlanBudget(Record):
    """What one answer with tools may cost; a plan that comes to no end within it has no answer."""

    max_calls: int
    max_turns: int
    time_limit_s: float
    """Of all calls together."""


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
    tools: tuple[ServedTool, ...] = ()
    """Those that it calls in mode `tools`."""
    plan: PlanBudget | None = None
    """None of a student that calls none."""
    talk_hash: str = ""
    """Over what shapes its talks with tools, besides the template of prompts."""
    max_tokens: int
    max_answer_tokens: int
    max_rationale_tokens: int
    thought_confidence: float = 0.7
    """See student.effort."""
    calibration: ServedCalibration | None = None
    latency: tuple[LatencyRow, ...] = ()
    licences: dict[str, str] = Field(default_factory=dict)
    """Of the base, the data and this folder; `unknown` where no file says."""
    limits: tuple[str, ...] = ()
    """Sentences a user should read first."""
    origin: StudentOrigin | None = None
    """None in exports made before version 1.1."""
    proof: ExportProof | None = None
    """None for a folder that was written without one."""
    variants: tuple[VariantRow, ...] = ()
    """Of a student in half precision or quantised, beside itself in float32."""
    review: tuple[str, ...] = ()
    """Kinds of questions whose answers a person has to look at before anybody is told; `*` is every kind."""
    files: tuple[FileEntry, ...] = ()
    """Everything in the folder but the contract itself."""

    def digest(self) -> str:
        """Sixteen hex digits over all that shapes an answer: a changed label set, template or budget changes it."""
        import hashlib

        left_out = {"latency", "licences", "limits", "name", "origin", "proof", "variants"}
        # Without defaults, so that a field which a later minor version adds changes no digest of an earlier export.
        text = self.version + self.model_dump_json(exclude=left_out, exclude_defaults=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def student_digest(self) -> str:
        """The same without what is calibrated: of who answers, whatever its confidence is taken to mean."""
        return self.model_copy(update={"calibration": None, "files": (), "review": ()}).digest()


class Canary(Record):
    """A labelled question whose answer at export is known."""

    question: Question
    answer: str
    """Of the exported student; empty where it had none."""
    right: bool
    confidence: float | None = None
    student_digest: str
    """Of the contract, without its calibration."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Of what decodes clips and calculates, where the answer was made."""


class ChangedAnswer(Record):
    """A question whose answer changed when a name, gender or place in it was swapped."""

    swap: str
    question: str
    swapped: str
    before: str | None
    after: str | None


class Audit(Record):
    """What an audit of an exported student found."""

    student: str
    """As rows call it: its arm."""
    contract_digest: str
    modes: dict[str, str]
    """Who was asked, the earlier first, and how each answered questions of the run."""
    items: dict[str, int]
    """Of each suite, each swap and each split how many were asked."""
    rows: tuple[MetricRow, ...]
    """A suite, `counterfactual pairs` or a split of the run stands as the split of a row."""
    findings: tuple[str, ...] = ()
    """Whose answers follow gender beyond chance, in a sentence each."""
    missing: tuple[str, ...] = ()
    """What could not be measured, and why."""
    refused: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Rows of a suite by reason, and what a student could not be asked."""
    examples: tuple[str, ...] = ()
    """The first refused row of each suite and reason."""
    changed: tuple[ChangedAnswer, ...] = ()
    """The first answers of the student that a swap changed."""

    @property
    def exit_code(self) -> int:
        """3 where rows or items were refused."""
        return 3 if self.refused else 0
