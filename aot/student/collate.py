"""Puts examples into one batch, padded on the right, with the frames of each clip once.

A batch without any frame gets a dummy row with one grey frame when other batches have frames, so that every process
runs the vision tower equally often; the dummy row supervises nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from aot.student.examples import Example
from aot.student.frames import FramePixels, Tensors
from aot.student.packing import IGNORED, PADDING, PREFIX, REASON, TrainRow, packed_row, separate_rows, visible
from aot.student.rendering import EncodedRow, Renderer


@dataclass(frozen=True)
class ClipPlan:
    """Which visual features each row takes: features are made once for each clip and reused by its rows."""

    tokens_per_clip: tuple[int, ...]
    clip_of_row: tuple[int, ...]
    """One entry for each row that shows frames, in row order."""
    grids_thw: torch.Tensor | None
    """[frames of all clips, 3]: what the tower takes as `image_grid_thw` where a model has it; the batch repeats these
    for each row, because the model also counts the positions of each row from them."""


@dataclass(frozen=True)
class Collator:
    """Makes training batches; call it with a list of examples."""

    renderer: Renderer
    pixels: FramePixels
    pad_id: int
    dummy_size_hw: tuple[int, int] | None
    """Size of the dummy frame; None when the whole run shows no frames."""
    packed: bool
    """Whether both answers of a question share one row (see packing.py)."""

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """A batch: model inputs, `labels` [rows, time], and bookkeeping that the trainer takes out again."""
        clips = [example.frames for example in examples if example.frames]
        rows: list[TrainRow] = []
        clip_of_row: list[int] = []
        num_clips = 0
        for example in examples:
            new = [packed_row(example)] if self.packed else separate_rows(example)
            rows += new
            if example.frames:
                clip_of_row += [num_clips] * len(new)
                num_clips += 1
        images, shown = self.pixels.of(clips), [(clip.size_hw, len(clip.indices)) for clip in clips]
        if not clips and self.dummy_size_hw:
            rows.append(self._dummy_row(self.dummy_size_hw))
            images, shown, clip_of_row = self.pixels.blank(self.dummy_size_hw), [(self.dummy_size_hw, 1)], [0]
        tokens_per_clip = tuple(self._size(size_hw) * count for size_hw, count in shown)
        grids_thw = images.get("image_grid_thw")
        if grids_thw is not None:
            of_clip = grids_thw.split([count for _, count in shown])
            images["image_grid_thw"] = torch.cat([of_clip[clip] for clip in clip_of_row])
        return {
            **self._text(rows),
            **images,
            "clip_plan": ClipPlan(tokens_per_clip, tuple(clip_of_row), grids_thw) if images else None,
            "question_ids": [example.question_id for example in examples],
        }

    def _text(self, rows: Sequence[TrainRow]) -> Tensors:
        input_ids = _padded([row.ids for row in rows], self.pad_id)
        labels = _padded([row.labels for row in rows], IGNORED)
        branches = _padded([row.branches for row in rows], PADDING)
        supervised, of_reason = labels != IGNORED, branches == REASON
        text = {
            "input_ids": input_ids,
            "labels": labels,
            "is_rationale": of_reason,
            "num_supervised": torch.stack([(supervised & ~of_reason).sum(), (supervised & of_reason).sum()]),
        }
        if self.packed:
            text["position_ids"] = _padded([row.positions for row in rows], 0)
            text["attention_mask"] = visible(branches)
        else:
            text["attention_mask"] = (branches != PADDING).long()
        if self.renderer.needs_token_types:
            text["mm_token_type_ids"] = (input_ids == self.renderer.image_token_id).long()
        return text

    def _dummy_row(self, size_hw: tuple[int, int]) -> TrainRow:
        ids = self.renderer.expansion(size_hw)
        return TrainRow(ids, (IGNORED,) * len(ids), tuple(range(len(ids))), (PREFIX,) * len(ids))

    def _size(self, size_hw: tuple[int, int]) -> int:
        return self.renderer.expansion(size_hw).count(self.renderer.image_token_id)


def pad_prompts(rows: Sequence[EncodedRow], *, pad_id: int) -> Tensors:
    """`input_ids` and `attention_mask` of prompts, each [rows, time], padded on the left for generation."""
    width = max(len(row.prompt_ids) for row in rows)
    ids = [(pad_id,) * (width - len(row.prompt_ids)) + row.prompt_ids for row in rows]
    mask = [(0,) * (width - len(row.prompt_ids)) + (1,) * len(row.prompt_ids) for row in rows]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def _padded(rows: Sequence[tuple[int, ...]], fill: int) -> torch.Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([row + (fill,) * (width - len(row)) for row in rows])
