"""From our settings to transformers.TrainingArguments, and how the global batch is cut; the one place that does it."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from aot.config import ArmConfig, RunConfig, TrainConfig
from aot.errors import ConfigError
from aot.student.train.zero import zero_settings


@dataclass(frozen=True)
class BatchPlan:
    """How many questions each process takes at once, and how often before an optimiser step."""

    per_device: int
    accumulation: int
    processes: int


def train_settings(config: RunConfig, arm: ArmConfig) -> TrainConfig:
    """The settings that `arm` is trained with: its own steps and learning rate where it has any."""
    of_arm = {"max_steps": config.steps_of(arm), "learning_rate": arm.learning_rate or config.train.learning_rate}
    return config.train.model_copy(update=of_arm)


def plan_batch(train: TrainConfig, *, processes: int) -> BatchPlan:
    """The cut of `questions_per_step` with the largest micro-batch that divides it evenly.

    Raises:
        ConfigError: the processes cannot share a step's questions evenly.
    """
    if train.questions_per_step % processes:
        raise ConfigError(
            f"train.questions_per_step={train.questions_per_step} cannot be shared by {processes} processes; "
            f"use a multiple of {processes}"
        )
    share = train.questions_per_step // processes
    per_device = max(n for n in range(1, min(share, train.questions_per_device) + 1) if share % n == 0)
    return BatchPlan(per_device=per_device, accumulation=share // per_device, processes=processes)


def rate_of(steps_done: int, *, warmup: int, total: int) -> float:
    """The share of the learning rate that the next step takes: up in `warmup` steps, then down to its end.

    Each step learns: transformers' own warm-up begins with a step at rate 0, which a short training notices.

    >>> [rate_of(done, warmup=2, total=6) for done in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    if steps_done < warmup:
        return (steps_done + 1) / warmup
    return max(0.0, (total - steps_done) / max(1, total - warmup))


def training_arguments(
    train: TrainConfig, *, plan: BatchPlan, output_dir: Path, seed: int, on_cpu: bool, bf16: bool
) -> TrainingArguments:
    """Trainer settings; it keeps every checkpoint, because ours are rotated only after their manifest is written."""
    names = {field.name for field in fields(TrainingArguments)}
    checkpointing = "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"
    settings: dict[str, Any] = {
        "output_dir": str(output_dir),
        "per_device_train_batch_size": plan.per_device,
        "gradient_accumulation_steps": plan.accumulation,
        "max_steps": train.max_steps,
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": "linear",  # by rate_of
        "warmup_steps": train.warmup_steps,
        "weight_decay": train.weight_decay,
        "max_grad_norm": train.max_grad_norm,
        "optim": "adamw_torch",
        "bf16": bf16,
        "use_cpu": on_cpu and not train.zero_stage,
        "seed": seed,
        "save_strategy": "steps",
        "save_steps": train.save_steps,
        "save_total_limit": None,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": "none",
        "remove_unused_columns": False,
        "dataloader_num_workers": 0,  # so there are no workers whom a signal to the whole job could end
        "dataloader_pin_memory": not on_cpu,
        "ddp_find_unused_parameters": False,
        "ddp_timeout": int(train.exchange_timeout_s),
        "log_level": "error",
        checkpointing: train.gradient_checkpointing,
        f"{checkpointing}_kwargs": {"use_reentrant": False},
    }
    if on_cpu and plan.processes > 1:
        settings["ddp_backend"] = "gloo"
    if train.zero_stage:
        settings["deepspeed"] = zero_settings(train.zero_stage)
        if on_cpu:  # distributed.py has joined the processes already
            settings["accelerator_config"] = {"use_configured_state": True}
    return TrainingArguments(**settings)
