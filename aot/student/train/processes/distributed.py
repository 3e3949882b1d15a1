"""Brings up the process group before the model is built, which ZeRO-3 needs: gloo on a CPU, nccl on GPUs."""

import os
from datetime import timedelta

import torch
from accelerate import PartialState

SHARED_MEMORY_OP = "deepspeed_shm_comm"


def start(*, device: str, zero_stage: int, timeout_s: float) -> None:
    """Join the other processes of this training; without ZeRO, transformers does it by itself.

    `timeout_s` is what an exchange among them may take.
    """
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    if on_cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    else:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not zero_stage:
        if on_cpu and int(os.environ.get("WORLD_SIZE", "1")) > 1:  # transformers hands a time limit on to GPUs only
            torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=timeout_s))
        return
    import deepspeed

    # Our optimiser states are safetensors; should DeepSpeed read a file of its own, then not with full pickle.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    if not on_cpu:
        deepspeed.init_distributed(dist_backend="nccl", timeout=timedelta(seconds=timeout_s))
        return
    # DeepSpeed would compile an operator for 90 s, which needs a compiler, and a kill meanwhile leaves a lock that
    # blocks every later run. gloo does the same work.
    deepspeed.ops.__compatible_ops__[SHARED_MEMORY_OP] = False
    # accelerate drops DeepSpeed without a word when told to use the CPU, and sees a single process when not told;
    # a state that was made with gloo and DeepSpeed is taken as it is.
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    PartialState(backend="gloo", timeout=timedelta(seconds=timeout_s))


def finish() -> None:
    """Wait until all processes have come this far: one that ends earlier breaks what the others still exchange."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
