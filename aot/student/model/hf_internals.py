"""All that leans on private parts of transformers: methods of its Trainer that are overridden.

A release of transformers may move any of this without a word. A test compares `moved_signatures` with nothing, so that
an upgrade fails there, by name, and not in the middle of a training.
"""

import inspect
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch.distributed.fsdp import FSDPModule
from torch.utils.data import Dataset, Sampler, SequentialSampler
from transformers import Trainer
from transformers.trainer import SCHEDULER_NAME

SIGNATURES = {
    "_get_num_items_in_batch": ("self", "batch_samples", "device"),
    "_get_grad_norm": ("self", "model", "grad_norm"),
    "_get_train_sampler": ("self", "train_dataset"),
    "_save_checkpoint": ("self", "model", "trial"),
    "_save_optimizer_and_scheduler": ("self", "output_dir"),
    "_prepare_for_training": ("self", "max_steps", "train_dataloader", "resume_from_checkpoint"),
    "_load_from_checkpoint": ("self", "resume_from_checkpoint", "model"),
}
"""Private methods of Trainer that are overridden here, each with the parameters it is called with."""


def moved_signatures(trainer: type[Trainer] = Trainer) -> list[str]:
    """A sentence for each overridden method that the Trainer of this transformers has no more, or calls differently."""
    sentences = []
    for name, wanted in SIGNATURES.items():
        method = getattr(trainer, name, None)
        have = tuple(inspect.signature(method).parameters) if method else None
        if have != wanted:
            state = f"takes ({', '.join(have)})" if have else "is gone"
            sentences.append(f"Trainer.{name} {state}, but ({', '.join(wanted)}) is overridden; see what replaced it")
    return sentences


class HookedTrainer(Trainer):
    """A Trainer that tells its subclass, by methods with names of ours, when something private happens."""

    loss_is_scaled_for_ga = True

    def count_supervised(self, batches: list[dict[str, Any]], device: torch.device) -> torch.Tensor:
        """What the loss of an accumulated batch is divided by."""
        raise NotImplementedError

    def before_step(self, grad_norm: float) -> None:
        """The norm is known, and the optimiser has not moved."""
        raise NotImplementedError

    def saving(self) -> AbstractContextManager[Path]:
        """A folder in which the Trainer may make one for the checkpoint; all of it is there when the block ends."""
        raise NotImplementedError

    def save_optimizer(self, folder: Path) -> None:
        """Leave the state of a sharded optimiser there; every process calls it."""
        raise NotImplementedError

    def load_optimizer(self, folder: Path) -> None:
        """Take up what `save_optimizer` left, weights included; every process calls it."""
        raise NotImplementedError

    def load_weights(self, folder: Path) -> bool:
        """Take up the weights of a checkpoint; False leaves that to the Trainer."""
        raise NotImplementedError

    def create_accelerator_and_postprocess(self) -> None:
        """Also takes FSDP up on a CPU, where accelerate leaves it out without a word."""
        super().create_accelerator_and_postprocess()
        if self.args.fsdp and not self.is_fsdp_enabled:
            state = self.accelerator.state
            state.distributed_type = DistributedType.FSDP
            state.fsdp_plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
            self.is_fsdp_enabled = True

    def on_device(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """A batch where the model is, and of the type that it calculates in."""
        return dict(self._prepare_inputs(inputs))

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> torch.Tensor | None:
        return self.count_supervised(batch_samples, device) if batch_samples else None

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> float:  # noqa: ANN401
        norm = float(super()._get_grad_norm(model, grad_norm=grad_norm))
        self.before_step(norm)
        return norm

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[int]:
        # The data set is in its order already: item i depends on (seed, i) only, which a shuffle here would undo.
        return SequentialSampler(train_dataset or self.train_dataset)  # type: ignore[arg-type]

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:  # noqa: ANN401
        home = self.args.output_dir
        with self.saving() as folder:
            self.args.output_dir = str(folder)
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self.args.output_dir = home

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_deepspeed_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        self.save_optimizer(Path(output_dir))
        if self.args.should_save:
            assert self.lr_scheduler is not None
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _prepare_for_training(
        self,
        max_steps: int,
        train_dataloader: Any,  # noqa: ANN401
        resume_from_checkpoint: str | None,
    ) -> Any:  # noqa: ANN401
        if not (resume_from_checkpoint and self.is_deepspeed_enabled):
            prepared = super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)
            if self.model and self.is_fsdp_enabled and self.args.device.type == "cpu":
                for module in self.model.modules():
                    if isinstance(module, FSDPModule):
                        module.set_force_sum_reduction_for_comms(True)  # gloo knows no mean
            return prepared
        # Not what DeepSpeed saves, which only as many processes as wrote it can read.
        prepared = super()._prepare_for_training(max_steps, train_dataloader, None)
        self.load_optimizer(Path(resume_from_checkpoint))
        self._load_optimizer_and_scheduler(resume_from_checkpoint)  # under DeepSpeed, of the schedule alone
        assert self.lr_scheduler is not None and self.optimizer is not None
        for group, rate in zip(self.optimizer.param_groups, self.lr_scheduler.get_last_lr(), strict=True):
            group["lr"] = rate
        return prepared

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        if not self.load_weights(Path(resume_from_checkpoint)):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
