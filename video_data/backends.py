"""Two ways to turn chosen frames of a scanned clip into pixels: decord, and PyAV.

Each takes positions in the order shown and gives upright RGB frames, scaled down on the way so that few full frames
are held at once. Neither decides which is used; see decode.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from video_data.budgets import Budgets
from video_data.errors import VideoError
from video_data.scan import ContainerFacts, best_stream, load_av

CHUNK_BYTES = 32_000_000
"""Full-size frames held at once while scaling."""
TIME_TOLERANCE_S = 0.002


class DecordRefusal(Exception):
    """Decord cannot be trusted with this clip; the text says why and is fit for a note."""


@dataclass(frozen=True)
class Picked:
    """Frames that came out of a decoder."""

    frames_THWC: NDArray[np.uint8]
    indices: tuple[int, ...]
    """Position of each frame in the order shown, ascending."""
    damage: str = ""
    """Why frames are missing or damaged; empty if none are."""


def fitted_size(width: int, height: int, *, max_side_px: int | None) -> tuple[int, int]:
    """Width and height after scaling down to a longest side of `max_side_px`; never scaled up.

    >>> fitted_size(640, 480, max_side_px=320)
    (320, 240)
    """
    longest = max(width, height)
    if max_side_px is None or longest <= max_side_px:
        return width, height
    return max(1, round(width * max_side_px / longest)), max(1, round(height * max_side_px / longest))


def open_decord(facts: ContainerFacts) -> Any:  # noqa: ANN401 - decord has no types
    """A decord reader whose frame count and times agree with the container.

    Raises:
        DecordRefusal: decord is absent, cannot open the clip, or disagrees.
    """
    try:
        import decord
    except ImportError:
        raise DecordRefusal("decord is not installed") from None
    if facts.times_s != tuple(sorted(set(facts.times_s))):
        raise DecordRefusal("frames share a time")
    try:
        decord.logging.set_level(decord.logging.QUIET)
        reader = decord.VideoReader(str(facts.path), num_threads=1, fault_tol=1e-9)
        count = len(reader)
        starts_s = (
            reader.get_frame_timestamp(range(count))[:, 0].astype(np.float64) if count == len(facts.pts) else None
        )
    except Exception:  # noqa: BLE001 - decord raises bare Exceptions with addresses in them
        raise DecordRefusal("decord cannot open it") from None
    if starts_s is None:
        raise DecordRefusal(f"decord counts {count} frames, the container {len(facts.pts)}")
    wrong_s = np.abs((starts_s - starts_s[0]) - np.asarray(facts.times_s))
    if not np.isfinite(starts_s).all() or float(wrong_s.max()) > TIME_TOLERANCE_S + 1e-6 * facts.duration_s:
        raise DecordRefusal("decord's times differ from the container's")
    return reader


def pick_with_decord(facts: ContainerFacts, indices: Sequence[int], *, max_side_px: int | None) -> Picked:
    """Frames at ascending `indices`, by decord.

    Raises:
        DecordRefusal: decord fails its self-check, or stumbles while decoding.
    """
    reader = open_decord(facts)
    width, height = facts.shown_size
    out_width, out_height = fitted_size(width, height, max_side_px=max_side_px)
    frames = np.empty((len(indices), out_height, out_width, 3), np.uint8)
    chunk = max(1, CHUNK_BYTES // (width * height * 3))
    for start in range(0, len(indices), chunk):
        try:
            full = reader.get_batch(list(indices[start : start + chunk])).asnumpy()
        except Exception:  # noqa: BLE001 - decord raises bare Exceptions with addresses in them
            raise DecordRefusal("decord stopped in the middle") from None
        if full.shape[1:] != (height, width, 3):
            raise DecordRefusal(f"decord shows {full.shape[2]}x{full.shape[1]}, the container {width}x{height}")
        for offset, frame in enumerate(full):
            frames[start + offset] = scale(frame, width=out_width, height=out_height)
    return Picked(frames, tuple(indices))


def pick_with_pyav(
    facts: ContainerFacts, indices: Sequence[int], *, max_side_px: int | None, budgets: Budgets
) -> Picked:
    """Frames at ascending `indices` as far as they decode, by PyAV in one pass from the start."""
    wanted = {facts.pts[index]: index for index in indices}
    out_width, out_height = fitted_size(*facts.shown_size, max_side_px=max_side_px)
    frames = np.empty((len(indices), out_height, out_width, 3), np.uint8)
    found: list[int] = []
    damage, num_damaged = "", 0
    for frame in decoded(facts, budgets=budgets):
        if isinstance(frame, str):
            damage = frame
            break
        index = wanted.pop(frame.pts, None)
        if index is not None:
            upright = np.rot90(frame.to_ndarray(format="rgb24"), k=-facts.rotation_degrees // 90)
            frames[len(found)] = scale(upright, width=out_width, height=out_height)
            found.append(index)
            num_damaged += frame.is_corrupt
        if not wanted:
            break
    if wanted and not damage:
        damage = f"{len(wanted)} of {len(indices)} frames asked for do not decode"
    damage = damage or damaged_pixels(num_damaged)
    order = np.argsort(found, kind="stable")
    if found != sorted(found):
        frames[: len(found)] = frames[order]
    return Picked(frames[: len(found)], tuple(sorted(found)), damage)


def decoded(facts: ContainerFacts, *, budgets: Budgets) -> Any:  # noqa: ANN401
    """PyAV frames of the clip in the order shown; a last item that is a str says what damage ended them early."""
    av = load_av()
    count = 0
    with av.open(str(facts.path), format=facts.container, metadata_errors="replace") as container:
        stream = best_stream(container, budgets=budgets)
        try:
            for frame in container.decode(stream):
                budgets.check_frame_size(frame.width, frame.height)
                count += 1
                yield frame
        except (av.FFmpegError, ValueError):
            yield f"{count} of {facts.num_declared or len(facts.pts)} frames decode, then the data are damaged"


def damaged_pixels(num_frames: int) -> str:
    """What to say about frames that the decoder patched up; empty for none."""
    return f"{num_frames} frames have damaged pixels" if num_frames else ""


def scale(frame_HWC: NDArray[np.uint8], *, width: int, height: int) -> NDArray[np.uint8]:
    """The frame in the given size, by area averaging."""
    if frame_HWC.shape[:2] == (height, width):
        return frame_HWC
    try:
        import cv2
    except ImportError:
        raise VideoError("no_decoder", "OpenCV is not installed; run: pip install 'aot-distill[video]'") from None
    scaled = cv2.resize(np.ascontiguousarray(frame_HWC), (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(scaled, np.uint8)
