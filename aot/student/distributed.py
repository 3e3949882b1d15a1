"""Brings up the process group before the model is built, which ZeRO-3 needs: gloo on a CPU, nccl on GPUs."""

import os

import torch

from aot.config import RunConfig

SHARED_MEMORY_OP = "deepspeed_shm_comm"


def start(config: RunConfig) -> None:
    """Join the other processes of this training; without ZeRO, transformers does it by itself."""
    on_cpu = config.student.device == "cpu" or not torch.cuda.is_available()
    if on_cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    else:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if config.train.zero_stage:
        import deepspeed

        if on_cpu:
            # DeepSpeed would compile an operator for 90 s, which needs a compiler, and a kill meanwhile leaves a lock
            # that blocks every later run. gloo does the same work.
            deepspeed.ops.__compatible_ops__[SHARED_MEMORY_OP] = False
        deepspeed.init_distributed(dist_backend="gloo" if on_cpu else "nccl")
