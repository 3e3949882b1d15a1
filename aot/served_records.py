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


class KindTemperature(Record):
    """How the choice probabilities of one kind of question are made honest: softmax(log p / temperature)."""

    kind: str
    """A question kind, or `*` for every other one."""
    temperature: float = Field(gt=0)
    n: int
    """Questions that it was fitted on."""


class ServedCalibration(Record):
    """Temperatures and the data they come from."""

    temperatures: tuple[KindTemperature, ...]
    source: str
    """Which questions, in words."""
    questions_digest: str
    n: int
    ece_before: float
    ece_after: float
    brier_before: float
    brier_after: float

    def temperature(self, kind: str) -> float:
        """Of a kind of question, or of every other one; 1 where nothing was fitted."""
        by_kind = {one.kind: one.temperature for one in self.temperatures}
        return by_kind.get(kind, by_kind.get("*", 1.0))


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
    """Making pixels of frames ready for the model."""
    prefill: float = 0.0
    """Reading the prompt, images included, up to the first token."""
    generate: float = 0.0

    @property
    def total(self) -> float:
        """All parts."""
        return self.decode + self.vision + self.prefill + self.generate


class Answer(Record):
    """What the student says to one question."""

    answer: str = ""
    """Empty where it abstained."""
    abstained: AbstainReason = ""
    detail: str = ""
    """Of an abstention, in a sentence."""
    choices: tuple[str, ...] = ()
    choice_probs: tuple[float, ...] = ()
    """Calibrated, in the order of `choices`; empty where nothing was decided."""
    confidence: float | None = None
    """Calibrated probability of the answer; None where there is none to be had."""
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
