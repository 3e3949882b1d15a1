"""DeepSpeed ZeRO settings, the same as configs/deepspeed/*.json, so that an installed package needs no file beside it.

Batch sizes, precision and clipping are `auto`: the Trainer fills them in. The optimiser is torch's AdamW on every
device, so that CPU and GPU runs differ in nothing but speed.
"""

from copy import deepcopy
from typing import Any

_COMMON: dict[str, Any] = {
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "bf16": {"enabled": "auto"},
    "zero_allow_untested_optimizer": True,
    "zero_force_ds_cpu_optimizer": False,
    "wall_clock_breakdown": False,
}

_BUCKETS: dict[str, Any] = {
    "contiguous_gradients": True,
    "overlap_comm": False,
    "reduce_scatter": True,
    "allgather_bucket_size": 50_000_000,
    "reduce_bucket_size": 50_000_000,
}
_STAGE_3: dict[str, Any] = {
    "stage": 3,
    "contiguous_gradients": True,
    "overlap_comm": False,
    "reduce_bucket_size": "auto",
    "stage3_prefetch_bucket_size": "auto",
    "stage3_param_persistence_threshold": "auto",
    "stage3_gather_16bit_weights_on_model_save": True,
}
_TO_CPU = {"offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "cpu"}}

ZERO: dict[str, dict[str, Any]] = {
    "zero1": {**_COMMON, "zero_optimization": {"stage": 1, **_BUCKETS}},
    "zero2": {**_COMMON, "zero_optimization": {"stage": 2, **_BUCKETS}},
    "zero3": {**_COMMON, "zero_optimization": _STAGE_3},
    "zero3_offload": {**_COMMON, "zero_optimization": {**_STAGE_3, **_TO_CPU}},
}
"""Name of the file in configs/deepspeed to the settings."""


def zero_settings(stage: int, *, offload: str = "none") -> dict[str, Any]:
    """A fresh copy of the settings of ZeRO stage 1, 2 or 3, of the last with all in CPU memory where `offload` is cpu.

    DeepSpeed fills in values of its own.
    """
    return deepcopy(ZERO[f"zero{stage}{'_offload' * (offload == 'cpu')}"])
