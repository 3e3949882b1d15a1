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

ZERO: dict[int, dict[str, Any]] = {
    2: {
        **_COMMON,
        "zero_optimization": {
            "stage": 2,
            "contiguous_gradients": True,
            "overlap_comm": False,
            "reduce_scatter": True,
            "allgather_bucket_size": 50_000_000,
            "reduce_bucket_size": 50_000_000,
        },
    },
    3: {
        **_COMMON,
        "zero_optimization": {
            "stage": 3,
            "contiguous_gradients": True,
            "overlap_comm": False,
            "reduce_bucket_size": "auto",
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
            "stage3_gather_16bit_weights_on_model_save": True,
        },
    },
}


def zero_settings(stage: int) -> dict[str, Any]:
    """A fresh copy of the settings of ZeRO stage 2 or 3; DeepSpeed fills in values of its own."""
    return deepcopy(ZERO[stage])
