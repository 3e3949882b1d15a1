"""Trains one arm of a run, resuming from its newest intact checkpoint; a finished arm is left alone.

The lessons of the arm and the frames that they show go in; an adapter or all weights come out, with their contract.
Several processes are started through torchrun, unless this process already is one of several.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import torch

from aot.config import ArmConfig, RunConfig
from aot.errors import AotError, CheckpointError, GuardStop
from aot.files.run_folder import CHECKPOINTS, STEPS, RunFolder, append_row, open_append, publish_rows, read_rows
from aot.interrupts import Interrupted
from aot.student.model.adapter import is_done, publish_arm
from aot.student.model.lora import trained_state
from aot.student.rows.collate import Collator
from aot.student.rows.frames import FrameInputs
from aot.student.train.checkpoints import PREFIX, checkpoint_step, newest_intact, read_manifest, remove_newer
from aot.student.train.guards import StopFlag
from aot.student.train.launch import launch
from aot.student.train.session import Session, contract_of, open_session, padded_because
from aot.student.train.trainer import StepMetrics, TwoTermTrainer
from aot.student.train.vision_cache import frame_inputs

log = logging.getLogger(__name__)

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
    if (config.train.procs > 1 or config.train.zero_stage > 0) and "WORLD_SIZE" not in os.environ:
        launch(run, config, arm, progress=progress)
        return
    stop = StopFlag()
    with stop.listening():
        session = open_session(run, config, arm)
        checkpoint = _agreed_checkpoint(session)
        first_step = checkpoint_step(checkpoint) if checkpoint else 0
        with _steps_written(session, first_step=first_step, progress=progress) as on_step:
            trainer = make_trainer(session, stop=stop, on_step=on_step)
            if first_step < session.train.max_steps:
                with _told_if_unreadable(checkpoint, trainer):
                    # Called from here and not from a helper of ours, so that the way down to a step stays short.
                    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        _finish(session, trainer, first_step=first_step, stop=stop)
    if stop.name:  # it came with the last step or after it: this arm is done, and the next one is not begun
        raise Interrupted(stop.name)


def make_trainer(session: Session, *, stop: StopFlag, on_step: Callable[[StepMetrics], None]) -> TwoTermTrainer:
    """The Trainer of a session, ready to train."""
    train = session.train
    return TwoTermTrainer(
        adapted=session.adapted.model,
        args=session.trainer_args,
        train_dataset=session.schedule(),
        data_collator=_collator(session),
        rationale_weight=session.arm.rationale_weight,
        vision=session.vision,
        stop=stop,
        on_step=on_step,
        keep_checkpoints=train.keep_checkpoints,
        zero_stage=train.zero_stage,
    )


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
def _steps_written(
    session: Session, *, first_step: int, progress: Progress | None
) -> Iterator[Callable[[StepMetrics], None]]:
    """What to call after each step; the first process writes its numbers to metrics.jsonl."""
    is_writer = session.trainer_args.process_index == 0
    metrics = _open_metrics(session.folder / STEPS, step=first_step) if is_writer else None

    def on_step(row: StepMetrics) -> None:
        if metrics:
            append_row(metrics, row)
        if progress:
            progress(row.step, session.train.max_steps)

    yield on_step
    if metrics:
        metrics.close()


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
        if checkpoint is None or trainer.began:
            raise
        words = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{checkpoint} cannot be taken up again ({type(error).__name__}: {words}); delete that folder to go on "
            "from the one before it, or all checkpoints to train this arm from the start"
        ) from error


def _finish(session: Session, trainer: TwoTermTrainer, *, first_step: int, stop: StopFlag) -> None:
    """Publish a student that took all its steps.

    Raises:
        GuardStop: it did not.
    """
    max_steps, last_step = session.train.max_steps, max(first_step, trainer.state.global_step)
    if last_step < max_steps:
        raise GuardStop(f"{stop.name or 'something'} stopped training at step {last_step} of {max_steps}; it was saved")
    if session.trainer_args.process_index == 0:
        _publish(session, trained=first_step < max_steps)
    trainer.accelerator.wait_for_everyone()


def _agreed_checkpoint(session: Session) -> Path | None:
    """The checkpoint to resume from; the first process looks, the others take its word.

    Raises:
        CheckpointError: it was written by another number of processes or another ZeRO stage.
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
    there = (manifest.world_size, manifest.zero_stage)
    here = (session.plan.processes, session.config.train.zero_stage)
    if there != here:
        raise CheckpointError(
            f"{session.folder}: its checkpoints were written by {there[0]} processes with ZeRO stage {there[1]}, "
            f"now there are {here[0]} with stage {here[1]}; use the same set-up, or delete the checkpoints"
        )
    log.info("%s: resumed from step %d of %d", session.arm.name, manifest.step, session.train.max_steps)
    return root / f"{PREFIX}{int(step)}"


def _open_metrics(path: Path, *, step: int) -> IO[bytes]:
    """metrics.jsonl open for appending, without rows of steps that will be taken again."""
    rows = read_rows(path, StepMetrics) if path.exists() else ()
    publish_rows(path, [row for row in rows if row.step <= step])
    return open_append(path)


def _publish(session: Session, *, trained: bool) -> None:
    newest = newest_intact(session.folder / CHECKPOINTS)
    if not newest or newest.step != session.train.max_steps:
        raise CheckpointError(
            f"{session.folder} holds no intact checkpoint of the last step; run the same command again"
        )
    whole = trained and session.config.train.zero_stage < 3
    model = session.adapted.model
    publish_arm(
        session.folder,
        checkpoint=session.folder / CHECKPOINTS / f"{PREFIX}{newest.step}",
        memory=trained_state(model) if whole else None,
        adapter_config=model.peft_config["default"] if session.arm.tuning == "lora" else None,
        contract=contract_of(session),
    )
