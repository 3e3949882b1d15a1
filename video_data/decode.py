"""Facts about a clip, and its frames by time or index: decord first, PyAV where decord refuses or is wrong.

Works in this process on one local file; a hostile or broken file can hang or crash a decoder, so unattended work goes
through sandbox.py, which calls these same functions in a child process under a time limit.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from video_data.backends import (
    DecordRefusal,
    Picked,
    damaged_pixels,
    decoded,
    fitted_size,
    open_decord,
    pick_with_decord,
    pick_with_pyav,
)
from video_data.budgets import Budgets
from video_data.errors import VideoError
from video_data.facts import Backend, ClipFacts, DecodedFrames
from video_data.sampling import fps_times, nearest_indices, uniform_times
from video_data.scan import ContainerFacts, scan

MAX_OUTPUT_BYTES = 2_000_000_000
_DEFAULT_BUDGETS = Budgets()


def probe(path: Path, *, budgets: Budgets = _DEFAULT_BUDGETS) -> ClipFacts:
    """Facts of the clip at `path`, with every frame decoded once to count it.

    A file that cannot be used comes back with the verdict `refused` and its reason, not as an exception.
    """
    try:
        facts = scan(Path(path), budgets=budgets)
        count, damage = _count_frames(facts, budgets=budgets)
        if count == 0:
            raise VideoError("corrupt", f"none of {len(facts.pts)} frames can be decoded")
    except VideoError as error:
        return ClipFacts(verdict="refused", reason=error.reason, note=error.message)
    backend: Backend = "decord"
    note = "; ".join(filter(None, [damage, facts.shortfall]))
    try:
        open_decord(facts)
        if damage:
            backend = "pyav"
    except DecordRefusal as refusal:
        backend, note = "pyav", "; ".join(filter(None, [note, str(refusal)]))
    times_s = np.asarray(facts.times_s)
    steps_s = np.diff(times_s)
    width, height = facts.shown_size
    return ClipFacts(
        duration_s=facts.duration_s,
        width=width,
        height=height,
        rotation_degrees=facts.rotation_degrees,
        num_frames_decoded=count,
        num_frames_declared=facts.num_declared,
        average_fps=round(len(times_s) / facts.duration_s, 6),
        variable_rate=bool(len(steps_s) and np.ptp(steps_s) > max(0.002, 0.1 * float(np.median(steps_s)))),
        times_ok=facts.times_from_packets,
        container=facts.container,
        codec=facts.codec,
        stream_index=facts.stream_index,
        num_video_streams=facts.num_video_streams,
        has_audio=facts.has_audio,
        backend=backend,
        verdict="partial" if damage or facts.shortfall else "complete",
        note=note,
    )


def read_frames(
    path: Path,
    *,
    times_s: Sequence[float] | None = None,
    indices: Sequence[int] | None = None,
    max_side_px: int | None = None,
    budgets: Budgets = _DEFAULT_BUDGETS,
) -> DecodedFrames:
    """Frames nearest to `times_s` (repeats removed), or at `indices`, or all; in the order asked for.

    Frames that do not decode are left out, and the verdict is then `partial`.

    Raises:
        VideoError: the file is refused, or none of the frames decode.
        ValueError: both or impossible times or indices were given.
    """
    facts = scan(Path(path), budgets=budgets)
    if times_s is not None and indices is not None:
        raise ValueError("give times_s or indices, not both")
    if times_s is not None:
        wanted = nearest_indices(facts.times_s, times_s)
    elif indices is not None:
        wanted = [_checked_index(index, count=len(facts.pts)) for index in indices]
    else:
        wanted = list(range(len(facts.pts)))
    return _read(facts, wanted, max_side_px=max_side_px, budgets=budgets)


def sample_frames(
    path: Path, *, fps: float, max_frames: int, max_side_px: int | None, budgets: Budgets = _DEFAULT_BUDGETS
) -> DecodedFrames:
    """Frames of the whole clip at `fps`, or `max_frames` evenly spaced ones where that would be more.

    Raises:
        VideoError: the file is refused, or none of the frames decode.
    """
    facts = scan(Path(path), budgets=budgets)
    if facts.duration_s * fps > max_frames:
        wanted_s = uniform_times(0.0, facts.duration_s, max_frames)
    else:
        wanted_s = fps_times(0.0, facts.duration_s, fps)
    return _read(facts, nearest_indices(facts.times_s, wanted_s), max_side_px=max_side_px, budgets=budgets)


def _read(facts: ContainerFacts, wanted: list[int], *, max_side_px: int | None, budgets: Budgets) -> DecodedFrames:
    ascending = sorted(set(wanted))
    width, height = facts.shown_size
    out_width, out_height = fitted_size(width, height, max_side_px=max_side_px)
    num_bytes = len(wanted) * out_width * out_height * 3
    if num_bytes > MAX_OUTPUT_BYTES:
        raise VideoError(
            "over_budget_bytes",
            f"{len(wanted)} frames of {out_width}x{out_height} take {num_bytes / 1e9:.1f} GB; "
            f"at most {MAX_OUTPUT_BYTES / 1e9:.0f} GB are read at once: ask for fewer frames or a smaller max_side_px",
        )
    backend: Backend = "decord"
    refusal_note = ""
    try:
        picked = pick_with_decord(facts, ascending, max_side_px=max_side_px)
    except DecordRefusal as refusal:
        backend, refusal_note = "pyav", str(refusal)
        picked = pick_with_pyav(facts, ascending, max_side_px=max_side_px, budgets=budgets)
    if ascending and not picked.indices:
        raise VideoError("corrupt", f"none of the {len(ascending)} frames asked for can be decoded")
    return _in_order(facts, picked, wanted, backend=backend, refusal_note=refusal_note)


def _in_order(
    facts: ContainerFacts, picked: Picked, wanted: list[int], *, backend: Backend, refusal_note: str
) -> DecodedFrames:
    frames_THWC, indices = picked.frames_THWC, picked.indices
    if list(indices) != wanted:
        place = {index: position for position, index in enumerate(indices)}
        indices = tuple(index for index in wanted if index in place)
        frames_THWC = frames_THWC[[place[index] for index in indices]]
    width, height = facts.shown_size
    times_s = facts.times_s
    return DecodedFrames(
        frames_THWC=frames_THWC,
        times_s=tuple(times_s[index] for index in indices),
        indices=indices,
        duration_s=facts.duration_s,
        true_width=width,
        true_height=height,
        backend=backend,
        verdict="partial" if picked.damage or facts.shortfall else "complete",
        note="; ".join(filter(None, [picked.damage, facts.shortfall, refusal_note])),
    )


def _count_frames(facts: ContainerFacts, *, budgets: Budgets) -> tuple[int, str]:
    """How many frames decode, and what damage was met (empty if none)."""
    count = num_damaged = 0
    for frame in decoded(facts, budgets=budgets):
        if isinstance(frame, str):
            return count, frame
        count += 1
        num_damaged += frame.is_corrupt
    if count < len(facts.pts):
        return count, f"{count} of {facts.num_declared or len(facts.pts)} frames decode"
    return count, damaged_pixels(num_damaged)


def _checked_index(index: int, *, count: int) -> int:
    if not 0 <= index < count:
        raise ValueError(f"frame {index} is outside 0..{count - 1}")
    return int(index)
