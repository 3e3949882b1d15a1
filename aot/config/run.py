"""The whole config of a run, its digest, and what differs between two of them."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from math import ceil
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from aot.config.base import Section, Seed
from aot.config.chat import (
    CHAT_BEFORE_ROWS,
    CHAT_MAY_CHANGE,
    CHAT_NOT_IN_RESULTS,
    SERVER_NOT_IN_RESULTS,
    ChatConfig,
)
from aot.config.data import BY_DATASET, DataConfig, FramesConfig, MathData, RunSection, TextData, VideoData
from aot.config.serving import ServingConfig
from aot.config.teaching import BY_PLANNER, FilterConfig, RulesTeacher, TeacherConfig, TextTeacher, VideoTeacher
from aot.config.training import ArmConfig, EvaluateConfig, ReportConfig, StudentConfig, TrainConfig


class AnyRun(Section):
    """What every run has."""

    seed: Seed = 0
    run: RunSection = RunSection()
    data: Annotated[DataConfig, BY_DATASET]
    teacher: Annotated[TeacherConfig, BY_PLANNER]
    chat: ChatConfig | None = None
    """The chat model that plans, or solves text problems."""
    judge_chat: ChatConfig | None = None
    """The chat model that judges traces; None means `chat`."""
    filter: FilterConfig = FilterConfig()
    student: StudentConfig = StudentConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()
    serving: ServingConfig = ServingConfig()

    def steps_of(self, arm: ArmConfig, *, lessons: int = 0) -> int:
        """Optimiser steps that an arm is trained for at most; with train.epochs they follow from its `lessons`.

        0 where these are not known yet. Lessons about the frames of one question count as one.
        """
        if arm.chains == "on_policy":
            return self.train.on_policy.steps
        if arm.max_steps or self.train.epochs is None:
            return arm.max_steps or self.train.max_steps
        return ceil(self.train.epochs * lessons / self.train.questions_per_step)

    def start_of(self, arm: ArmConfig) -> str:
        """Name of the student whose weights `arm` begins with; empty where it begins with those of the base."""
        name, _, helper = arm.name.partition("/")
        if arm.chains == "on_policy":
            number = int(helper.removeprefix("round")) if helper else self.train.on_policy.rounds
            return f"{name}/round{number - 1}"
        if helper == "judge":
            return f"{name}/round0"
        goes_on = arm.order == "adaptive" and self.train.adaptive.labels == "own" and not helper
        return f"{name}/fold0" if goes_on else ""

    def digest(self) -> str:
        """Twelve hex digits over everything that can change a result."""
        text = json.dumps(result_settings(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class VideoRun(AnyRun):
    """A whole run about clips."""

    data: Annotated[VideoData, BY_DATASET]
    teacher: Annotated[VideoTeacher, BY_PLANNER] = RulesTeacher()
    frames: FramesConfig = FramesConfig()
    vision_chat: ChatConfig | None = None
    """The chat model behind tools that look; None means `chat`."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems: list[str] = []
        if self.student.base in ("tiny-text", "tiny-names"):
            takes = "a video run takes tiny-video or a model folder"
            problems.append(_unfit("student.base", self.student.base, self.data, takes))
        _refuse([*problems, *_misfits(self)])
        return self


class TextRun(AnyRun):
    """A whole run about text problems."""

    data: Annotated[TextData, BY_DATASET]
    teacher: Annotated[TextTeacher, BY_PLANNER] = Field(default_factory=dict, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _has_defaults_of_text(cls, raw: Any) -> Any:  # noqa: ANN401 - whatever was written
        """What stands in a section of every run has the default of runs about clips there; these are those of text."""
        if not isinstance(raw, dict):
            return raw
        planner = "procedural" if _dataset(raw) in BY_DATASET.names(MathData) else "given"
        usual = {"teacher": {"planner": planner}, **_TEXT_DEFAULTS}
        given = {name: raw.get(name, {}) for name in usual}
        return {**raw, **{name: {**usual[name], **one} for name, one in given.items() if isinstance(one, dict)}}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems: list[str] = []
        if self.teacher.planner not in ("chat", "procedural" if isinstance(self.data, MathData) else "given"):
            takes = "a text run takes procedural (for toy_math), given (for other data) or chat"
            problems.append(_unfit("teacher.planner", self.teacher.planner, self.data, takes))
        if self.student.base == "tiny-video":
            takes = "a text run takes tiny-text, tiny-names or a model folder"
            problems.append(_unfit("student.base", self.student.base, self.data, takes))
        takes = "a text run takes answers_only, pre, post, adaptive or tool_use"
        for arm in self.train.arms:
            if arm.order == "both":
                problems.append(_unfit(f"order of arm {arm.name}", arm.order, self.data, takes))
        _refuse([*problems, *_misfits(self)])
        return self


_TEXT_DEFAULTS: dict[str, dict[str, Any]] = {
    "student": {"base": "tiny-text"},
    "train": {"arms": [{"name": "answers_only", "order": "answers_only"}, {"name": "pre", "order": "pre"}]},
    "evaluate": {"splits": ["test"]},
}


def _dataset(raw: dict[str, Any]) -> object:
    data = raw.get("data")
    return data.get("dataset") if isinstance(data, dict) else getattr(data, "dataset", None)


RunConfig = VideoRun | TextRun
Job = Literal["thinks", "looks", "judges"]
"""What a chat model may do in a run: plan, write or solve; look at frames; judge traces."""


def chat_jobs(run: RunConfig) -> dict[Job, tuple[str, ChatConfig | None]]:
    """The jobs that chat models have in a run, each with the setting that gives it and the section that does it."""
    jobs: dict[Job, tuple[str, ChatConfig | None]] = {}
    if run.teacher.planner == "chat":
        jobs["thinks"] = "teacher.planner: chat", run.chat
    elif isinstance(run, VideoRun) and run.teacher.rationale == "chat":
        jobs["thinks"] = "teacher.rationale: chat", run.chat
    if isinstance(run, VideoRun) and (tools := run.teacher.tools.behind("chat")):
        jobs["looks"] = f"teacher.tools.{tools[0]}: chat", run.vision_chat or run.chat
    if run.filter.judge:
        jobs["judges"] = "filter.judge: true", run.judge_chat or run.chat
    return jobs


def chat_for(run: RunConfig, job: Job) -> ChatConfig | None:
    """The chat model that does a job in a run; None where there is no such job."""
    return chat_jobs(run).get(job, ("", None))[1]


def teacher_chats(run: RunConfig) -> tuple[ChatConfig | None, ChatConfig | None]:
    """The chat model that thinks for the teacher, and the one that looks if that is another; None where none does."""
    thinks, looks = chat_for(run, "thinks"), chat_for(run, "looks")
    return thinks, None if looks == thinks else looks


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise ValueError("; ".join(problems))


def _misfits(run: RunConfig) -> list[str]:
    """What is wrong with settings of several sections, whichever kind of run they are in."""
    return [*_missing_chats(run), *_server_problems(run), *_judge_problems(run)]


def _missing_chats(run: RunConfig) -> Iterator[str]:
    for setting, section in chat_jobs(run).values():
        if section is None:
            yield f"{setting} needs a section `chat` with a model (docs/chat.md)"


def _server_problems(run: AnyRun) -> Iterator[str]:
    """Why a server cannot stand for every student, or which of its names are those of none."""
    if run.evaluate.engine != "server":
        return
    arms = ("base", *(arm.name for arm in run.train.arms))
    for setting in ("models", "base_urls"):
        if unknown := [name for name in getattr(run.evaluate.server, setting) if name not in arms]:
            yield (
                f"evaluate.server.{setting} names {unknown[0]!r}, which is no student here; there are: "
                f"{', '.join(arms)}"
            )
    if adaptive := [arm.name for arm in run.train.arms if arm.order == "adaptive"]:
        yield (
            f"evaluate.engine: server cannot ask the arm {adaptive[0]!r} of order adaptive, whose first line is "
            "weighed by its probability and not written; evaluate it with engine local"
        )


def _judge_problems(run: AnyRun) -> Iterator[str]:
    """Why an arm cannot learn on policy here."""
    names = [arm.name for arm in run.train.arms if arm.chains == "on_policy"]
    if not names:
        return
    if run.train.zero_stage == 3:
        yield (
            f"arm {names[0]!r} of chains on_policy begins with weights of an earlier student, which ZeRO 3 does not "
            "take; use train.zero_stage 2, or train.sharding fsdp2"
        )
    if run.train.on_policy.judge == "server" and isinstance(run, VideoRun):
        yield "train.on_policy.judge: server is asked by token ids and sees no frames; take another judge"


def _unfit(setting: str, value: str, data: DataConfig, takes: str) -> str:
    return f"{setting} is {value!r}, but data.dataset is {data.dataset!r}: {takes}"


NOT_IN_RESULTS = (
    "run.dir", "run.reuse", "run.shard", "run.node_rank", "run.rendezvous", "train.nodes", "frames.workers",
    "teacher.workers", "teacher.engine", "teacher.ray_address", "teacher.gpus_per_worker", "teacher.unanswered",
    "teacher.max_failed_share", "teacher.hf.detector_hub", "teacher.hf.similarity_hub", "filter.min_kept",
    "student.hub", "train.procs", "train.stop_after_s", "train.exchange_timeout_s", "train.frame_cache_mb",
    "train.vision_cache", "train.vision_cache_mb", "train.trackers", "evaluate.procs", "serving.review",
    "serving.review_kinds",
    *(f"evaluate.server.{name}" for name in SERVER_NOT_IN_RESULTS),
    *(f"{section}.{name}" for section in ("chat", "vision_chat", "judge_chat") for name in CHAT_NOT_IN_RESULTS),
)  # fmt: skip
"""Settings that may change between a run and its resumption."""
_LEFT_OUT = tuple(f"{key}." for key in NOT_IN_RESULTS)


def result_settings(config: AnyRun) -> dict[str, Any]:
    """Flat `key.sub` to value, without the settings that cannot change a result."""
    flat = _flatten(config.model_dump(mode="json"))
    return {key: value for key, value in flat.items() if not f"{key}.".startswith(_LEFT_OUT)}


def differing_keys(old: RunConfig, new: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Result-changing settings in which two configs differ: key to (old, new)."""
    a, b = result_settings(old), result_settings(new)
    return {k: (a.get(k), b.get(k)) for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)}


def may_change(key: str, config: RunConfig, *, generated: bool, filtered: bool, any_row: bool) -> bool:
    """Whether a setting may be mended between two lives of a run: how a chat model is asked, until its work is done.

    `generated` and `filtered` say which of these stages is done, `any_row` whether anybody was answered yet.
    """
    section, _, name = key.partition(".")
    if key == "teacher.structured":
        return not generated
    judged_by_chat = config.filter.judge and config.judge_chat is None
    done = {"chat": generated and (filtered or not judged_by_chat), "vision_chat": generated, "judge_chat": filtered}
    if done.get(section, True):
        return False
    name = name.partition(".")[0]
    return name in CHAT_MAY_CHANGE or (name in CHAT_BEFORE_ROWS and not any_row)


def chat_settings(config: RunConfig) -> dict[str, Any]:
    """How the chat models of a run are asked: flat key to value of what may change between two lives of a run."""
    if not chat_jobs(config):
        return {}
    return {
        key: value
        for key, value in result_settings(config).items()
        if value is not None and may_change(key, config, generated=False, filtered=False, any_row=False)
    }


def _flatten(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
