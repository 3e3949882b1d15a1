"""What of a model is trained: low-rank adapters on the language model's linear layers, or all of the language model.

The pattern is anchored on full module names, because vision towers reuse the names of language layers. What matched
is recorded, and a match outside the language model stops the run. What shows images is never fully fine-tuned.
"""

import re
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.pytorch_utils import Conv1D

from aot.config import LoraSection
from aot.errors import ConfigError

LINEAR = (nn.Linear, Conv1D)
"""The second is GPT-2's: a linear layer with its weight turned over."""


@dataclass(frozen=True)
class AdaptedModel:
    """A model ready to train, and what is known about its trainable part."""

    model: Any
    """A PeftModel with fresh adapters, or after `unfreeze` the model itself."""
    pattern: str
    """Empty without adapters."""
    matched: tuple[str, ...]
    """Full names of the adapted modules; none without adapters."""
    num_trainable: int
    num_parameters: int
    trains_vision: bool


def add_lora(model: Any, section: LoraSection) -> AdaptedModel:  # noqa: ANN401 - a PreTrainedModel
    """`model` with untrained adapters; everything else is frozen.

    Raises:
        ConfigError: the pattern matches no linear layer, or layers outside the language model it does not name.
    """
    decoder_name = language_model_name(model)
    pattern = section.target_pattern or default_pattern(model)
    matched = matched_layers(model, pattern)
    outside = [name for name in matched if not name.startswith(decoder_name + ".")]
    unasked = [name for name in outside if not _asks_for(pattern, name, decoder_name)]
    if unasked:
        raise ConfigError(
            f"train.lora.target_pattern {pattern!r} also matches {len(unasked)} layers outside the language model "
            f"({unasked[0]}, ...); anchor it with {re.escape(decoder_name)!r}, or name the vision module in it"
        )
    config = LoraConfig(
        r=section.rank, lora_alpha=section.alpha, lora_dropout=section.dropout, target_modules=pattern, bias="none",
        fan_in_fan_out=any(isinstance(model.get_submodule(name), Conv1D) for name in matched),
    )  # fmt: skip
    try:
        adapted = attach(model, config)
    except ValueError as error:
        words = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"train.lora.target_pattern {pattern!r} matches a layer that takes no adapter ({words}); leave it out of "
            f"the pattern, or leave the setting away to adapt {default_pattern(model)!r}"
        ) from error
    return AdaptedModel(
        model=adapted,
        pattern=pattern,
        matched=matched,
        num_trainable=sum(_count(p) for p in adapted.parameters() if p.requires_grad),
        num_parameters=size_of(adapted),
        trains_vision=bool(outside),
    )


def matched_layers(model: Any, pattern: str) -> tuple[str, ...]:  # noqa: ANN401
    """Full names of the linear layers of `model` that `pattern` matches, which may take it for ever.

    Raises:
        ConfigError: it matches none.
    """
    linear = [name for name, module in model.named_modules() if isinstance(module, LINEAR)]
    if not linear:
        raise ConfigError(f"{type(model).__name__} has no linear layer that an adapter fits; train it with tuning=full")
    matched = tuple(name for name in linear if re.fullmatch(pattern, name))
    if not matched:
        raise ConfigError(
            f"train.lora.target_pattern {pattern[:200]!r} matches no linear layer; it must match full names such as "
            f"{linear[-1]}"
        )
    return matched


def unfreeze(model: Any) -> AdaptedModel:  # noqa: ANN401 - a PreTrainedModel
    """`model` with every weight of its language model trainable, which of a text model is every weight."""
    if model.config.get_text_config() is model.config:  # all of it is a language model
        model.requires_grad_(True)
    for part in (_decoder(model), model.get_input_embeddings(), model.get_output_embeddings()):
        if part is not None:
            part.requires_grad_(True)
    return AdaptedModel(
        model=model,
        pattern="",
        matched=(),
        num_trainable=sum(_count(p) for p in model.parameters() if p.requires_grad),
        num_parameters=size_of(model),
        trains_vision=False,
    )


def attach(model: Any, config: LoraConfig) -> PeftModel:  # noqa: ANN401
    """`model` with fresh adapters of this shape."""
    config.base_model_name_or_path = model.name_or_path
    with warnings.catch_warnings():
        # peft asks transformers for an attribute under its old name; nobody who trains can do anything about it.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        return get_peft_model(model, config)


def leave_inputs(adapted: Any) -> None:  # noqa: ANN401 - a PeftModel
    """Let adapters read what their layer reads as it comes, for a training under autocast.

    peft makes a copy of every input in the type of the adapters, which autocast turns back: the same numbers, at the
    price of the memory traffic of the layer itself.
    """
    for module in adapted.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False


def language_model_name(model: Any) -> str:  # noqa: ANN401
    """Full module name of the text decoder inside `model`.

    Raises:
        ConfigError: the model does not say which part is its language model.
    """
    decoder = _decoder(model)
    for name, module in model.named_modules():
        if module is decoder and name:
            return name
    raise ConfigError(f"{type(model).__name__} has no separate language model; set train.lora.target_pattern")


def default_pattern(model: Any) -> str:  # noqa: ANN401
    """Anchored pattern that matches every linear layer of the language model that an adapter reaches.

    In a state space mixer that is its first layer alone: fused kernels read the weights of the others themselves.
    """
    prefix = language_model_name(model)
    decoder = model.get_submodule(prefix)
    passed_by = {
        kind for mixer in decoder.modules() if hasattr(mixer, "A_log") and hasattr(mixer, "D")
        for kind, part in mixer.named_children() if isinstance(part, LINEAR) and kind != "in_proj"
    }  # fmt: skip
    reached = [
        name for name, module in decoder.named_modules()
        if isinstance(module, LINEAR) and name.rpartition(".")[2] not in passed_by
    ]  # fmt: skip
    kinds = sorted({name.rpartition(".")[2] for name in reached})
    pattern = rf"^{re.escape(prefix)}\..*\.({'|'.join(kinds)})$"
    others = [name for name, module in model.named_modules() if not isinstance(module, LINEAR)]
    if not any(re.fullmatch(pattern, name) for name in others):
        return pattern
    return rf"^{re.escape(prefix)}\.({'|'.join(re.escape(name) for name in reached)})$"  # such as layers of a list


def trained_state(model: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401
    """Tensors by name as they are in memory: those of the adapters, or of a whole model all of them."""
    return dict(get_peft_model_state_dict(model) if isinstance(model, PeftModel) else model.state_dict())


def gathered(state: dict[str, torch.Tensor], *, keep: bool) -> dict[str, torch.Tensor]:
    """Tensors that fully_shard has spread, put together again one by one, and kept on the CPU where `keep` is set.

    Every process must call this with the same names, as each gives its part.
    """
    whole = ((name, part.full_tensor() if isinstance(part, DTensor) else part) for name, part in state.items())
    return {name: tensor.cpu() for name, tensor in whole if keep}


@torch.no_grad()
def spread(state: dict[str, torch.Tensor], parts: dict[str, torch.Tensor]) -> None:
    """Put whole tensors into those of the same names that fully_shard has spread over processes; all must call this."""
    for name, part in parts.items():
        whole = state[name].to(part.device)
        part.copy_(distribute_tensor(whole, part.device_mesh, part.placements) if isinstance(part, DTensor) else whole)


def decoder_layers(model: Any) -> list[nn.Module]:  # noqa: ANN401
    """The layers of the language model, in order: its longest list of modules."""
    lists = [list(part) for part in _decoder(model).modules() if isinstance(part, nn.ModuleList)]
    return max(lists, key=len, default=[])


def size_of(model: Any) -> int:  # noqa: ANN401
    """Elements of all parameters of `model`, those of tied ones once."""
    return sum(_count(parameter) for parameter in model.parameters())


def _decoder(model: Any) -> Any:  # noqa: ANN401
    """The text decoder inside `model`; some call their output layer by that name."""
    decoder = model.get_decoder()
    return model.base_model if isinstance(decoder, LINEAR) else decoder


def _asks_for(pattern: str, name: str, decoder_name: str) -> bool:
    """Whether the pattern spells out the top module of `name`, such as vision_model or connector."""
    parts, decoder_parts = name.split("."), decoder_name.split(".")
    top_module = next(
        (part for i, part in enumerate(parts) if i >= len(decoder_parts) or part != decoder_parts[i]), parts[-1]
    )
    return top_module in pattern.replace("\\", "")


def _count(parameter: nn.Parameter) -> int:
    """Number of elements, also of a parameter that ZeRO-3 has partitioned away."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))
