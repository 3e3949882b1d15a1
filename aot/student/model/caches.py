"""What a model keeps of the tokens it has read: how it is handed on, which rows of it are taken, and what it bears.

Attention keeps keys and values, recurrent layers keep states, and hybrids keep both. Whether padding on the left, rows
that leave and several tokens at once change what a model says is not looked up by name: it is tried, once for each
model. Knows no questions.
"""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from aot.errors import CheckpointError

CACHES = ("past_key_values", "cache", "cache_params")
"""Names under which models take and give what they keep: before transformers 5.24, since then, without attention."""
NOISE, COARSE_NOISE = 1e-3, 0.1
"""Logits that differ by less, as a share of their spread, are the same: in float32, and in shorter numbers."""
DOUBT = 3
"""A base is refused only when they differ by so many times more: to be careful costs time, to refuse costs the base."""
CONTINUED = 3
"""Tokens of the trial that are read after its cache was made."""
PADDED = 16
"""Padding in the trial: more than the convolutions of recurrent layers look back."""
ROOM = 64
"""So many tokens are read on before keys and values are copied again."""


@dataclass(frozen=True)
class Habits:
    """What changes nothing in the probabilities of a model."""

    bears_padding: bool
    """Padding on the left, told by mask and positions."""
    gives_rows: bool
    """Taking some rows of its cache, each as often as needed."""
    takes_spans: bool
    """Reading several tokens at once after its cache was made."""
    bears_gaps: bool = False
    """Tokens between others that nobody sees, told by mask and positions."""


def refusal(model: Any) -> str:  # noqa: ANN401 - a PreTrainedModel
    """Why this model cannot write token by token, as far as its class and configuration tell; empty if it may."""
    taken, name = _taken(model), f"model type {model.config.model_type}"
    if "encoder_hidden_states" in taken and not getattr(model.config, "is_decoder", True):
        return f"{name} reads a text in both directions"
    if not any(cache in taken for cache in CACHES):
        return f"{name} keeps nothing of what it has read that can be handed on from token to token"
    return ""


def run_on(
    model: Any,  # noqa: ANN401 - a PreTrainedModel, or one with adapters
    ids: torch.Tensor,
    mask: torch.Tensor,
    positions: torch.Tensor | None,
    *,
    cache: Any = None,  # noqa: ANN401 - a transformers Cache
    logits_to_keep: int = 1,
    **shown: torch.Tensor,
) -> tuple[torch.Tensor, Any]:
    """Logits [rows, kept, vocabulary] of the last of these tokens, and the cache with all of them.

    Args:
        model: who reads.
        ids: new tokens [rows, time].
        mask: of the cached tokens and the new ones.
        positions: of the new tokens; None where the model counts them itself.
        cache: of the tokens before, or None.
        logits_to_keep: of how many of the last tokens logits are wanted.
        **shown: what the model also takes, such as pixels.

    Raises:
        CheckpointError: the model gives no cache.
    """
    taken = _taken(model)
    name = next((name for name in CACHES if name in taken), CACHES[0])
    # Models without attention look back at no mask: they lay it over the new tokens.
    attends = name == CACHES[0] or getattr(model.config.get_text_config(), "num_attention_heads", None) is not None
    own_mask = mask if attends else mask[:, -ids.shape[1] :]
    output = model(
        input_ids=ids, attention_mask=own_mask, position_ids=positions, use_cache=True, logits_to_keep=logits_to_keep,
        **{name: cache}, **shown,
    )  # fmt: skip
    kept = getattr(output, name, None)
    kept = cache if kept is None else kept
    if kept is None and attends:  # some fill a cache that they are given, and give none themselves
        cache = DynamicCache(config=model.config)
        return run_on(model, ids, mask, positions, cache=cache, logits_to_keep=logits_to_keep, **shown)
    if kept is None:
        raise CheckpointError(f"model type {model.config.model_type} gives no cache to write on with; use another base")
    return output.logits[:, -logits_to_keep:], kept


def position_counter(model: Any) -> Any:  # noqa: ANN401
    """The part of a model that counts the positions of its tokens from the grids of its images; None in most models."""
    # Looked for in all modules, because an adapter that is not merged wraps the model.
    return next((module for module in model.modules() if hasattr(module, "rope_deltas")), None)


def can_drop_tokens(cache: Any) -> bool:  # noqa: ANN401
    """Whether `cache.crop` forgets the last tokens and nothing else: states and windows have let older ones go."""
    return type(cache) is DynamicCache and all(type(layer) in (DynamicLayer, RoomyLayer) for layer in cache.layers)


def with_room(cache: Any) -> Any:  # noqa: ANN401 - a transformers Cache
    """The same cache, which goes on without a copy of all that was read for each token, if it can drop tokens."""
    if can_drop_tokens(cache):
        cache.layers = [RoomyLayer(layer) for layer in cache.layers]
    return cache


class RoomyLayer(DynamicLayer):
    """Keys and values with room behind them, so that one more token is no copy of all before it."""

    def __init__(self, layer: DynamicLayer) -> None:
        """Goes on from another layer, which stays as it is and may go on, too."""
        super().__init__()
        vars(self).update(vars(layer))
        self._rooms = (_Room(), _Room())

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values, the new ones behind the old."""
        if self.keys is None or self.values is None:  # in a layer that looks at the keys of another one
            return super().update(key_states, value_states)
        keys, values = self._rooms
        self.keys, self.values = keys.with_more(self.keys, key_states), values.with_more(self.values, value_states)
        return self.keys, self.values


class _Room:
    """A tensor [rows, heads, time, width] of which the beginning is in use."""

    def __init__(self) -> None:
        self._whole = self._used = torch.empty(0)

    def with_more(self, used: torch.Tensor, more: torch.Tensor) -> torch.Tensor:
        """`used` with `more` behind it."""
        start, end = used.shape[-2], used.shape[-2] + more.shape[-2]
        # What was not made here, or was cropped since, may be read by somebody else as well.
        if used is not self._used or end > self._whole.shape[-2]:
            self._whole = used.new_empty((*used.shape[:-2], end + ROOM, used.shape[-1]))
            self._whole[..., :start, :] = used
        self._whole[..., start:end, :] = more
        self._used = self._whole[..., :end, :]
        return self._used


def fork(cache: Any) -> Any:  # noqa: ANN401 - a transformers Cache
    """A cache that goes on by itself from here; what both have read is shared where nothing changes it in place."""
    return with_room(copy.copy(cache)) if can_drop_tokens(cache) else copy.deepcopy(cache)


def same_logits(logits: torch.Tensor, right: torch.Tensor, *, dtype: torch.dtype, doubt: int = 1) -> bool:
    """Whether logits are right up to the noise of a model that reckons in `dtype`; `doubt` times the noise is right."""
    limit = doubt * (NOISE if dtype == torch.float32 else COARSE_NOISE)
    counted = torch.isfinite(right)  # whoever gives no numbers at all is told so elsewhere
    logits, right = logits[counted].float(), right[counted].float()
    return not counted.any() or bool((logits - right).pow(2).mean().sqrt() <= limit * right.std())


def num_bytes(cache: Any) -> int:  # noqa: ANN401 - a transformers Cache
    """Of the keys and values that it holds, the room behind them included, as far as they can be counted."""
    layers = getattr(cache, "layers", None) or ()
    held = (getattr(layer, name, None) for layer in layers for name in ("keys", "values"))
    return sum(one.untyped_storage().nbytes() for one in held if isinstance(one, torch.Tensor))


def take_rows(cache: Any, rows: Any) -> None:  # noqa: ANN401 - a transformers Cache, and a tensor of row numbers
    """Let `cache` hold these of its rows, in this order; a row may come several times."""
    if type(cache) is DynamicCache:
        cache.reorder_cache(rows)  # of the methods that do so the one that recurrent layers have, too
    else:
        cache.batch_select_indices(rows)


@torch.inference_mode()
def try_habits(model: Any, ids: Sequence[int], *, device: torch.device) -> Habits:  # noqa: ANN401
    """What `model` bears, tried on a text of `ids` in a few short passes.

    Raises:
        CheckpointError: it cannot write token by token.
    """
    name = f"model type {model.config.model_type}"
    try:
        trial = _Trial(model, torch.tensor([list(ids)], device=device))
        if not trial.is_causal():
            raise CheckpointError(f"{name} lets a token see those after it, so it can write no text; use another base")
        if not trial.goes_on(doubt=DOUBT):
            raise CheckpointError(f"{name} says other things with its cache than without it; use another base")
    except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise CheckpointError(f"{name} cannot be asked token by token ({words}); use another base") from error
    return Habits(
        bears_padding=trial.bears(padded=PADDED),
        gives_rows=trial.bears(picked=True),
        takes_spans=trial.bears(step=CONTINUED),
        bears_gaps=trial.bears(gap=CONTINUED),
    )


class _Trial:
    """A text, and the logits of its last tokens as they are without cache, padding and neighbours."""

    def __init__(self, model: Any, ids: torch.Tensor) -> None:  # noqa: ANN401
        self._model = model
        self._ids = ids
        self._right = self._without_cache(ids)

    def is_causal(self) -> bool:
        """Whether the last token changes nothing before it."""
        return self._same(self._without_cache(self._ids[:, :-1])[:, -1], self._right[:, -2], doubt=DOUBT)

    def bears(self, *, step: int = 1, padded: int = 0, picked: bool = False, gap: int = 0) -> bool:
        """Whether the model goes on in this way; one that breaks does not."""
        try:
            return self.goes_on(step=step, padded=padded, picked=picked, gap=gap)
        except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
            return False

    def goes_on(self, *, step: int = 1, padded: int = 0, picked: bool = False, gap: int = 0, doubt: int = 1) -> bool:
        """Whether the logits are right when the last tokens are read with a cache, below another row.

        Args:
            step: tokens at once.
            padded: by so much that row is longer.
            picked: the row is taken out of the cache, twice.
            gap: so many tokens that nobody sees are read before the last ones.
            doubt: how many times the noise is still right.
        """
        start = self._ids.shape[1] - CONTINUED
        prompt, continuation = self._ids[:, :start], self._ids[:, start:]
        mask = torch.ones_like(prompt)
        neighbour = torch.cat([self._ids] * (1 + padded), dim=1).flip(1)[:, : start + padded]
        prompt = torch.cat([neighbour, functional.pad(prompt, (padded, 0), value=int(prompt[0, 0]))])
        mask = torch.cat([torch.ones_like(neighbour), functional.pad(mask, (padded, 0))])
        logits, cache = run_on(self._model, prompt, mask, (mask.cumsum(dim=1) - 1).clamp(min=0))
        cached_logits = [logits[-1]]
        if picked:  # and looked at in another place, because some hold their states where no row is taken
            rows = torch.tensor([1, 1], device=mask.device)
            take_rows(cache, rows)
            mask = mask[rows]
        if gap:
            unseen, places = self._ids[:, :gap].repeat(len(mask), 1), mask.sum(dim=1, keepdim=True)
            mask = torch.cat([mask, torch.zeros_like(unseen)], dim=1)
            _, cache = run_on(self._model, unseen, mask, places.repeat(1, gap), cache=cache)
        for first in range(0, CONTINUED, step):
            new = continuation[:, first : first + step].repeat(len(mask), 1)
            positions = mask.sum(dim=1, keepdim=True) + torch.arange(new.shape[1], device=mask.device)
            mask = torch.cat([mask, torch.ones_like(new)], dim=1)
            logits, cache = run_on(self._model, new, mask, positions, cache=cache, logits_to_keep=new.shape[1])
            cached_logits.append(logits[0 if picked else -1])
        return self._same(torch.cat(cached_logits), self._right[0], doubt=doubt)

    def _without_cache(self, ids: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        output = self._model(
            input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=positions, use_cache=False
        )
        return output.logits[:, -CONTINUED - 1 :]

    def _same(self, cached_logits: torch.Tensor, right: torch.Tensor, *, doubt: int) -> bool:
        # The model's own numbers count: some give logits in float32 whatever they reckon in.
        return same_logits(cached_logits, right, dtype=self._model.dtype, doubt=doubt)


def _taken(model: Any) -> frozenset[str]:  # noqa: ANN401
    kind: Any = type(model.get_base_model() if hasattr(model, "get_base_model") else model)
    return _parameters(kind)


@lru_cache
def _parameters(kind: Any) -> frozenset[str]:  # noqa: ANN401 - a class of models
    """Names that its forward takes; looked up once, and not for each token."""
    return frozenset(inspect.signature(kind.forward).parameters)
