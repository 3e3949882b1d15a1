"""Draws the next token for `generate`, by a generator of its own, so that no other thread changes what is drawn."""

import hashlib
from dataclasses import dataclass

import torch
from transformers import LogitsProcessor

from aot.chat.messages import Sampling


@dataclass(frozen=True)
class Drawn:
    """One token with its log-probability under the model, before temperature and top_p."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


class Drawer(LogitsProcessor):
    """Leaves only the drawn token possible; the same sampling and sample index draw the same tokens again."""

    def __init__(self, sampling: Sampling, *, sample_index: int, device: torch.device) -> None:
        seed = hashlib.sha256(f"{sampling.seed or 0}:{sample_index}".encode()).digest()
        self._generator = torch.Generator(device=device).manual_seed(int.from_bytes(seed[:7], "little"))
        self._sampling = sampling
        self.drawn: list[Drawn] = []
        """Filled when log-probabilities are asked for."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores of a batch of one in which only one token is left."""
        logits_V = scores[0].float()
        token = self._pick(logits_V)
        if self._sampling.top_logprobs is not None:
            logprobs_V = torch.log_softmax(logits_V, dim=-1)
            best = logprobs_V.topk(min(self._sampling.top_logprobs, len(logprobs_V)))
            top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
            self.drawn.append(Drawn(token, float(logprobs_V[token]), top))
        only = torch.full_like(scores, float("-inf"))
        only[0, token] = 0.0
        return only

    def _pick(self, logits_V: torch.Tensor) -> int:
        if self._sampling.temperature == 0:
            return int(logits_V.argmax())
        probs_V, order_V = torch.softmax(logits_V / self._sampling.temperature, dim=-1).sort(descending=True)
        before_V = probs_V.cumsum(dim=-1) - probs_V
        probs_V = torch.where(before_V < self._sampling.top_p, probs_V, torch.zeros_like(probs_V))
        return int(order_V[torch.multinomial(probs_V, 1, generator=self._generator)])
