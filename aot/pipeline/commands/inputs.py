"""What is looked over before any work, and by `--dry-run`: whether the paths of a config lead to something usable.

Opens no clip and reads no question; splits and rows are judged by `prepare.usable_source`.
"""

import importlib.util
from pathlib import Path

from aot import STAGES
from aot.config import (
    COUNTED,
    EMBEDDED,
    EMBEDDED_STUDENTS,
    AnnotatedData,
    FilesData,
    HfData,
    KitchenData,
    PlainData,
    RunConfig,
    StudentConfig,
    TextRun,
    TrainConfig,
    VideoRun,
    chat_jobs,
)
from aot.errors import AotError, CheckpointError, ConfigError, SourceError
from aot.files.run_folder import RunFolder, stage_done
from aot.pipeline.doors import door_of
from aot.pipeline.planning.preflight import check_hub_name
from aot.records import Question


def check_inputs(config: RunConfig, run: RunFolder) -> None:
    """Look at every path that a stage still to be done will need.

    Raises:
        SourceError: the data folder or one of its files is missing.
        ConfigError: the appearance card, or the chat model, cannot be used.
        CheckpointError: the base student is missing or incomplete.
    """
    check_paths(config, run)
    look_at_student(config, run)


def check_paths(config: RunConfig, run: RunFolder) -> None:
    """Look at all that `check_inputs` looks at, but the base student.

    Raises:
        AotError: as there.
    """
    ahead = {stage for stage in STAGES if not stage_done(run, stage)}
    processes = config.train.procs * config.train.nodes
    if "train" in ahead and config.train.questions_per_step % processes:
        raise ConfigError(
            f"train.questions_per_step={config.train.questions_per_step} cannot be shared by {processes} processes; "
            f"use a multiple of {processes}, or another number of train.procs on each of {config.train.nodes} machines"
        )
    door_of(config).check(config, run, ahead)
    if "generate" in ahead:
        _check_local_chat(config)


def missing_inputs(config: RunConfig, run: RunFolder) -> list[AotError]:
    """Everything that stops a run before any work, where `check_inputs` tells the first of it."""
    ahead = {stage for stage in STAGES if not stage_done(run, stage)}
    stopping: list[AotError] = []
    for check in (
        lambda: door_of(config).check(config, run, ahead),
        lambda: _check_local_chat(config),
        lambda: look_at_student(config, run),
    ):
        try:
            check()
        except AotError as error:
            stopping.append(error)
    return stopping


def look_at_student(config: RunConfig, run: RunFolder, question: Question | None = None) -> list[str]:
    """What the base student is, in lines for a plan; none where no stage needs it, or where nothing of it is unknown.

    Nothing is looked at on a machine that will not train: its clips may be prepared there all the same.

    Raises:
        CheckpointError: the base is missing or incomplete, or no arm can be trained on it.
        ConfigError: an option of the training needs a package that is not installed.
    """
    trained = stage_done(run, "train")
    if config.run.shard is None and not trained:
        _check_options(config.student, config.train)
    done = trained and stage_done(run, "evaluate")
    is_embedded = config.student.base in EMBEDDED_STUDENTS and config.train.lora.target_pattern is None
    if done or is_embedded or (config.run.shard is not None and not trained):  # a shard before that needs no student
        return []
    hub = config.student.hub
    if hub and not Path(config.student.base).is_dir():
        raise CheckpointError(
            f"student.base {config.student.base} is not there; `aot prefetch CONFIG` fetches {hub.name} at "
            f"{hub.revision[:12]} into it, or give the folder of another model"
        )
    try:
        from aot.student.model.base import resolve_base
    except ImportError:
        return []
    from aot.student.model.preflight import preflight

    if not Path(resolve_base(config.student.base)).is_dir():
        check_hub_name(config.student.base)
    seen = preflight(config.student, config.train, question, with_frames=door_of(config).shows_frames)
    if not seen:
        return []
    ends = ", ".join(map(repr, seen["end_tokens"]))
    lines = [f"student: {seen['model_type']} of {seen['parameters']:,} parameters; a reply ends with {ends}"]
    if seen["adapted_layers"]:
        lines.append(f"adapters: on {seen['adapted_layers']} layers, {seen['trainable']:,} parameters")
    if seen["row_tokens"]:
        most = str(config.student.max_tokens)
        if 0 < seen["context"] < config.student.max_tokens:
            most += f", and the model knows {seen['context']} positions"
        lines.append(f"first row: {seen['row_tokens']} tokens with its answer alone; student.max_tokens is {most}")
    if not seen["has_template"]:
        lines.append("chat template: none, so prompts are plain, `User: ...` and `Assistant:`")
    if seen["template_date"]:
        lines.append(f"chat template: is always told that today is {seen['template_date']}")
    return lines


def _check_options(student: StudentConfig, train: TrainConfig) -> None:
    """What an option lacks is told before anything is paid for; a machine without torch will not train anyway."""
    asks = (
        train.trackers
        or train.liger
        or train.sharding != "zero"
        or train.zero_stage
        or student.attention not in ("sdpa", "eager")
    )
    if asks and importlib.util.find_spec("torch"):
        from aot.student.train.options import require_options

        require_options(student, train)


def check_text(config: TextRun, ahead: set[str]) -> None:
    """Look over what only runs of text need."""
    from text_cot.prepare import check_data

    if "prepare" in ahead and isinstance(config.data, FilesData | HfData):
        check_data(config.data)
    if "generate" in ahead and config.teacher.planner == "chat" and config.chat:
        from text_cot.teacher.chat import check_teacher

        check_teacher(config.teacher, config.chat)


def check_video(config: VideoRun, run: RunFolder, ahead: set[str]) -> None:
    """Look over what only runs about clips need."""
    from aot.teacher.tools.pixels.appearance import load_appearance

    if "prepare" in ahead and not isinstance(config.data, KitchenData):
        _check_data(config.data, run)
    if "prepare" in ahead and config.data.recipes not in (None, EMBEDDED, COUNTED):
        from aot.teacher.tools.book import read_cards

        read_cards(Path(config.data.recipes))
    if "generate" in ahead:
        from aot.teacher.parts import check_models

        load_appearance(config.teacher.appearance)
        check_models(config)


def _check_data(data: PlainData | AnnotatedData, run: RunFolder) -> None:
    from aot.pipeline.source import clips_root, official_files, side_files

    root = clips_root(data, run)
    if not root.is_dir():
        raise SourceError(f"there is no folder {root}; set data.root to the folder that holds the clips")
    if isinstance(data, PlainData):
        side_files(data, root)
    else:
        official_files(data)


def _check_local_chat(config: RunConfig) -> None:
    """A model folder that is asked as a chat model is looked over as one that learns is."""
    names = {
        section.model
        for _, section in chat_jobs(config).values()
        if section and section.backend == "local" and section.model not in EMBEDDED_STUDENTS
    }
    if names and importlib.util.find_spec("torch"):
        from aot.student.model.preflight import preflight_chat

        for name in sorted(names):
            preflight_chat(name)
