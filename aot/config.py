"""Every setting of a run, typed; YAML plus `key.sub=value` overrides make one frozen `RunConfig`.

An unknown key is an error that names the nearest known one. This module reads YAML and knows no stage.

Paths: a relative path given as an override is taken from the working folder. One written in a config file is taken from
the working folder too if it is there; if not, from the nearest folder that holds it, going up from the folder of that
file, so that a shipped config works from anywhere. `data.questions`, `data.annotations` and `data.files` are looked for
in `data.root` before all that. `load_config` makes them absolute, so that a run resumes from any folder; `run.dir` and
`run.reuse` are always relative to the working folder.
"""

import difflib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aot.errors import ConfigError


class Section(BaseModel):
    """Base of every config section: frozen, unknown keys refused, and every number finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RunSection(Section):
    """Where the run folder lies, and what it may take over."""

    dir: str | None = None
    """None means runs/<stem of the config file>."""
    reuse: str | None = None
    """Another run folder: its prepare, generate and filter stages are taken over as far as the settings agree."""


class ToyKitchenConfig(Section):
    """How much of the drawn kitchen is made."""

    train_clips: int = Field(default=320, ge=1)
    test_clips: int = Field(default=80, ge=1)
    test_ood_clips: int = Field(default=80, ge=1)


class ToyMathConfig(Section):
    """How many problems of the embedded maths tasks are drawn."""

    train: int = Field(default=3000, ge=1)
    test: int = Field(default=400, ge=1)
    """Problems of the test split, and the size of each out-of-distribution split is `test_ood`."""
    test_ood: int = Field(default=200, ge=1)


class TextFilesConfig(Section):
    """Local files of a text data set."""

    train: str | None = None
    test: str | None = None
    """None holds `test_share` of the training file out, whole groups at a time."""
    test_share: float = Field(default=0.1, gt=0, lt=1)


class GymConfig(Section):
    """Procedural tasks of the reasoning-gym package."""

    tasks: tuple[str, ...] = ("chain_sum", "simple_equations", "calendar_arithmetic", "leg_counting")
    unseen_tasks: tuple[str, ...] = ()
    """Tasks of the split test_ood; none of them is trained on."""
    train: int = Field(default=500, ge=1)
    """Problems of each task."""
    test: int = Field(default=100, ge=1)


VIDEO_DATASETS = ("toy_kitchen", "plain")


class DataConfig(Section):
    """Which questions the run is about, and their clips if there are any."""

    dataset: Literal["toy_kitchen", "plain", "toy_math", "gsm8k", "math", "cot_collection", "text_jsonl", "gym"]
    root: str | None = None
    """Folder of the clips, or of the text files; the toy kitchen draws into <run>/clips when it is None."""
    questions: str = "questions.jsonl"
    """plain: questions file, relative to root."""
    annotations: str | None = None
    """plain: optional JSONL of annotated clips (docs/plain_data.md), relative to root; feeds procedural knowledge and
    baselines."""
    limit: int | None = Field(default=None, ge=1)
    """Use at most this many clips, or text problems, of each split (the --limit option)."""
    toy: ToyKitchenConfig = ToyKitchenConfig()
    math: ToyMathConfig = ToyMathConfig()
    files: TextFilesConfig = TextFilesConfig()
    gym: GymConfig = GymConfig()


class FramesConfig(Section):
    """Decoding: what is sampled from each clip, and the budgets checked before decoding."""

    fps: float = Field(default=3.0, gt=0)
    """Frames stored for each second of clip; teacher tools and student choose among these."""
    max_stored_frames: int = Field(default=512, ge=1)
    """A longer clip is sampled more sparsely so that no more than this many frames are stored."""
    max_side_px: int = Field(default=480, ge=16)
    """Stored frames are scaled down to this longest side; boxes are still given in pixels of the true frame."""
    shard_clips: int = Field(default=64, ge=1)
    workers: int = Field(default=2, ge=1)
    time_limit_s: float = Field(default=30.0, gt=0)
    max_file_mb: float = Field(default=4096.0, gt=0)
    max_pixels: int = Field(default=3840 * 2160, gt=0)
    """Width times height of one frame."""
    max_frames: int = Field(default=400_000, gt=0)
    max_duration_s: float = Field(default=4 * 3600.0, gt=0)
    max_streams: int = Field(default=16, gt=0)


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


EMBEDDED_STUDENTS = {"tiny-video": "tiny/video", "tiny-text": "tiny/text"}
"""Values of `student.base` that are names, not folders; with the folder of each inside aot/student."""


class StudentConfig(Section):
    """The model that learns."""

    base: str = "tiny-video"
    """`tiny-video` or `tiny-text` (embedded), or the folder of a transformers model: an image-text one with its
    processor, or for text any causal language model with its tokenizer."""
    num_frames: int = Field(default=8, ge=1)
    max_tokens: int = Field(default=2048, ge=32)
    """Rows longer than this, prompt and answer together, are dropped and counted, never cut."""
    max_answer_tokens: int = Field(default=24, ge=1)
    max_rationale_tokens: int = Field(default=160, ge=1)
    thought_confidence: float = Field(default=0.7, gt=0, lt=1)
    """An adaptive student takes the shortest way of which it is this sure that it, or a shorter one, is enough."""
    think_tags: Literal["auto", "none"] = "auto"
    """`auto` puts a text rationale between `<think>` and `</think>` where the model's chat template knows them."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"


class LoraSection(Section):
    """Low-rank adapters on the linear layers of the language model."""

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_pattern: str | None = None
    """Anchored regex on full module names; None finds the language model's linear layers by itself."""


RESERVED_ARMS = ("base", "teacher", "copy_last", "task_majority", "bigram_predicted", "bigram_gold")
"""Names that rows of the evaluation have already; an arm of that name would be taken for them."""
NO_FRAMES = "_no_frames"
"""Ending of the name under which an arm answers without seeing frames."""


Order = Literal["both", "answers_only", "pre", "post", "adaptive"]
Chains = Literal["kept", "wrong_content", "shuffled", "deleted", "self"]


class ArmConfig(Section):
    """One student that is trained: same questions, same steps, another loss or another way to say it."""

    name: str = Field(pattern=r"^[a-z0-9_][a-z0-9_.]*$")
    """Also the name of its folder."""
    order: Order = "both"
    """`both`: two replies to each question, one direct and one reasoning first (video). For text: `answers_only`;
    `pre` thinks, then answers; `post` answers, then explains; `adaptive` chooses how to answer (arXiv 2404.09170)."""
    chains: Chains = "kept"
    """What is learned: the kept chains, chains damaged for the study of structure against content, or `self`, a share
    of the kept chains and what the student then writes and verifies itself."""
    chain_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the questions whose teacher chains are used."""
    rationale_weight: float = Field(default=1.0, ge=0)
    """Lambda in label + lambda * rationale; 0 learns answers only."""
    tuning: Literal["lora", "full"] = "lora"
    learning_rate: float | None = Field(default=None, gt=0)
    """None means train.learning_rate; full fine-tuning wants a lower one."""
    max_steps: int | None = Field(default=None, ge=1)
    """None means train.max_steps."""
    seed: int = 0

    @model_validator(mode="after")
    def _name_is_free(self) -> Self:
        if self.chains == "self" and self.order != "pre":
            raise ValueError(f"arm {self.name!r}: chains `self` go with order pre, got {self.order}")
        if self.order == "adaptive" and (self.chains != "kept" or self.chain_share < 1):
            raise ValueError(
                f"arm {self.name!r}: an adaptive arm learns from all kept chains; leave out what says otherwise"
            )
        if self.order in ("pre", "adaptive") and self.rationale_weight == 0:
            raise ValueError(f"arm {self.name!r}: with rationale_weight 0 nothing of order {self.order} is learned")
        if self.name in RESERVED_ARMS or self.name.endswith(NO_FRAMES):
            taken = f"{', '.join(RESERVED_ARMS)} and names ending in {NO_FRAMES}"
            raise ValueError(f"the arm name {self.name!r} is taken by the evaluation ({taken}); choose another one")
        return self


class OwnChainsConfig(Section):
    """How an arm with chains `self` makes its own (STaR, arXiv 2203.14465; ReST-EM, arXiv 2312.06585)."""

    rounds: int = Field(default=3, ge=1)
    """At most; a round that brings nothing new is the last one."""
    samples: int = Field(default=4, ge=1)
    """Tried for each question that has no chain yet."""
    temperature: float = Field(default=0.7, gt=0)


class AdaptiveConfig(Section):
    """How an arm of order `adaptive` learns which way suits a question: from its own success on unseen questions."""

    folds: int = Field(default=2, ge=2)
    """Students trained on the other folds answer each fold in every way."""
    fold_steps: float = Field(default=0.5, gt=0, le=1)
    """Steps of a fold's student, as a share of the arm's own."""
    labelled: int = Field(default=2000, ge=1)
    """At most so many questions get a label; predicting them in every way takes time."""


class TrainConfig(Section):
    """Optimisation, the same for each arm."""

    arms: tuple[ArmConfig, ...] = (
        ArmConfig(name="answer_only", rationale_weight=0.0),
        ArmConfig(name="distilled", rationale_weight=1.0),
    )
    max_steps: int = Field(default=240, ge=1)
    questions_per_step: int = Field(default=16, ge=1)
    """Global batch: over all processes and accumulation steps."""
    questions_per_device: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    warmup_steps: int = Field(default=20, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    gradient_checkpointing: bool = False
    save_steps: int = Field(default=60, ge=1)
    keep_checkpoints: int = Field(default=2, ge=1)
    lora: LoraSection = LoraSection()
    pack_tokens: int = Field(default=256, ge=0)
    """Text rows are packed into rows of about this many tokens, without sight of each other; 0 pads each instead."""
    own_chains: OwnChainsConfig = OwnChainsConfig()
    adaptive: AdaptiveConfig = AdaptiveConfig()
    frame_cache_mb: int = Field(default=512, ge=0)
    procs: int = Field(default=1, ge=1)
    """Processes on this machine; more than one starts torchrun."""
    zero_stage: Literal[0, 2, 3] = 0
    """DeepSpeed ZeRO stage; 0 means plain data parallel or a single process."""

    @model_validator(mode="after")
    def _arms_differ(self) -> Self:
        names = [arm.name for arm in self.arms]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"arms need different names, got {names}")
        return self


class EvaluateConfig(Section):
    """Prediction and scoring."""

    splits: tuple[str, ...] = Field(default=("test", "test_ood"), min_length=1)
    """Each must have questions; of the default two, one is enough."""
    batch_size: int = Field(default=32, ge=1)
    bootstrap_samples: int = Field(default=2000, ge=100)


class ReportConfig(Section):
    """What the report shows."""

    gallery: int = Field(default=24, ge=1)
    rejected_per_reason: int = Field(default=3, ge=1)


class RunConfig(Section):
    """A whole run."""

    seed: int = 0
    run: RunSection = RunSection()
    data: DataConfig
    frames: FramesConfig = FramesConfig()
    teacher: TeacherConfig = TeacherConfig()
    filter: FilterConfig = FilterConfig()
    student: StudentConfig = StudentConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _one_door(self) -> Self:
        is_text = self.door == "text"
        settings = [
            ("teacher.planner", self.teacher.planner, (self.teacher.planner != "rules") == is_text),
            ("student.base", self.student.base, self.student.base != ("tiny-video" if is_text else "tiny-text")),
        ]
        settings += [
            (f"order of arm {arm.name}", arm.order, (arm.order != "both") == is_text) for arm in self.train.arms
        ]
        drawn = self.data.dataset == "toy_math"
        if is_text and {"procedural": not drawn, "given": drawn}.get(self.teacher.planner, False):
            settings.append(("teacher.planner", self.teacher.planner, False))
        for what, value, fits in settings:
            if not fits:
                raise ValueError(f"{what} is {value!r}, but data.dataset is {self.data.dataset!r}: {_TAKES[self.door]}")
        return self

    @property
    def door(self) -> Literal["video", "text"]:
        """Which front door the questions come through."""
        return "video" if self.data.dataset in VIDEO_DATASETS else "text"

    def steps_of(self, arm: ArmConfig) -> int:
        """Optimiser steps that an arm is trained for."""
        return arm.max_steps or self.train.max_steps

    def digest(self) -> str:
        """Twelve hex digits over everything that can change a result."""
        text = json.dumps(result_settings(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


_TAKES = {
    "text": "a text run takes teacher.planner procedural (for toy_math), given (for other data) or chat, student.base "
    "tiny-text or a model folder, and arms with order answers_only, pre, post or adaptive",
    "video": "a video run takes teacher.planner rules, student.base tiny-video or a model folder, and arms with order "
    "both",
}
NOT_IN_RESULTS = ("run.dir", "run.reuse", "frames.workers", "teacher.workers", "train.frame_cache_mb")
"""Settings that may change between a run and its resumption."""


def result_settings(config: RunConfig) -> dict[str, Any]:
    """Flat `key.sub` to value, without the settings that cannot change a result."""
    flat = _flatten(config.model_dump(mode="json"))
    return {key: value for key, value in flat.items() if key not in NOT_IN_RESULTS}


def differing_keys(old: RunConfig, new: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Result-changing settings in which two configs differ: key to (old, new)."""
    a, b = result_settings(old), result_settings(new)
    return {k: (a.get(k), b.get(k)) for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)}


def load_config(path: Path, *, overrides: tuple[str, ...] = ()) -> RunConfig:
    """The config in `path` with `key.sub=value` overrides applied, and paths made absolute (see the top).

    Raises:
        ConfigError: the file is missing or no YAML, an override is malformed, a key unknown, or a value unfit.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the config {path}: {error}; give the path of a YAML file") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} must hold `key: value` lines, got {type(raw).__name__}")
    for override in overrides:
        _apply_override(raw, override)
    given = tuple(override.partition("=")[0] for override in overrides)
    return _located(parse_config(raw, source=str(path)), folder=path.parent, given=given)


def parse_config(raw: dict[str, Any], *, source: str) -> RunConfig:
    """`raw` as a checked config.

    Raises:
        ConfigError: naming every bad key, with the nearest known key for unknown ones.
    """
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        lines = [_explain(dict(item)) for item in error.errors()]
        raise ConfigError(f"{source}: " + "; ".join(lines)) from None


def dump_config(config: RunConfig) -> str:
    """The resolved config as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _located(config: RunConfig, *, folder: Path, given: tuple[str, ...]) -> RunConfig:
    """`config` with absolute paths; those of the keys in `given` came from the command line, the rest from `folder`."""

    def locate(key: str, name: str) -> str | None:
        from_command_line = any(key == one or key.startswith(f"{one}.") for one in given)
        bases = [Path.cwd()] if from_command_line else list(_bases(folder))
        return next((str((base / name).resolve()) for base in bases if _exists(base / name)), None)

    def absolute(key: str, name: str | None) -> str | None:
        return name and (locate(key, name) or str(Path.cwd() / name))

    data, student, teacher = config.data, config.student, config.teacher
    root = absolute("data.root", data.root)

    def beside(key: str, name: str | None) -> str | None:
        """A file of the data set: in its root, or where any other path may be."""
        if not name or not root:
            return absolute(key, name) if key.startswith("data.files") else name
        inside = Path(root) / name
        return str(inside) if _exists(inside) else locate(key, name) or str(inside)

    side: dict[str, Any] = {"root": root}
    side |= {key: beside(f"data.{key}", getattr(data, key)) for key in ("questions", "annotations")}
    files = {key: beside(f"data.files.{key}", getattr(data.files, key)) for key in ("train", "test")}
    side["files"] = data.files.model_copy(update=files)
    base = student.base if student.base in EMBEDDED_STUDENTS else locate("student.base", student.base) or student.base
    appearance = absolute("teacher.appearance", teacher.appearance)
    changed = {
        "data": data.model_copy(update=side),
        "student": student.model_copy(update={"base": base}),
        "teacher": teacher.model_copy(update={"appearance": appearance}),
    }
    return config.model_copy(update=changed)


def _bases(folder: Path) -> Iterator[Path]:
    """Where a path written in a config file in `folder` may start, in the order of trying."""
    here = Path.cwd()
    yield here
    yield here / folder
    yield from (here / folder).parents


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or not to be looked at
        return False


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise ConfigError(f"override {override!r} is not of the form key.sub=value, for example train.max_steps=100")
    *parents, last = key.split(".")
    node = raw
    for name in parents:
        node = node.setdefault(name, {})
        if not isinstance(node, dict):
            raise ConfigError(f"override {override!r}: {name} is a value, not a section")
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: the value is not valid YAML ({error})") from error


def _explain(item: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        return f"{key}: {item['msg']}, got {item.get('input')!r}"
    known = _known_keys()
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    siblings = [k for k in known if k.rpartition(".")[0] == key.rpartition(".")[0]]
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(siblings)}"
    return f"unknown key {key}; {hint}"


def _known_keys() -> list[str]:
    keys: list[str] = []

    def walk(model: type[BaseModel], prefix: str) -> None:
        for name, field in model.model_fields.items():
            keys.append(prefix + name)
            kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
            for kind in kinds:
                if isinstance(kind, type) and issubclass(kind, BaseModel):
                    walk(kind, f"{prefix}{name}.")

    walk(RunConfig, "")
    return keys


def _flatten(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
