"""Puts examples into one batch, padded on the right, with the frames of each clip once; or lessons, packed or padded.

A batch without any frame gets a dummy row with one grey frame when other batches have frames, so that every process
runs the vision tower equally often; the dummy row supervises nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from aot.student.rows.examples import Example, LessonExample
from aot.student.rows.frames import FramePixels, Tensors
from aot.student.rows.packing import (
    IGNORED,
    PADDING,
    PREFIX,
    TrainRow,
    lesson_row,
    packed_lessons,
    packed_row,
    separate_rows,
    visible,
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
            **text_inputs(rows, pad_id=self.pad_id, own_mask=self.packed, renderer=self.renderer),
            **images,
            "clip_plan": ClipPlan(tokens_per_clip, tuple(clip_of_row), grids_thw) if images else None,
            "question_ids": [example.question_id for example in examples],
        }

    def _dummy_row(self, size_hw: tuple[int, int]) -> TrainRow:
        ids = self.renderer.expansion(size_hw)
        return TrainRow(ids, (IGNORED,) * len(ids), tuple(range(len(ids))), (PREFIX,) * len(ids), (False,) * len(ids))

    def _size(self, size_hw: tuple[int, int]) -> int:
        return self.renderer.expansion(size_hw).count(self.renderer.image_token_id)


@dataclass(frozen=True)
class LessonCollator:
    """Makes training batches of lessons; call it with a list of them."""

    renderer: Renderer
    pad_id: int
    pack_tokens: int
    """About how long a packed row is; 0 gives each lesson a row of its own."""

    def __call__(self, examples: Sequence[LessonExample]) -> dict[str, Any]:
        """A batch as `Collator` makes it; of a packed one, `logits_to_keep` [rows, time] is where logits are needed."""
        encoded = [example.row for example in examples]
        if self.pack_tokens:
            rows = packed_lessons(encoded, pack_tokens=self.pack_tokens)
        else:
            rows = [lesson_row(row) for row in encoded]
        batch: dict[str, Any] = dict(
            text_inputs(rows, pad_id=self.pad_id, own_mask=self.pack_tokens > 0, renderer=self.renderer)
        )
        if self.pack_tokens:
            batch["logits_to_keep"] = functional.pad(batch["labels"][:, 1:] != IGNORED, (0, 1))
        return {**batch, "question_ids": [example.question_id for example in examples]}


def text_inputs(rows: Sequence[TrainRow], *, pad_id: int, own_mask: bool, renderer: Renderer) -> Tensors:
    """Ids, labels and masks of `rows`; with `own_mask` each token is told which others it may look at."""
    input_ids = _padded([row.ids for row in rows], pad_id)
    labels = _padded([row.labels for row in rows], IGNORED)
    branches = _padded([row.branches for row in rows], PADDING)
    of_reason = _padded([row.rationale for row in rows], False)
    supervised = labels != IGNORED
    text = {
        "input_ids": input_ids,
        "labels": labels,
        "is_rationale": of_reason,
        "num_supervised": torch.stack([(supervised & ~of_reason).sum(), (supervised & of_reason).sum()]),
    }
    if own_mask:
        text["position_ids"] = _padded([row.positions for row in rows], 0)
        text["attention_mask"] = visible(branches)
    else:
        text["attention_mask"] = (branches != PADDING).long()
    if renderer.needs_token_types:
        text["mm_token_type_ids"] = (input_ids == renderer.image_token_id).long()
    return text


def _padded(rows: Sequence[tuple[int, ...]] | Sequence[tuple[bool, ...]], fill: int | bool) -> torch.Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([row + (fill,) * (width - len(row)) for row in rows])
