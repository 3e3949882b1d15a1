"""Frames of a LeRobot batch as NumPy pictures, and those of an episode so far; knows no student.

A picture is `observation.images.<camera>`: float 0..1 with channels first, as policies get it, or uint8 with channels
last, as robots give it; with or without a leading batch of one. Tensors of torch are taken as they come, without an
import: anything that has `detach` is asked for its numbers.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from aot.errors import AotError

IMAGES = "observation.images."


class SubtaskError(AotError):
    """There is no subtask to be had; `reason` is short and countable.

    Reasons are those of an abstention (`stale`, `deadline`, `uncertain`, `out_of_domain`, `unparsable`, `cut_off`,
    `failed`), of a server (`connection`, `refused`, `malformed`), and `bad_batch`, `empty`, `several`, `not_a_choice`.
    """

    boundary = "policy"

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __str__(self) -> str:
        """The reason, then the message: LeRobot shows its operator this line."""
        return f"{self.reason}: {super().__str__()}"


def frame_of(batch: Mapping[str, Any], camera: str = "") -> np.ndarray:
    """The picture of one camera, a copy, as uint8 (height, width, 3); the first by name if no camera is given.

    Raises:
        SubtaskError: there is no such picture, or it is none; the reason is `bad_batch`.
    """
    names = sorted(key for key in batch if str(key).startswith(IMAGES))
    key = f"{IMAGES}{camera.removeprefix(IMAGES)}" if camera else next(iter(names), "")
    if key not in batch:
        raise SubtaskError(
            f"the batch has no picture {key or IMAGES + '...'}; it has {', '.join(names) or 'none'}", "bad_batch"
        )
    return picture(batch[key], key)


def picture(value: Any, name: str) -> np.ndarray:  # noqa: ANN401 - an array or a tensor
    """A picture of the forms that LeRobot has, as uint8 (height, width, 3), a copy.

    Raises:
        SubtaskError: it has another shape or type, is not finite, or not within 0..1; the reason is `bad_batch`.
    """
    array = _array(value, name)
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3 or 0 in array.shape:
        raise SubtaskError(f"{name} has shape {array.shape}; (3, h, w) or (h, w, 3) is fine", "bad_batch")
    if np.issubdtype(array.dtype, np.floating):
        if array.shape[0] != 3:
            raise SubtaskError(f"{name} is float of shape {array.shape}; such have channels first", "bad_batch")
        low, high = float(array.min()), float(array.max())
        if not (low >= -1e-3 and high <= 1 + 1e-3):  # false for NaN too
            raise SubtaskError(
                f"{name} goes from {low:g} to {high:g}, not from 0 to 1; take it before it is normalised",
                "bad_batch",
            )
        scaled = np.clip(array.transpose(1, 2, 0), 0, 1) * 255
        return np.ascontiguousarray(np.rint(scaled).astype(np.uint8))
    if array.dtype != np.uint8 or array.shape[2] != 3:
        raise SubtaskError(
            f"{name} is {array.dtype} of shape {array.shape}; uint8 (h, w, 3) or float (3, h, w) is fine",
            "bad_batch",
        )
    return array.copy()


def scalar(value: Any, name: str) -> float | None:  # noqa: ANN401 - a number, an array or a tensor of one
    """A number that a batch holds alone or as a batch of one; None where it holds none.

    Raises:
        SubtaskError: it is no single finite number; the reason is `bad_batch`.
    """
    if value is None:
        return None
    array = _array(value, name)
    if array.size != 1 or not np.issubdtype(array.dtype, np.number) or not np.isfinite(array).all():
        raise SubtaskError(f"{name} is no single finite number", "bad_batch")
    return float(array.reshape(()))


def text_of(value: object) -> str:
    """A text that a batch holds alone or as a batch of one; empty where it holds none."""
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    return value.strip() if isinstance(value, str) else ""


class EpisodeFrames:
    """Frames of an episode so far, spread evenly over it, at most `max_frames` of them.

    A student was trained on frames spread over the whole window, so once the ring is full every second one goes, and
    from then on frames are kept half as often; the newest frame is always there.
    """

    def __init__(self, max_frames: int, gap_s: float) -> None:
        """Hold at most `max_frames`, and at first one each `gap_s` seconds."""
        self._max, self._first_gap_s = max(4, max_frames), gap_s
        self.reset()

    def reset(self) -> None:
        """Forget everything, for a new episode."""
        self._gap_s = self._first_gap_s
        self._kept: list[tuple[float, np.ndarray]] = []
        self._newest: tuple[float, np.ndarray] | None = None

    def add(self, time_s: float, frame_HWC: np.ndarray) -> None:
        """Take one frame; one older than the newest begins a new episode, whose clock starts again."""
        if self._newest and time_s < self._newest[0]:
            self.reset()
        self._newest = (time_s, frame_HWC)
        if self._kept and time_s - self._kept[-1][0] < self._gap_s - 1e-6:
            return
        self._kept.append(self._newest)
        if len(self._kept) > self._max - 1:
            self._kept = self._kept[::2]
            self._gap_s = (self._kept[-1][0] - self._kept[0][0]) / (len(self._kept) - 1)

    def all(self) -> tuple[list[float], list[np.ndarray]]:
        """Times in seconds from the first frame on, ascending, and frames; the newest last."""
        rows = list(self._kept)
        if self._newest and (not rows or rows[-1][0] != self._newest[0]):
            rows.append(self._newest)
        return [time_s - rows[0][0] for time_s, _ in rows], [frame for _, frame in rows]


def _array(value: Any, name: str) -> np.ndarray:  # noqa: ANN401 - an array or a tensor
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            if str(value.dtype) == "torch.bfloat16":  # numpy has no such type
                value = value.float()
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SubtaskError(f"{name} cannot be read as numbers: {error}", "bad_batch") from None
