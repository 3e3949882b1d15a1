"""Facts about a clip, and its frames by time or index, from one pass over the whole clip.

Every picture is decoded, whoever asks: only so are order, count, times and damage known, and `probe`, `read_frames` and
`sample_frames` say the same of the same file. PyAV decodes; decord hides errors of a stream and is not used. Works in
this process on one local file; a hostile or broken file can hang or crash a decoder, so unattended work goes through
sandbox.py, which calls these same functions in a child process under a time limit.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from aot.errors import VideoError
from video_data.containers.scan import ContainerFacts, scan
from video_data.decode.budgets import Budgets
from video_data.decode.facts import Announce, ClipFacts, DecodedFrames
from video_data.decode.sampling import fps_times, nearest_indices, uniform_times
from video_data.decode.watch import Picks, planned, watch

_DEFAULT_BUDGETS = Budgets()
_Choose = Callable[[Sequence[float], float], list[int]]
"""Wanted positions in the order shown, from the times of all pictures and the end of the last one, in seconds."""


def probe(
    path: Path, *, budgets: Budgets = _DEFAULT_BUDGETS, stream: int | None = None, announce: Announce | None = None
) -> ClipFacts:
    """Facts of the clip at `path`.

    A file that cannot be used comes back with the verdict `refused` and its reason, not as an exception.

    Args:
        path: a local file.
        budgets: limits, checked before anything is decoded.
        stream: index in the container of the video stream to read; None takes the best.
        announce: called before decoding starts.
    """
    try:
        seen = watch(scan(path, budgets=budgets, stream=stream, announce=announce), budgets=budgets)
    except VideoError as error:
        return ClipFacts(verdict="refused", reason=error.reason, note=error.message)
    facts, look = seen.facts, seen.look
    steps_s = np.diff(seen.times_s)
    width, height = look.shown_size
    verdict, note, spans_s = seen.verdict
    return ClipFacts(
        duration_s=seen.duration_s,
        width=width,
        height=height,
        rotation_degrees=look.rotation_degrees,
        is_mirrored=look.is_mirrored,
        pixel_aspect=float(look.pixel_aspect),
        transfer=look.transfer,
        has_alpha=look.is_transparent or facts.stream.has_hidden_alpha,
        container_start_s=round(float(seen.zero_ticks * facts.stream.time_base), 6),
        first_frame_s=seen.times_s[0],
        num_frames_decoded=seen.num_sound,
        num_frames_declared=facts.num_declared,
        average_fps=round(len(seen.times_s) / (seen.end_s - seen.times_s[0]), 6),
        # Milliseconds of Matroska and FLV make steps differ by one: that is no variable rate.
        variable_rate=bool(len(steps_s) and np.ptp(steps_s) > max(0.002, 0.1 * float(np.median(steps_s)))),
        times_ok=len(set(seen.times_s)) == len(seen.times_s) and not seen.restarts,
        container=facts.container,
        codec=facts.stream.codec,
        stream_index=facts.stream.index,
        num_video_streams=facts.stream.num_video_streams,
        has_audio=facts.stream.has_audio,
        backend="pyav",
        verdict=verdict,
        spans_s=spans_s,
        note=note,
    )


def read_frames(
    path: Path,
    *,
    times_s: Sequence[float] | None = None,
    max_side_px: int | None = None,
    budgets: Budgets = _DEFAULT_BUDGETS,
    stream: int | None = None,
    announce: Announce | None = None,
) -> DecodedFrames:
    """Frames nearest to `times_s` (repeats removed), in the order asked for; or all.

    Frames that do not decode, or come out damaged, are left out, and the verdict is then `partial`.

    Raises:
        VideoError: the file is refused, or none of the frames decode.
    """

    def choose(shown_s: Sequence[float], end_s: float) -> list[int]:
        return list(range(len(shown_s))) if times_s is None else nearest_indices(shown_s, times_s)

    facts = scan(path, budgets=budgets, stream=stream, announce=announce)
    return _read(facts, choose, max_side_px=max_side_px, budgets=budgets)


def sample_frames(
    path: Path,
    *,
    fps: float,
    max_frames: int,
    max_side_px: int | None,
    budgets: Budgets = _DEFAULT_BUDGETS,
    stream: int | None = None,
    announce: Announce | None = None,
) -> DecodedFrames:
    """Frames of the whole clip at `fps`, or `max_frames` evenly spaced ones where that would be more.

    Raises:
        VideoError: the file is refused, or none of the frames decode.
    """

    def choose(shown_s: Sequence[float], end_s: float) -> list[int]:
        start_s = shown_s[0]
        if (end_s - start_s) * fps > max_frames:
            return nearest_indices(shown_s, uniform_times(start_s, end_s, max_frames))
        return nearest_indices(shown_s, fps_times(start_s, end_s, fps))

    facts = scan(path, budgets=budgets, stream=stream, announce=announce)
    return _read(facts, choose, max_side_px=max_side_px, budgets=budgets)


def _read(facts: ContainerFacts, choose: _Choose, *, max_side_px: int | None, budgets: Budgets) -> DecodedFrames:
    """The chosen frames that are undamaged."""
    plan = planned(facts)
    wanted = choose(*plan)
    picks = Picks(wanted, max_side_px=max_side_px)
    seen = watch(facts, budgets=budgets, picks=picks)
    if (seen.times_s, seen.end_s) != plan:  # the packets told another time line
        again = choose(seen.times_s, seen.end_s)
        if again != wanted:  # decoded once more, only where other pictures are wanted by the true times
            wanted, picks = again, Picks(again, max_side_px=max_side_px)
            seen = watch(facts, budgets=budgets, picks=picks)
    sound = [index for index in wanted if seen.is_sound[index]]
    if wanted and not sound:
        raise VideoError("corrupt", f"none of the {len(wanted)} frames asked for can be decoded undamaged")
    verdict, note, spans_s = seen.verdict
    width, height = seen.look.shown_size
    return DecodedFrames(
        frames_THWC=picks.pictures(sound),
        times_s=tuple(seen.times_s[index] for index in sound),
        indices=tuple(sound),
        duration_s=seen.duration_s,
        true_width=width,
        true_height=height,
        backend="pyav",
        verdict=verdict,
        spans_s=spans_s,
        note=note,
    )
