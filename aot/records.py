"""Every record that touches disk: frozen, self-checking, one line of JSON each.

Both doors write the same `Question` and `Trace`; everything after them reads nothing else. This module knows no
model, no decoder and no file name. Times are seconds from the start of the clip; boxes are pixels of the true frame.
"""

from string import ascii_uppercase
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

JsonDict = dict[str, Any]
"""Arguments or result of one tool, already checked by that tool's pydantic schema."""

AnswerType = Literal[
    "choice", "text", "integer", "yes_no", "span",
    "decimal", "fraction", "number", "percent", "money", "quantity", "expression", "collection", "letter",
    "date", "clock", "duration", "scored",
]  # fmt: skip
"""How an answer is read and compared (see aot.answers): `number` is any of integer, decimal and fraction, `quantity` a
number with a unit, `collection` a tuple, set or interval, and `scored` what only the task's own scorer can judge."""

Reading = Literal["strict", "bare_number", "contest"]
"""What may stand beside a value in an answer and says nothing more, by the convention of a data set. `strict`: nothing;
`bare_number`: a unit or currency, which the question has told where the gold is a bare number (GSM8K); `contest`: that
too, `x =` before a value, the order of a bare list, and an interval written as an inequality (MATH)."""

ThoughtMode = Literal["direct", "short", "full"]
"""How an adaptive student may go about a question: answer at once, in short steps, or in full steps."""
THOUGHT_MODES: tuple[ThoughtMode, ...] = ("direct", "short", "full")

PromptMode = Literal["direct", "reason", "explain", "adaptive", "tools"]
"""What a student is asked for: an answer; to reason first; to explain afterwards; to choose; or to call tools first."""


class Record(BaseModel):
    """Base of everything written to disk: immutable; an unknown field, NaN or infinity is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TimeSpan(Record):
    """A stretch of a clip, in seconds from its start."""

    start_s: float = Field(ge=0)
    end_s: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end_s < self.start_s:
            raise ValueError(f"a span must not end before it starts, got {self.start_s}-{self.end_s} s")
        return self


class MediaRef(Record):
    """Which part of which clip a question is about."""

    uri: str
    """Path of the clip, relative to the folder of the data set."""
    start_s: float = Field(default=0.0, ge=0)
    end_s: float | None = None
    """End of the visible window; None means the end of the clip. Nobody may look past it."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError(f"the window must end after it starts, got {self.start_s}-{self.end_s} s")
        return self


class ScorerItem(Record):
    """What the own scorer of a procedural task grades an answer by."""

    task: str
    entry: JsonDict
    """Question, answer and metadata, as the package of the task made them."""


class Question(Record):
    """One question with its gold answer."""

    id: str = Field(min_length=1)
    dataset: str
    split: str
    kind: str
    """Such as next_choice, next_open, before, after, count, when, present."""
    text: str = Field(min_length=1)
    choices: tuple[str, ...] = ()
    answer: str
    """Gold answer; for a choice it is the text of the right option, for a span `2.4s-5.1s`."""
    answer_type: AnswerType
    reading: Reading = Field(default="strict", exclude_if=lambda reading: reading == "strict")
    """By which convention an answer is compared with the gold one; left out of a file where it is `strict`."""
    media: MediaRef | None = None
    group: str
    """Questions of one group never stand in two splits; intervals are clustered by it."""
    state: JsonDict = Field(default_factory=dict)
    """What a procedural task was drawn from, for its embedded teacher; no student is shown it."""
    scorer: ScorerItem | None = Field(default=None, exclude_if=lambda item: item is None)
    """For an answer of the type `scored`, and for no other."""
    tags: dict[str, str | int] = Field(default_factory=dict, exclude_if=lambda tags: not tags)
    """What results are grouped by besides the kind, such as `category` and `steps`; written by the data set."""
    answer_index: int | None = Field(default=None, ge=0, lt=len(ascii_uppercase), exclude_if=lambda at: at is None)
    """Place of the right option, counted from 0, where a benchmark's options cannot be told apart by their texts: then
    options are shown with letters, and an answer counts by its letter. None everywhere else."""
    steps_before: int | None = Field(default=None, ge=0, exclude_if=lambda count: count is None)
    """Of a next-step question of a published data set: so many annotated steps of the clip, by start, come before the
    asked one, as its official pairs count them. None where the window tells."""

    @model_validator(mode="after")
    def _answer_is_a_choice(self) -> Self:
        if self.choices and self.answer not in self.choices:
            raise ValueError(f"answer {self.answer!r} is none of the choices {list(self.choices)}")
        if self.answer_type == "choice" and len(self.choices) < 2:
            raise ValueError("a choice question needs at least two choices")
        if self.answer_index is not None and self.choices[self.answer_index : self.answer_index + 1] != (self.answer,):
            raise ValueError(f"option {self.answer_index} is not the answer {self.answer!r}")
        return self

    @model_validator(mode="after")
    def _is_whole(self, info: ValidationInfo) -> Self:
        lacks_scorer = self.answer_type == "scored" and self.scorer is None
        lacking = "item of its scorer" if lacks_scorer else "tags" if "steps" in self.state and not self.tags else ""
        if lacking and info.mode == "json":
            raise PydanticCustomError(
                "earlier_version",
                "a question has no {lacking}, as earlier versions wrote it; run prepare again in a new run folder",
                {"lacking": lacking},
            )
        if lacks_scorer or (self.scorer and (self.answer_type != "scored" or "answer" not in self.scorer.entry)):
            raise ValueError("a question whose answer is `scored`, and no other, needs its scorer's item, with answer")
        return self

    @property
    def option_answers(self) -> tuple[str, ...]:
        """What to say for each option: its text, or its letter where only that tells it apart."""
        return self.choices if self.answer_index is None else tuple(ascii_uppercase[: len(self.choices)])

    @property
    def right_answer(self) -> str:
        """What to say to be right."""
        return self.answer if self.answer_index is None else self.option_answers[self.answer_index]

    @property
    def shown_choices(self) -> tuple[str, ...]:
        """The options as a prompt shows them: with letters where only those tell them apart."""
        if self.answer_index is None:
            return self.choices
        return tuple(f"{letter}. {text}" for letter, text in zip(self.option_answers, self.choices, strict=True))


class Segment(Record):
    """One annotated step of a clip."""

    start_s: float = Field(ge=0)
    end_s: float
    label: str


class ClipAnnotation(Record):
    """What the annotators say happens in a whole clip: the truth, never shown to teacher tools or student.

    Training annotations feed the procedural knowledge; test annotations feed only baselines and scoring.
    """

    uri: str
    split: str
    task: str
    """The recipe or task of the clip."""
    duration_s: float
    segments: tuple[Segment, ...]
    boxes: tuple["TrueBox", ...] = ()
    """Drawn truth for scoring the detector; empty for real clips."""


class TrueBox(Record):
    """Where an object really is in one frame; pixels of the true frame, origin top left."""

    time_s: float
    label: str
    box_xyxy: tuple[float, float, float, float]


class ToolCall(Record):
    """A tool by name with arguments that its schema accepted."""

    tool: str
    arguments: JsonDict = Field(default_factory=dict)


FindingKind = Literal["event", "object", "action", "option", "task", "after", "listed", "count", "text"]
"""What a tool made out. Seen: an `event` in a stretch, an `object` in a frame, the `action` that a stretch shows best.
Not seen: an `option` that was weighed or proposed, the `task` that steps fit, the step `after` which options come, and
each step that the card of that task has `listed`. Told: the `count` of an event, and `text`, somebody's words."""

Span = tuple[float, float]
"""Start and end in seconds of the clip; equal for a moment."""


class Finding(Record):
    """One thing that a tool says it made out: all that others read of a result. Files leave out what says nothing."""

    kind: FindingKind
    label: str = Field(default="", exclude_if=lambda label: not label)
    """Of the event, object, action, option, task or step."""
    spans_s: tuple[Span, ...] = Field(default=(), exclude_if=lambda spans: not spans)
    """When; an answer in words may hold of several stretches. Empty: of all that the step looked at."""
    box_xyxy: tuple[float, float, float, float] | None = Field(default=None, exclude_if=lambda box: box is None)
    """Where in the frame: left, top, right, bottom in pixels of the true frame."""
    score: float = Field(default=1.0, exclude_if=lambda score: score == 1.0)
    """How sure the tool is, from 0 to 1; of an option its probability."""
    count: int | None = Field(default=None, exclude_if=lambda count: count is None)
    how: Literal["", "said", "seen", "answered", "not said", "not heard"] = Field(
        default="", exclude_if=lambda how: not how
    )
    """Of a text: spoken in the clip, a description of it, or an answer about it. `not said` are words searched for in
    vain, `not heard` those of a search that could not read everything, so that nothing follows."""
    text: str = Field(default="", exclude_if=lambda text: not text)
    question: str = Field(default="", exclude_if=lambda question: not question)
    """What a text answers."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if (self.kind == "text") != bool(self.how) or (self.kind == "count") != (self.count is not None):
            raise ValueError(f"a text says how it came and a count has its number, got {self!r}")
        if any(end_s < start_s for start_s, end_s in self.spans_s):
            raise ValueError(f"a span must not end before it starts, got {self.spans_s}")
        return self


class Step(Record):
    """One step of a trace: a tool call with its typed result (video), or a line of text (text)."""

    index: int = Field(ge=1)
    """Counted from 1; rationales cite it as `[1]`."""
    call: ToolCall | None = None
    result: JsonDict | None = None
    """As the tool gave it, for people and for models that are shown it; everybody else reads `findings`."""
    sought: tuple[str, ...] = Field(default=(), exclude_if=lambda sought: not sought)
    """The events, objects or words that the call was to find; empty where the tool tells whatever there is."""
    findings: tuple[Finding, ...] = ()
    """What the tool says it made out, in its own order; always there in a file, for an empty one says: nothing."""
    text: str = ""
    status: Literal["ok", "failed"] = "ok"
    error: str = ""
    span: TimeSpan | None = None
    """What the tool looked at."""
    frame_times_s: tuple[float, ...] = ()
    """True times of the frames it saw."""
    reply_keys: tuple[str, ...] = Field(default=(), exclude_if=lambda keys: not keys)
    """Of the chat replies that the tool rests on, under which they lie in the cache of replies."""
    duration_s: float = 0.0
    """Wall time of the call; left out of published files so that reruns are byte-identical."""

    @model_validator(mode="after")
    def _says_what_it_found(self, info: ValidationInfo) -> Self:
        if info.mode == "json" and self.result is not None and "findings" not in self.model_fields_set:
            # Read as nothing found, every honest sentence about this step would count as invented.
            raise PydanticCustomError(
                "earlier_version",
                "a step has a result without findings, as earlier versions wrote it; "
                "run generate again in a new run folder",
            )
        return self


class Usage(Record):
    """What a trace cost."""

    tool_calls: int = 0
    cached_calls: int = 0
    chat_calls: int = 0
    """Replies of a chat model; those taken from the reply cache count like the others."""
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    """Those of the prompt tokens that the server had already."""
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    """Those of the completion tokens that were thinking."""
    cost: float | None = None
    """In the currency of the price table; None when unpriced or when no chat model was asked."""
    seconds: float = 0.0


class TraceError(Record):
    """Why an attempt failed, and at which boundary (see errors.py)."""

    boundary: str
    message: str
    reason: str = ""
    """Countable, where the boundary tells several reasons apart (see errors.ChatReason)."""


class WrittenCall(Record):
    """A tool call as a model wrote it: nothing about it has been checked."""

    id: str
    name: str
    arguments: str
    """JSON, or what the model took for it."""


class TokenLogprob(Record):
    """One token of a reply with its log-probability and the likeliest alternatives."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


TurnPurpose = Literal["plan", "rationale", "solve"]
"""What a model was asked for: to plan tool calls, to write a rationale over their results, or to solve a problem."""


class Turn(Record):
    """One message of the talk with a teacher's model after the first prompt; a field that says nothing is left out."""

    role: Literal["assistant", "user", "tool"]
    purpose: TurnPurpose
    text: str = Field(default="", exclude_if=lambda text: not text)
    """As the model wrote it, or what it was told was wrong."""
    reasoning: str = Field(default="", exclude_if=lambda reasoning: not reasoning)
    """What it thought, where that came apart from the text."""
    calls: tuple[WrittenCall, ...] = Field(default=(), exclude_if=lambda calls: not calls)
    step: int | None = Field(default=None, exclude_if=lambda step: step is None)
    """Of a tool's turn: the step whose result the model was given."""
    key: str = Field(default="", exclude_if=lambda key: not key)
    """Under which the reply lies in the cache of replies."""
    logprobs: tuple[TokenLogprob, ...] = Field(default=(), exclude_if=lambda logprobs: not logprobs)
    """Of the reply's tokens, where the server gave them."""


class Trace(Record):
    """One attempt of a teacher at one question; a failed attempt is a row too."""

    question_id: str
    sample_index: int = Field(ge=0)
    """Which of the k candidates this is."""
    teacher: str
    steps: tuple[Step, ...] = ()
    support: tuple[int, ...] = ()
    """Indices of the steps the answer rests on."""
    turns: tuple[Turn, ...] = Field(default=(), exclude_if=lambda turns: not turns)
    """What the teacher's model said and was told, in order; empty for a teacher without a model."""
    rationale: str = ""
    answer: str = ""
    shuffled_answers: tuple[str, ...] = ()
    """What the same procedure answered when the options stood in another order; empty when that was not tried."""
    granularity: Literal["", "coarse", "fine"] = ""
    """How small the steps of a text chain are, where its teacher says so."""
    status: Literal["ok", "failed", "truncated"]
    error: TraceError | None = None
    usage: Usage = Usage()
    reasons: tuple[str, ...] = Field(default=(), exclude_if=lambda reasons: not reasons)
    """What was odd about the plan of a student, as countable words (see aot.acting.plan)."""
    config_digest: str

    def timeless(self) -> "Trace":
        """The same trace with wall times and cache luck set to zero: what may be compared between two runs."""
        steps = tuple(step.model_copy(update={"duration_s": 0.0}) for step in self.steps)
        usage = self.usage.model_copy(update={"seconds": 0.0, "cached_calls": 0})
        return self.model_copy(update={"steps": steps, "usage": usage})


class LessonTurn(Record):
    """One turn between a prompt and the last reply to it."""

    role: Literal["assistant", "tool"]
    text: str
    """Of the student what it says with its calls; of a tool its result, which is never learned."""
    learned: bool = Field(default=True, exclude_if=lambda learned: learned)


class Lesson(Record):
    """One row that a student learns from: a prompt, and the reply `forced + label + rationale` after it."""

    question_id: str
    mode: PromptMode
    with_frames: bool = Field(default=False, exclude_if=lambda shown: not shown)
    """Whether the prompt shows the clip of the question, whose frames lie in the frame store; left out where not."""
    forced: str = ""
    """Beginning of the reply that counts as prompt, such as a mode line; nothing of it is learned."""
    label: str = ""
    """What comes next in the reply: an answer, or the mode line of an adaptive student."""
    rationale: str = ""
    """The rest of the reply; it and the label are the two terms of the loss."""
    evidence: str = Field(default="", exclude_if=lambda evidence: not evidence)
    """What a judge is shown before the question, and no student."""
    form: Literal["whole", "begun", "refused"] = Field(default="whole", exclude_if=lambda form: form == "whole")
    """`begun`: the reply goes on, and how is learned apart. `refused`: it is wrong, and to become less likely."""
    keys: tuple[str, ...] = Field(default=(), exclude_if=lambda keys: not keys)
    """Step names in the rationale, where their tokens get a weight of their own, as numbers and times do."""
    turns: tuple[LessonTurn, ...] = Field(default=(), exclude_if=lambda turns: not turns)
    """What comes before that reply where tools are called; left out where none is."""


class Verdict(Record):
    """What one filter thought of one trace."""

    question_id: str
    sample_index: int
    filter: str
    keep: bool
    reason: str
    """Short and countable, such as `answer_mismatch`; free words go to `detail`."""
    value: float | None = None
    """The measured quantity a threshold was applied to, if there is one."""
    detail: str = ""


class Prediction(Record):
    """What one model said to one question."""

    question_id: str
    arm: str
    """base, the name of an arm, `<arm>_no_frames`, teacher, or the name of a baseline."""
    mode: PromptMode | Literal["likelihood", "none"]
    """`none` for predictors without a prompt."""
    raw_text: str
    answer: str | None
    """Parsed answer; None when nothing could be parsed, and of a reply that was cut off."""
    choice_probs: tuple[float, ...] = ()
    """Probability of each choice, in the order of the question; empty if not scored."""
    thought: ThoughtMode | Literal[""] = ""
    """In mode `adaptive`: what the student chose to do; empty in the other modes."""
    thought_probs: tuple[float, ...] = ()
    """In mode `adaptive`: its probability of each of THOUGHT_MODES, in that order."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    token_ids: tuple[int, ...] = Field(default=(), exclude_if=lambda ids: not ids)
    """Of the reply, its end token included; empty where they were not kept."""
    token_logprobs: tuple[float, ...] = Field(default=(), exclude_if=lambda values: not values)
    """Of the last of these tokens, those that the model picked: a first line that it was given has none."""
    num_calls: int = Field(default=0, ge=0, exclude_if=lambda count: not count)
    """Of tools, in mode `tools`; each is a step of a trace beside the predictions, which has the same reasons."""
    reasons: tuple[str, ...] = Field(default=(), exclude_if=lambda reasons: not reasons)
    latency_s: float = 0.0
    error: str = ""
    finish_reason: Literal["", "stop", "length"] = Field(default="", exclude_if=lambda reason: not reason)
    """`stop`: a generated reply ended by itself; `length`: a cap cut it off, so nobody knows its answer; else empty."""
    engine: str = Field(default="", exclude_if=lambda engine: not engine)
    """`server:` and the name that a server has for who said it; empty for a model in the process of the evaluation."""


class Score(Record):
    """How one prediction was graded."""

    question_id: str
    arm: str
    mode: str
    state: Literal["scored", "no_answer", "failed"]
    correct: bool
    """False unless the state is `scored` and the answer is right: unparsable is wrong, and counted apart."""
    value: float | None = None
    """Graded quantity besides right or wrong, such as the IoU of a time span."""


class Interval(Record):
    """A number with its 95% interval, over `n` items in `num_clusters` clusters."""

    value: float
    low: float
    high: float
    n: int
    num_clusters: int


class MetricRow(Record):
    """One number of a report: it never travels without its n and its interval."""

    arm: str
    mode: str
    split: str
    kind: str
    """A question kind, or `all`, or `next` for both next-step kinds."""
    metric: str
    value: float
    low: float
    high: float
    """95% interval."""
    n: int
    num_clusters: int = 0
    note: str = ""

    @property
    def interval(self) -> Interval:
        """The number without what it is about."""
        return Interval(value=self.value, low=self.low, high=self.high, n=self.n, num_clusters=self.num_clusters)


class Refusal(Record):
    """An input that could not be used, with the reason: counted, never lost."""

    item: str
    boundary: str
    reason: str
    """Countable, such as `clip_missing`."""
    detail: str = ""
