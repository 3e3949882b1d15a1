"""Probabilities of given continuations of prompts, such as choices: one pass over a prompt, a short one over them.

The score of a choice is the summed log-probability of its tokens and of the token that ends the turn, that is, of
saying exactly this and then stopping. The softmax of these sums is the student's probability of each choice given
that it says one of them, so sums are not divided by length.

Behind a text that was read already, several questions and all their choices take one pass: a tree, in which each token
sees the tokens on its own way only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from aot.student.answer.decoding import Prompt, Reading, Writer, alike, model_inputs, read_prompts
from aot.student.model.caches import fork, position_counter, run_on

Continuations = Sequence[Sequence[tuple[int, ...]]]
"""For each prompt the ids of what may follow; with an end token where nothing may come after it."""

TREE_TOKENS = 256
"""Of one pass over a tree, about; more branches or choices take several."""


@dataclass(frozen=True)
class Branch:
    """What follows a text that was read: tokens that lead on, at least one, and the choices behind them."""

    ids: tuple[int, ...]
    choices: Sequence[tuple[int, ...]]


def score(writer: Writer, prompts: Sequence[Prompt], choices: Continuations) -> list[tuple[float, ...]]:
    """Probability of each continuation of each prompt, given that it is one of them."""
    sums = log_sums(writer, prompts, choices)
    return [_softmax(row) for row in sums]


@torch.inference_mode()
def log_sums(writer: Writer, prompts: Sequence[Prompt], choices: Continuations) -> list[list[float]]:
    """Summed log-probability of each continuation of each prompt."""
    sums: list[list[float]] = [[] for _ in prompts]
    bears = writer.habits.gives_rows and writer.habits.takes_spans
    for group in alike(writer, prompts):
        sums_of = _shared_sums if bears else _full_sums
        made = sums_of(writer, [prompts[i] for i in group], [choices[i] for i in group])
        for i, row in zip(group, made, strict=True):
            sums[i] = row
    return sums


@torch.inference_mode()
def score_read(reading: Reading, choices: Sequence[tuple[int, ...]]) -> tuple[float, ...]:
    """Probability of each continuation of the only text in `reading`, which is used up."""
    return _softmax(_sums_behind(reading, [choices])[0])


def _softmax(sums: list[float]) -> tuple[float, ...]:
    return tuple(torch.softmax(torch.tensor(sums, dtype=torch.float64), dim=0).tolist())


def _shared_sums(writer: Writer, prompts: Sequence[Prompt], choices: Continuations) -> list[list[float]]:
    """Summed log-probabilities; the prompt's keys and values are computed once and repeated for its choices."""
    return _sums_behind(read_prompts(writer, prompts), choices)


def _sums_behind(reading: Reading, choices: Continuations) -> list[list[float]]:
    device, repeats = reading.mask.device, max(len(options) for options in choices)
    reading.take(torch.arange(len(choices), device=device).repeat_interleave(repeats))
    ids, real = _pad_choices(choices, repeats, device=device)
    first = reading.logits_BV[:, None]
    later = reading.read_on(ids, real, keep=ids.shape[1])
    log_probs = torch.log_softmax(torch.cat([first, later[:, :-1]], dim=1).float(), dim=-1)
    return _gather(log_probs, ids, real, choices, repeats)


def _full_sums(writer: Writer, prompts: Sequence[Prompt], choices: Continuations) -> list[list[float]]:
    """The same sums from one pass for each choice over prompt and choice, at more work."""
    inputs = model_inputs(writer, prompts)
    repeats = max(len(options) for options in choices)
    all_ids, all_real = _pad_choices(choices, repeats, device=writer.device)
    log_probs = []
    for k in range(repeats):
        ids, real = all_ids[k::repeats], all_real[k::repeats]
        whole = {
            **inputs,
            "input_ids": torch.cat([inputs["input_ids"], ids], dim=1),
            "attention_mask": torch.cat([inputs["attention_mask"], real.to(inputs["attention_mask"].dtype)], dim=1),
        }
        if len(inputs) == 2 or position_counter(writer.model) is None:
            whole["position_ids"] = (whole["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
        if "mm_token_type_ids" in inputs:
            whole["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(ids)], dim=1)
        keep = ids.shape[1] + 1
        logits = writer.model(**whole, use_cache=False, logits_to_keep=keep).logits[:, -keep:-1]
        log_probs.append(torch.log_softmax(logits.float(), dim=-1))
    together = torch.stack(log_probs, dim=1).flatten(0, 1)
    return _gather(together, all_ids, all_real, choices, repeats)


def _pad_choices(choices: Continuations, repeats: int, *, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask [items * repeats, longest choice], padded on the right; missing choices repeat the first one."""
    rows = [options[k] if k < len(options) else options[0] for options in choices for k in range(repeats)]
    width = max(len(row) for row in rows)
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    real = torch.zeros((len(rows), width), dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        real[i, : len(row)] = True
    return ids.to(device), real.to(device)


def _gather(
    log_probs_BTV: torch.Tensor, ids: torch.Tensor, real: torch.Tensor, choices: Continuations, repeats: int
) -> list[list[float]]:
    picked = log_probs_BTV.gather(-1, ids[..., None])[..., 0].double()
    sums = torch.where(real, picked, torch.zeros_like(picked)).sum(dim=1).view(len(choices), repeats).tolist()
    return [row[: len(options)] for row, options in zip(sums, choices, strict=True)]


@torch.inference_mode()
def score_tree(reading: Reading, branches: Sequence[Branch]) -> list[list[float]]:
    """Summed log-probability of each choice of each branch behind a text that was read, which is left as it was.

    The text is one row, its cache one that can drop tokens, and the model takes a mask of our own.
    """
    sums: list[list[float]] = [[0.0] * len(branch.choices) for branch in branches]
    tree = _Tree()
    for number, branch in enumerate(branches):
        for place, choice in enumerate(branch.choices):
            if len(tree.ids) >= TREE_TOKENS:
                tree.put_sums(reading, sums)
                tree = _Tree()
            tree.add(number, place, branch.ids, choice)
    tree.put_sums(reading, sums)
    return sums


class _Tree:
    """Tokens behind a text, once for each way that leads to them: what choices or questions begin with is shared."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self._parents: list[int] = []
        self._nodes: dict[tuple[int, int], int] = {}
        self._wanted: list[tuple[int, int, list[int], tuple[int, ...]]] = []
        """Number of a branch and place of a choice in it, before which nodes its tokens come, and these tokens."""

    def add(self, number: int, place: int, lead: Sequence[int], choice: tuple[int, ...]) -> None:
        """Grow the way of one choice; its last token has nothing to lead to and stays away."""
        way = self._grow(choice[:-1], self._grow(lead, -1)[-1])
        self._wanted.append((number, place, way, choice))

    def _grow(self, ids: Sequence[int], start: int) -> list[int]:
        way = [start]
        for token in ids:
            key = (way[-1], token)
            if key not in self._nodes:
                self._nodes[key] = len(self.ids)
                self.ids.append(token)
                self._parents.append(way[-1])
            way.append(self._nodes[key])
        return way

    def put_sums(self, reading: Reading, sums: list[list[float]]) -> None:
        """Read all tokens in one pass, and write the sum of each choice to its place."""
        device, num_read = reading.mask.device, reading.mask.shape[1]
        size = len(self.ids)
        sees, depths = np.zeros((size, num_read + size), dtype=bool), np.zeros(size, dtype=np.int64)
        for i, parent in enumerate(self._parents):
            if parent >= 0:
                sees[i], depths[i] = sees[parent], depths[parent] + 1
            sees[i, num_read + i] = True
        sees[:, :num_read] = reading.mask[0].bool().cpu().numpy()
        mask = torch.zeros((1, 1, *sees.shape), dtype=reading.model.dtype, device=device)
        mask.masked_fill_(~torch.from_numpy(sees).to(device), torch.finfo(mask.dtype).min)
        # A token's place is its depth: in the row it may stand far behind its parent.
        positions = reading.next_position[:, None] + torch.from_numpy(depths).to(device)
        # Logits over the vocabulary cost a small model more than its layers, so none are made for what only leads on.
        first = min(way[0] for _, _, way, _ in self._wanted)
        logits, _ = run_on(
            reading.model, torch.tensor([self.ids], device=device), mask, positions, cache=fork(reading.cache),
            logits_to_keep=size - first,
        )  # fmt: skip
        log_probs = torch.log_softmax(logits[0].float(), dim=-1)
        nodes = torch.tensor([node - first for _, _, way, _ in self._wanted for node in way], device=device)
        tokens = torch.tensor([token for *_, choice in self._wanted for token in choice], device=device)
        picked = iter(log_probs[nodes, tokens].tolist())
        for number, place, _, choice in self._wanted:
            sums[number][place] = sum(next(picked) for _ in choice)
