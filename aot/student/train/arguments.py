"""From our settings to transformers.TrainingArguments, and how the global batch is cut; the one place that does it."""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from aot.config import ArmConfig, RunConfig, Scheduler, TrainConfig
from aot.errors import ConfigError
from aot.student.train.processes.zero import zero_settings


@dataclass(frozen=True)
class BatchPlan:
    """How many questions each process takes at once, and how often before an optimiser step."""

    per_device: int
    accumulation: int
    processes: int


def train_settings(config: RunConfig, arm: ArmConfig) -> TrainConfig:
    """The settings that `arm` is trained with: its own steps and learning rate where it has any.

    With train.epochs its steps are 0 until its lessons are counted.
    """
    of_arm = {"max_steps": config.steps_of(arm), "learning_rate": arm.learning_rate or config.train.learning_rate}
    if arm.chains == "on_policy":  # a short round, from weights that need no long warm-up
        section = config.train.on_policy
        warmup = min(config.train.warmup_steps, section.steps // 10)
        of_arm |= {"learning_rate": section.learning_rate, "warmup_steps": warmup}
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


def rate_of(steps_done: int, *, warmup: int, total: int, scheduler: Scheduler = "linear") -> float:
    """The share of the learning rate that the next step takes: up in `warmup` steps, then as `scheduler` says.

    Each step learns: transformers' own warm-up begins with a step at rate 0, which a short training notices. The cosine
    is half a period of it, as in https://arxiv.org/abs/1608.03983 without restarts.

    >>> [rate_of(done, warmup=2, total=6) for done in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    >>> [round(rate_of(done, warmup=2, total=6, scheduler="cosine"), 2) for done in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    if steps_done < warmup:
        return (steps_done + 1) / warmup
    if scheduler == "constant":
        return 1.0
    left = max(0.0, (total - steps_done) / max(1, total - warmup))
    return left if scheduler == "linear" else (1 - math.cos(math.pi * left)) / 2


def training_arguments(
    train: TrainConfig, *, plan: BatchPlan, output_dir: Path, seed: int, on_cpu: bool, bf16: bool, name: str = ""
) -> TrainingArguments:
    """Trainer settings; it keeps every checkpoint, because ours are rotated only after their manifest is written.

    Args:
        train: settings of the arm; with `train.epochs` its steps are put in later, once its lessons are counted.
        plan: how a step's questions are cut.
        output_dir: folder of the checkpoints.
        seed: of order and dropout.
        on_cpu: whether there is no GPU, or none is wanted.
        bf16: whether to calculate in bfloat16.
        name: of the arm, for trackers.
    """
    names = {field.name for field in fields(TrainingArguments)}
    checkpointing = "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"
    settings: dict[str, Any] = {
        "output_dir": str(output_dir),
        "per_device_train_batch_size": plan.per_device,
        "gradient_accumulation_steps": plan.accumulation,
        "max_steps": train.max_steps,
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": "linear",  # made by TwoTermTrainer.create_scheduler
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
        "report_to": list(train.trackers) or "none",
        "run_name": name,
        "project": "aot",
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
    if train.sharding == "fsdp2":
        settings |= {"fsdp": True, "fsdp_config": {"version": 2, "state_dict_type": "FULL_STATE_DICT"}}
    if train.zero_stage:
        settings["deepspeed"] = zero_settings(train.zero_stage, offload=train.offload)
        if on_cpu:  # distributed.py has joined the processes already
            settings["accelerator_config"] = {"use_configured_state": True}
    return TrainingArguments(**settings)
