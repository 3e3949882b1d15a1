"""Probabilities of given continuations of prompts, such as choices: one pass over a prompt, a short one over them.

The score of a choice is the summed log-probability of its tokens and of the token that ends the turn, that is, of
saying exactly this and then stopping. The softmax of these sums is the student's probability of each choice given
that it says one of them, so sums are not divided by length.
"""

from collections.abc import Sequence

import torch

from aot.student.answer.decoding import Prompt, Reading, Writer, alike, model_inputs, read_prompts
from aot.student.model.caches import position_counter

Continuations = Sequence[Sequence[tuple[int, ...]]]
"""For each prompt the ids of what may follow; with an end token where nothing may come after it."""


@torch.inference_mode()
def score(writer: Writer, prompts: Sequence[Prompt], choices: Continuations) -> list[tuple[float, ...]]:
    """Probability of each continuation of each prompt, given that it is one of them."""
    probs: list[tuple[float, ...]] = [()] * len(prompts)
    bears = writer.habits.gives_rows and writer.habits.takes_spans
    for group in alike(writer, prompts):
        sums_of = _shared_sums if bears else _full_sums
        sums = sums_of(writer, [prompts[i] for i in group], [choices[i] for i in group])
        for i, row in zip(group, sums, strict=True):
            probs[i] = _softmax(row)
    return probs


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
