"""Brings up the process group before the model is built, which ZeRO-3 needs, with gloo on a CPU and nccl on GPUs."""

import os

import torch

from aot.config import RunConfig


def start(config: RunConfig) -> None:
    """Join the other processes of this training; a no-op for a single process without ZeRO."""
    on_cpu = config.student.device == "cpu" or not torch.cuda.is_available()
    if on_cpu:
        os.environ["ACCELERATE_USE_CPU"] = "true"
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    else:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if config.train.zero_stage:
        import deepspeed

        deepspeed.init_distributed(dist_backend="gloo" if on_cpu else "nccl")
