"""Which stored frames a question shows, and their pixels as the model wants them.

Frames are picked by their true times and only inside the question's window. Processed pixels are kept in a cache that
is bounded by bytes, so that training reads each frame from its shard once as long as there is room.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from aot.errors import SourceError
from aot.records import MediaRef, Question
from video_data.decode.sampling import nearest_indices, uniform_times

Tensors = dict[str, torch.Tensor]

FRAME_DIM = {"idefics2": 1, "idefics3": 1, "smolvlm": 1}
"""Model types whose pixel tensors are (sample, image, ...); all others count images along dimension 0."""


class StoredClipLike(Protocol):
    """What is read of a stored clip: true frame times in seconds and the stored size in pixels."""

    @property
    def times_s(self) -> tuple[float, ...]: ...  # noqa: D102
    @property
    def duration_s(self) -> float: ...  # noqa: D102
    @property
    def stored_width(self) -> int: ...  # noqa: D102
    @property
    def stored_height(self) -> int: ...  # noqa: D102


class FrameInputs(Protocol):
    """What stands for frames in a batch: their pixels, or what a vision tower made of them."""

    made: bool
    """Whether `pixel_values` are features already, which no tower has to look at."""

    def of(self, clips: Sequence["ChosenFrames"]) -> Tensors:
        """Tensors of all frames of `clips`, one after the other; an empty dict for no clips."""

    def blank(self, size_hw: tuple[int, int]) -> Tensors:
        """Tensors of one grey frame of this height and width."""


class FrameSource(Protocol):
    """Where frames come from; `video_data.store.shards.FrameStore` is the one in use."""

    def clip(self, uri: str) -> StoredClipLike:
        """Facts of a stored clip; KeyError when it was not stored."""

    def frames(self, uri: str, indices: Sequence[int] | None = None) -> np.ndarray:
        """Frames as uint8 T,H,W,3 RGB."""


@dataclass(frozen=True)
class ChosenFrames:
    """The frames one question shows."""

    uri: str
    indices: tuple[int, ...]
    times_s: tuple[float, ...]
    size_hw: tuple[int, int]
    """Height and width as stored, in pixels."""


def choose_indices(store: FrameSource, media: MediaRef, *, num_frames: int) -> ChosenFrames:
    """The stored frames nearest to `num_frames` even moments of the window, none outside it.

    Raises:
        SourceError: the clip was not stored, or none of its frames lies in the window.
    """
    try:
        clip = store.clip(media.uri)
    except KeyError as error:
        raise SourceError(f"clip {media.uri} has no stored frames ({error}); run the prepare stage") from error
    end_s = clip.duration_s if media.end_s is None else media.end_s
    visible = [i for i, time_s in enumerate(clip.times_s) if media.start_s <= time_s <= end_s]
    if not visible:
        raise SourceError(
            f"clip {media.uri} has no stored frame between {media.start_s} and {end_s} s; raise frames.fps"
        )
    times = [clip.times_s[i] for i in visible]
    picked = nearest_indices(times, uniform_times(media.start_s, end_s, num_frames))
    indices = tuple(visible[i] for i in picked)
    size_hw = (clip.stored_height, clip.stored_width)
    return ChosenFrames(media.uri, indices, tuple(clip.times_s[i] for i in indices), size_hw)


def shown_frames(store: FrameSource | None, question: Question, *, shown: bool, num_frames: int) -> ChosenFrames | None:
    """The frames of a question that stand in its prompt; None where it is `shown` without any, or has no clip.

    Raises:
        SourceError: as for `choose_indices`.
    """
    if not shown or question.media is None or store is None:
        return None
    return choose_indices(store, question.media, num_frames=num_frames)


class FramePixels:
    """Processed pixel tensors of frames, cached frame by frame up to a number of bytes."""

    made = False

    def __init__(
        self,
        store: FrameSource | None,
        processor: Any,  # noqa: ANN401
        *,
        model_type: str,
        max_bytes: int,
    ) -> None:
        self.store = store
        self._image_processor = processor.image_processor
        self._keys = tuple(key for key in self._image_processor.model_input_names if key not in ("rows", "cols"))
        self._dim = FRAME_DIM.get(model_type, 0)
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self.seconds = 0.0
        """That the processor worked, in all."""
        self._cache: OrderedDict[tuple[str, int], Tensors] = OrderedDict()

    def of(self, clips: Sequence[ChosenFrames]) -> Tensors:
        """Pixel tensors of all frames of `clips`, one after the other; an empty dict for no clips."""
        frames = [frame for clip in clips for frame in self._frames(clip)]
        return {key: torch.cat([f[key] for f in frames], dim=self._dim) for key in frames[0]} if frames else {}

    def blank(self, size_hw: tuple[int, int]) -> Tensors:
        """Pixel tensors of one grey frame of this height and width."""
        return self._process(np.full((1, *size_hw, 3), 90, dtype=np.uint8))[0]

    def alone(self, frames_THWC: np.ndarray) -> list[Tensors]:
        """Pixel tensors of each of these frames, of which none is kept; a store is not needed for them."""
        return self._process(frames_THWC)

    def _frames(self, clip: ChosenFrames) -> list[Tensors]:
        tensors_of = {i: self._cache[clip.uri, i] for i in clip.indices if (clip.uri, i) in self._cache}
        missing = [i for i in clip.indices if i not in tensors_of]
        if missing:
            assert self.store is not None
            fresh = self._process(self.store.frames(clip.uri, missing))
            tensors_of.update(zip(missing, fresh, strict=True))
        for index in clip.indices:
            self._remember((clip.uri, index), tensors_of[index])
        return [tensors_of[index] for index in clip.indices]

    def _process(self, frames_THWC: np.ndarray) -> list[Tensors]:
        started_s = time.perf_counter()
        made = self._image_processor(list(frames_THWC), return_tensors="pt")
        tensors = {key: _compact(key, made[key]) for key in self._keys if key in made}
        pieces = {key: value.chunk(len(frames_THWC), dim=self._dim) for key, value in tensors.items()}
        frames = [{key: piece[i].clone() for key, piece in pieces.items()} for i in range(len(frames_THWC))]
        self.seconds += time.perf_counter() - started_s
        return frames

    def _remember(self, key: tuple[str, int], tensors: Tensors) -> None:
        if key in self._cache:
            self._cache.move_to_end(key)
            return
        self._cache[key] = tensors
        self._num_bytes += _size(tensors)
        while self._num_bytes > self._max_bytes:
            _, oldest = self._cache.popitem(last=False)
            self._num_bytes -= _size(oldest)


def _size(tensors: Tensors) -> int:
    return sum(value.numel() * value.element_size() for value in tensors.values())


def _compact(key: str, value: torch.Tensor) -> torch.Tensor:
    return value.bool() if key.endswith("attention_mask") else value
