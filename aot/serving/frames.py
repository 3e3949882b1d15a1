"""What a question shows: frames of a clip or from memory, checked, scaled and chosen by the rule of training.

Of a clip the same frames are taken as by the prepare stage (rate, size and number as the contract says), and of these
the ones that training would show; of frames in memory the same choice is made among those that were given. Knows no
model. Legend: T frames, H rows, W columns, C three colours in the order red, green, blue.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from aot.chat.messages import ImagePart
from aot.chat.pictures import png
from aot.errors import SourceError
from aot.records import MediaRef
from aot.served_records import FrameRule
from video_data.decode.budgets import Budgets, Sampling
from video_data.decode.facts import DecodedFrames

CLIP_CACHE_BYTES = 256 << 20
"""Of decoded frames that are kept for the next question about the same clip."""
_BUDGETS = Budgets()
_TIME_LIMIT_S = 30.0
_LATEST_S = 1e12
"""Later ones cannot be told apart by a hundredth of a second."""
_LEAST_SIDE_PX = 4
"""Image processors take smaller ones for colours, in silence."""
_ONE_FRAME_S = 1.0
"""How long a lone frame is shown; any length shows it."""


@dataclass(frozen=True)
class Window:
    """The part of a clip, or of the given frames, that may be looked at."""

    start_s: float | None = None
    """None: where it begins."""
    end_s: float | None = None
    """None: where it ends."""


@dataclass(frozen=True)
class _Facts:
    """Of a stored clip, as `choose_indices` reads them."""

    times_s: tuple[float, ...]
    duration_s: float
    stored_width: int
    stored_height: int


class ClipShelf:
    """Decoded frames of the clips of the last questions, up to a number of bytes; may be used from many threads."""

    def __init__(self, rule: FrameRule, *, max_bytes: int = CLIP_CACHE_BYTES) -> None:
        self._sampling = Sampling(
            fps=rule.stored_fps, max_stored_frames=rule.max_stored_frames, max_side_px=rule.max_side_px,
            time_limit_s=_TIME_LIMIT_S, budgets=_BUDGETS,
        )  # fmt: skip
        self._max_bytes, self._lock = max_bytes, threading.Lock()
        self._held: OrderedDict[tuple[str, int, int], DecodedFrames] = OrderedDict()

    def frames(self, path: Path) -> DecodedFrames:
        """The frames that the prepare stage would store of a clip.

        Raises:
            VideoError: the clip is refused.
        """
        from video_data.decode.sandbox import shared_pool

        try:
            seen, whole = path.stat(), path.absolute()  # the decoder may have been started in another folder
            key = (str(whole), seen.st_size, seen.st_mtime_ns)
        except (OSError, ValueError):  # the decoder says what is wrong with it
            return shared_pool().sample_clip(path, self._sampling)
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        decoded = shared_pool().sample_clip(whole, self._sampling)
        with self._lock:
            self._held[key] = decoded
            while sum(one.frames_THWC.nbytes for one in self._held.values()) > self._max_bytes:
                self._held.popitem(last=False)
        return decoded

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._held.clear()


class ShownFrames:
    """The frames of some questions, as the student reads them from a store; a frame's name tells its content."""

    def __init__(self, rule: FrameRule, shelf: ClipShelf) -> None:
        self._rule, self._shelf = rule, shelf
        self._facts: dict[str, _Facts] = {}
        self._frames: dict[str, dict[int, np.ndarray]] = {}

    def clip(self, uri: str) -> _Facts:
        """Facts of the frames."""
        return self._facts[uri]

    def frames(self, uri: str, indices: Sequence[int] | None = None) -> np.ndarray:
        """Frames as uint8 T, H, W, C; of those from memory the chosen ones alone."""
        held = self._frames[uri]
        return np.stack([held[i] for i in (held if indices is None else indices)])

    def pictures(self, media: MediaRef) -> list[ImagePart]:
        """What a question about this shows, as lossless pictures with their times."""
        from aot.student.rows.frames import choose_indices

        chosen = choose_indices(self, media, num_frames=self._rule.num_frames)
        pairs = zip(self.frames(media.uri, chosen.indices), chosen.times_s, strict=True)
        return [ImagePart(data=png(frame), mime="image/png", time_s=time_s) for frame, time_s in pairs]

    def add_clip(self, path: Path, window: Window) -> MediaRef:
        """Hold what a window of a clip shows.

        Raises:
            SourceError: the window lies outside the clip, shows no frame, or cannot be decoded whole.
            VideoError: the clip is refused.
        """
        from video_data.datasets.plain import check_windows
        from video_data.datasets.rows import QuestionRow

        start_s, name = window.start_s or 0.0, path.name  # no folder of a server goes into a reply
        decoded = self._shelf.frames(path)
        row = QuestionRow(
            id=name, split="", kind="", text="", choices=(), answer="", answer_type="text", uri=name,
            start_s=start_s, end_s=window.end_s, group="",
        )  # fmt: skip
        checked = check_windows(
            [row], {name: decoded.duration_s}, times_s={name: decoded.times_s},
            partial_spans_s={name: decoded.spans_s} if decoded.verdict == "partial" else None,
        )  # fmt: skip
        if checked.refused:
            raise SourceError(f"{checked.refused[0].reason}: {checked.refused[0].detail}")
        height, width = decoded.frames_THWC.shape[1:3]
        uri = f"clip/{decoded.sha256}"
        self._facts[uri] = _Facts(decoded.times_s, decoded.duration_s, width, height)
        self._frames[uri] = dict(enumerate(decoded.frames_THWC))
        return MediaRef(uri=uri, start_s=start_s, end_s=window.end_s)

    def add_frames(self, frames: Any, times_s: Sequence[float] | None, window: Window) -> MediaRef:  # noqa: ANN401
        """Hold what a window of frames in memory shows, scaled as a decoder scales.

        Args:
            frames: pictures, each uint8 H, W, C or what NumPy makes one of; or one array T, H, W, C.
            times_s: of the frames, ascending; None for a single frame alone, which counts as seen at 0 s.
            window: of them; by default from the first one to the last.

        Raises:
            SourceError: a frame is no picture of this form, sizes differ, times are missing, or do not ascend.
        """
        from aot.student.rows.frames import choose_indices

        pictures = _pictures(frames)
        times = checked_times(times_s, count=len(pictures))
        start_s = times[0] if window.start_s is None else window.start_s
        end_s = window.end_s if window.end_s is not None else max(times[-1], start_s + _ONE_FRAME_S * (len(times) < 2))
        if not any(start_s <= time_s <= end_s for time_s in times):
            raise SourceError(
                f"no frame lies in {start_s:g}-{end_s:g} s: the {len(times)} frames are of {times[0]:g}-{times[-1]:g} s"
            )
        if end_s <= start_s:  # one frame of many
            end_s = start_s + _ONE_FRAME_S
        height, width = _fitted(pictures[0], self._rule.max_side_px)
        if min(height, width) < _LEAST_SIDE_PX:
            raise SourceError(f"frames of {_size(pictures[0])} pixels show nothing; give larger ones")
        facts = _Facts(times, max(times[-1], end_s), width, height)
        chosen = choose_indices(
            _One(facts), MediaRef(uri="", start_s=start_s, end_s=end_s), num_frames=self._rule.num_frames
        )
        scaled = {i: _scaled(pictures[i], height=height, width=width) for i in chosen.indices}
        digest = hashlib.blake2b(repr((facts, chosen.indices)).encode(), digest_size=16)
        for one in scaled.values():
            digest.update(one.data)
        uri = f"frames/{digest.hexdigest()}"
        self._facts[uri], self._frames[uri] = facts, scaled
        return MediaRef(uri=uri, start_s=start_s, end_s=end_s)


@dataclass(frozen=True)
class _One:
    """A store of one clip whose frames nobody reads."""

    facts: _Facts

    def clip(self, uri: str) -> _Facts:
        return self.facts

    def frames(self, uri: str, indices: Sequence[int] | None = None) -> np.ndarray:
        raise NotImplementedError


def _pictures(frames: Any) -> list[np.ndarray]:  # noqa: ANN401
    """The frames as arrays, each checked."""
    if getattr(frames, "ndim", 4) < 4 and getattr(frames, "dtype", None) == np.uint8:
        raise SourceError(f"frames is one array of shape {frames.shape}; give a list of pictures, or frames[None]")
    try:
        listed = list(frames)
    except TypeError:
        raise SourceError(f"frames must be a list of pictures, got {type(frames).__name__}") from None
    if not listed:
        raise SourceError("frames is empty; give at least one, or ask without frames")
    pictures = [_picture(one, place=i) for i, one in enumerate(listed)]
    for i, one in enumerate(pictures):
        if one.shape != pictures[0].shape:
            raise SourceError(
                f"frame {i} has {_size(one)} pixels and frame 0 {_size(pictures[0])}; give frames of one size"
            )
    return pictures


def _picture(frame: Any, *, place: int) -> np.ndarray:  # noqa: ANN401
    fine = "give uint8 (height, width, 3), RGB from 0 to 255"
    try:
        array = np.asarray(frame)
    except Exception as error:  # noqa: BLE001 - whatever an object of a stranger raises when it is turned into an array
        raise SourceError(f"frame {place} cannot be read as an array ({str(error)[:100]}); {fine}") from None
    shape = tuple(array.shape)
    if array.dtype != np.uint8:
        hint = ""
        if array.dtype.kind == "f":
            unusable = not bool(np.isfinite(array).all())
            hint = ", with NaN or infinity in it" if unusable else "; (255 * frame).astype('uint8') if it is 0 to 1"
        raise SourceError(f"frame {place} is {array.dtype}{hint}; {fine}")
    if array.ndim != 3 or shape[2] != 3:
        first = array.ndim == 3 and shape[0] in (1, 3, 4)
        kind = (
            "grey" if array.ndim == 2 or shape[2:] == (1,)
            else "RGBA: blend it on white" if shape[2:] == (4,)
            else "colours first: use frame.transpose(1, 2, 0)" if first
            else "no picture"
        )  # fmt: skip
        raise SourceError(f"frame {place} has shape {shape} ({kind}); {fine}")
    if not array.size or shape[0] * shape[1] > _BUDGETS.max_pixels:
        raise SourceError(f"frame {place} has {_size(array)} pixels; from 1 to {_BUDGETS.max_pixels:,} in all are fine")
    return array


def checked_times(times_s: Sequence[float] | None, *, count: int) -> tuple[float, ...]:
    """The times of so many frames, in seconds; one frame alone needs none, and counts as seen at 0 s.

    Raises:
        SourceError: they are missing, not as many, no seconds from a start, or do not ascend.
    """
    if times_s is None:
        if count > 1:
            raise SourceError(
                f"{count} frames came without times, which the student reads beside them; give times_s, the seconds at "
                "which they were seen, such as [0, 0.5, 1]"
            )
        return (0.0,)
    try:
        times = tuple(float(one) for one in times_s)
    except (TypeError, ValueError):
        raise SourceError("times_s must be numbers, seconds of the frames") from None
    if len(times) != count:
        raise SourceError(f"{count} frames came with {len(times)} times; give one for each frame")
    if wrong := [one for one in times if not 0 <= one <= _LATEST_S]:
        raise SourceError(f"times_s holds {wrong[0]}; times are seconds from the start, finite and not negative")
    for before, after in pairwise(times):
        if after <= before:
            raise SourceError(f"times_s must ascend, but {after:g} s comes behind {before:g} s; sort frames and times")
    return times


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"


def _fitted(picture: np.ndarray, max_side_px: int) -> tuple[int, int]:
    """Height and width as stored."""
    height, width = picture.shape[:2]
    if max(height, width) <= max_side_px:
        return height, width
    from video_data.decode.picture import fitted_size  # only what is scaled needs the packages of a decoder

    width, height = fitted_size(width, height, max_side_px=max_side_px)
    return height, width


def _scaled(picture: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """A copy of the picture in this size, as the decoder would have stored it."""
    if picture.shape[:2] == (height, width):
        return np.array(picture, order="C")
    from video_data.decode.picture import scale

    return np.ascontiguousarray(scale(picture, width=width, height=height))
