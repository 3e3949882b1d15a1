"""A thin transformers.Trainer: one loss, one sampler, manifests behind checkpoints, guards before the optimiser step.

Everything about schedules, precision, DeepSpeed and data loading stays the Trainer's job. This module knows no run
folder and no questions beyond their ids.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from peft import PeftModel
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from aot.config import Scheduler, Weighting
from aot.errors import CheckpointError, ConfigError, GuardStop
from aot.records import Record
from aot.student.model.adapter import wrong_tensors
from aot.student.model.contract import WEIGHTS, Tuning
from aot.student.model.hf_internals import HookedTrainer
from aot.student.model.loading import stored_state
from aot.student.model.lora import gathered, size_of, spread, trained_state
from aot.student.model.vision import SharedVision
from aot.student.train.arguments import rate_of
from aot.student.train.checkpoints import (
    PREFIX,
    UNFINISHED,
    keep_newest,
    note_saved,
    publish_checkpoint,
    telling_full_disk,
    write_manifest,
)
from aot.student.train.dropout import key_dropout, random_state, token_keys
from aot.student.train.guards import GradientCheck, StopFlag
from aot.student.train.loss import TwoTermLoss, batch_loss, take_out
from aot.student.train.optimizer_state import load_sharded, save_sharded
from aot.student.train.processes.ranks import REPORTED_IDS

log = logging.getLogger(__name__)

MOST_SKIPPED = 3
"""So many steps in a row without finite numbers end a training: it will not mend itself."""


class StepMetrics(Record):
    """One line of metrics.jsonl; losses are means over supervised tokens of the whole global batch."""

    step: int
    loss: float
    label_loss: float
    rationale_loss: float
    """0 when the step had no rationale tokens."""
    grad_norm: float
    """Before clipping."""
    lr: float
    label_tokens: int
    rationale_tokens: int


class SkippedStep(Record):
    """One line of skipped.jsonl: a step that was not taken, because its loss or gradient is not finite."""

    step: int
    why: str
    question_ids: tuple[str, ...]
    """Of the micro-batches with such a loss; of the whole step where each loss is finite."""


@dataclass(frozen=True)
class Watchers:
    """Who is told what while steps are taken."""

    on_step: Callable[[StepMetrics], None]
    """In the first process, after each step that was taken."""
    on_skip: Callable[[SkippedStep], None] = lambda row: None
    """In the first process, in place of a step."""
    on_begin: Callable[[int, list[str]], None] = lambda step, question_ids: None
    """In each process: the step, and the questions that it has of it."""


class TwoTermTrainer(HookedTrainer):
    """Trains with label + lambda * rationale, skips steps with broken numbers, and stops when they come in a row."""

    def __init__(
        self,
        *,
        adapted: Any,  # noqa: ANN401 - a PeftModel, or the model itself
        rationale_weight: float,
        vision: SharedVision | None,
        stop: StopFlag,
        watchers: Watchers,
        keep_checkpoints: int,
        zero_stage: int,
        scheduler: Scheduler = "linear",
        weighting: Weighting = "equal",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(model=adapted, **kwargs)
        self._adapted = adapted
        self._root = Path(str(self.args.output_dir))
        self._rationale_weight, self._weighting = rationale_weight, weighting
        self._vision = vision
        self._watchers = watchers
        self._stop = stop
        self._keep = keep_checkpoints
        self._zero_stage = zero_stage
        self._scheduler = scheduler
        if zero_stage and not self.is_deepspeed_enabled:
            raise ConfigError(f"train.zero_stage={zero_stage} was asked for, but accelerate did not take DeepSpeed up")
        self._gradients = GradientCheck(adapted)
        self._dropout = key_dropout(adapted)
        self._sums = torch.zeros(2)
        self._totals = torch.zeros(2)
        self._recent_ids: list[str] = []
        self._looked_at: list[tuple[torch.Tensor, list[str]]] = []
        """Of each micro-batch of the step, whether its loss is finite, and its questions."""
        self._skipped_in_row = 0
        self._last_losses = (0.0, 0.0)
        self._draws = False
        """Whether a forward pass took random numbers that depend on how the batch is cut."""
        self.began = False
        """Whether a step was begun: by then, all of the checkpoint was read."""
        self.remove_callback(PrinterCallback)
        self.add_callback(_StopWhenAsked(self, stop))

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:  # noqa: ANN401
        """The micro-batch's share of the global loss, scaled for the averaging over processes that follows."""
        ids, _ = take_out(inputs, vision=self._vision)
        assert isinstance(num_items_in_batch, torch.Tensor)
        if self._dropout:
            self._dropout.keys_BT = token_keys(inputs, seed=self.args.seed, step=self.state.global_step)
        before = random_state(self.args.device)
        loss, outputs = self._loss(model, inputs, num_items_in_batch)
        self._draws = self._draws or not torch.equal(before, random_state(self.args.device))
        self._sums = self._sums.to(loss.sums.device) + loss.sums
        # DeepSpeed steps inside backward, and skips a step by its gradient alone; a loss may be infinite without one.
        finite = torch.isfinite(loss.sums).all()
        self._looked_at.append((finite, ids))
        total = loss.total * self.accelerator.num_processes * torch.where(finite, 1.0, float("nan"))
        return (total, outputs) if return_outputs else total

    def _loss(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_supervised: torch.Tensor
    ) -> tuple[TwoTermLoss, Any]:
        return batch_loss(
            model, inputs, num_supervised=num_supervised, rationale_weight=self._rationale_weight,
            weighting=self._weighting,
        )  # fmt: skip

    def count_supervised(self, batches: list[dict[str, Any]], device: torch.device) -> torch.Tensor:
        """[2]: label and rationale tokens of the accumulated batch over all processes."""
        self._sums = torch.zeros(2, device=device)
        self._recent_ids = [one for batch in batches for one in batch["question_ids"]]
        self._looked_at = []
        self._watchers.on_begin(self.state.global_step + 1, self._recent_ids)
        local = torch.stack([batch["num_supervised"] for batch in batches]).sum(dim=0).to(device)
        self._totals = self._reduced(local)
        return self._totals

    def before_step(self, grad_norm: float) -> None:
        """Skip a step with broken numbers, on every process alike; of another, note the means that it is logged with.

        Raises:
            GuardStop: so many were skipped in a row; or in the first step, something trainable is dead.
        """
        sums = self._reduced(self._sums)
        label, rationale = sums.tolist()
        skipped = self.is_deepspeed_enabled and self.accelerator.optimizer_step_was_skipped
        if skipped or not all(math.isfinite(value) for value in (label, rationale, grad_norm)):
            self._skip(f"label {label}, rationale {rationale}, gradient norm {grad_norm}", by_deepspeed=skipped)
            return
        if self.is_fsdp_enabled:
            self._gradients.see_parts(self._adapted, reduced=self._reduced)
        self._gradients.finish()
        self._skipped_in_row = 0
        means = (sums / self._totals.clamp(min=1)).tolist()
        self._last_losses = (means[0], means[1])

    def _skip(self, numbers: str, *, by_deepspeed: bool) -> None:
        """Go on without the step: weights and moments stay as they are, the schedule and the order of questions not."""
        step, why = self.state.global_step + 1, f"loss or gradient is not finite ({numbers})"
        broken = [one for finite, ids in self._looked_at if not finite for one in ids]
        ids = self._gathered(broken) or self._gathered(self._recent_ids)
        shown = f"{', '.join(ids[:REPORTED_IDS])}{' ...' if len(ids) > REPORTED_IDS else ''}"
        if self.is_deepspeed_enabled and not by_deepspeed:
            raise GuardStop(f"step {step}: {why}, and DeepSpeed took the step; nothing was saved. Questions: {shown}")
        self._skipped_in_row += 1
        if self.is_world_process_zero():
            log.warning("skipped step %d: %s. Questions in the batch: %s", step, why, shown)
            self._watchers.on_skip(SkippedStep(step=step, why=why, question_ids=tuple(ids)))
        if self._skipped_in_row == MOST_SKIPPED:
            raise GuardStop(
                f"step {step}: {why}, for the {MOST_SKIPPED}rd step in a row; none of them was taken. Questions in the "
                f"batch: {shown}. Look at these rows, or lower train.learning_rate"
            )
        self._gradients.forget()
        self._tr_loss = torch.zeros_like(self._tr_loss)  # a sum, which would never be a number again
        if by_deepspeed:
            assert self.lr_scheduler is not None
            self.lr_scheduler.step()  # which the Trainer leaves out then
        else:
            self._adapted.zero_grad(set_to_none=True)  # AdamW passes by what has no gradient

    def _gathered(self, ids: list[str]) -> list[str]:
        """Those of all processes."""
        return ids if self.accelerator.num_processes == 1 else list(gather_object(ids))

    def _reduced(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over processes."""
        if self.accelerator.num_processes == 1:
            return values
        return torch.as_tensor(self.accelerator.reduce(values.clone().to(self.args.device), reduction="sum"))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Hand the numbers of one step on, to trackers too; the Trainer's closing summary is not kept."""
        row = self._step_metrics(logs) if "grad_norm" in logs and not self._skipped_in_row else None
        if row:
            logs |= row.model_dump(include={"loss", "label_loss", "rationale_loss", "label_tokens", "rationale_tokens"})
        super().log(logs, start_time)
        self.state.log_history.clear()
        if row and self.is_world_process_zero():
            self._watchers.on_step(row)

    def _step_metrics(self, logs: dict[str, float]) -> StepMetrics:
        label, rationale = self._last_losses
        tokens = [int(t) for t in self._totals.tolist()]
        return StepMetrics(
            step=self.state.global_step,
            loss=label + self._rationale_weight * rationale,
            label_loss=label,
            rationale_loss=rationale,
            grad_norm=float(logs["grad_norm"]),
            lr=float(logs["learning_rate"]),
            label_tokens=tokens[0],
            rationale_tokens=tokens[1],
        )

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """0: nobody reads it, and counting walks over all parameters each step."""
        return 0

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """A schedule in which the first step has a rate already."""
        if self.lr_scheduler is None:
            stepper = optimizer or self.optimizer
            assert stepper is not None
            warmup = self.args.get_warmup_steps(num_training_steps)
            rate = partial(rate_of, warmup=warmup, total=num_training_steps, scheduler=self._scheduler)
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(stepper, rate)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save what is trained; of spread weights no more than that is gathered, or a whole base would be each time."""
        if not self.is_fsdp_enabled:
            super().save_model(output_dir, _internal_call)
            return
        trained = {name for name, parameter in self._adapted.named_parameters() if parameter.requires_grad}
        is_whole = not isinstance(self._adapted, PeftModel)
        parts = {name: part for name, part in self._adapted.state_dict().items() if is_whole or name in trained}
        self._save(output_dir, state_dict=gathered(parts, keep=self.is_world_process_zero()))

    @contextmanager
    def saving(self) -> Iterator[Path]:
        """Where a checkpoint is written; then compare it with memory, describe it, and let it count.

        Raises:
            GuardStop: the disk is full.
            CheckpointError: what was stored is not what is in memory.
        """
        began_s = time.monotonic()
        with telling_full_disk(self._root):
            yield self._root / UNFINISHED
            folder = self._root / UNFINISHED / f"{PREFIX}{self.state.global_step}"
            self._check_saved(folder)
            self.accelerator.wait_for_everyone()
            if self.is_world_process_zero():
                for name in ("training_args.bin", "README.md"):
                    (folder / name).unlink(missing_ok=True)
                write_manifest(
                    folder,
                    step=self.state.global_step,
                    world_size=self.accelerator.num_processes,
                    zero_stage=self._zero_stage,
                    sharding="fsdp2" if self.is_fsdp_enabled else "zero",
                    any_processes=not self._draws,
                )
                publish_checkpoint(folder, root=self._root)
                note_saved(self._root)
                keep_newest(self._root, count=self._keep, besides=self.state.best_global_step)
            self.accelerator.wait_for_everyone()
        self._stop.saved(time.monotonic() - began_s)

    def save_optimizer(self, folder: Path) -> None:
        """Leave what DeepSpeed shards among processes as one file."""
        save_sharded(self.model_wrapped, self._adapted, folder, is_writer=self.is_world_process_zero())

    def load_optimizer(self, folder: Path) -> None:
        """Take it up again, in as many processes as there are now."""
        load_sharded(self.model_wrapped, self._adapted, folder)

    def _check_saved(self, folder: Path) -> None:
        """Compare the trained tensors, read back, with memory; under ZeRO-3, in pieces, names or sizes."""
        first = self.is_world_process_zero()
        memory = trained_state(self._adapted) if first or self.is_fsdp_enabled else {}
        if self.is_fsdp_enabled:  # each process holds a part, so all must be here before the first goes on alone
            memory = gathered(memory, keep=first)
        if not first:
            return
        tuning: Tuning = "lora" if (folder / WEIGHTS["lora"]).is_file() else "full"
        whole = self._zero_stage < 3
        stored = stored_state(folder, tuning=tuning, whole=whole)
        wrong = wrong_tensors(stored, memory if whole else None)
        if not whole and (
            tuning == "lora" or sum(value.numel() for value in stored.values()) != size_of(self._adapted)
        ):
            wrong += sorted(stored.keys() ^ memory.keys())
        if wrong:
            raise CheckpointError(f"{folder}: {len(wrong)} tensors differ from memory after saving, first {wrong[0]}")

    def load_weights(self, folder: Path) -> bool:
        """Take up those of a whole model, under the names that they have in memory; adapters the Trainer knows.

        Spread weights too: what transformers does for them never returns where only adapters are stored.
        """
        tuning: Tuning = "full" if (folder / WEIGHTS["full"]).is_file() else "lora"
        if self.is_fsdp_enabled:
            spread(stored_state(folder, tuning=tuning), trained_state(self._adapted))
        elif tuning == "full":
            self._adapted.load_state_dict(stored_state(folder, tuning="full"))
        return self.is_fsdp_enabled or tuning == "full"


class _StopWhenAsked(TrainerCallback):
    """After each step: if any process is to stop, all save and stop."""

    def __init__(self, trainer: TwoTermTrainer, stop: StopFlag) -> None:
        self._trainer = trainer
        self._stop = stop

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        self._trainer.began = True
        self._stop.step_begins()

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ANN401
    ) -> TrainerControl:
        self._stop.step_ended()
        flag = self._trainer._reduced(torch.tensor(float(bool(self._stop.reason()))))
        if flag.item() > 0:
            self._stop.heard()
            self._stop.name = self._stop.name or "a signal, the clock or a STOP file that another process saw"
            control.should_save = True
            control.should_training_stop = True
        return control
