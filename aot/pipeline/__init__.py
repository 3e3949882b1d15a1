"""The stages, each a function from run folder to run folder; all of them resume, and a finished one is a no-op."""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from aot import STAGES
from aot.arms.jobs import is_finished, job_folders, job_named, job_piece, plan_jobs, require_needed
from aot.config import RunConfig
from aot.display import PlainFormatter
from aot.errors import AotError, ConfigError, GuardStop, RunError
from aot.files.lease import Lease
from aot.files.opening import changed_settings, open_run
from aot.files.pieces import holding, prepared_run, require_idle, user_errors, working_on
from aot.files.run_folder import (
    RunFolder,
    publish,
    read_run_json,
    run_root,
    set_stage,
    stage_done,
    start_stage,
    write_error,
)
from aot.files.seals import check_seals, stage_seals, unsealed_stages
from aot.files.shards import do_shard, leased_shards, require_shards
from aot.interrupts import check_interrupt
from aot.pipeline.commands.status import ODD_PREDICTIONS
from aot.pipeline.doors import stage_function
from aot.pipeline.follow import follow
from aot.pipeline.gates import check_gate, require_gate
from aot.pipeline.progress import StageProgress
from aot.pipeline.stages import has_new_reviews
from aot.student.train.processes.launch import Place

log = logging.getLogger(__name__)
BEFORE_TRAIN = STAGES[: STAGES.index("train")]
SPLIT = ("prepare", "generate", "evaluate")
"""Stages that several machines may do at once, a shard each."""
GOES_ON = ("generate", "train", "evaluate")
"""Stages that use what an earlier attempt left behind; the others write everything anew."""


def run_stages(
    config: RunConfig, *, config_path: Path, command: list[str], stages: Sequence[str] = STAGES, job: str | None = None
) -> tuple[RunFolder, int]:
    """Do `stages` of a run, skipping finished ones; or only one job of the train stage.

    Returns:
        The run folder, and exit code 0 or, where inputs were refused, 3.

    Raises:
        AotError: with the stage marked as failed and everything finished so far kept.
    """
    if "train" in stages:
        Place.of(config.train.nodes, config.run.node_rank, config.run.rendezvous)  # else told after hours
    if config.run.node_rank:
        run = RunFolder(run_root(config, config_path=config_path))
        if "train" in stages:
            follow(run, config, name=job)
        return run, 0
    if config.run.shard is not None:
        return _run_shard(config, config.run.shard, config_path=config_path, stages=stages), 0
    if job is not None:
        return _run_job(config, config_path=config_path, name=job), 0
    run = RunFolder(run_root(config, config_path=config_path))
    if not config.run.reuse:  # else once it was taken over
        _require_earlier(run, stages[0])
    finished, source = all(stage_done(run, stage) for stage in stages), None
    if not finished:
        from aot.pipeline.commands.inputs import check_inputs  # here, because a finished run needs none of it
        from aot.pipeline.planning.preflight import begin

        check_inputs(config, run)
        source = begin(config, run)
    if finished and not os.access(run.root, os.W_OK):
        changed_settings(run, config)
        log.info("%s cannot be written, and need not be", run.root)
        for stage in stages:
            _tell_finished(run, stage)
        return run, 3 if num_refused(run) else 0
    with holding(run, command=command) as lease:
        _open(config, config_path=config_path, command=command, first=stages[0])
        for stage in stages:
            if stage_done(run, stage) and not (stage == "filter" and _hears_people(run)):
                _tell_finished(run, stage)
            else:
                _require_ready(run, config, stage, lease, config_path=config_path, stages=stages)
                with _doing(run, stage) as (progress, facts):
                    facts |= stage_function(stage, config, source=source)(run, config, progress)
                source = None  # else it would stay in memory until the report
            _check_gates(run, config, (stage,))
        if not run.done.exists() and all(stage_done(run, stage) for stage in STAGES):
            publish(run.done, config.digest() + "\n")
    return run, 3 if num_refused(run) else 0


def _open(config: RunConfig, *, config_path: Path, command: list[str], first: str) -> None:
    """Make the run folder ready for its stages, from another run where it is told to."""
    run = open_run(config, config_path=config_path, command=command)
    _log_to_file(run)
    if config.run.reuse and not stage_done(run, STAGES[0]):
        from aot.pipeline.reuse import take_over

        take_over(run, config)
    _require_earlier(run, first)
    if unsealed := unsealed_stages(run, [stage for stage in STAGES if stage_done(run, stage)]):
        log.info("%s: published before files had seals, so they are taken as they are", ", ".join(unsealed))


def _require_ready(
    run: RunFolder, config: RunConfig, stage: str, lease: Lease, *, config_path: Path, stages: Sequence[str]
) -> None:
    """Look whether nobody is at work on what a stage needs, and whether that is enough."""
    require_idle(run, lease, leased_shards(run))
    if stage in (*BEFORE_TRAIN, "train"):
        require_idle(run, lease, (job_piece(run, job) for job in plan_jobs(run, config)))
    require_shards(run, stage, config_path=config_path)
    if stage == "train":
        earlier = [one for one in STAGES[: STAGES.index(stage)] if one not in stages]
        check_seals(run, earlier)
        _check_gates(run, config, earlier)


def _hears_people(run: RunFolder) -> bool:
    """Whether a finished filter stage is done again, because people reviewed traces since; not after a training."""
    if not has_new_reviews(run):
        return False
    if "train" not in read_run_json(run)["stages"]:
        log.info("filter: people reviewed traces since it was done, so it is done again")
        return True
    log.warning(
        "people reviewed traces since they were filtered, and students here have learned from them already; filter and "
        "train again in another folder: aot run CONFIG run.dir=NEW run.reuse=%s", run.root,
    )  # fmt: skip
    return False


def _tell_finished(run: RunFolder, stage: str) -> None:
    check_seals(run, (stage,))
    log.info("%s: finished before, nothing to do", stage)


def _check_gates(run: RunFolder, config: RunConfig, stages: Sequence[str]) -> None:
    """Stop before anything is trained on too little; what was trained already stays as it is."""
    if not stage_done(run, "train"):
        for stage in stages:
            check_gate(run, config, stage)


def num_refused(run: RunFolder) -> int:
    """How many inputs the run could not use, traces that a chat model refused, and predictions that fit no question."""
    stages = read_run_json(run)["stages"]
    odd = sum(int(stages.get("evaluate", {}).get(reason, 0)) for reason in ODD_PREDICTIONS)
    return odd + sum(int(stages.get(stage, {}).get("refused", 0)) for stage in ("prepare", "generate"))


def _run_shard(config: RunConfig, shard: str, *, config_path: Path, stages: Sequence[str]) -> RunFolder:
    """The run folder in which one shard of a stage is now done.

    Refused rows are told by the command that puts the shards together: a shard that ends with another code than 0
    would count as failed, and hold up jobs that wait for it.

    Raises:
        ConfigError: the stage cannot be split, or would be taken over from another run.
        RunError: the stages before are not done, or with other settings; or somebody works on the same.
    """
    (stage, *more) = stages
    if more or stage not in SPLIT:
        raise ConfigError(f"run.shard is for one of {', '.join(SPLIT)} at a time; leave it out for everything else")
    from aot.pipeline.commands.inputs import check_inputs

    if stage == "prepare" and config.run.reuse:
        raise ConfigError("run.reuse takes over what another run prepared, which needs no shards; leave --shard out")
    check_inputs(config, RunFolder(run_root(config, config_path=config_path)))
    run = prepared_run(config, config_path=config_path, stages=STAGES[: STAGES.index(stage)], piece=f"shard of {stage}")
    do_shard(run, stage, shard, partial(stage_function(stage, config), run, config))
    return run


def _run_job(config: RunConfig, *, config_path: Path, name: str) -> RunFolder:
    """The run folder in which one job of the train stage is now done; run.json, log and config stay as they are.

    Raises:
        ConfigError: there is no such job.
        RunError: it needs other jobs first, or a stage before; or somebody works on it.
        AotError: what stopped it, with the state of the job marked.
    """
    from aot.pipeline.commands.inputs import check_inputs

    jobs = plan_jobs(RunFolder(run_root(config, config_path=config_path)), config)
    job = job_named(jobs, name)
    run = prepared_run(config, config_path=config_path, stages=BEFORE_TRAIN, piece="job")
    if is_finished(run, job):
        why = "finished before" if job.is_done else "not needed, as an earlier round brought nothing new"
        log.info("job %s: %s; nothing to do", job.name, why)
        return run
    require_needed(run, jobs, job, config_path=config_path)
    for stage in BEFORE_TRAIN:
        require_gate(run, config, stage)
    check_inputs(config, run)
    check_seals(run, ("train",), folders=job_folders(run, job))
    from aot.arms.train import train_job  # here, because it imports torch

    with working_on(job_piece(run, job)) as progress:
        if not is_finished(run, job):  # by whoever held the lease before
            train_job(run, config, job, progress)
    return run


@contextmanager
def _doing(run: RunFolder, stage: str) -> Iterator[tuple[StageProgress, dict[str, int]]]:
    """Mark a stage as begun, and as done or failed when the block ends; the block fills in what is to be noted of it.

    A block, so that a stage is called from the one loop over all of them.
    """
    reads = STAGES[: STAGES.index(stage)]
    check_seals(run, (*reads, stage) if stage in GOES_ON else reads)
    log.info("%s: starting", stage)
    start_stage(run, stage)
    started = time.monotonic()
    progress, facts = StageProgress(run, stage), dict[str, int]()
    try:
        with user_errors(run.root, log_path=run.log), progress:
            yield progress, facts
            check_interrupt()
    except BaseException as error:
        _note_failure(run, stage, error, **progress.counts)
        raise
    seconds = time.monotonic() - started
    seals = stage_seals(run, stage)
    set_stage(run, stage, "done", seconds=round(seconds, 2), **progress.counts, **facts, files=seals)
    log.info("%s: done in %.1f s (%s)", stage, seconds, ", ".join(f"{k} {v}" for k, v in facts.items()))


def _require_earlier(run: RunFolder, stage: str) -> None:
    missing = [earlier for earlier in STAGES[: STAGES.index(stage)] if not stage_done(run, earlier)]
    if missing:
        raise RunError(f"{stage} needs {', '.join(missing)} first; run `aot run CONFIG`, or these stages one by one")


def _note_failure(run: RunFolder, stage: str, error: BaseException, **counts: int) -> None:
    if isinstance(error, KeyboardInterrupt):
        text = f"stopped by {'Ctrl-C' if str(error) in ('', 'SIGINT') else error}"
    else:
        text = str(error) if isinstance(error, AotError) else f"{type(error).__name__}: {error}"
    stopped = isinstance(error, KeyboardInterrupt | GuardStop)
    try:
        set_stage(run, stage, "stopped" if stopped else "failed", error=text, **counts)
    except (AotError, OSError) as second:
        # The disk that stopped the stage may also refuse this note; the first error is the one to tell.
        log.warning("could not note the failure: %s", second)


class _LogFile(logging.FileHandler):
    """A log file whose own troubles, such as a full disk, never cover the error that is being told."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Lose the line."""


def _log_to_file(run: RunFolder) -> None:
    root = logging.getLogger()
    if any(isinstance(h, logging.FileHandler) and h.baseFilename == str(run.log.resolve()) for h in root.handlers):
        return
    for old in [handler for handler in root.handlers if isinstance(handler, _LogFile)]:
        root.removeHandler(old)  # of another run of this process; what comes now is not about it
        old.close()
    try:
        handler = _LogFile(run.log.resolve(), encoding="utf-8")
    except OSError as error:
        raise write_error(run.log, error) from error
    handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)
