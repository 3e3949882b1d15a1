"""Smaller weights through torchao, and what they cost: the language model's linear layers in 8 or 4 bits.

Weight-only: activations stay floats. Stored in safetensors as transformers stores torchao's tensors, so that a fresh
process needs torchao and nothing pickled. A vision tower is left alone unless it is asked for.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from aot.errors import ConfigError, missing_package
from aot.evaluation.calibration import confidences, expected_calibration_error
from aot.evaluation.intervals import Bootstrap, cluster_ids, proportion
from aot.evaluation.scoring import score
from aot.records import Question
from aot.served_records import VariantRow
from aot.serving.export.probe import LIKELIHOOD, answers
from aot.student.answer.predict import PredictMode
from aot.student.model.loading import Student, load_model
from aot.student.model.lora import language_model_name
from aot.teacher.bench import Bench

Bits = Literal["int8", "int4"]
GROUP = 32
"""Weights that share a scale in four bits; in eight bits each row has one."""


@dataclass(frozen=True)
class Quantised:
    """A model with smaller weights, and which layers have them."""

    model: Any
    layers: tuple[str, ...]
    left: tuple[str, ...]
    """Layers of the chosen part whose width no group of weights divides: they stay as they were."""


def quantised(
    folder: Path, *, bits: Bits, vision: bool, dtype: torch.dtype, with_images: bool, device: torch.device
) -> Quantised:
    """The model in `folder` with quantised linear layers.

    Args:
        folder: of a model in floats.
        bits: int8 with a scale for each row, or int4 with one for each 32 weights. torchao's packed four-bit tensors
            need a GPU kernel; the portable ones used here hold a byte for each weight.
        vision: whether layers outside the language model are quantised too.
        dtype: of all other weights.
        with_images: whether it is an image-text model.
        device: where it will answer.

    Raises:
        MissingPackageError: torchao is not installed.
        ConfigError: no layer is left to quantise.
        CheckpointError: the folder cannot be loaded.
    """
    chosen, others, left = _layers(folder, bits=bits, vision=vision, with_images=with_images)
    if not chosen:
        raise ConfigError(f"--quantise {bits}: no linear layer of this student has a width that {GROUP} divides; int8?")
    config = _config(bits, others=others)
    model = load_model(str(folder), dtype=dtype, with_images=with_images, quantisation=config)
    model.to(device).eval()
    model.requires_grad_(False)
    return Quantised(model, chosen, left)


def _layers(folder: Path, *, bits: Bits, vision: bool, with_images: bool) -> tuple[tuple[str, ...], ...]:
    """Names of the linear layers to quantise, of all others, and of those that would be chosen but do not fit."""
    model = load_model(str(folder), dtype=torch.float32, with_images=with_images, device_map="meta")
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    output = model.get_output_embeddings()
    try:
        inside = language_model_name(model) + "."
    except ConfigError:  # all of it is one
        inside = ""
    # The output layer often is the embedding too, which is looked up and not multiplied.
    wanted = [name for name, one in linear.items() if one is not output and (vision or name.startswith(inside))]
    left = [name for name in wanted if bits == "int4" and linear[name].in_features % GROUP]
    chosen = [name for name in wanted if name not in left]
    return tuple(chosen), tuple(name for name in linear if name not in chosen), tuple(left)


def _config(bits: Bits, *, others: tuple[str, ...]) -> Any:  # noqa: ANN401
    logging.getLogger("torchao").setLevel(logging.ERROR)  # it tells of kernels for GPUs that are not there
    try:
        from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerGroup
    except ModuleNotFoundError as error:
        raise (missing_package("torchao") or error) from error
    from transformers import TorchAoConfig

    how = Int8WeightOnlyConfig()
    if bits == "int4":
        how = IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(GROUP))  # type: ignore[attr-defined]
    return TorchAoConfig(quant_type=how, modules_to_not_convert=list(others))


@dataclass(frozen=True)
class Grader:
    """Measures forms of one student on the same questions."""

    questions: Sequence[Question]
    frames: Path | None
    modes: Sequence[PredictMode]
    bootstrap_samples: int
    seed: int
    bench: Bench | None = None
    """What the student's calls are carried out with."""

    def rows(self, student: Student, *, variant: str, size_bytes: int) -> tuple[VariantRow, ...]:
        """Accuracy in the student's first mode, and by decision with its calibration error where there are choices."""
        made = []
        for mode in dict.fromkeys((self.modes[0], *(one for one in self.modes if one == LIKELIHOOD))):
            asked_of = [q for q in self.questions if q.choices] if mode == LIKELIHOOD else list(self.questions)
            said = answers(student, asked_of, modes=[mode], frames=self.frames, batch_size=16, bench=self.bench)
            right = np.array([score(one, q).correct for one, q in zip(said, asked_of, strict=True)], dtype=float)
            scored = confidences(asked_of, said)
            made.append(
                VariantRow(
                    variant=variant,
                    mode="decide" if mode == LIKELIHOOD else mode,
                    size_bytes=size_bytes,
                    seconds=sum(one.latency_s for one in said) / len(said),
                    accuracy=proportion(right, cluster_ids([q.group for q in asked_of])),
                    ece=expected_calibration_error(scored, Bootstrap(self.bootstrap_samples, self.seed))
                    if scored
                    else None,
                )
            )
        return tuple(made)
