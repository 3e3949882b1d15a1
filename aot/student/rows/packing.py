"""Training rows: apart, or packed without sight of each other.

Rows that show frames share a prefix: the prompts of one question differ in their last words only, so frames and
question are run once for all replies to it. Rows without frames are packed whole, one after another, whatever they are
about. No segment sees another one and each counts positions on from the prefix, or from 0, so every supervised token
has the logits it would have in a row of its own, at less work. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

IGNORED = -100
"""Label of a position that is not supervised."""
PACKABLE = frozenset({"idefics3", "smolvlm", "llava"})
"""Image-text model types whose decoder takes plain positions and a mask of our own."""
TEXT_PACKABLE = PACKABLE | {"llama", "qwen2", "qwen3", "mistral", "smollm3", "phi3", "olmo2", "granite"}
"""The same among all model types that may learn text; a test compares each of them with padded rows."""
Span = Literal["answer", "rationale", "call", "result", "given"]
"""What a token of a completion is part of; of the last two, which others say, nothing is learned."""
WIDTHS = 32
"""How many widths of packs are tried where rows are long."""
PADDING = -1
PREFIX = 0
"""Segment of what all others may look at; they count from 1."""


class Likely(NamedTuple):
    """What a judge would write at one place of a reply."""

    ids: tuple[int, ...] = ()
    """The student's own token first, then those that are likely."""
    logprobs: tuple[float, ...] = ()


@dataclass(frozen=True)
class EncodedRow:
    """Token ids of one prompt and, in training, of the completion that is supervised."""

    prompt_ids: tuple[int, ...]
    """Image placeholders already expanded to one id for each visual token."""
    completion_ids: tuple[int, ...] = ()
    """Answer or rationale, with the token that ends the turn; empty at inference. Where tools are called, all turns."""
    num_label: int = 0
    """How many leading ids of the completion are learned as a label, the others as a rationale; set for text only."""
    weights: tuple[float, ...] = ()
    """Of each id of the completion in the loss; one of weight 0 is not learned. Empty: all are, and weigh alike."""
    spans: tuple[Span, ...] = ()
    """What each id of the completion is part of; empty where nobody asks, because all weigh alike."""
    judged: tuple[Likely, ...] = ()
    """One for each id of a reply of the student's own that a judge has read; then the student learns to think of each
    place as the judge does."""

    @property
    def num_tokens(self) -> int:
        """Length of prompt and completion together."""
        return len(self.prompt_ids) + len(self.completion_ids)

    @property
    def learns_call(self) -> bool:
        """Whether it teaches a tool call."""
        return any(span == "call" and weight for span, weight in zip(self.spans, self.weights, strict=True))

    @property
    def learned_ids(self) -> tuple[int, ...]:
        """Those ids of the completion that count in the loss."""
        if not self.weights:
            return self.completion_ids
        return tuple(i for i, weight in zip(self.completion_ids, self.weights, strict=True) if weight)


@dataclass(frozen=True)
class TrainRow:
    """Token by token: id, label, position, the segment it belongs to, and which term of the loss."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    positions: tuple[int, ...]
    segments: tuple[int, ...]
    rationale: tuple[bool, ...]
    """Whether a supervised token counts in the rationale term; of no meaning for the others."""
    weights: tuple[float, ...] = ()
    """Of each token in the loss; empty where all supervised ones weigh alike."""
    judged: tuple[Likely, ...] = ()
    """What a judge would write there; empty, or nothing, where no judge was asked."""


def segment_row(row: EncodedRow, *, segment: int = 1, start: int = 0) -> TrainRow:
    """A row as segment number `segment` of a longer one, without its first `start` ids, which others hold already."""
    num_prompt = len(row.prompt_ids) - start
    ids = row.prompt_ids[start:] + row.completion_ids
    of_label = (False,) * (num_prompt + row.num_label)
    labels = row.completion_ids
    if row.weights:
        # What weighs nothing must be no label: the mean is over the number of labels, whatever they weigh.
        pairs = zip(row.completion_ids, row.weights, strict=True)
        labels = tuple(label if weight else IGNORED for label, weight in pairs)
    return TrainRow(
        ids=ids,
        labels=(IGNORED,) * num_prompt + labels,
        positions=tuple(range(start, start + len(ids))),
        segments=(segment,) * len(ids),
        rationale=of_label + (True,) * (len(ids) - len(of_label)),
        weights=(0.0,) * num_prompt + row.weights if row.weights else (),
        judged=(Likely(),) * num_prompt + row.judged if row.judged else (),
    )


def sharing_row(rows: Sequence[EncodedRow]) -> TrainRow:
    """One row for all replies to one question, behind what their prompts share; a single row as it is."""
    first, *others = rows
    if not others:
        return segment_row(first)
    shared = min(common_prefix(first.prompt_ids, other.prompt_ids) for other in others)
    prefix = TrainRow(
        ids=first.prompt_ids[:shared],
        labels=(IGNORED,) * shared,
        positions=tuple(range(shared)),
        segments=(PREFIX,) * shared,
        rationale=(False,) * shared,
    )
    return _joined([prefix, *(segment_row(row, segment=i, start=shared) for i, row in enumerate(rows, start=1))])


def packed_rows(rows: Sequence[EncodedRow], *, pack_tokens: int) -> list[TrainRow]:
    """Rows packed into ones of at most `pack_tokens` tokens.

    All are padded to the longest of them. So where a row is longer than that itself, or rows fill half of it each, of
    which hardly two go together, packs may be twice as long as the longest row, and as wide as makes fewest positions.
    """
    longest = max(row.num_tokens for row in rows)
    widths: Sequence[int] = [pack_tokens]
    if longest > pack_tokens or 2 * sum(row.num_tokens for row in rows) > pack_tokens * len(rows):
        widths = range(longest, 2 * longest + 1, max(1, longest // WIDTHS))
    packs = min((_first_fit(rows, width) for width in widths), key=_num_positions)
    return [_joined([segment_row(row, segment=i) for i, row in enumerate(pack, start=1)]) for pack in packs]


def _first_fit(rows: Sequence[EncodedRow], width: int) -> list[list[EncodedRow]]:
    """Packs of at most so many tokens, by first-fit decreasing."""
    packs: list[list[EncodedRow]] = []
    room: list[int] = []
    for row in sorted(rows, key=lambda row: -row.num_tokens):
        place = next((i for i, free in enumerate(room) if row.num_tokens <= free), len(packs))
        if place == len(packs):
            packs.append([])
            room.append(width)
        packs[place].append(row)
        room[place] -= row.num_tokens
    return packs


def _num_positions(packs: Sequence[Sequence[EncodedRow]]) -> int:
    """Those of a batch of packs, the padded ones too."""
    return len(packs) * max(sum(row.num_tokens for row in pack) for pack in packs)


def _joined(rows: Sequence[TrainRow]) -> TrainRow:
    judged = any(row.judged for row in rows)
    return TrainRow(
        ids=tuple(i for row in rows for i in row.ids),
        labels=tuple(i for row in rows for i in row.labels),
        positions=tuple(i for row in rows for i in row.positions),
        segments=tuple(i for row in rows for i in row.segments),
        rationale=tuple(i for row in rows for i in row.rationale),
        weights=tuple(i for row in rows for i in token_weights(row)) if any(row.weights for row in rows) else (),
        judged=tuple(i for row in rows for i in row.judged or (Likely(),) * len(row.ids)) if judged else (),
    )


def token_weights(row: TrainRow) -> tuple[float, ...]:
    """The weight of each token of a row: 1 for all where it says nothing of them."""
    return row.weights or (1.0,) * len(row.ids)


def common_prefix(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """How many leading ids two prompts share, leaving each at least one id of its own.

    >>> common_prefix((1, 2, 3), (1, 2, 4, 3))
    2
    """
    return min(num_alike(a, b), len(a) - 1, len(b) - 1)


def num_alike(ids: Sequence[Any], other: Sequence[Any]) -> int:
    """How many ids, or whatever else can be compared, two rows have in common before they part."""
    pairs = enumerate(zip(ids, other, strict=False))
    return next((i for i, (one, two) in pairs if one != two), min(len(ids), len(other)))
