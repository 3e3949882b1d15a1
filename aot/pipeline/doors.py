"""The two doors, video and text: what each of them gives to the trunk. Nobody else asks which one a run came through.

A door gives its questions and its teachers; what else differs between runs (frames, tool steps, choices, chains of
equations) is read off the data. Rooms are imported when they are needed: some bring torch along, some OpenCV.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from aot.config import RunConfig
from aot.files.run_folder import RunFolder
from aot.generate.solve import TeacherRoom

Stage = Callable[[RunFolder, RunConfig, Callable[[int, int], None]], dict[str, int]]


@dataclass(frozen=True)
class Door:
    """What one door gives."""

    prepare: Callable[[], Stage]
    """Questions, and whatever comes with them."""
    teachers: Callable[[], TeacherRoom]
    """Who turns a question into traces, and how defects are planted into them."""


def _video_prepare() -> Stage:
    from aot.pipeline.prepare import prepare

    return prepare


def _video_teachers() -> TeacherRoom:
    from aot.teacher import agent

    return agent


def _text_prepare() -> Stage:
    from text_cot.prepare import prepare

    return prepare


def _text_teachers() -> TeacherRoom:
    from text_cot.teacher import teachers

    return teachers


DOORS = {"video": Door(_video_prepare, _video_teachers), "text": Door(_text_prepare, _text_teachers)}


def stage_function(stage: str, config: RunConfig) -> Stage:
    """The function that does a stage of this run."""
    door = DOORS[config.door]
    if stage == "prepare":
        return door.prepare()
    if stage == "generate":
        from aot.generate.run import generate

        return partial(generate, teachers=door.teachers())
    if stage == "train":
        from aot.arms.train import train

        return train
    if stage == "evaluate":
        from aot.pipeline.evaluate import evaluate

        return evaluate
    from aot.pipeline import stages

    return {"filter": stages.filter_traces, "report": stages.report}[stage]
