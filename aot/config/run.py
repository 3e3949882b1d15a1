"""The whole config of a run, its digest, and what differs between two of them."""

import hashlib
import json
from typing import Any, Literal, Self

from pydantic import model_validator

from aot.config.base import Section, Seed
from aot.config.chat import CHAT_BEFORE_ROWS, CHAT_MAY_CHANGE, CHAT_NOT_IN_RESULTS, ChatConfig
from aot.config.data import VIDEO_DATASETS, DataConfig, FramesConfig, RunSection
from aot.config.teaching import FilterConfig, TeacherConfig
from aot.config.training import ArmConfig, EvaluateConfig, ReportConfig, StudentConfig, TrainConfig


class RunConfig(Section):
    """A whole run."""

    seed: Seed = 0
    run: RunSection = RunSection()
    data: DataConfig
    frames: FramesConfig = FramesConfig()
    teacher: TeacherConfig = TeacherConfig()
    chat: ChatConfig | None = None
    """The chat model that plans, or solves text problems."""
    vision_chat: ChatConfig | None = None
    """The chat model behind tools that look; None means `chat`."""
    judge_chat: ChatConfig | None = None
    """The chat model that judges traces; None means `chat`."""
    filter: FilterConfig = FilterConfig()
    student: StudentConfig = StudentConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _one_door(self) -> Self:
        is_text = self.door == "text"
        settings = [
            ("teacher.planner", self.teacher.planner, self.teacher.planner in _PLANNERS[self.door]),
            ("student.base", self.student.base, self.student.base != ("tiny-video" if is_text else "tiny-text")),
        ]
        settings += [
            (f"order of arm {arm.name}", arm.order, arm.order != "both" or not is_text) for arm in self.train.arms
        ]
        drawn = self.data.dataset == "toy_math"
        if is_text and {"procedural": not drawn, "given": drawn}.get(self.teacher.planner, False):
            settings.append(("teacher.planner", self.teacher.planner, False))
        for what, value, fits in settings:
            if not fits:
                raise ValueError(f"{what} is {value!r}, but data.dataset is {self.data.dataset!r}: {_TAKES[self.door]}")
        return self

    @model_validator(mode="after")
    def _chat_is_there(self) -> Self:
        is_video = self.door == "video"
        looks = self.teacher.tools.behind("chat") if is_video else ()
        wants = [
            ("teacher.planner: chat", self.teacher.planner == "chat", self.chat),
            ("teacher.rationale: chat", is_video and self.teacher.rationale == "chat", self.chat),
            (f"teacher.tools.{looks[0] if looks else ''}: chat", bool(looks), self.vision_chat or self.chat),
            ("filter.judge: true", self.filter.judge, self.judge_chat or self.chat),
        ]
        for setting, wanted, section in wants:
            if wanted and section is None:
                raise ValueError(f"{setting} needs a section `chat` with a model (docs/chat.md)")
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


_PLANNERS = {"text": ("procedural", "given", "chat"), "video": ("rules", "chat")}
_TAKES = {
    "text": "a text run takes teacher.planner procedural (for toy_math), given (for other data) or chat, student.base "
    "tiny-text or a model folder, and arms with order answers_only, pre, post or adaptive",
    "video": "a video run takes teacher.planner rules or chat, student.base tiny-video or a model folder, and arms "
    "of any order",
}
NOT_IN_RESULTS = (
    "run.dir", "run.reuse", "run.shard", "frames.workers", "teacher.workers", "teacher.engine", "teacher.ray_address",
    "teacher.gpus_per_worker", "teacher.unanswered", "teacher.max_failed_share", "filter.min_kept",
    "train.frame_cache_mb",
    *(f"{section}.{name}" for section in ("chat", "vision_chat", "judge_chat") for name in CHAT_NOT_IN_RESULTS),
)  # fmt: skip
"""Settings that may change between a run and its resumption."""
_LEFT_OUT = tuple(f"{key}." for key in NOT_IN_RESULTS)


def result_settings(config: RunConfig) -> dict[str, Any]:
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
