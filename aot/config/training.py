"""The model that learns, what each arm of a run learns, and how it is judged."""

import re
import warnings
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, TypeAdapter, field_validator, model_validator

from aot.config.base import HubModel, Kinds, PathText, Section, Seed, SplitName
from aot.config.chat import ServerSection
from aot.config.teaching import ChainSteps
from aot.records import PromptMode

EMBEDDED_STUDENTS = {"tiny-video": "tiny/video", "tiny-text": "tiny/text", "tiny-names": "tiny/names"}
"""Values of `student.base` that are names, not folders; with the folder of each inside aot/student."""


def _by_base(*, embedded: int, foreign: int) -> Callable[[dict[str, Any]], int]:
    """The default of a cap: the embedded students are terse, real models write sentences."""
    return lambda settled: embedded if settled.get("base") in EMBEDDED_STUDENTS else foreign


class StudentConfig(Section):
    """The model that learns."""

    base: PathText = "tiny-video"
    """`tiny-video`, `tiny-text` or `tiny-names` (the text student that knows numbers by name), which are embedded, or
    the folder of a transformers model: an image-text one with its processor, or for text a causal language model with
    its tokenizer (docs/students.md lists types)."""
    hub: HubModel | None = None
    """Where `aot prefetch` gets the folder `base` from."""
    num_frames: int = Field(default=8, ge=1, le=10_000)
    frame_view: Literal["saved", "whole"] = "saved"
    """How a frame is shown: `saved`, as the processor of the base is set; `whole`, not cut into tiles besides, which
    SmolVLM and LLaVA-NeXT do to frames of any size, and which costs many times the tokens."""
    max_tokens: int = Field(default=2048, ge=32)
    """Rows longer than this, prompt and answer together, or than the model's context, are dropped and counted, never
    cut."""
    max_answer_tokens: int = Field(default_factory=_by_base(embedded=24, foreign=128), ge=1)
    """A direct reply, or the first line of one that explains, is cut off after so many tokens and is no answer then."""
    max_rationale_tokens: int = Field(default_factory=_by_base(embedded=160, foreign=1024), ge=1)
    """The same of a reply that reasons first; a model that thinks at length needs more."""
    effort: float = Field(default=0.7, ge=0, le=1)
    """An adaptive student takes the shortest way of which it is this sure that it, or a shorter one, is enough: 0
    always answers at once, 1 always takes all steps."""
    think_tags: Literal["auto", "none"] = "auto"
    """`auto` puts a text rationale between `<think>` and `</think>` where the model's chat template knows them."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the weights of the base: `auto` is bfloat16 on a GPU that has it, and float32 elsewhere. What is trained is in
    float32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    attention: Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3"] = "sdpa"
    """`sdpa` is torch's own; a model type without it takes `eager`, and training.json says so. The flash kernels train
    only, from packages of their own: answers need masks that they do not take, and are given with `sdpa`."""


class LoraSection(Section):
    """Low-rank adapters on the linear layers of the language model."""

    rank: int = Field(default=16, ge=1, le=65_536)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_pattern: str | None = None
    """Anchored regex on full module names; None finds the language model's linear layers that adapters reach."""

    @field_validator("target_pattern")
    @classmethod
    def _is_a_pattern(cls, pattern: str | None) -> str | None:
        try:
            with warnings.catch_warnings(action="error"):  # of what will mean something else one day
                re.compile(pattern or "")
        except (re.error, RecursionError, OverflowError, Warning) as error:
            raise ValueError(
                f"must be a regular expression on names of layers, such as '^model.layers.*.q_proj$', and this is none "
                f"({str(error)[:100]})"
            ) from error
        return pattern


RESERVED_ARMS = (
    "base", "teacher", "copy_last", "task_majority", "bigram_predicted", "bigram_gold", "trigram_predicted",
    "trigram_gold",
)  # fmt: skip
"""Names that rows of the evaluation have already; an arm of that name would be taken for them."""
NO_FRAMES, NO_TOOLS, SHUFFLED_BOOK = "_no_frames", "_no_tools", "_shuffled_book"
"""Endings of the names under which an arm answers without seeing frames, with every tool switched off, and with a book
whose cards are shuffled."""


WAYS = {"direct": "_way_direct", "short": "_way_short", "full": "_way_full"}
"""The same of an adaptive arm that always begins one way, whatever it would choose."""
MAX_ARM_NAME = 100
ToolName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Order = Literal["both", "answers_only", "pre", "post", "adaptive", "tool_use"]
MODES_OF_ORDER: dict[Order, tuple[PromptMode, ...]] = {
    "both": ("direct", "reason"),
    "answers_only": ("direct",),
    "pre": ("reason",),
    "post": ("explain",),
    "adaptive": ("adaptive",),
    "tool_use": ("tools",),
}
"""How an arm answers: as it was taught to. The base answers as if it had been taught `both`."""
Chains = Literal["kept", "wrong_content", "shuffled", "deleted", "self", "plain", "on_policy"]
Parts = Literal["together", "apart"]
Choice = Literal["granularity", "likelihood"]
Weighting = Literal["equal", "own_probability"]
Names = Literal["spans", "frames"]


class AnyArm(Section):
    """One student that is trained: same questions, same steps, another loss or another way to say it."""

    name: str = Field(pattern=r"^[a-z0-9_][a-z0-9_.]*(/(fold[0-9]+|round[0-9]+|judge))?$")
    """Also the name of its folder; `NAME/fold0`, `NAME/round0` and `NAME/judge` are helpers of an arm, which no config
    holds."""
    order: Order
    tuning: Literal["lora", "full"] = "lora"
    learning_rate: float | None = Field(default=None, gt=0)
    """None means train.learning_rate; full fine-tuning wants a lower one."""
    max_steps: int | None = Field(default=None, ge=1)
    """None means train.max_steps."""
    granularity: ChainSteps | None = None
    """How small the steps of its chains are, where the teacher writes coarse and fine ones; None means
    teacher.granularity."""
    leave_out: dict[str, str] = Field(default_factory=dict)
    """Training questions with one of these tags are none of its own, such as `answered_by: card`: the next step of a
    dish that only a recipe card tells, which is a guess for whoever has no card."""
    seed: Seed = 0

    @model_validator(mode="after")
    def _name_is_free(self) -> Self:
        if len(self.name.partition("/")[0]) > MAX_ARM_NAME:
            raise ValueError(f"the name of an arm must have at most {MAX_ARM_NAME} characters, got {len(self.name)}")
        endings = (NO_FRAMES, NO_TOOLS, SHUFFLED_BOOK, *WAYS.values())
        if self.name in RESERVED_ARMS or self.name.endswith(endings):
            taken = f"{', '.join(RESERVED_ARMS)} and names ending in {', '.join(endings)}"
            raise ValueError(f"the arm name {self.name!r} is taken by the evaluation ({taken}); choose another one")
        return self


class ChainsArm(AnyArm):
    """Learns chains and answers in a fixed order."""

    order: Literal["both", "pre", "post"] = "both"
    """`both`: two replies to each question, one direct and one reasoning first (video runs only); `pre` thinks, then
    answers; `post` answers, then explains."""
    chains: Chains = "kept"
    """What is learned: the kept chains; chains damaged for the study of structure against content; `self`, a share of
    the kept chains and what the student then writes and verifies itself; `on_policy`, the kept chains and then what a
    judge that is shown the evidence thinks of each token of the student's own replies; or `plain`, the control of the
    same questions: a chain that no evidence filter has seen, of a clip from one look at evenly spaced frames."""
    chain_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the questions whose teacher chains are used."""
    rationale_weight: float = Field(default=1.0, ge=0)
    """Lambda in label + lambda * rationale; 0 learns answers only."""
    parts: Parts = "together"
    """`apart` makes two lessons of a chain: its rationale to the question, and its answer to question and rationale,
    which is of the label term then (CasCoD, arXiv 2405.19842)."""
    choice: Choice = "granularity"
    """Which of several chains of a question is learned: that of teacher.granularity, and of verified chains of its own
    the shortest; or the one behind which the base finds the right answer likeliest (MoRSD)."""
    key_weight: float = Field(default=1.0, gt=0, le=1000)
    """Of the tokens of step names, numbers and times in a rationale; the others have 1 (KPOD, arXiv 2405.16064)."""
    negative_weight: float = Field(default=0.0, ge=0, le=1)
    """Alpha of chains of its own that were refused: their log-likelihood is made smaller, alpha times as strongly as
    that of a chain of the same length is made larger (REDI, arXiv 2505.24850)."""
    names: Names = "spans"
    """How its chains about clips say what was seen: as the teacher does, each step with its span; or, if the calls of a
    chain rest on that, in `frames`: the time and the step of each frame that the student is shown."""
    weighting: Weighting = "equal"
    """`own_probability` weighs each token's loss by its probability, without a gradient (DFT, arXiv 2508.05629)."""

    @property
    def learns_rationales(self) -> bool:
        """Whether it is asked to; how many it then saw stands in its training.json."""
        return self.rationale_weight > 0

    @property
    def needs_chains(self) -> bool:
        """Whether nothing is left to learn where no chain was kept."""
        return self.order != "both" or self.rationale_weight > 0

    @model_validator(mode="after")
    def _learns_something(self) -> Self:
        if self.chains in ("self", "on_policy") and self.order == "post":
            raise ValueError(f"arm {self.name!r}: chains `{self.chains}` go with order pre or both, got {self.order}")
        if self.chains == "plain" and self.names == "frames":
            raise ValueError(f"arm {self.name!r}: plain chains name frames anyway; take `names` out")
        if self.order == "pre" and self.rationale_weight == 0:
            raise ValueError(f"arm {self.name!r}: with rationale_weight 0 nothing of order {self.order} is learned")
        return self


class UsualArm(AnyArm):
    """Learns its chains as usual: none of the SWITCHES is a setting of it."""

    parts: ClassVar[Parts] = "together"
    choice: ClassVar[Choice] = "granularity"
    key_weight: ClassVar[float] = 1.0
    negative_weight: ClassVar[float] = 0.0
    weighting: ClassVar[Weighting] = "equal"


class AnswersArm(UsualArm):
    """Learns answers, of the questions that have a chain."""

    order: Literal["answers_only"]
    chain_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the questions with a chain that are used."""
    chains: ClassVar[Chains] = "kept"
    rationale_weight: ClassVar[float] = 1.0
    """Of the rationales that its lessons have not."""
    names: ClassVar[Names] = "spans"
    learns_rationales: ClassVar[bool] = False
    needs_chains: ClassVar[bool] = True


class AdaptiveArm(UsualArm):
    """Chooses how to answer (arXiv 2404.09170), and learns that from all kept chains."""

    order: Literal["adaptive"]
    rationale_weight: float = Field(default=1.0, gt=0)
    """Lambda in label + lambda * rationale."""
    chains: ClassVar[Chains] = "kept"
    names: ClassVar[Names] = "spans"
    chain_share: ClassVar[float] = 1.0
    learns_rationales: ClassVar[bool] = True
    needs_chains: ClassVar[bool] = True


class ToolArm(UsualArm):
    """Calls tools itself: learns the kept chains whose steps call one of its tools, as a talk of several turns."""

    order: Literal["tool_use"]
    tools: tuple[ToolName, ...] = Field(min_length=1, max_length=16)
    """Those of the teacher's that the student may call, such as look_up_recipe; what its other tools gave the student
    learns to say by itself. `named_calculator` is the calculator with names in place of numbers."""
    without_calls: Literal["refuse", "learn"] = "refuse"
    """A chain without any such call: counted as `no_call` and not learned, or learned as an answer without calls."""
    names: Names = "spans"
    """How its chains about clips say what was seen: as the teacher does, each step with its span; or, if the calls of a
    chain rest on that, in `frames`: the time and the step of each frame that the student is shown."""
    repeated_calls: float = Field(default=0.0, ge=0, lt=1)
    """Share of the calls of named_calculator that come twice in lessons; the second is not learned, and is there so
    that how many calls there were does not tell how many are to come."""
    chain_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the questions with a chain that are used."""
    chains: ClassVar[Chains] = "kept"
    rationale_weight: ClassVar[float] = 1.0
    """All that is said stands in one term of the loss; see train.weights."""
    learns_rationales: ClassVar[bool] = True
    needs_chains: ClassVar[bool] = True


ArmConfig = ChainsArm | AnswersArm | AdaptiveArm | ToolArm
SWITCHES = ("parts", "choice", "key_weight", "negative_weight", "weighting")
"""Keys of arms that change how the same chains are learned."""


def switched(arm: ArmConfig) -> dict[str, str | float]:
    """The SWITCHES of an arm that are not as usual, with what they are set to."""
    return {key: getattr(arm, key) for key in SWITCHES if getattr(arm, key) != getattr(UsualArm, key)}


BY_ORDER = Kinds("order", default="both")
_ARM: TypeAdapter[ArmConfig] = TypeAdapter(Annotated[ArmConfig, BY_ORDER])


def modes_of(arms: Iterable[ArmConfig], name: str) -> tuple[PromptMode, ...]:
    """How the arm of this name answers, its first mode first; the base, which is none of them, as one of `both`."""
    return MODES_OF_ORDER[next((arm.order for arm in arms if arm.name == name), "both")]


def parse_arm(raw: dict[str, Any]) -> ArmConfig:
    """The arm that `raw` describes; raises ValidationError where it is none."""
    return _ARM.validate_python(raw)


class OwnChainsConfig(Section):
    """How an arm with chains `self` makes its own (STaR, arXiv 2203.14465; ReST-EM, arXiv 2312.06585)."""

    rounds: int = Field(default=3, ge=1, le=1000)
    """At most; a round that brings nothing new is the last one."""
    samples: int = Field(default=4, ge=1, le=1000)
    """Tried for each question that has no chain yet."""
    temperature: float = Field(default=0.7, gt=0)


class OnPolicyConfig(Section):
    """How an arm with chains `on_policy` goes on after its supervised start, which takes the arm's own steps.

    In each round the student replies to training questions, a judge that is shown the evidence gives probabilities of
    the tokens that stand where the student's own do, and the student is drawn to them (arXiv 2306.13649, 2605.07725).
    """

    rounds: int = Field(default=4, ge=1, le=100)
    steps: int = Field(default=50, ge=1)
    """Optimiser steps of each round; it takes so many times train.questions_per_step replies."""
    learning_rate: float = Field(default=5e-4, gt=0)
    temperature: float = Field(default=1.0, gt=0)
    """Of the student's replies."""
    judge: Literal["chain", "taught", "start", "base", "model", "server"] = "taught"
    """Who is shown the evidence: `chain`, no model but the kept chain, set against the reply by fewest edits; `taught`,
    the supervised start after `judge_steps` more steps on the same lessons with their evidence; `start`, the supervised
    start as it is; `base`, the base without adapters; `model`, another model with the same tokenizer; `server`, a model
    behind a server of completions that tells `prompt_logprobs`."""
    judge_steps: int = Field(default=100, ge=1)
    judge_model: PathText | None = None
    """Of a `model` its folder, of a `server` the name that the server knows."""
    judge_url: str = "http://127.0.0.1:8000/v1"
    judge_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key of the server; one on this machine needs none."""
    top: int = Field(default=16, ge=1, le=1000)
    """The judge's likeliest tokens that are kept at each place, beside the student's own; the others count as one."""
    doubt: float = Field(default=0.0, ge=0)
    """How fast a step, such as a sentence, loses weight with its divergence d from the judge: exp(-doubt * d)."""

    @model_validator(mode="after")
    def _names_its_judge(self) -> Self:
        if self.judge in ("model", "server") and self.judge_model is None:
            raise ValueError(f"judge {self.judge!r} needs judge_model, a folder or the name that the server knows")
        return self


class AdaptiveConfig(Section):
    """How an arm of order `adaptive` learns which way suits a question: from its own success on unseen questions."""

    labels: Literal["folds", "own"] = "folds"
    """Whose success: `folds`, of helpers, each trained on the other folds; `own`, of the arm itself, which first learns
    every way from the questions that get no label, and then goes on from there, so that no step is lost on helpers.
    Then a label says `direct` only where the base is right at once, too; the rest is answered in the longest way."""
    most: Literal["short", "full"] = "full"
    """The longest way that it learns to choose; a label that asks for a longer one asks for this one then."""
    folds: int = Field(default=2, ge=2, le=1000)
    """Students trained on the other folds answer each fold in every way."""
    fold_steps: float = Field(default=0.5, gt=0, le=1)
    """Steps of a fold's student, as a share of the arm's own."""
    labelled: int = Field(default=2000, ge=1)
    """At most so many questions get a label; predicting them in every way takes time."""


class EarlyStopConfig(Section):
    """When training ends before its last step: the loss on lessons that it does not learn from falls no more."""

    share: float = Field(default=0.1, gt=0, lt=1)
    """Of the groups of an arm's training questions, such as clips: held out, and never learned from."""
    every: int = Field(default=20, ge=1)
    """Steps from one look to the next; each better student is a checkpoint, and the best one is published."""
    patience: int = Field(default=3, ge=1)
    """Looks in a row without a lower loss, after which it ends."""


class SpanWeights(Section):
    """How much a token counts in the loss by what it is part of; 0 leaves it out. What a tool gave is never learned."""

    answer: float = Field(default=1.0, ge=0, le=100)
    """A direct answer, or all from the last `Answer:` on."""
    rationale: float = Field(default=1.0, ge=0, le=100)
    """Whatever else the student says."""
    call: float = Field(default=1.0, ge=0, le=100)
    """A tool call with its tags."""


Scheduler = Literal["linear", "cosine", "constant"]
Tracker = Literal["tensorboard", "wandb", "trackio", "mlflow"]


class TrainConfig(Section):
    """Optimisation, the same for each arm."""

    arms: tuple[Annotated[ArmConfig, BY_ORDER], ...] = (
        ChainsArm(name="answer_only", rationale_weight=0.0),
        ChainsArm(name="distilled", rationale_weight=1.0),
    )
    max_steps: int = Field(default=240, ge=1)
    epochs: float | None = Field(default=None, gt=0, le=100_000)
    """Passes over the lessons of an arm, from which its steps follow; `max_steps` is not read then. An arm of order
    `adaptive` needs `max_steps` of its own, of which its helpers take a share."""
    questions_per_step: int = Field(default=16, ge=1, le=1_000_000)
    """Global batch: over all processes and accumulation steps."""
    questions_per_device: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    scheduler: Scheduler = "linear"
    """How the learning rate goes on after its warm-up: down to nothing in a line or a cosine, or not at all."""
    warmup_steps: int = Field(default=20, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    gradient_checkpointing: bool = False
    compile: bool = False
    """Whether `torch.compile` makes kernels of each layer of the language model, which ZeRO 3 does not bear."""
    liger: bool = False
    """Whether the kernels of the package liger-kernel take the place of torch's; for GPUs."""
    save_steps: int = Field(default=60, ge=1)
    keep_checkpoints: int = Field(default=2, ge=1)
    early_stop: EarlyStopConfig | None = None
    lora: LoraSection = LoraSection()
    weights: SpanWeights = SpanWeights()
    pack_tokens: int = Field(default=256, ge=0)
    """Text rows are packed into rows of this many tokens, without sight of each other, and where they are long, into
    rows of up to twice the longest of them; 0 pads each instead."""
    own_chains: OwnChainsConfig = OwnChainsConfig()
    on_policy: OnPolicyConfig = OnPolicyConfig()
    adaptive: AdaptiveConfig = AdaptiveConfig()
    frame_cache_mb: int = Field(default=512, ge=0)
    """Memory for pixels of frames that are ready for the model."""
    vision_cache: Literal["memory", "disk", "off"] = "memory"
    """Where a frozen vision tower leaves what it made of each frame, so that it looks at each once: `memory` of each
    process, or `disk`, in the run folder, for all arms and processes; `off` looks at the frames of each step."""
    vision_cache_mb: int = Field(default=2048, ge=0)
    """Where the features of all frames need more than this, the tower looks at the frames of each step after all."""
    procs: int = Field(default=1, ge=1, le=1000)
    """Processes on this machine; more than one starts torchrun."""
    sharding: Literal["zero", "fsdp2"] = "zero"
    """What spreads a training over its processes: DeepSpeed by `zero_stage`, or torch's fully_shard (FSDP2)."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """DeepSpeed ZeRO stage; 0 means plain data parallel or a single process. 1 spreads the optimiser's state, 2 also
    gradients, 3 also weights, as FSDP2 does."""
    offload: Literal["none", "cpu"] = "none"
    """Whether ZeRO 3 keeps weights and optimiser state in the memory of the CPU, and steps there."""
    trackers: tuple[Tracker, ...] = ()
    """Who else hears the loss of each step, from packages of their own; wandb offline unless WANDB_MODE is set."""
    nodes: int = Field(default=1, ge=1, le=10_000)
    """Machines that train together, each with `procs` processes; more than one need run.rendezvous."""
    stop_after_s: float | None = Field(default=None, gt=0)
    """Each arm saves and stops (exit code 4) so that it is over this many seconds after it began, as it does before the
    end of a Slurm job; a margin of twice one step and one save is kept."""
    exchange_timeout_s: float = Field(default=1800.0, ge=1)
    """Several processes end when an exchange among them takes longer: one has died or hangs. It must be more than one
    save takes."""

    @model_validator(mode="after")
    def _arms_differ(self) -> Self:
        names = [arm.name for arm in self.arms]
        if not names:
            raise ValueError("arms must have at least one entry; every arm is a student that is trained")
        if helpers := [name for name in names if "/" in name]:
            raise ValueError(f"arm name {helpers[0]!r} must have no /, which names of helpers have; choose another one")
        if len(set(names)) < len(names):
            raise ValueError(f"arms need different names, got {names}")
        return self


class EvaluateConfig(Section):
    """Prediction and scoring."""

    splits: tuple[SplitName, ...] = Field(default=("test", "test_ood"), min_length=1, max_length=100)
    """Each must have questions; of the default two, one is enough."""
    batch_size: int = Field(default=32, ge=1, le=100_000)
    procs: int = Field(default=1, ge=1, le=1000)
    """Processes on this machine that share the predictions, each on a GPU of its own where there are several."""
    engine: Literal["local", "server"] = "local"
    """`local`: the students in this process; `server`: an OpenAI-compatible server, first proved to reply alike."""
    server: ServerSection = ServerSection()
    bootstrap_samples: int = Field(default=2000, ge=100, le=100_000)
    every_way: bool = False
    """Whether an adaptive arm also answers every question in each way, whatever it would choose: then the report draws
    how its accuracy and its tokens go with `student.effort`."""


class ReportConfig(Section):
    """What the report shows."""

    gallery: int = Field(default=24, ge=1, le=10_000)
    rejected_per_reason: int = Field(default=3, ge=1, le=10_000)
