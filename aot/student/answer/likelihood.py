"""Probabilities of the choices of a question, from one pass over its prompt and one short pass over the choices.

The score of a choice is the summed log-probability of its tokens and of the token that ends the turn, that is, of
saying exactly this and then stopping. The softmax of these sums is the student's probability of each choice given
that it says one of them, so sums are not divided by length.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from aot.records import Question
from aot.student.answer.batches import PromptItem
from aot.student.model.caches import run_on, take_rows
from aot.student.model.loading import Student


def score_batch(student: Student, items: Sequence[PromptItem], inputs: dict[str, Any]) -> list[tuple[float, ...]]:
    """Probability of each choice of each item, in the order of its choices.

    Args:
        student: whose probabilities.
        items: questions with choices.
        inputs: their left-padded model inputs.
    """
    choices = [[student.renderer.completion_ids(text) for text in item.question.option_answers] for item in items]
    return score_continuations(student, choices, inputs)


def longest_choice(student: Student) -> Callable[[Question], int]:
    """What tells how many tokens the longest choice of a question has."""
    ids = student.renderer.completion_ids
    return lambda question: max((len(ids(text)) for text in question.option_answers), default=0)


def score_continuations(
    student: Student, choices: list[list[tuple[int, ...]]], inputs: dict[str, Any]
) -> list[tuple[float, ...]]:
    """Probability of each continuation of each prompt, given that it is one of them.

    Args:
        student: whose probabilities.
        choices: for each prompt the ids of its continuations; with an end token where nothing may follow.
        inputs: the left-padded model inputs of the prompts.
    """
    if _counts_positions(student):
        sums = _full_sums(student, inputs, choices)
    elif inputs.keys() - {"input_ids", "attention_mask"}:
        sums = _shared_sums(student, inputs, choices)
    else:
        sums = _text_sums(student, inputs, choices)
    return [tuple(torch.softmax(torch.tensor(row, dtype=torch.float64), dim=0).tolist()) for row in sums]


def _text_sums(student: Student, inputs: dict[str, Any], choices: list[list[tuple[int, ...]]]) -> list[list[float]]:
    """The sums in the way that this model bears; prompts of one length stand together where padding would be seen."""
    habits, mask = student.habits, inputs["attention_mask"]
    sums_of = _shared_sums if habits.gives_rows and habits.takes_spans else _full_sums
    if habits.bears_padding:
        return sums_of(student, inputs, choices)
    sums: list[list[float]] = [[] for _ in choices]
    lengths = mask.sum(dim=1).tolist()
    for length in sorted(set(lengths)):
        alike = [i for i, own in enumerate(lengths) if own == length]
        own_inputs = {key: value[alike, -length:] for key, value in inputs.items()}
        for i, row in zip(alike, sums_of(student, own_inputs, [choices[i] for i in alike]), strict=True):
            sums[i] = row
    return sums


def _shared_sums(student: Student, inputs: dict[str, Any], choices: list[list[tuple[int, ...]]]) -> list[list[float]]:
    """Summed log-probabilities; the prompt's keys and values are computed once and repeated for its choices."""
    mask = inputs["attention_mask"]
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    shown = {key: value for key, value in inputs.items() if key not in ("input_ids", "attention_mask")}
    first, cache = run_on(student.model, inputs["input_ids"], mask, positions, **shown)
    repeats = max(len(options) for options in choices)
    rows = torch.arange(len(mask), device=mask.device).repeat_interleave(repeats)
    take_rows(cache, rows)
    ids, real = _pad_choices(choices, repeats, device=mask.device)
    later, _ = run_on(
        student.model,
        ids,
        torch.cat([mask[rows], real.to(mask.dtype)], dim=1),
        mask.sum(dim=1)[rows][:, None] + torch.arange(ids.shape[1], device=mask.device)[None],
        cache=cache,
        logits_to_keep=ids.shape[1],
    )
    log_probs = torch.log_softmax(torch.cat([first[rows], later[:, :-1]], dim=1).float(), dim=-1)
    return _gather(log_probs, ids, real, choices, repeats)


def _full_sums(student: Student, inputs: dict[str, Any], choices: list[list[tuple[int, ...]]]) -> list[list[float]]:
    """The same sums from one pass for each choice over prompt and choice, at more work."""
    repeats = max(len(options) for options in choices)
    all_ids, all_real = _pad_choices(choices, repeats, device=inputs["input_ids"].device)
    log_probs = []
    for k in range(repeats):
        ids, real = all_ids[k::repeats], all_real[k::repeats]
        whole = {
            **inputs,
            "input_ids": torch.cat([inputs["input_ids"], ids], dim=1),
            "attention_mask": torch.cat([inputs["attention_mask"], real.to(inputs["attention_mask"].dtype)], dim=1),
        }
        if not _counts_positions(student):
            whole["position_ids"] = (whole["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
        if "mm_token_type_ids" in inputs:
            whole["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(ids)], dim=1)
        keep = ids.shape[1] + 1
        logits = student.model(**whole, use_cache=False, logits_to_keep=keep).logits[:, -keep:-1]
        log_probs.append(torch.log_softmax(logits.float(), dim=-1))
    together = torch.stack(log_probs, dim=1).flatten(0, 1)
    return _gather(together, all_ids, all_real, choices, repeats)


def _counts_positions(student: Student) -> bool:
    """Whether the model makes its own position ids, from the grids of its images."""
    # Looked for in all modules, because an adapter that is not merged wraps the model.
    return any(hasattr(module, "rope_deltas") for module in student.model.modules())


def _pad_choices(
    choices: list[list[tuple[int, ...]]], repeats: int, *, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
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
    log_probs_BTV: torch.Tensor,
    ids: torch.Tensor,
    real: torch.Tensor,
    choices: list[list[tuple[int, ...]]],
    repeats: int,
) -> list[list[float]]:
    picked = log_probs_BTV.gather(-1, ids[..., None])[..., 0].double()
    sums = torch.where(real, picked, torch.zeros_like(picked)).sum(dim=1).view(len(choices), repeats).tolist()
    return [row[: len(options)] for row, options in zip(sums, choices, strict=True)]
