"""The two-term loss: label + lambda * rationale, each term a mean over its own supervised tokens.

The means run over the whole accumulated batch of all processes, so how that batch is cut into micro-batches and
spread over processes does not change the gradient (https://arxiv.org/abs/2305.02301 gives the two terms). Where tokens
have weights, each loss is multiplied with its own, and the mean is still over their number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch.nn import functional

from aot.config import Weighting
from aot.student.model.vision import SharedVision
from aot.student.rows.collate import logits_needed
from aot.student.rows.judged import judged_targets, reverse_kl
from aot.student.rows.packing import IGNORED


@dataclass(frozen=True)
class TwoTermLoss:
    """Parts of the loss of one micro-batch."""

    total: torch.Tensor
    """Scalar whose gradients, summed over all micro-batches and processes, are those of the whole batch."""
    sums: torch.Tensor
    """[2]: summed cross-entropy in nats of the label and of the rationale tokens, weighted; no gradient."""


def take_out(batch: dict[str, Any], *, vision: SharedVision | None) -> tuple[list[str], torch.Tensor]:
    """Question ids and [2] supervised tokens of a batch, which then holds nothing but what the loss is made of.

    `vision` is told which clips the batch shows, before the model reads it.
    """
    plan = batch.pop("clip_plan", None)
    if vision:
        vision.plan = plan
    return batch.pop("question_ids"), batch.pop("num_supervised")


def batch_loss(
    model: torch.nn.Module,
    inputs: dict[str, Any],
    *,
    num_supervised: torch.Tensor,
    rationale_weight: float,
    weighting: Weighting = "equal",
) -> tuple[TwoTermLoss, Any]:
    """The loss of one micro-batch, and what `model` gave for it.

    Args:
        model: gets all of `inputs` but the labels.
        inputs: what `take_out` left of a batch; labels are taken out of it.
        num_supervised: [2] label and rationale tokens of the whole accumulated batch over all processes.
        rationale_weight: lambda.
        weighting: `own_probability` multiplies each token's loss with the probability of the token.
    """
    labels, is_rationale, weights = inputs.pop("labels"), inputs.pop("is_rationale"), inputs.pop("weights", None)
    judge: dict[str, torch.Tensor] = {
        name: inputs.pop(name) for name in ("judge_ids", "judge_logprobs") if name in inputs
    }
    shared: dict[str, Any] = {
        "num_supervised": num_supervised, "rationale_weight": rationale_weight, "weighting": weighting,
    }  # fmt: skip
    if "logits_to_keep" in inputs:  # packed lessons: logits of the supervised tokens only, [N, vocabulary]
        before = inputs["logits_to_keep"]
        outputs = model(**inputs, use_cache=False)
        targets, of_rationale = (value[:, 1:][before[:, :-1]] for value in (labels, is_rationale))
        weights_N = None if weights is None else weights[:, 1:][before[:, :-1]]
        judge = {name: value[:, 1:][before[:, :-1]] for name, value in judge.items()}
        loss = picked_loss(
            outputs.logits, targets, of_rationale=of_rationale, weights_N=weights_N, judge=judge, **shared
        )
        return loss, outputs
    keep = logits_needed(labels)
    outputs = model(**inputs, use_cache=False, logits_to_keep=keep)
    loss = two_term_loss(
        outputs.logits[:, -keep:], labels[:, -keep:], is_rationale_BT=is_rationale[:, -keep:],
        weights_BT=None if weights is None else weights[:, -keep:],
        judge={name: value[:, -keep:] for name, value in judge.items()}, **shared,
    )  # fmt: skip
    return loss, outputs


def two_term_loss(
    logits_BTV: torch.Tensor,
    labels_BT: torch.Tensor,
    *,
    is_rationale_BT: torch.Tensor,
    num_supervised: torch.Tensor,
    rationale_weight: float,
    weights_BT: torch.Tensor | None = None,
    weighting: Weighting = "equal",
    judge: Mapping[str, torch.Tensor] = MappingProxyType({}),
) -> TwoTermLoss:
    """The loss of one micro-batch.

    Args:
        logits_BTV: logits of the last T positions, or of all.
        labels_BT: labels of the same positions; IGNORED where nothing is supervised.
        is_rationale_BT: true for the tokens of the rationale.
        num_supervised: [2] label and rationale tokens of the whole accumulated batch over all processes.
        rationale_weight: lambda.
        weights_BT: of the tokens; None where all weigh alike.
        weighting: as for `batch_loss`.
        judge: `judge_ids` and `judge_logprobs` [B, T, K] where replies of the student's own are learned from a judge.
    """
    targets = labels_BT[:, 1:]
    rows, columns = torch.nonzero(targets != IGNORED, as_tuple=True)
    return picked_loss(
        logits_BTV[rows, columns],
        targets[rows, columns],
        of_rationale=is_rationale_BT[:, 1:][rows, columns],
        num_supervised=num_supervised,
        rationale_weight=rationale_weight,
        weights_N=None if weights_BT is None else weights_BT[:, 1:][rows, columns],
        weighting=weighting,
        judge={name: value[:, 1:][rows, columns] for name, value in judge.items()},
    )


def picked_loss(
    logits_NV: torch.Tensor,
    targets_N: torch.Tensor,
    *,
    of_rationale: torch.Tensor,
    num_supervised: torch.Tensor,
    rationale_weight: float,
    weights_N: torch.Tensor | None = None,
    weighting: Weighting = "equal",
    judge: Mapping[str, torch.Tensor] = MappingProxyType({}),
) -> TwoTermLoss:
    """The same from the logits that predict each supervised token, its id, its term, and any weight of it [N]."""
    if judge:
        targets_N, drawn = judged_targets(targets_N, **judge)
    losses = functional.cross_entropy(logits_NV.float(), targets_N, reduction="none")
    if judge:
        losses = torch.where(drawn, reverse_kl(logits_NV, **judge), losses)
    if weighting == "own_probability":  # DFT, arXiv 2508.05629: the probability is a weight, and has no gradient
        losses = losses * torch.exp(-losses.detach())
    if weights_N is not None:
        losses = losses * weights_N
    label_sum = losses[~of_rationale].sum()
    rationale_sum = losses[of_rationale].sum()
    counts = num_supervised.to(losses.dtype).clamp(min=1)
    total = label_sum / counts[0] + rationale_weight * rationale_sum / counts[1]
    return TwoTermLoss(total, torch.stack([label_sum, rationale_sum]).detach())
