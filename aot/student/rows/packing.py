"""Training rows: apart, or packed without sight of each other.

A packed video row is `prefix | direct branch | reason branch`: the two prompts of a question share all but their last
words, so frames and question are run once for both answers. A packed text row holds whole lessons one after another.
No branch sees another one and each counts positions on from the prefix, or from 0, so every supervised token has the
logits it would have in a row of its own, at less work.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from aot.student.rows.examples import Example
from aot.student.rows.tokens import EncodedRow

IGNORED = -100
"""Label of a position that is not supervised."""
PACKABLE = frozenset({"idefics3", "smolvlm", "llava"})
"""Image-text model types whose decoder takes plain positions and a mask of our own."""
TEXT_PACKABLE = PACKABLE | {"llama", "qwen2", "qwen3", "mistral", "smollm3", "phi3", "olmo2", "granite"}
"""The same among all model types that may learn text; a test compares each of them with padded rows."""
PADDING: Literal[-1] = -1
PREFIX: Literal[0] = 0
DIRECT: Literal[1] = 1
REASON: Literal[2] = 2


@dataclass(frozen=True)
class TrainRow:
    """Token by token: id, label, position, the branch it belongs to, and which term of the loss."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    positions: tuple[int, ...]
    branches: tuple[int, ...]
    rationale: tuple[bool, ...]
    """Whether a supervised token counts in the rationale term; of no meaning for the others."""


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
        rationale=(False,) * shared + parts[0].rationale + parts[1].rationale,
    )


def lesson_row(row: EncodedRow, *, segment: int = 0) -> TrainRow:
    """A lesson as segment number `segment` of a row, counted from 0."""
    num_prompt, num_tokens = len(row.prompt_ids), row.num_tokens
    num_rationale = len(row.completion_ids) - row.num_label
    return TrainRow(
        ids=row.prompt_ids + row.completion_ids,
        labels=(IGNORED,) * num_prompt + row.completion_ids,
        positions=tuple(range(num_tokens)),
        branches=(segment + 1,) * num_tokens,
        rationale=(False,) * (num_tokens - num_rationale) + (True,) * num_rationale,
    )


def packed_lessons(rows: Sequence[EncodedRow], *, pack_tokens: int) -> list[TrainRow]:
    """Lessons packed into rows of at most `pack_tokens` tokens by first-fit decreasing; a longer one stands alone."""
    packs: list[list[EncodedRow]] = []
    room: list[int] = []
    for row in sorted(rows, key=lambda row: -row.num_tokens):
        place = next((i for i, free in enumerate(room) if row.num_tokens <= free), len(packs))
        if place == len(packs):
            packs.append([])
            room.append(pack_tokens)
        packs[place].append(row)
        room[place] -= row.num_tokens
    return [_joined([lesson_row(row, segment=i) for i, row in enumerate(pack)]) for pack in packs]


def _joined(rows: Sequence[TrainRow]) -> TrainRow:
    return TrainRow(
        ids=tuple(i for row in rows for i in row.ids),
        labels=tuple(i for row in rows for i in row.labels),
        positions=tuple(i for row in rows for i in row.positions),
        branches=tuple(i for row in rows for i in row.branches),
        rationale=tuple(i for row in rows for i in row.rationale),
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


def _branch(row: EncodedRow, branch: Literal[1, 2], *, start: int) -> TrainRow:
    ids = row.prompt_ids[start:] + row.completion_ids
    labels = (IGNORED,) * (len(row.prompt_ids) - start) + row.completion_ids
    of_reason = (branch == REASON,) * len(ids)
    return TrainRow(ids, labels, tuple(range(start, start + len(ids))), (branch,) * len(ids), of_reason)
