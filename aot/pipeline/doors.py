"""The two doors, video and text: what each of them gives to the trunk. Nobody else asks which one a run came through.

A door gives its questions and its teachers, and knows what of its own can be looked over before any work; what else
differs between runs (frames, tool steps, choices, chains of equations) is read off the data. Rooms are imported when
they are needed: some bring torch along, some OpenCV.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from aot.config import RunConfig, TextRun, VideoRun
from aot.files.run_folder import RunFolder
from aot.generate.solve import TeacherRoom
from aot.records import Question, Refusal

Run = TypeVar("Run", VideoRun, TextRun)
Stage = Callable[[RunFolder, Run, Callable[[int, int], None]], dict[str, int]]


@dataclass(frozen=True)
class Plan:
    """What a run would do, for `--dry-run`."""

    lines: list[str]
    disk_mb: float
    seconds: float
    """Of prepare and generate on 2 cores, where no chat model is asked."""
    splits: Counter[str]
    """Questions of each split."""


Tools = Literal["all", "none", "shuffled_book"]
"""What a student finds when it calls tools: those of its run; that none is there; or a book with shuffled cards."""


@dataclass(frozen=True)
class Door(Generic[Run]):
    """What one door gives."""

    shows_frames: bool
    """Whether prompts show frames of clips."""
    prepare: Callable[[], Callable[..., dict[str, int]]]
    """A stage: questions, and whatever comes with them; takes the `source` of them, where it was read already."""
    teachers: Callable[[], TeacherRoom[Run]]
    """Who turns a question into traces, and how defects are planted into them."""
    check: Callable[[Run, RunFolder, set[str]], None]
    """Looks over what the stages ahead will need, before any work; raises AotError."""
    plan: Callable[[Run, RunFolder], Plan]
    questions: Callable[[Run, Path], tuple[list[Question], list[Refusal]]]
    """The questions without their clips, and rows that make none, for `aot score`."""
    bench: Callable[[Run, RunFolder, Tools, str], Any]
    """The Bench (aot.teacher.bench) of a student that calls tools; its cache goes to the part of a writer."""
    has_book: Callable[[Run], bool] = lambda config: False
    """Whether there is a book among them."""


def _video_prepare() -> Callable[..., dict[str, int]]:
    from aot.pipeline.prepare import prepare

    return prepare


def _video_teachers() -> TeacherRoom[VideoRun]:
    from aot.teacher import agent

    return agent


def _video_check(config: VideoRun, run: RunFolder, ahead: set[str]) -> None:
    from aot.pipeline.commands.inputs import check_video

    check_video(config, run, ahead)


def _video_plan(config: VideoRun, run: RunFolder) -> Plan:
    from aot.pipeline.commands.plan import video_plan

    return video_plan(config, run)


def _video_questions(config: VideoRun, config_path: Path) -> tuple[list[Question], list[Refusal]]:
    from aot.pipeline.prepare import labelled_questions

    return labelled_questions(config, config_path)


def _video_bench(config: VideoRun, run: RunFolder, tools: Tools, writer: str) -> Any:  # noqa: ANN401
    from aot.pipeline.benches import video_bench

    return video_bench(config, run, tools, writer)


def _text_prepare() -> Callable[..., dict[str, int]]:
    from text_cot.prepare import prepare

    return prepare


def _text_teachers() -> TeacherRoom[TextRun]:
    from text_cot.teacher import teachers

    return teachers


def _text_check(config: TextRun, run: RunFolder, ahead: set[str]) -> None:
    from aot.pipeline.commands.inputs import check_text

    check_text(config, ahead)


def _text_plan(config: TextRun, run: RunFolder) -> Plan:
    from aot.pipeline.commands.plan import text_plan

    return text_plan(config, run)


def _text_questions(config: TextRun, config_path: Path) -> tuple[list[Question], list[Refusal]]:
    from text_cot.prepare import read_source

    text = read_source(config.data, seed=config.seed)
    return list(text.questions), list(text.refusals)


def _text_bench(config: TextRun, run: RunFolder, tools: Tools, writer: str) -> Any:  # noqa: ANN401
    from aot.pipeline.benches import text_bench

    return text_bench(config, tools)


_VIDEO = Door[VideoRun](
    True, _video_prepare, _video_teachers, _video_check, _video_plan, _video_questions, _video_bench,
    has_book=lambda config: config.data.recipes is not None,
)  # fmt: skip
_TEXT = Door[TextRun](False, _text_prepare, _text_teachers, _text_check, _text_plan, _text_questions, _text_bench)


def door_of(config: RunConfig) -> Door[Any]:
    """The door that the questions of a run come through; what it gives takes runs of this kind only."""
    return _VIDEO if isinstance(config, VideoRun) else _TEXT


def stage_function(stage: str, config: RunConfig, *, source: object = None) -> Stage[Any]:
    """The function that does a stage of this run; prepare takes the `source` of it, if that was read already."""
    if stage == "prepare":
        return partial(door_of(config).prepare(), source=source)
    if stage == "generate":
        from aot.generate.run import generate

        return partial(generate, teachers=door_of(config).teachers())
    if stage == "train":
        from aot.arms.train import train

        return train
    if stage == "evaluate":
        from aot.pipeline.evaluate import evaluate

        return evaluate
    from aot.pipeline import stages

    return {"filter": stages.filter_traces, "report": stages.report}[stage]
