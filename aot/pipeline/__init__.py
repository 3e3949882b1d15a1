"""The stages, each a function from run folder to run folder; all of them resume, and a finished one is a no-op."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from aot import STAGES
from aot.config import RunConfig
from aot.errors import AotError, DecodeError, GuardStop, RunError
from aot.pipeline.progress import StageProgress
from aot.runs import RunFolder, open_run, publish, read_run_json, set_stage, stage_done
from video_data.errors import VideoError

log = logging.getLogger(__name__)
Stage = Callable[[RunFolder, RunConfig, Callable[[int, int], None]], dict[str, int]]


def run_stages(
    config: RunConfig, *, config_path: Path, command: list[str], stages: Sequence[str] = STAGES
) -> tuple[RunFolder, int]:
    """Do `stages` of a run, skipping finished ones.

    Returns:
        The run folder, and exit code 0 or, where inputs were refused, 3.

    Raises:
        AotError: with the stage marked as failed and everything finished so far kept.
    """
    run = open_run(config, config_path=config_path, command=command)
    _log_to_file(run)
    for stage in stages:
        if stage_done(run, stage):
            log.info("%s: finished before, nothing to do", stage)
            continue
        _require_earlier(run, stage)
        _do(run, config, stage)
    if all(stage_done(run, stage) for stage in STAGES) and not run.done.exists():
        publish(run.done, config.digest() + "\n")
    return run, 3 if num_refused(run) else 0


def num_refused(run: RunFolder) -> int:
    """How many inputs the run could not use."""
    return int(read_run_json(run)["stages"].get("prepare", {}).get("refused", 0))


def _do(run: RunFolder, config: RunConfig, stage: str) -> None:
    log.info("%s: starting", stage)
    set_stage(run, stage, "running", done=0)
    started = time.monotonic()
    try:
        with StageProgress(run, stage) as progress:
            facts = _function(stage)(run, config, progress)
    except VideoError as error:
        told = _video_error(error)
        _note_failure(run, stage, told)
        raise told from None
    except BaseException as error:
        _note_failure(run, stage, error)
        raise
    seconds = time.monotonic() - started
    set_stage(run, stage, "done", seconds=round(seconds, 2), **facts)
    log.info("%s: done in %.1f s (%s)", stage, seconds, ", ".join(f"{k} {v}" for k, v in facts.items()))


def _video_error(error: VideoError) -> AotError:
    """The leaf's error as one of ours; a full disk can be resumed from."""
    return GuardStop(str(error)) if error.reason == "disk_full" else DecodeError(str(error))


def _function(stage: str) -> Stage:
    """The function of a stage, imported when it is needed: some bring torch along."""
    if stage == "prepare":
        from aot.pipeline.prepare import prepare

        return prepare
    if stage == "evaluate":
        from aot.pipeline.evaluate import evaluate

        return evaluate
    from aot.pipeline import stages

    known: dict[str, Stage] = {
        "generate": stages.generate,
        "filter": stages.filter_traces,
        "train": stages.train,
        "report": stages.report,
    }
    return known[stage]


def _require_earlier(run: RunFolder, stage: str) -> None:
    missing = [earlier for earlier in STAGES[: STAGES.index(stage)] if not stage_done(run, earlier)]
    if missing:
        raise RunError(f"{stage} needs {', '.join(missing)} first; run `aot run CONFIG`, or these stages one by one")


def _note_failure(run: RunFolder, stage: str, error: BaseException) -> None:
    text = str(error) if isinstance(error, AotError) else f"{type(error).__name__}: {error}"
    try:
        set_stage(run, stage, "failed", error=text)
    except AotError as second:
        # The disk that stopped the stage may also refuse this note; the first error is the one to tell.
        log.warning("could not note the failure: %s", second)


def _log_to_file(run: RunFolder) -> None:
    root = logging.getLogger()
    if any(isinstance(h, logging.FileHandler) and h.baseFilename == str(run.log.resolve()) for h in root.handlers):
        return
    handler = logging.FileHandler(run.log.resolve(), encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)
