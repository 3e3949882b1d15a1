"""What DeepSpeed shards among processes, in one file by name of each trained tensor: any number of them takes it up.

DeepSpeed's own checkpoints can be read by as many processes as wrote them. This leans on its public look at single
tensors, and on where its ZeRO optimisers keep the flat tensors that they step.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from aot.errors import CheckpointError

FILE = "optimizer.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")
WEIGHT, STEP = "weight", "step"


def save_sharded(engine: Any, model: nn.Module, folder: Path, *, is_writer: bool) -> None:  # noqa: ANN401
    """Leave FILE in `folder`: float32 weight and moments of each trained tensor, and the steps taken.

    Every process of the DeepSpeedEngine calls it, because tensors are gathered one by one; one writes.
    """
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    states = [engine.optimizer.optimizer.state.get(flat, {}) for flat in _flat_tensors(engine)]
    began = all(MOMENTS[0] in state for state in states)  # not where every step so far was skipped
    whole = {STEP: torch.as_tensor(float(states[0][STEP]) if began else 0.0)}
    for name, parameter in _trained(model):
        parts = {WEIGHT: safe_get_full_fp32_param(parameter)}
        for key in MOMENTS:
            parts[key] = safe_get_full_optimizer_state(parameter, key) if began else torch.zeros_like(parts[WEIGHT])
        if is_writer:
            whole |= {f"{name}/{key}": value.detach().cpu().clone() for key, value in parts.items()}
    if is_writer:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(whole, folder / FILE)


def load_sharded(engine: Any, model: nn.Module, folder: Path) -> None:  # noqa: ANN401
    """Take up what `save_sharded` left, weights included; each process keeps its shards.

    Raises:
        CheckpointError: FILE is missing, or is about other tensors.
    """
    if not (folder / FILE).is_file():
        raise CheckpointError(f"{folder} has no {FILE}, so an earlier version wrote it; delete that folder")
    whole = load_file(folder / FILE)
    step = whole.pop(STEP)
    wanted = {f"{name}/{key}": shape_of(p) for name, p in _trained(model) for key in (WEIGHT, *MOMENTS)}
    if wrong := sorted(name for name in wanted.keys() | whole.keys() if wanted.get(name) != _shape(whole.get(name))):
        raise CheckpointError(f"{folder / FILE} does not fit what is trained: {len(wrong)} tensors, first {wrong[0]}")
    base = engine.optimizer.optimizer
    for flat in _flat_tensors(engine):  # torch makes these in the first step; the same names hold the shards
        base.state[flat] = {STEP: step.clone(), **{key: torch.zeros_like(flat) for key in MOMENTS}}
    if hasattr(engine.optimizer, "_lazy_init_hp_params_optimizer_state"):
        engine.optimizer._lazy_init_hp_params_optimizer_state()
    for name, parameter in _trained(model):
        _put(parameter, {key: whole[f"{name}/{key}"] for key in (WEIGHT, *MOMENTS)})


def shape_of(parameter: nn.Parameter) -> tuple[int, ...]:
    """The shape of a parameter, also of one that ZeRO-3 has partitioned away."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def _put(parameter: nn.Parameter, parts: dict[str, torch.Tensor]) -> None:
    """Weight and moments of one tensor: into the weight itself, and into the float32 shards that this process has."""
    import deepspeed
    import deepspeed.utils as tensors

    weight = parts[WEIGHT].to(parameter.device)
    if not hasattr(parameter, "ds_id"):  # ZeRO-2: the weight is whole everywhere
        parameter.data.copy_(weight)
        tensors.safe_set_full_fp32_param(parameter, weight)
        for key in MOMENTS:
            tensors.safe_set_full_optimizer_state(parameter, parts[key].to(parameter.device), key)
        return
    with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
        if torch.distributed.get_rank() == 0:
            parameter.data.copy_(weight)
    tensors.safe_set_local_fp32_param(parameter, _shard(parts[WEIGHT], parameter))
    for key in MOMENTS:
        tensors.safe_set_local_optimizer_state(parameter, _shard(parts[key], parameter), key)


def _shard(value: torch.Tensor, parameter: nn.Parameter) -> torch.Tensor:
    """What of `value` this process has under ZeRO-3: as much as every other one, the last filled up with zeros."""
    size: int = parameter.ds_tensor.numel()  # type: ignore[attr-defined]
    world, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    flat = functional.pad(value.flatten(), (0, size * world - value.numel()))
    return flat.narrow(0, size * rank, size)


def _flat_tensors(engine: Any) -> list[torch.Tensor]:  # noqa: ANN401
    """The flat float32 tensors that the optimiser under ZeRO steps, of stage 1 and 2 or of stage 3."""
    zero = engine.optimizer
    flat = getattr(zero, "single_partition_of_fp32_groups", None)
    return list(zero.fp32_partitioned_groups_flat if flat is None else flat)


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def _shape(value: torch.Tensor | None) -> tuple[int, ...] | None:
    return None if value is None else tuple(value.shape)
