"""What a judge thinks of places in a student's own replies, as tensors of a batch and as a loss.

At each place the judge's likeliest tokens are kept with their probabilities, and all others together count as one more,
so that a row stays short however large the vocabulary is. Knows no questions and no files.
"""

from collections.abc import Sequence

import torch

from aot.student.rows.frames import Tensors
from aot.student.rows.packing import Likely

ABSENT = -1
"""In place of a token where a place has fewer likely ones than another, or no judge."""
LEAST = 1e-5
"""What is left for all other tokens at least: stored probabilities are rounded, and a judge is never that sure."""


def judge_tensors(rows: Sequence[Sequence[Likely]], *, width: int) -> Tensors:
    """`judge_ids` and `judge_logprobs` [rows, width, most tokens of a place], filled up with ABSENT and 0.

    A row without a judge may have no entries; empty where no row has any.
    """
    most = max((len(place.ids) for row in rows for place in row), default=0)
    if not most:
        return {}
    ids = torch.full((len(rows), width, most), ABSENT)
    logprobs = torch.zeros((len(rows), width, most))
    for number, row in enumerate(rows):
        for at, place in enumerate(row):
            if place.ids:
                ids[number, at, : len(place.ids)] = torch.tensor(place.ids)
                logprobs[number, at, : len(place.ids)] = torch.tensor(place.logprobs)
    return {"judge_ids": ids, "judge_logprobs": logprobs}


def judged_targets(
    targets_N: torch.Tensor, *, judge_ids: torch.Tensor, judge_logprobs: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The labels [N] with those that a judge is certain of put in, and at which places a judge has a distribution.

    A certain judge, such as a chain, names one token of probability 1. The reverse divergence from it would be without
    bound wherever the student cannot know what the judge does, such as the end of a step between two frames; its
    cross-entropy is the forward divergence, which asks for the odds there.
    """
    alone = (judge_ids[:, 0] != ABSENT) & (judge_ids[:, 1:] == ABSENT).all(dim=1)
    certain = alone & (judge_logprobs[:, 0] == 0)
    return torch.where(certain, judge_ids[:, 0], targets_N), (judge_ids[:, 0] != ABSENT) & ~certain


def reverse_kl(logits_NV: torch.Tensor, *, judge_ids: torch.Tensor, judge_logprobs: torch.Tensor) -> torch.Tensor:
    """[N]: Kullback-Leibler divergence of the student from the judge in nats, KL(student || judge), at each place.

    Over the tokens of `judge_ids` [N, K] and one more event, that it is any other token; joining events never makes
    the divergence larger. The direction is that of https://arxiv.org/abs/2306.13649: the student leaves what the judge
    finds unlikely, rather than covering all that the judge might say.
    """
    there = judge_ids != ABSENT
    student = torch.log_softmax(logits_NV.float(), dim=-1).gather(1, judge_ids.clamp(min=0))
    judge = judge_logprobs.float()
    shares = torch.where(there, student.exp(), 0.0)
    others = (1 - shares.sum(dim=1)).clamp(min=LEAST)
    judge_others = (1 - torch.where(there, judge.exp(), 0.0).sum(dim=1)).clamp(min=LEAST)
    return (shares * (student - judge)).sum(dim=1) + others * (others.log() - judge_others.log())
