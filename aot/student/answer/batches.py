"""Prediction batches: prompts encoded like in training, sorted by length within a window, padded on the left.

What stands in a batch depends on the questions alone, so the same call gives the same batches.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from aot.errors import SourceError
from aot.records import Question
from aot.student.answer.decoding import Prompt
from aot.student.model.loading import Student
from aot.student.rows.examples import encode_row
from aot.student.rows.frames import ChosenFrames, FramePixels, FrameSource, Tensors, shown_frames
from aot.student.rows.packing import EncodedRow
from aot.student.rows.prompts import Mode, with_names
from aot.student.rows.tokens import Renderer

BATCHES_PER_WINDOW = 16
"""How many batches of questions are sorted by length together; answers come out window by window."""


@dataclass(frozen=True)
class PromptItem:
    """One question ready for prediction."""

    question: Question
    frames: ChosenFrames | None
    row: EncodedRow
    error: str = ""
    """Why it cannot be asked; then `row` is empty."""

    def prompt(self, renderer: Renderer, pixels: FramePixels | None) -> Prompt:
        """What a model reads: the ids, and the pixels of the frames where there are any."""
        if self.frames is None or pixels is None:
            return Prompt(self.row.prompt_ids)
        return Prompt(self.row.prompt_ids, with_marks(renderer, self.row.prompt_ids, pixels.of([self.frames])))


def with_marks(renderer: Renderer, ids: Sequence[int], shown: Tensors) -> Tensors:
    """Pixels, and which of a prompt's tokens stand for them where the model wants to be told."""
    if not shown or not renderer.needs_token_types:
        return shown
    return {**shown, "mm_token_type_ids": (torch.tensor([list(ids)]) == renderer.image_token_id).long()}


def prompt_items(
    student: Student,
    questions: Sequence[Question],
    *,
    store: FrameSource | None,
    mode: Mode,
    with_frames: bool,
    given: Callable[[Question], int] = lambda question: 0,
) -> Iterator[PromptItem]:
    """Items in the order of `questions`; a question that cannot be shown becomes an item with an error.

    Without a store no frames are shown. `given` tells how many tokens are put behind the prompt of a question.
    """
    for question in (with_names(one, mode, student.renderer.offered) for one in questions):
        try:
            frames = shown_frames(store, question, shown=with_frames, num_frames=student.config.num_frames)
            row = encode_row(student.renderer, question, frames, mode=mode)
        except SourceError as error:
            yield PromptItem(question, None, EncodedRow(()), str(error))
            continue
        if row.num_tokens > student.config.max_tokens:
            error_text = f"the prompt has {row.num_tokens} tokens, student.max_tokens is {student.config.max_tokens}"
            yield PromptItem(question, None, EncodedRow(()), error_text)
            continue
        if row.num_tokens + given(question) > student.context:
            behind = f" and {given(question)} are put behind it" if given(question) else ""
            error_text = f"the prompt has {row.num_tokens} tokens{behind}, the model knows {student.context} positions"
            yield PromptItem(question, None, EncodedRow(()), error_text)
            continue
        yield PromptItem(question, frames, row)


def windows(items: Iterator[PromptItem], *, batch_size: int) -> Iterator[list[PromptItem]]:
    """Consecutive runs of items, each of several batches."""
    window: list[PromptItem] = []
    for item in items:
        window.append(item)
        if len(window) == batch_size * BATCHES_PER_WINDOW:
            yield window
            window = []
    if window:
        yield window


def batches(window: Sequence[PromptItem], *, batch_size: int) -> Iterator[list[int]]:
    """Positions in `window` of the items of each batch, items of like length together; items with errors left out."""
    good = [i for i, item in enumerate(window) if not item.error]
    good.sort(key=lambda i: (window[i].frames is None, window[i].row.num_tokens, i))
    blind = sum(window[i].frames is None for i in good)
    for part in (good[: len(good) - blind], good[len(good) - blind :]):
        for start in range(0, len(part), batch_size):
            yield part[start : start + batch_size]
