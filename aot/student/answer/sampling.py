"""Ways to pick the next token of each reply: the likeliest, one drawn for a whole batch, or each reply by its own seed.

A way is a function of logits [rows, vocabulary] and the numbers of the replies in those rows. Knows no model.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Pick = Callable[[torch.Tensor, Sequence[int]], torch.Tensor]
"""Logits of the replies that are still written, and their numbers, to one token each."""


@dataclass(frozen=True)
class BatchSampling:
    """How the tokens of a batch are sampled."""

    samples: int
    """Replies to each prompt."""
    temperature: float
    seed: int


@dataclass(frozen=True)
class NotedToken:
    """One token with its log-probability under the model, before temperature and top_p."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def likeliest(logits_BV: torch.Tensor, replies: Sequence[int]) -> torch.Tensor:
    """The token with the highest logit."""
    return logits_BV.argmax(dim=-1)


def sampled_together(sampling: BatchSampling, device: torch.device) -> Pick:
    """A way that samples for all rows from one stream of numbers: cheap, and the same for the same batch only."""
    generator = torch.Generator(device=device).manual_seed(sampling.seed)

    def pick(logits_BV: torch.Tensor, replies: Sequence[int]) -> torch.Tensor:
        probs = torch.softmax(logits_BV.float() / sampling.temperature, dim=-1)
        return torch.multinomial(probs, 1, generator=generator)[:, 0]

    return pick


class SampledAlone:
    """Samples each reply from numbers of its own, so that neither its batch nor another thread changes it."""

    def __init__(
        self,
        *,
        temperature: float,
        top_p: float,
        seed: int,
        sample_index: int,
        device: torch.device,
        marker: Any = None,  # noqa: ANN401 - a LogitsProcessor
    ) -> None:
        """A marker is a LogitsProcessor that puts a watermark into this reply, and into no other one."""
        digest = hashlib.sha256(f"{seed}:{sample_index}".encode()).digest()
        self._generator = torch.Generator(device=device).manual_seed(int.from_bytes(digest[:7], "little"))
        self._temperature, self._top_p, self._marker, self._last = temperature, top_p, marker, 0

    def __call__(self, logits_V: torch.Tensor) -> int:
        """The next token of the reply."""
        if self._temperature == 0:
            return int(logits_V.argmax())
        probs_V, order_V = torch.softmax(logits_V / self._temperature, dim=-1).sort(descending=True)
        before_V = probs_V.cumsum(dim=-1) - probs_V
        probs_V = torch.where(before_V < self._top_p, probs_V, torch.zeros_like(probs_V))
        if self._marker is not None:  # behind top_p, or the mark would bring back what that has left out
            scores_V = torch.full_like(probs_V, -torch.inf).scatter(0, order_V, probs_V.log())
            last = torch.tensor([[self._last]], device=probs_V.device)
            probs_V = torch.softmax(self._marker(last, scores_V[None])[0], dim=-1)[order_V]
        self._last = int(order_V[torch.multinomial(probs_V, 1, generator=self._generator)])
        return self._last


def each_alone(samplers: Sequence[SampledAlone]) -> Pick:
    """A way that asks the sampler of each reply."""

    def pick(logits_BV: torch.Tensor, replies: Sequence[int]) -> torch.Tensor:
        tokens = [samplers[reply](row_V.float()) for reply, row_V in zip(replies, logits_BV, strict=True)]
        return torch.tensor(tokens, device=logits_BV.device)

    return pick


class Noted:
    """Picks as another way does, and notes the log-probabilities of what it picked."""

    def __init__(self, pick: Pick, *, top: int = 0) -> None:
        self.pick, self._top = pick, top
        self.of: dict[int, list[NotedToken]] = {}
        """By number of the reply; of one that has ended, more than it has tokens."""

    def __call__(self, logits_BV: torch.Tensor, replies: Sequence[int]) -> torch.Tensor:
        """What the other way picks."""
        tokens = self.pick(logits_BV, replies)
        logprobs_BV = torch.log_softmax(logits_BV.float(), dim=-1)
        picked = logprobs_BV.gather(1, tokens[:, None])[:, 0].tolist()
        best = logprobs_BV.topk(min(self._top, logprobs_BV.shape[1]))
        tops = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        for reply, token, logprob, (ids, values) in zip(replies, tokens.tolist(), picked, tops, strict=True):
            top = tuple(zip(ids, values, strict=True))
            self.of.setdefault(reply, []).append(NotedToken(token, logprob, top))
        return tokens
