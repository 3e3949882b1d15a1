"""A watermark in long sampled text, and the test that finds it: SynthID Text as transformers has it.

The mark (Dathathri et al., https://www.nature.com/articles/s41586-024-08025-4) shifts each draw by a keyed hash of the
four tokens before it. Whoever has the secret sees it in the mean of the hash's bits; to others it looks like chance.
Text that is not sampled has no draws to shift, so a greedy reply stays as it is. Knows no server.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import SynthIDTextWatermarkLogitsProcessor

from aot.wilson import Z95

NGRAM, DEPTH, HISTORY, TABLE = 5, 30, 1024, 2**16
"""As the authors recommend; text is only found by the values that it was marked with."""
LEAST_TOKENS = 20
"""Of a text that is looked at: fewer say nothing."""


@dataclass(frozen=True)
class Found:
    """What a text shows of the mark."""

    mean: float
    """Of the bits; 0.5 by chance, more in marked text."""
    low: float
    high: float
    """95% interval of the mean."""
    bits: int
    p_value: float
    """Probability of such a mean, or a higher one, in text without this mark."""


class Watermark:
    """The mark of one secret."""

    def __init__(self, secret: str) -> None:
        self._keys = _keys(secret)
        self._scores = self._processor(torch.device("cpu"))

    def marker(self, device: torch.device) -> SynthIDTextWatermarkLogitsProcessor:
        """What marks one reply, token by token."""
        return self._processor(device)

    def look(self, ids: Sequence[int]) -> Found | None:
        """What the tokens of a text show; None where they are too few. Contexts that came before count once."""
        if len(ids) < LEAST_TOKENS:
            return None
        row: Any = torch.tensor([ids])
        bits = self._scores.compute_g_values(row)[0][self._scores.compute_context_repetition_mask(row)[0]].float()
        count = bits.numel()
        if not count:  # each context came before, as in a text that repeats itself
            return None
        # The table is drawn once, so its own share of ones, and not a half, is what chance gives.
        mean, chance = float(bits.mean()), float(self._scores.sampling_table.float().mean())
        error = math.sqrt(chance * (1 - chance) / count)
        half = Z95 * math.sqrt(mean * (1 - mean) / count)
        return Found(mean, mean - half, mean + half, count, math.erfc((mean - chance) / error / math.sqrt(2)) / 2)

    def _processor(self, device: torch.device) -> SynthIDTextWatermarkLogitsProcessor:
        made = SynthIDTextWatermarkLogitsProcessor(
            ngram_len=NGRAM, keys=self._keys, sampling_table_size=TABLE, sampling_table_seed=0,
            context_history_size=HISTORY, device=torch.device("cpu"),
        )  # fmt: skip
        # Made on the CPU and moved, since a GPU has other random numbers, and a mark must be found anywhere.
        made.keys, made.sampling_table, made.device = made.keys.to(device), made.sampling_table.to(device), device
        return made


def _keys(secret: str) -> list[int]:
    """Keys that differ in the bits by which the table is read: two alike would count one draw twice."""
    keys, number = dict[int, int](), 0
    while len(keys) < DEPTH:
        digest = hashlib.sha256(f"aot-watermark:{number}:{secret}".encode()).digest()
        key = int.from_bytes(digest[:7], "little")
        keys.setdefault(key % TABLE, key)
        number += 1
    return list(keys.values())
