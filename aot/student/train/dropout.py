"""Dropout that is a function of seed, step and token: how a batch is cut, and by how many processes, changes nothing.

Ordinary dropout takes the next numbers of a generator, so its masks depend on what else was in the micro-batch. Here
each token has a key, made of the step and the row that it stands in, and a mask is a hash of key, layer and feature.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional

_GOLDEN = -7046029254386353131
"""2^64 over the golden ratio, as a signed number: neighbouring numbers end far apart."""
_GRAIN = 24
"""Bits of a hash that are compared with the share that is dropped."""


@dataclass
class TokenKeys:
    """Keys of the tokens of the running micro-batch, which every dropout of a model looks at."""

    keys_BT: torch.Tensor | None = field(default=None)

    def of(self, values: torch.Tensor) -> torch.Tensor | None:
        """Keys of the tokens of `values` [rows, time, features] or [rows * time, features]; None if it has others."""
        keys = self.keys_BT
        if keys is None or values.dim() < 2:
            return None
        if values.dim() == 3 and values.shape[:2] == keys.shape:
            return keys[:, :, None]
        if values.dim() == 2 and values.shape[0] == keys.numel():
            return keys.reshape(-1, 1)
        return None


class KeyedDropout(nn.Module):
    """Drops the share `p` of the features of each token, by its key; as torch does where tokens have none."""

    def __init__(self, p: float, *, layer: int, shared: TokenKeys) -> None:
        super().__init__()
        self.p = p
        self._layer = layer
        self._shared = shared

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """`values` with some features 0 and the others larger by 1 / (1 - p), while training."""
        if not self.training:
            return values
        keys = self._shared.of(values)
        if keys is None:
            return functional.dropout(values, self.p)
        features = torch.arange(values.shape[-1], device=values.device) + (self._layer << 32)
        bits = _scattered(keys.to(torch.int32) ^ _mixed(features).to(torch.int32))
        kept = (bits & ((1 << _GRAIN) - 1)) >= int(self.p * (1 << _GRAIN))
        return values * (kept.to(values.dtype) / (1 - self.p))


def key_dropout(model: nn.Module) -> TokenKeys | None:
    """Replace every dropout of `model` by one that goes by keys; None where it has none to replace."""
    shared, count = TokenKeys(), 0
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Dropout and child.p > 0:
                module.register_module(name, KeyedDropout(child.p, layer=count, shared=shared))
                count += 1
    return shared if count else None


def token_keys(batch: dict[str, Any], *, seed: int, step: int) -> torch.Tensor:
    """[rows, time] int64: what is the same for a token wherever its row is packed, and other in the next step.

    A row of a longer one begins where positions do not count on; its key is a sum over its tokens, so that neighbours
    and padding do not enter. The same row twice in a step has the same key.
    """
    ids, positions, mask = batch["input_ids"], batch.get("position_ids"), batch["attention_mask"]
    if positions is None or positions.shape != ids.shape:
        positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    shown = mask if mask.shape == ids.shape else torch.ones_like(ids)
    begins = functional.pad(positions[:, 1:] != positions[:, :-1] + 1, (1, 0))
    row_BT = begins.long().cumsum(dim=1)
    parts = _mixed(ids + (positions << 32)) * shown
    sums = torch.zeros_like(parts).scatter_add(1, row_BT, parts).gather(1, row_BT)
    life = _mixed(torch.tensor([seed, step], device=ids.device) * _GOLDEN)
    return _mixed(_mixed(sums + life[0] + 3 * life[1]) + positions)


def random_state(device: torch.device) -> torch.Tensor:
    """The state of the generator that a forward pass on `device` takes its random numbers from."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _mixed(values: torch.Tensor) -> torch.Tensor:
    """The finaliser of MurmurHash3 for 64 bits (github.com/aappleby/smhasher): one bit in, half of all bits out."""
    values = values ^ ((values >> 33) & 0x7FFFFFFF)
    values = values * -49064778989728563
    values = values ^ ((values >> 33) & 0x7FFFFFFF)
    values = values * -4265267296055464877
    return values ^ ((values >> 33) & 0x7FFFFFFF)


def _scattered(values: torch.Tensor) -> torch.Tensor:
    """The same for 32 bits in half the memory, in place (constants: github.com/skeeto/hash-prospector)."""
    for shift, factor in ((16, 0x7FEB352D), (15, -2073254261)):
        values ^= values >> shift
        values *= factor
    values ^= values >> 16
    return values
