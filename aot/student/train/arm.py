"""Trains one arm of a run, resuming from its newest intact checkpoint; a finished arm is left alone.

The lessons of the arm and the frames that they show go in; an adapter or all weights come out, with their contract.
Several processes are started through torchrun, unless this process already is one of several.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

import torch
from transformers import TrainerState

from aot.config import ArmConfig, RunConfig
from aot.errors import AotError, CheckpointError, GuardStop
from aot.files.run_folder import (
    CHECKPOINTS,
    SPLIT,
    STEPS,
    TRAINING,
    RunFolder,
    append_row,
    open_append,
    publish_json,
    publish_rows,
    read_rows,
)
from aot.interrupts import Interrupted
from aot.student.model.adapter import is_done, publish_arm
from aot.student.model.lora import gathered, trained_state
from aot.student.rows.collate import Collator
from aot.student.rows.frames import FrameInputs
from aot.student.train.checkpoints import (
    PREFIX,
    Manifest,
    check_folder,
    checkpoint_step,
    newest_intact,
    read_manifest,
    remove_newer,
)
from aot.student.train.guards import StopFlag, end_of_time
from aot.student.train.held_out import EarlyStop, Look, is_over, state_of
from aot.student.train.options import require_options, take_options, tracking
from aot.student.train.processes.launch import launch
from aot.student.train.processes.ranks import Notes, is_of_exchange
from aot.student.train.session import Session, contract_of, open_session, padded_because, training_facts
from aot.student.train.trainer import SkippedStep, StepMetrics, TwoTermTrainer, Watchers
from aot.student.train.vision_cache import frame_inputs

log = logging.getLogger(__name__)

SKIPPED = SPLIT.format("skipped")
"""Rows of steps that were not taken."""
Progress = Callable[[int, int], None]
"""Called with steps done and steps in all."""
SMALL_HW = (56, 56)
"""Of a frame, in pixels, that processors which keep sizes turn into their fewest tokens."""
NO_USE = -1
"""Told in place of a step when all checkpoints are damaged."""


def train_arm(run: RunFolder, config: RunConfig, arm: ArmConfig, *, progress: Progress | None = None) -> None:
    """Train `arm` to the end of its steps and publish what it learned in `run.arm(arm.name)`.

    In this process, which may be one of several that torchrun started, or in several that are started here.

    Raises:
        GuardStop: a broken number stopped it, or a signal; the same call resumes.
        Interrupted: a signal came before the first step, after the last one, or in a step that did not end.
        CheckpointError: stored state does not fit this run.
        SourceError: there is nothing to train on.
    """
    if is_done(run.arm(arm.name), config_digest=config.digest()):
        log.info("arm %s is trained already", arm.name)
        return
    require_options(config.student, config.train)
    several = config.train.procs > 1 or config.train.nodes > 1 or config.train.zero_stage > 0
    if several and "WORLD_SIZE" not in os.environ:
        launch(run, config, arm, progress=progress)
        return
    stop = _stop_flag(run, limit_s=config.train.stop_after_s)
    notes = Notes(run.arm(arm.name), rank=_number("RANK", 0), processes=_number("WORLD_SIZE", 1))
    with notes.kept(), stop.listening():
        session = open_session(run, config, arm)
        checkpoint = _agreed_checkpoint(session)
        first_step = checkpoint_step(checkpoint) if checkpoint else 0
        with (
            _steps_written(session, first_step=first_step, progress=progress, notes=notes) as watchers,
            tracking(config.train.trackers, session.folder / "trackers"),
        ):
            trainer = make_trainer(session, stop=stop, on_step=watchers.on_step, watchers=watchers)
            earlier = _trained_before(session, checkpoint)
            if earlier is None:
                with _told_if_unreadable(checkpoint, trainer):
                    # Called from here and not from a helper of ours, so that the way down to a step stays short.
                    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        _finish(session, trainer, earlier=earlier, stop=stop)
    if stop.name:  # it came with the last step or after it: this arm is done, and the next one is not begun
        raise Interrupted(stop.name)


def _number(variable: str, default: int) -> int:
    """What whoever started several processes says of this one."""
    return int(os.environ.get(variable, default))


def _stop_flag(run: RunFolder, *, limit_s: float | None) -> StopFlag:
    """What may stop this process; of several, the first looks for the file."""
    is_first = _number("RANK", 0) == 0
    if is_first and run.stop.exists():
        log.info("%s was there before and stops nothing; touch it to stop the training that begins now", run.stop)
    return StopFlag(end_s=end_of_time(limit_s), file=run.stop if is_first else None)


def make_trainer(
    session: Session, *, stop: StopFlag, on_step: Callable[[StepMetrics], None], watchers: Watchers | None = None
) -> TwoTermTrainer:
    """The Trainer of a session, ready to train; `watchers` are told of more than of steps that were taken."""
    train, collator = session.train, _collator(session)
    take_options(session, collator)
    trainer = TwoTermTrainer(
        adapted=session.adapted.model,
        args=session.trainer_args,
        train_dataset=session.schedule(),
        data_collator=collator,
        rationale_weight=session.arm.rationale_weight,
        vision=session.vision,
        stop=stop,
        watchers=watchers or Watchers(on_step=on_step),
        keep_checkpoints=train.keep_checkpoints,
        zero_stage=train.zero_stage,
        scheduler=train.scheduler,
        weighting=session.arm.weighting,
    )
    if train.early_stop:
        trainer.add_callback(
            EarlyStop(
                trainer, session.held_out, train.early_stop, vision=session.vision,
                rationale_weight=session.arm.rationale_weight, on_look=partial(_note_look, session),
            )
        )  # fmt: skip
    return trainer


def _note_look(session: Session, look: Look) -> None:
    """Keep it beside the steps; one of a step that is taken again replaces those of the life before."""
    path = session.folder / SPLIT.format("held_out")
    before = [row for row in read_rows(path, Look) if row.step < look.step] if path.exists() else []
    publish_rows(path, [*before, look])


def _trained_before(session: Session, checkpoint: Path | None) -> TrainerState | None:
    """The last state of a training that an earlier life took to its end, or that early stopping ended; or None."""
    state = state_of(checkpoint) if checkpoint else None
    if state and (state.global_step >= session.train.max_steps or is_over(state, session.train.early_stop)):
        return state
    return None


def _collator(session: Session) -> Collator:
    student = session.student
    pixels: FrameInputs | None = None
    size_hw = None
    if session.store is not None:
        pixels = frame_inputs(session)
        size_hw = None if pixels.made else _dummy_size(session)
    packed = not padded_because(session)
    return Collator(student.renderer, student.pad_id, packed, session.pack_tokens, pixels, size_hw)


def _dummy_size(session: Session) -> tuple[int, int] | None:
    """Height and width of the frame that batches without frames show, one of few tokens; None if no batch has any."""
    renderer = session.student.renderer
    stored = next((example.frames.size_hw for example in session.data.examples if example.frames), None)
    if stored is None:
        return None
    tokens = {stored: renderer.expansion(stored).count(renderer.image_token_id)}
    with suppress(CheckpointError, ValueError):  # of a processor that takes none so small
        tokens[SMALL_HW] = renderer.expansion(SMALL_HW).count(renderer.image_token_id)
    return min(tokens, key=lambda size_hw: tokens[size_hw])


@contextmanager
def _steps_written(session: Session, *, first_step: int, progress: Progress | None, notes: Notes) -> Iterator[Watchers]:
    """Who is told of steps; the first process writes their numbers to metrics.jsonl, or why they were skipped."""
    is_writer = session.trainer_args.process_index == 0
    paths = (session.folder / STEPS, StepMetrics), (session.folder / SKIPPED, SkippedStep)
    files = [_open_rows(*path, step=first_step) for path in paths] if is_writer else []

    def write(row: StepMetrics | SkippedStep) -> None:
        if files:
            append_row(files[isinstance(row, SkippedStep)], row)
        if progress:
            progress(row.step, session.train.max_steps)

    yield Watchers(on_step=write, on_skip=write, on_begin=notes.begin)
    for file in files:
        file.close()


@contextmanager
def _told_if_unreadable(checkpoint: Path | None, trainer: TwoTermTrainer) -> Iterator[None]:
    """Turn what torch and transformers throw at a checkpoint that is not theirs into one sentence.

    Raises:
        CheckpointError: the checkpoint is what its manifest says, and still no state that can be taken up again.
    """
    try:
        yield
    except AotError:
        raise
    except Exception as error:
        if checkpoint is None or trainer.began or is_of_exchange(error):
            raise
        words = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{checkpoint} cannot be taken up again ({type(error).__name__}: {words}); delete that folder to go on "
            "from the one before it, or all checkpoints to train this arm from the start"
        ) from error


def _finish(session: Session, trainer: TwoTermTrainer, *, earlier: TrainerState | None, stop: StopFlag) -> None:
    """Publish a student that took all its steps, or the best one of a training with early stopping.

    Raises:
        GuardStop: it did not.
    """
    state, max_steps = earlier or trainer.state, session.train.max_steps
    if state.global_step < max_steps and not is_over(state, session.train.early_stop):
        at = f"at step {state.global_step} of {max_steps}"
        raise GuardStop(f"{stop.name or 'something'} stopped training {at}; it was saved")
    step = state.best_global_step or state.global_step
    first = session.trainer_args.process_index == 0
    memory: dict[str, torch.Tensor] | None = None
    if earlier is None and step == state.global_step and session.config.train.zero_stage < 3:
        model = session.adapted.model
        memory = trained_state(model)
        if trainer.is_fsdp_enabled:
            memory = gathered(memory, keep=first)
    if first:
        _note_end(session, state)
        _publish(session, step=step, memory=memory)
    trainer.accelerator.wait_for_everyone()


def _agreed_checkpoint(session: Session) -> Path | None:
    """The checkpoint to resume from; the first process looks, the others take its word.

    Raises:
        CheckpointError: it does not fit how training is done now.
        GuardStop: there are checkpoints, and all of them are damaged.
    """
    root = session.folder / CHECKPOINTS
    step, broken = torch.tensor(0), GuardStop("the first process found no checkpoint that it can use")
    if session.trainer_args.process_index == 0:
        try:
            newest = newest_intact(root)
            step = torch.tensor(newest.step if newest else 0)
            remove_newer(root, step=int(step))
        except GuardStop as error:
            step, broken = torch.tensor(NO_USE), error
    if session.plan.processes > 1:  # also of bad news, or the others would wait for it
        step = step.to(session.trainer_args.device)
        torch.distributed.broadcast(step, src=0)
    if int(step) == NO_USE:
        raise broken
    if int(step) == 0:
        log.info("%s: no checkpoint yet, starting from scratch", session.arm.name)
        return None
    manifest = read_manifest(root / f"{PREFIX}{int(step)}")
    _require_fitting(manifest, session)
    restarts = _number("SLURM_RESTART_COUNT", 0)
    life = f" (restart {restarts} of job {os.environ.get('SLURM_JOB_ID', '?')})" if restarts else ""
    log.info("%s: resumed from step %d of %d%s", session.arm.name, manifest.step, session.train.max_steps, life)
    if manifest.world_size != session.plan.processes:
        log.info(
            "%s: %d processes go on with what %d wrote: the same questions in each step, in other shares",
            session.arm.name, session.plan.processes, manifest.world_size,
        )  # fmt: skip
    return root / f"{PREFIX}{int(step)}"


def _require_fitting(manifest: Manifest, session: Session) -> None:
    """Refuse to go on where the same results would not come out.

    Raises:
        CheckpointError: another ZeRO stage or sharding wrote it; or another number of processes, and that matters.
    """
    way_on = f"use the same set-up, or delete {session.folder / CHECKPOINTS} to train this arm from the start"
    stage, processes = session.config.train.zero_stage, session.plan.processes
    if manifest.sharding != session.config.train.sharding:
        raise CheckpointError(
            f"{session.folder}: its checkpoints were written with train.sharding: {manifest.sharding}, now it is "
            f"{session.config.train.sharding}; {way_on}"
        )
    if manifest.zero_stage != stage:
        raise CheckpointError(
            f"{session.folder}: its checkpoints were written with ZeRO stage {manifest.zero_stage}, now it is {stage}; "
            f"{way_on}"
        )
    if manifest.world_size != processes and not manifest.any_processes:
        raise CheckpointError(
            f"{session.folder}: its checkpoints were written by {manifest.world_size} processes, now there are "
            f"{processes}, and its random numbers depend on that (dropout inside the attention of the base, or an "
            f"earlier version); {way_on}"
        )


def _open_rows(path: Path, model: type[StepMetrics | SkippedStep], *, step: int) -> IO[bytes]:
    """A file of rows open for appending, without those of steps that will be taken again."""
    rows = read_rows(path, model) if path.exists() else ()
    publish_rows(path, [row for row in rows if row.step <= step])
    return open_append(path)


def _note_end(session: Session, state: TrainerState) -> None:
    """Put into the record of the arm how many of its steps were not taken, and which one is published."""
    path = session.folder / SKIPPED
    skipped = sum(1 for _ in read_rows(path, SkippedStep))
    if skipped:
        log.warning("%s: %d of its steps were skipped, see %s", session.arm.name, skipped, path)
    else:
        path.unlink(missing_ok=True)
    facts = {**training_facts(session), "skipped_steps": skipped}
    if session.train.early_stop:
        facts |= {"published_step": state.best_global_step, "last_step": state.global_step}
        facts["held_out_loss"] = state.best_metric
    publish_json(session.folder / TRAINING, facts)


def _publish(session: Session, *, step: int, memory: dict[str, torch.Tensor] | None) -> None:
    """Publish the checkpoint of `step`, compared with what memory holds of it, if anything."""
    folder = session.folder / CHECKPOINTS / f"{PREFIX}{step}"
    try:
        check_folder(folder)
    except CheckpointError as error:
        raise CheckpointError(
            f"the checkpoint of step {step}, which is to be published, is not intact ({error}); run the same command "
            "again, and if that says the same, delete the folder of checkpoints to train this arm from the start"
        ) from error
    model = session.adapted.model
    publish_arm(
        session.folder,
        checkpoint=folder,
        memory=memory,
        adapter_config=model.peft_config["default"] if session.arm.tuning == "lora" else None,
        contract=contract_of(session),
    )
