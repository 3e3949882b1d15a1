"""Puts examples into one batch, packed or padded on the right, with the frames of each clip once.

A batch without any frame gets a dummy row with one grey frame when other batches have frames, so that every process
runs the vision tower equally often; the dummy row supervises nothing. Where features of frames were made before, no
process runs the tower, and no dummy is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch.nn import functional

from aot.student.rows.examples import Example
from aot.student.rows.frames import ChosenFrames, FrameInputs, Tensors
from aot.student.rows.judged import judge_tensors
from aot.student.rows.packing import (
    IGNORED,
    PADDING,
    PREFIX,
    TrainRow,
    packed_rows,
    segment_row,
    sharing_row,
    token_weights,
)
from aot.student.rows.tokens import Renderer


@dataclass(frozen=True)
class ClipPlan:
    """Which visual features each row takes: features are made once for each clip and reused by its rows."""

    tokens_per_clip: tuple[int, ...]
    clip_of_row: tuple[int, ...]
    """One entry for each row that shows frames, in row order."""
    grids_thw: torch.Tensor | None
    """[frames of all clips, 3]: what the tower takes as `image_grid_thw` where a model has it; the batch repeats these
    for each row, because the model also counts the positions of each row from them."""
    made: bool = False
    """Whether the tower has looked at these clips already, so that `pixel_values` are its features [tokens, width]."""


@dataclass(frozen=True)
class Collator:
    """Makes training batches; call it with a list of examples."""

    renderer: Renderer
    pad_id: int
    packed: bool
    """Whether rows share a longer one (see packing.py)."""
    pack_tokens: int = 0
    """About how long a packed row without frames is."""
    pixels: FrameInputs | None = None
    """None when the whole run shows no frames."""
    dummy_size_hw: tuple[int, int] | None = None
    """Size of the dummy frame; None where batches without frames need none."""

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """A batch: model inputs, `labels` [rows, time], and bookkeeping that the trainer takes out again.

        Where packed rows show no frames, `logits_to_keep` [rows, time] is where logits are needed.
        """
        ids = {"question_ids": [example.question_id for example in examples]}
        if self.pixels is None:
            rows = [row for example in examples for row in example.rows]
            packs = packed_rows(rows, pack_tokens=self.pack_tokens) if self.packed else list(map(segment_row, rows))
            batch: dict[str, Any] = {**self._text(packs), **ids}
            if self.packed:
                batch["logits_to_keep"] = functional.pad(batch["labels"][:, 1:] != IGNORED, (0, 1))
            return batch
        by_example = [[sharing_row(e.rows)] if self.packed else list(map(segment_row, e.rows)) for e in examples]
        shown = [(e.frames, len(rows)) for e, rows in zip(examples, by_example, strict=True) if e.frames]
        dummy = [] if shown or not self.dummy_size_hw else [self._dummy_row(self.dummy_size_hw)]
        return {**self._text([*chain(*by_example), *dummy]), **self._images(self.pixels, shown), **ids}

    def _text(self, rows: Sequence[TrainRow]) -> Tensors:
        return text_inputs(rows, pad_id=self.pad_id, own_mask=self.packed, renderer=self.renderer)

    def _images(self, pixels: FrameInputs, shown: Sequence[tuple[ChosenFrames, int]]) -> dict[str, Any]:
        """Pixels of the clips shown, each by so many rows, or of a dummy frame; and how rows share them."""
        images, sizes = pixels.of([clip for clip, _ in shown]), [(clip.size_hw, len(clip.indices)) for clip, _ in shown]
        clip_of_row = [number for number, (_, count) in enumerate(shown) for _ in range(count)]
        if not shown and self.dummy_size_hw:
            images, sizes, clip_of_row = pixels.blank(self.dummy_size_hw), [(self.dummy_size_hw, 1)], [0]
        tokens_per_clip = tuple(self._num_tokens(size_hw) * count for size_hw, count in sizes)
        grids_thw = images.get("image_grid_thw")
        if grids_thw is not None:
            of_clip = grids_thw.split([count for _, count in sizes])
            images["image_grid_thw"] = torch.cat([of_clip[clip] for clip in clip_of_row])
        plan = ClipPlan(tokens_per_clip, tuple(clip_of_row), grids_thw, pixels.made) if images else None
        return {**images, "clip_plan": plan}

    def _dummy_row(self, size_hw: tuple[int, int]) -> TrainRow:
        ids = self.renderer.expansion(size_hw)
        return TrainRow(ids, (IGNORED,) * len(ids), tuple(range(len(ids))), (PREFIX,) * len(ids), (False,) * len(ids))

    def _num_tokens(self, size_hw: tuple[int, int]) -> int:
        return self.renderer.expansion(size_hw).count(self.renderer.image_token_id)


def text_inputs(rows: Sequence[TrainRow], *, pad_id: int, own_mask: bool, renderer: Renderer) -> Tensors:
    """Ids, labels, masks and any weights of `rows`; with `own_mask` each token is told which others it may look at."""
    input_ids = _padded([row.ids for row in rows], pad_id)
    labels = _padded([row.labels for row in rows], IGNORED)
    segments = _padded([row.segments for row in rows], PADDING)
    of_reason = _padded([row.rationale for row in rows], False)
    supervised = labels != IGNORED
    text = {
        "input_ids": input_ids,
        "labels": labels,
        "is_rationale": of_reason,
        "num_supervised": torch.stack([(supervised & ~of_reason).sum(), (supervised & of_reason).sum()]),
    }
    text |= judge_tensors([row.judged for row in rows], width=input_ids.shape[1])
    if any(row.weights for row in rows):
        text["weights"] = _padded([token_weights(row) for row in rows], 0.0)
    if own_mask:
        text["position_ids"] = _padded([row.positions for row in rows], 0)
        text["attention_mask"] = visible(segments)
    else:
        text["attention_mask"] = (segments != PADDING).long()
    if renderer.needs_token_types:
        text["mm_token_type_ids"] = (input_ids == renderer.image_token_id).long()
    return text


def logits_needed(labels_BT: torch.Tensor) -> int:
    """Of how many last positions logits are needed: from the last token before the first supervised one on."""
    supervised_from = int((labels_BT != IGNORED).any(dim=0).to(torch.int8).argmax())
    return int(labels_BT.shape[1]) - max(supervised_from - 1, 0)


def _padded(rows: Sequence[tuple[float, ...]], fill: float) -> torch.Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([row + (fill,) * (width - len(row)) for row in rows])


def visible(segments_BT: torch.Tensor) -> torch.Tensor:
    """[rows, 1, query, key]: what a token may look at: earlier tokens of the prefix and its own segment, and itself."""
    query, key = segments_BT[:, :, None], segments_BT[:, None, :]
    width = segments_BT.shape[1]
    causal = torch.ones((width, width), dtype=torch.bool).tril()
    allowed = causal & (key != PADDING) & ((key == PREFIX) | (key == query))
    return (allowed | torch.eye(width, dtype=torch.bool))[:, None]
