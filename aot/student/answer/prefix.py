"""Frames that a model has read once: questions are read on behind them and forgotten, new frames behind the old ones.

A prompt shows its frames first and asks at its end, so what has been read of the frames serves every question about
them, and a new frame needs no other to be read again. Whether a model bears that is tried, once for each model; one
that does not is given whole prompts. One thread at a time; knows no clips and no clocks.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from aot.student.answer.batches import with_marks
from aot.student.answer.decoding import Prompt, Reading, on_device, read_prompts
from aot.student.answer.likelihood import score, score_read
from aot.student.model.caches import can_drop_tokens, num_bytes, position_counter, same_logits
from aot.student.model.loading import Student
from aot.student.model.vision import FrameFeatures
from aot.student.rows.frames import FRAME_DIM, Tensors
from aot.student.rows.packing import num_alike
from aot.student.rows.prompts import PROBE, PROBE_SIZE_HW

TRIAL_TIMES_S = (0.5, 1.5, 2.5)


@dataclass(frozen=True)
class PrefixFrame:
    """One frame of a prompt."""

    key: Hashable
    """The same for the same picture, and for no other one."""
    pixels: Tensors
    """As the student's processor makes them of this frame alone."""


@dataclass
class ReadCounts:
    """What was read since the prefix was made."""

    frames_seen: int = 0
    """That went through the vision tower."""
    tokens_read: int = 0
    restarts: int = 0
    """How often what was read had to be given up, in part or whole, because other frames were wanted."""


class FramePrefix:
    """What a student has read of a row of frames."""

    def __init__(self, student: Student, *, max_features: int = 64) -> None:
        """Takes a loaded student.

        Args:
            student: who reads.
            max_features: of so many frames what the vision tower made is kept, for when frames are read again.
        """
        self.counts = ReadCounts()
        self._student = student
        dim = FRAME_DIM.get(student.model_type, 0)
        self._features = FrameFeatures(student.model, max_frames=max_features, dim=dim)
        self.clear()

    @cached_property
    def appends(self) -> bool:
        """Whether frames and questions are read on behind what was read; else every prompt is read from its start."""
        if not self._student.habits.takes_spans or not self._student.renderer.takes_images:
            return False
        counter = position_counter(self._student.model)
        if counter is not None and not hasattr(counter, "get_rope_index"):
            return False
        return _bears_appending(self._student)

    @property
    def num_frames(self) -> int:
        """Frames that need not be read again."""
        return len(self._keys)

    @property
    def num_bytes(self) -> int:
        """Of the keys and values that are kept, as far as they can be counted."""
        return num_bytes(self._reading.cache) if self._reading else 0

    def clear(self) -> None:
        """Forget every frame."""
        self._can_drop = False
        """Whether its cache can forget its last tokens; found out with the first one."""
        self._ids: tuple[int, ...] = ()
        self._keys: tuple[Hashable, ...] = ()
        self._reading: Reading | None = None
        self._features.clear()

    def score(
        self,
        ids: Sequence[int],
        frames: Sequence[PrefixFrame],
        continuations: Sequence[tuple[int, ...]],
        *,
        keep: int | None = None,
    ) -> tuple[float, ...]:
        """Probability of each continuation of a prompt, given that it is one of them; arguments as for `read`."""
        if frames and self.appends and self._student.habits.gives_rows:
            return score_read(self.read(ids, frames, keep=keep), continuations)
        self._count_whole(ids, frames)
        return score(self._student, [self._prompt(ids, frames)], [continuations])[0]

    @torch.inference_mode()
    def read(self, ids: Sequence[int], frames: Sequence[PrefixFrame], *, keep: int | None = None) -> Reading:
        """A prompt as the model has read it, for the caller to go on with; what is read of its frames is kept here.

        Args:
            ids: of the whole prompt, with one placeholder for each visual token.
            frames: those of the prompt, in its order, all of one size.
            keep: so many of the first ones are kept for the next prompt; None keeps all.
        """
        if not frames or not self.appends:
            self._count_whole(ids, frames)
            return read_prompts(self._student, [self._prompt(ids, frames)])
        kept = len(frames) if keep is None else keep
        ends = self._ends(ids, len(frames))
        self._go_back(ids, frames[:kept], ends)
        # What is kept is never read on in place: a model that fails in the middle leaves it as it was.
        if len(self._keys) < kept and not self._can_drop:
            self._keep(self._read_on(self._forked(), ids, frames, ends, last=kept, end=ends[kept]), ids, frames[:kept])
        reading = self._read_on(self._forked(), ids, frames, ends, last=len(frames), end=len(ids))
        self._can_drop = can_drop_tokens(reading.cache)
        if len(self._keys) < kept and self._can_drop:
            # Cut out of what was read with the question behind it, which spares a pass over the new frames alone.
            self._keep(reading.back_to(ends[kept]), ids[: ends[kept]], frames[:kept])
        return reading

    def _forked(self) -> Reading | None:
        return self._reading and self._reading.fork()

    def _keep(self, reading: Reading, ids: Sequence[int], frames: Sequence[PrefixFrame]) -> None:
        self._reading, self._keys = reading, tuple(one.key for one in frames)
        self._ids = tuple(ids[: reading.mask.shape[1]])

    def _ends(self, ids: Sequence[int], num_frames: int) -> list[int]:
        """Behind which token each number of frames ends, from none on."""
        at = [i for i, one in enumerate(ids) if one == self._student.renderer.image_token_id]
        each = len(at) // num_frames
        return [0, *(at[each * (k + 1) - 1] + 1 for k in range(num_frames))]

    def _go_back(self, ids: Sequence[int], frames: Sequence[PrefixFrame], ends: Sequence[int]) -> None:
        """Forget what these frames do not begin with."""
        same = num_alike(self._keys, [one.key for one in frames])
        while same and self._ids[: ends[same]] != tuple(ids[: ends[same]]):
            same -= 1
        if same == len(self._keys):
            return
        self.counts.restarts += 1
        if same and self._reading and can_drop_tokens(self._reading.cache) and not self._counts_positions:
            self._reading.forget(len(self._ids) - ends[same])
            self._ids, self._keys = self._ids[: ends[same]], self._keys[:same]
        else:
            self._ids, self._keys, self._reading = (), (), None

    @property
    def _counts_positions(self) -> bool:
        return position_counter(self._student.model) is not None

    def _read_on(
        self,
        reading: Reading | None,
        ids: Sequence[int],
        frames: Sequence[PrefixFrame],
        ends: Sequence[int],
        *,
        last: int,
        end: int,
    ) -> Reading:
        """What is kept, or a whole prompt, read on up to token `end`, with the frames before number `last`."""
        first = len(self._keys)
        student, start, new = self._student, ends[first], frames[first:last]
        self.counts.tokens_read += end - start
        self.counts.frames_seen += sum(not self._features.has(one.key) for one in new)
        with self._features.shown([(one.key, one.pixels) for one in new], device=student.device):
            if reading is None:
                return read_prompts(student, [self._prompt(ids[:end], new)])
            shown = on_device(student, self._shown(ids[start:end], new))
            places = self._places(ids[:end], frames[:last])[:, :, start:] if self._counts_positions else None
            reading.read_on(torch.tensor([ids[start:end]], device=student.device), shown=shown, places=places)
        return reading

    def _places(self, ids: Sequence[int], frames: Sequence[PrefixFrame]) -> torch.Tensor:
        """Places [3, 1, time] of the tokens of a prompt, in a model that counts them from the grids of its images."""
        counter = position_counter(self._student.model)
        shown = {key: value for key, value in self._shown(ids, frames).items() if key != "pixel_values"}
        places, _ = counter.get_rope_index(torch.tensor([ids]), **shown)
        return torch.as_tensor(places, device=self._student.device)

    def _prompt(self, ids: Sequence[int], frames: Sequence[PrefixFrame]) -> Prompt:
        return Prompt(tuple(ids), self._shown(ids, frames))

    def _shown(self, ids: Sequence[int], frames: Sequence[PrefixFrame]) -> Tensors:
        if not frames:
            return {}
        dim = FRAME_DIM.get(self._student.model_type, 0)
        pixels = [one.pixels for one in frames]
        shown = {key: torch.cat([one[key] for one in pixels], dim=dim) for key in pixels[0]}
        return with_marks(self._student.renderer, ids, shown)

    def _count_whole(self, ids: Sequence[int], frames: Sequence[PrefixFrame]) -> None:
        self.counts.tokens_read += len(ids)
        self.counts.frames_seen += len(frames)


def prefix_frames(student: Student, frames_THWC: np.ndarray, keys: Sequence[Hashable]) -> list[PrefixFrame]:
    """Frames as a prefix takes them.

    Args:
        student: whose processor makes the pixels.
        frames_THWC: uint8 (time, height, width, 3), RGB, scaled as in training.
        keys: one for each.
    """
    pixels = student.pixels(None, max_bytes=0)
    return [PrefixFrame(key, one) for key, one in zip(keys, pixels.alone(frames_THWC), strict=True)]


def _bears_appending(student: Student) -> bool:
    """Whether a prompt read frame by frame gives the logits of the same prompt read at once."""
    try:
        rng = np.random.default_rng(0)
        frames_THWC = rng.integers(0, 256, (len(TRIAL_TIMES_S), *PROBE_SIZE_HW, 3), dtype=np.uint8)
        ids = student.renderer.encode(PROBE, TRIAL_TIMES_S, "direct", frame_size_hw=PROBE_SIZE_HW).prompt_ids
        frames = prefix_frames(student, frames_THWC, keys=range(len(TRIAL_TIMES_S)))
        trial = FramePrefix(student)
        trial.__dict__["appends"] = True  # this is what is tried
        for keep in (1, 2):
            piecemeal = trial.read(ids, frames, keep=keep)
        at_once = read_prompts(student, [trial._prompt(ids, frames)])
    except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return False
    return same_logits(piecemeal.logits_BV, at_once.logits_BV, dtype=student.model.dtype)
