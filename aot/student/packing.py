"""Training rows of one question: apart, or packed so that frames and question are run once for both answers.

A packed row is `prefix | direct branch | reason branch`: the two prompts share all but their last words. Neither
branch sees the other and both count positions on from the prefix, so every supervised token has the logits it would
have in a row of its own, at about half the work.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from aot.student.examples import Example
from aot.student.rendering import EncodedRow

IGNORED = -100
"""Label of a position that is not supervised."""
PACKABLE = frozenset({"idefics3", "smolvlm", "llava"})
"""Model types whose decoder takes plain positions and a mask of our own."""
Branch = Literal[0, 1, 2]
PADDING: Literal[-1] = -1
PREFIX: Literal[0] = 0
DIRECT: Literal[1] = 1
REASON: Literal[2] = 2


@dataclass(frozen=True)
class TrainRow:
    """Token by token: id, label, position, and the branch it belongs to."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    positions: tuple[int, ...]
    branches: tuple[int, ...]


def separate_rows(example: Example) -> list[TrainRow]:
    """The direct row and, if there is one, the reason row."""
    rows = [_branch(example.direct, DIRECT, start=0)]
    if example.reason is not None:
        rows.append(_branch(example.reason, REASON, start=0))
    return rows


def packed_row(example: Example) -> TrainRow:
    """One row for both answers; a question without rationale is its direct row."""
    direct, reason = example.direct, example.reason
    if reason is None:
        return _branch(direct, DIRECT, start=0)
    shared = common_prefix(direct.prompt_ids, reason.prompt_ids)
    prefix = tuple(range(shared))
    parts = (_branch(direct, DIRECT, start=shared), _branch(reason, REASON, start=shared))
    return TrainRow(
        ids=direct.prompt_ids[:shared] + parts[0].ids + parts[1].ids,
        labels=(IGNORED,) * shared + parts[0].labels + parts[1].labels,
        positions=prefix + parts[0].positions + parts[1].positions,
        branches=(PREFIX,) * shared + parts[0].branches + parts[1].branches,
    )


def common_prefix(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """How many leading ids two prompts share, leaving each at least one id of its own.

    >>> common_prefix((1, 2, 3), (1, 2, 4, 3))
    2
    """
    longest = min(len(a), len(b)) - 1
    return next((i for i in range(longest) if a[i] != b[i]), longest)


def visible(branches_BT: torch.Tensor) -> torch.Tensor:
    """[rows, 1, query, key]: what a token may look at: earlier tokens of the prefix and its own branch, and itself."""
    query, key = branches_BT[:, :, None], branches_BT[:, None, :]
    width = branches_BT.shape[1]
    causal = torch.ones((width, width), dtype=torch.bool).tril()
    allowed = causal & (key != PADDING) & ((key == PREFIX) | (key == query))
    return (allowed | torch.eye(width, dtype=torch.bool))[:, None]


def _branch(row: EncodedRow, branch: Branch, *, start: int) -> TrainRow:
    ids = row.prompt_ids[start:] + row.completion_ids
    labels = (IGNORED,) * (len(row.prompt_ids) - start) + row.completion_ids
    return TrainRow(ids, labels, tuple(range(start, start + len(ids))), (branch,) * len(ids))
