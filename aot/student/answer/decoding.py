"""Writes replies token by token for a batch of prompts, with images or without: in any way of picking, each to its end.

The model's own generation settings are not looked at, so that greedy means the likeliest token and nothing else. Rows
that have ended are taken out of the batch as soon as that pays. Knows no questions and no messages.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch.nn import functional

from aot.student.answer.sampling import BatchSampling, Noted, NotedToken, Pick, likeliest, sampled_together
from aot.student.model.caches import Habits, fork, position_counter, run_on, take_rows, with_room
from aot.student.model.loading import context_of
from aot.student.rows.frames import FRAME_DIM, Tensors

DROPPED_SHARE = 0.25
"""Ended rows leave the batch when they are this share of it: taking them out copies the rest."""
TOKEN_MARKS = ("mm_token_type_ids",)
"""What models take for each token besides its id and its place."""


class Writer(Protocol):
    """A model that writes, and what has to be known of it to let it."""

    @property
    def model(self) -> Any: ...  # noqa: ANN401, D102 - a PreTrainedModel
    @property
    def device(self) -> torch.device: ...  # noqa: D102
    @property
    def pad_id(self) -> int: ...  # noqa: D102
    @property
    def end_ids(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def habits(self) -> Habits: ...  # noqa: D102


@dataclass(frozen=True)
class Prompt:
    """What a reply follows."""

    ids: tuple[int, ...]
    shown: Tensors = field(default_factory=dict)
    """What the model takes besides: pixels and sizes of its images, and marks [1, time] of its tokens."""


@dataclass(frozen=True)
class LineMarks:
    """Which tokens end a line and which are blank, by id; for replies that stop after their first line."""

    newline: frozenset[int]
    blank: frozenset[int]

    def ends_line(self, reply: Sequence[int]) -> bool:
        """Whether the last token of `reply` ends a line that says something."""
        return reply[-1] in self.newline and any(token not in self.blank for token in reply)


@dataclass
class Reading:
    """A batch as the model has read it so far."""

    model: Any
    cache: Any
    logits_BV: torch.Tensor
    """Of what may come after the last token of each row."""
    mask: torch.Tensor
    next_position: torch.Tensor
    """Of each row."""
    context: int
    """How many positions the model knows, beyond which some models fail and others write nonsense."""

    def take(self, rows: torch.Tensor) -> None:
        """Go on with these rows, in this order; a row may come several times."""
        take_rows(self.cache, rows)
        self.logits_BV, self.mask = self.logits_BV[rows], self.mask[rows]
        self.next_position = self.next_position[rows]

    def forget(self, count: int) -> None:
        """Take back the last `count` tokens of each row; see caches.can_drop_tokens."""
        if count:
            self.cache.crop(-count)
            self.mask, self.next_position = self.mask[:, :-count], self.next_position - count

    def fork(self) -> "Reading":
        """Another reading of the same tokens, which goes on by itself."""
        return replace(self, cache=fork(self.cache))

    def back_to(self, length: int) -> "Reading":
        """Another reading of the first `length` tokens of each row; this one, whose cache can drop tokens, stays."""
        twin = self.fork()
        twin.forget(self.mask.shape[1] - length)
        return twin

    @torch.inference_mode()
    def read_on(
        self,
        ids: torch.Tensor,
        real: torch.Tensor | None = None,
        *,
        keep: int = 1,
        shown: Tensors | None = None,
        places: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits [rows, keep, vocabulary] of the last of `ids` [rows, time], of which those that are `real` count.

        The others are seen by nobody and take no place, so that rows may get different numbers of tokens.

        `places` [3, rows, time] are those of the tokens in a model where an image takes other ones than tokens.
        """
        added = self.mask.new_ones(ids.shape) if real is None else real.to(self.mask.dtype)
        self.mask = torch.cat([self.mask, added], dim=1)
        positions = self.next_position[:, None] + added.cumsum(dim=1) - added
        positions = positions.clamp(max=self.context - 1)  # of a row that is over and still in the batch
        positions = positions if places is None else places
        logits, self.cache = run_on(
            self.model, ids, self.mask, positions, cache=self.cache, logits_to_keep=keep, **(shown or {})
        )
        self.next_position = self.next_position + added.sum(dim=1) if places is None else places.amax(dim=(0, 2)) + 1
        self.logits_BV = logits[:, -1]
        return logits


def line_marks(tokenizer: Any) -> LineMarks:  # noqa: ANN401 - a PreTrainedTokenizer
    """The marks of a tokenizer; looks at its whole vocabulary."""
    texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))], clean_up_tokenization_spaces=False)
    newline = frozenset(i for i, text in enumerate(texts) if "\n" in text)
    return LineMarks(newline, frozenset(i for i, text in enumerate(texts) if not text.strip()))


def model_inputs(writer: Writer, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Left-padded model inputs of a batch, on the writer's device."""
    width = max(len(prompt.ids) for prompt in prompts)
    missing = [width - len(prompt.ids) for prompt in prompts]
    inputs = {
        "input_ids": torch.tensor([(writer.pad_id,) * n + p.ids for n, p in zip(missing, prompts, strict=True)]),
        "attention_mask": torch.tensor([[0] * n + [1] * (width - n) for n in missing]),
    }
    for key in dict.fromkeys(key for prompt in prompts for key in prompt.shown):
        if key in TOKEN_MARKS:
            marks = ((n, p.shown[key], len(p.ids)) for n, p in zip(missing, prompts, strict=True))
            # A prompt may have got the beginning of a reply behind it, which is text.
            inputs[key] = torch.cat([functional.pad(mark, (n, size - mark.shape[1])) for n, mark, size in marks])
        else:
            pixels = [prompt.shown[key] for prompt in prompts if key in prompt.shown]
            inputs[key] = torch.cat(pixels, dim=FRAME_DIM.get(str(writer.model.config.model_type), 0))
    return on_device(writer, inputs)


def on_device(writer: Writer, tensors: Tensors) -> Tensors:
    """Model inputs where the model is, pixels in its numbers."""
    moved = {key: value.to(writer.device) for key, value in tensors.items()}
    if "pixel_values" in moved:
        moved["pixel_values"] = moved["pixel_values"].to(writer.model.dtype)
    return moved


def alike(writer: Writer, prompts: Sequence[Prompt]) -> list[list[int]]:
    """The prompts that may share a batch, by number: all, or those of one length where padding would be seen."""
    if writer.habits.bears_padding:
        return [list(range(len(prompts)))]
    lengths = [len(prompt.ids) for prompt in prompts]
    return [[i for i, length in enumerate(lengths) if length == one] for one in sorted(set(lengths))]


@torch.inference_mode()
def read_prompts(writer: Writer, prompts: Sequence[Prompt], *, copies: int = 1) -> Reading:
    """The prompts as the model has read them, each `copies` times one after the other."""
    if copies > 1 and not writer.habits.gives_rows:
        prompts, copies = [prompt for prompt in prompts for _ in range(copies)], 1
    inputs = model_inputs(writer, prompts)
    ids, mask = inputs.pop("input_ids"), inputs.pop("attention_mask")
    positions, next_position = (mask.cumsum(dim=1) - 1).clamp(min=0), mask.sum(dim=1)
    counter = position_counter(writer.model) if inputs else None
    logits, cache = run_on(writer.model, ids, mask, positions if counter is None else None, **inputs)
    if counter is not None:  # an image takes other places than tokens there, and only the model knows which
        next_position = next_position + counter.rope_deltas.to(mask.device)[:, 0]
    reading = Reading(writer.model, with_room(cache), logits[:, -1], mask, next_position, context_of(writer.model))
    if copies > 1:
        reading.take(torch.arange(len(mask), device=writer.device).repeat_interleave(copies))
    return reading


@torch.inference_mode()
def steps(
    writer: Writer,
    reading: Reading,
    *,
    pick: Pick,
    max_tokens: Sequence[int],
    first_line: LineMarks | None = None,
    stay: bool = False,
) -> Iterator[list[list[int]]]:
    """The ids of all replies so far after each step: the same lists every time, until each of them has ended.

    Args:
        writer: who writes.
        reading: what it has read; it reads on in it.
        pick: the way to the next token.
        max_tokens: so many tokens each reply has at most, its end included.
        first_line: stop each reply after its first line.
        stay: keep all rows in `reading`, so that each can be read on behind its reply, whose last token is unread.
    """
    ends = frozenset(writer.end_ids)
    replies: list[list[int]] = [[] for _ in max_tokens]
    # The last token of a reply is never read, so it needs no position.
    rooms = [max(1, reading.context - used + 1) for used in reading.next_position.tolist()]
    most = [min(pair) for pair in zip(max_tokens, rooms, strict=True)]
    rows = list(range(len(replies)))
    open_rows = set(rows)
    while True:
        tokens = pick(reading.logits_BV, rows)
        for row, token in zip(rows, tokens.tolist(), strict=True):
            if row in open_rows:
                replies[row].append(token)
                is_over = token in ends or (first_line and first_line.ends_line(replies[row]))
                if is_over or len(replies[row]) == most[row]:
                    open_rows.discard(row)
        yield replies
        if not open_rows:
            return
        if not stay and len(open_rows) <= (1 - DROPPED_SHARE) * len(rows) and writer.habits.gives_rows:
            kept = torch.tensor([i for i, row in enumerate(rows) if row in open_rows], device=writer.device)
            rows = [row for row in rows if row in open_rows]
            reading.take(kept)
            tokens = tokens[kept]
        real = None
        if stay and len(open_rows) < len(rows):
            real = torch.tensor([[row in open_rows] for row in rows], device=writer.device)
        reading.read_on(tokens[:, None], real)


def write_replies(
    writer: Writer,
    prompts: Sequence[Prompt],
    *,
    max_tokens: int,
    first_line: LineMarks | None = None,
    sampling: BatchSampling | None = None,
    notes: dict[int, list[NotedToken]] | None = None,
) -> list[list[int]]:
    """Ids of one reply to each prompt, or of `sampling.samples` replies one after the other; the end token is included.

    Args:
        writer: who writes.
        prompts: what each reply follows.
        max_tokens: a reply that is longer ends there, or where the context of the model does.
        first_line: stop each reply after its first line.
        sampling: None takes the likeliest token each time.
        notes: filled with the tokens and log-probabilities of each reply, by its number.
    """
    copies = sampling.samples if sampling else 1
    replies: list[list[int]] = [[] for _ in range(copies * len(prompts))]
    for group in alike(writer, prompts):
        reading = read_prompts(writer, [prompts[i] for i in group], copies=copies)
        noted = Noted(_way(writer, sampling, length=len(prompts[group[0]].ids)))
        pick = noted.pick if notes is None else noted
        limits = [max_tokens] * copies * len(group)
        *_, made = steps(writer, reading, pick=pick, max_tokens=limits, first_line=first_line)
        for k, reply in enumerate(made):
            number = group[k // copies] * copies + k % copies
            replies[number] = reply
            if notes is not None:
                notes[number] = noted.of[k][: len(reply)]
    return replies


def _way(writer: Writer, sampling: BatchSampling | None, *, length: int) -> Pick:
    if sampling is None:
        return likeliest
    if not writer.habits.bears_padding:  # then each length is a batch of its own, and has its own numbers
        sampling = replace(sampling, seed=zlib.crc32(f"{sampling.seed}/{length}".encode()))
    return sampled_together(sampling, writer.device)
