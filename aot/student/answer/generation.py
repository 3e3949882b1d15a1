"""Writes replies token by token for a batch of text prompts: greedy or drawn, each until its own end.

The model's own generation settings are not looked at, so that greedy means the likeliest token and nothing else. Rows
that have ended are taken out of the batch as soon as that pays. Knows no questions.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from aot.student.model.caches import run_on, take_rows
from aot.student.model.loading import Student
from aot.student.rows.collate import pad_prompts
from aot.student.rows.rendering import EncodedRow

DROPPED_SHARE = 0.25
"""Ended rows leave the batch when they are this share of it: taking them out copies the rest."""


@dataclass(frozen=True)
class Draw:
    """How tokens are drawn."""

    samples: int
    """Replies to each prompt."""
    temperature: float
    seed: int


@dataclass(frozen=True)
class LineMarks:
    """Which tokens end a line and which are blank, by id; for replies that stop after their first line."""

    newline: frozenset[int]
    blank: frozenset[int]

    def ends_line(self, reply: Sequence[int]) -> bool:
        """Whether the last token of `reply` ends a line that says something."""
        return reply[-1] in self.newline and any(token not in self.blank for token in reply)


def line_marks(tokenizer: Any) -> LineMarks:  # noqa: ANN401 - a PreTrainedTokenizer
    """The marks of a tokenizer; looks at its whole vocabulary."""
    texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))], clean_up_tokenization_spaces=False)
    newline = frozenset(i for i, text in enumerate(texts) if "\n" in text)
    return LineMarks(newline, frozenset(i for i, text in enumerate(texts) if not text.strip()))


@torch.inference_mode()
def write_replies(
    student: Student,
    prompts: Sequence[tuple[int, ...]],
    *,
    max_tokens: int,
    first_line: LineMarks | None = None,
    draw: Draw | None = None,
) -> list[list[int]]:
    """Ids of one reply to each prompt, or of `draw.samples` replies one after the other; the end token is included.

    Args:
        student: who writes.
        prompts: ids of each prompt.
        max_tokens: a reply that is longer ends there, or where the context of the model does.
        first_line: stop each reply after its first line.
        draw: None takes the likeliest token each time.
    """
    if student.habits.bears_padding:
        return _write(student, prompts, max_tokens=max_tokens, first_line=first_line, draw=draw)
    copies = draw.samples if draw else 1
    replies: list[list[int]] = [[] for _ in range(copies * len(prompts))]
    for length in sorted({len(prompt) for prompt in prompts}):  # prompts of one length need no padding
        alike = [i for i, prompt in enumerate(prompts) if len(prompt) == length]
        own = replace(draw, seed=zlib.crc32(f"{draw.seed}/{length}".encode())) if draw else None
        made = _write(student, [prompts[i] for i in alike], max_tokens=max_tokens, first_line=first_line, draw=own)
        for k, reply in enumerate(made):
            replies[alike[k // copies] * copies + k % copies] = reply
    return replies


def _write(
    student: Student,
    prompts: Sequence[tuple[int, ...]],
    *,
    max_tokens: int,
    first_line: LineMarks | None,
    draw: Draw | None,
) -> list[list[int]]:
    ends = frozenset(student.renderer.end_ids)
    cache, logits_BV, mask = _read_prompts(student, prompts, copies=draw.samples if draw else 1)
    next_position = mask.sum(dim=1)
    context = student.context
    # The last token of a reply is never read, so it needs no position.
    most = [min(max_tokens, max(1, context - used + 1)) for used in next_position.tolist()]
    generator = torch.Generator(device=student.device).manual_seed(draw.seed) if draw else None
    replies: list[list[int]] = [[] for _ in range(len(mask))]
    rows = list(range(len(mask)))
    open_rows = set(rows)
    while True:
        tokens = _pick(logits_BV, draw, generator)
        for row, token in zip(rows, tokens.tolist(), strict=True):
            if row in open_rows:
                replies[row].append(token)
                is_over = token in ends or (first_line and first_line.ends_line(replies[row]))
                if is_over or len(replies[row]) == most[row]:
                    open_rows.discard(row)
        if not open_rows:
            break
        if student.habits.gives_rows and len(open_rows) <= (1 - DROPPED_SHARE) * len(rows):
            kept = torch.tensor([i for i, row in enumerate(rows) if row in open_rows], device=student.device)
            rows = [row for row in rows if row in open_rows]
            take_rows(cache, kept)
            mask, tokens, next_position = mask[kept], tokens[kept], next_position[kept]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        positions = next_position[:, None].clamp(max=context - 1)  # of a row that is over and still in the batch
        logits, cache = run_on(student.model, tokens[:, None], mask, positions, cache=cache)
        logits_BV, next_position = logits[:, -1], next_position + 1
    return replies


def _read_prompts(
    student: Student, prompts: Sequence[tuple[int, ...]], *, copies: int
) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """Cache, last logits and mask of the prompts, each `copies` times."""
    inputs = pad_prompts([EncodedRow(prompt) for prompt in prompts], pad_id=student.pad_id)
    ids, mask = inputs["input_ids"].to(student.device), inputs["attention_mask"].to(student.device)
    copied = torch.arange(len(mask), device=student.device).repeat_interleave(copies)
    if not student.habits.gives_rows:
        ids, mask, copied = ids[copied], mask[copied], torch.arange(len(copied), device=student.device)
    logits, cache = run_on(student.model, ids, mask, (mask.cumsum(dim=1) - 1).clamp(min=0))
    if len(copied) > len(mask):
        take_rows(cache, copied)
    return cache, logits[copied, -1], mask[copied]


def _pick(logits_BV: torch.Tensor, draw: Draw | None, generator: torch.Generator | None) -> torch.Tensor:
    if draw is None:
        return logits_BV.argmax(dim=-1)
    probs = torch.softmax(logits_BV.float() / draw.temperature, dim=-1)
    return torch.multinomial(probs, 1, generator=generator)[:, 0]
