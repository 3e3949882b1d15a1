"""Reads a container's header and packet times without decoding more than one frame, and checks the budgets first.

The best video stream is the one FFmpeg ranks best, as decord does. Times come from the packets; where a container
stores none that can be trusted, they come from one decoding pass.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

from video_data.budgets import Budgets
from video_data.containers import local_file, recognise
from video_data.errors import VideoError


@dataclass(frozen=True)
class ContainerFacts:
    """What the container says about its best video stream."""

    path: Path
    container: str
    codec: str
    stream_index: int
    num_video_streams: int
    has_audio: bool
    coded_width: int
    coded_height: int
    rotation_degrees: int
    """Clockwise turn that shows the frame upright."""
    num_declared: int | None
    pts: tuple[int, ...]
    """Ascending presentation times of the frames in units of `time_base`."""
    time_base: Fraction
    end_pts: int
    times_from_packets: bool
    shortfall: str
    """Why less is there than the header declares; empty if nothing is known to be missing."""

    @cached_property
    def times_s(self) -> tuple[float, ...]:
        """Seconds of each frame after the first, to the microsecond."""
        ticks, per = self.time_base.numerator, self.time_base.denominator
        return tuple(round((value - self.pts[0]) * ticks / per, 6) for value in self.pts)

    @property
    def duration_s(self) -> float:
        """Seconds from the first frame to the end of the last, to the microsecond; never 0: windows need a length."""
        return max(1e-6, round(float((self.end_pts - self.pts[0]) * self.time_base), 6))

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height as displayed."""
        size = (self.coded_width, self.coded_height)
        return size if self.rotation_degrees % 180 == 0 else (size[1], size[0])


def load_av() -> ModuleType:
    """The PyAV module, silenced.

    Raises:
        VideoError: it is not installed.
    """
    try:
        import av
        import av.logging
    except ImportError:
        raise VideoError("no_decoder", "PyAV is not installed; run: pip install 'aot-distill[video]'") from None
    av.logging.set_level(None)
    return av


def scan(path: Path, *, budgets: Budgets) -> ContainerFacts:
    """Facts of the container at `path`, after every budget was checked.

    Raises:
        VideoError: not a local video file, over a budget, no video stream, or no frame of it can be decoded.
    """
    path = local_file(path, budgets=budgets)
    name = recognise(path)
    av = load_av()
    try:
        with av.open(str(path), format=name, metadata_errors="replace") as container:
            return _scan_open(container, av=av, path=path, name=name, budgets=budgets)
    except (av.FFmpegError, ValueError, EOFError, IndexError):
        raise VideoError("corrupt", f"{path.name!r} cannot be read as {name}: header or data are damaged") from None


def best_stream(container: Any, *, budgets: Budgets) -> Any:  # noqa: ANN401 - PyAV objects have no public types
    """The best video stream of an open container, within the budgets that its header can break.

    Raises:
        VideoError: there is none, or the header is over a budget.
    """
    budgets.check_streams(len(container.streams))
    stream = container.streams.best("video")
    if stream is None or "attached_pic" in str(getattr(stream, "disposition", "")):
        raise VideoError("no_video_stream", "the file has no video stream (only audio, data or cover pictures)")
    budgets.check_frame_size(stream.width or 0, stream.height or 0)
    budgets.check_frames(stream.frames or 0)
    if stream.duration and stream.time_base:
        budgets.check_duration(float(stream.duration * stream.time_base))
    elif container.duration:
        budgets.check_duration(container.duration / 1e6)
    stream.codec_context.thread_count = 1
    return stream


@dataclass
class _Walk:
    """What one pass over the packets of a container found."""

    pts: list[int]
    end_pts: int = 0
    num_packets: int = 0
    num_untimed: int = 0
    end_s: float = 0.0
    """End of the last packet of any stream."""
    first: Any = None
    """The first frame that decodes."""


def _scan_open(container: Any, *, av: ModuleType, path: Path, name: str, budgets: Budgets) -> ContainerFacts:  # noqa: ANN401
    stream = best_stream(container, budgets=budgets)
    walk = _walk_packets(container, stream, av=av, budgets=budgets)
    if walk.first is None:
        raise VideoError("corrupt", f"no frame of {path.name!r} can be decoded")
    budgets.check_frame_size(walk.first.width, walk.first.height)
    trusted = walk.num_untimed == 0 and 0 < len(walk.pts) == len(set(walk.pts))
    pts = sorted(walk.pts if trusted else _decoded_pts(path, name=name, av=av, budgets=budgets))
    step = (
        (pts[-1] - pts[0]) // (len(pts) - 1)
        if len(pts) > 1
        else int(1 / (stream.average_rate or 25) / stream.time_base)
    )
    end_pts = walk.end_pts if trusted and walk.end_pts > pts[-1] else pts[-1] + max(1, step)
    budgets.check_duration(float((end_pts - pts[0]) * stream.time_base))
    return ContainerFacts(
        path=path,
        container=name,
        codec=stream.codec_context.name,
        stream_index=stream.index,
        num_video_streams=len(container.streams.video),
        has_audio=len(container.streams.audio) > 0,
        coded_width=walk.first.width,
        coded_height=walk.first.height,
        rotation_degrees=round(-walk.first.rotation / 90) % 4 * 90,
        num_declared=stream.frames or None,
        pts=tuple(pts),
        time_base=stream.time_base,
        end_pts=end_pts,
        times_from_packets=trusted,
        shortfall=_shortfall(container, stream, walk) or _hole(pts, time_base=stream.time_base),
    )


def _walk_packets(container: Any, stream: Any, *, av: ModuleType, budgets: Budgets) -> _Walk:  # noqa: ANN401
    walk = _Walk(pts=[])
    for packet in container.demux():
        if packet.size == 0:
            continue
        if packet.pts is not None and packet.time_base:
            walk.end_s = max(walk.end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream_index != stream.index:
            continue
        walk.num_packets += 1
        budgets.check_frames(walk.num_packets)
        if walk.first is None:
            walk.first = _first_of(packet, av=av)
        if packet.pts is None:
            walk.num_untimed += 1
        elif not packet.is_discard:
            walk.pts.append(packet.pts)
            walk.end_pts = max(walk.end_pts, packet.pts + (packet.duration or 0))
    if walk.first is None:
        walk.first = _first_of(None, av=av, codec=stream.codec_context)
    return walk


def _first_of(packet: Any, *, av: ModuleType, codec: Any = None) -> Any:  # noqa: ANN401
    """The first frame that `packet` (or, at the end, flushing the codec) yields; None if it yields none."""
    try:
        frames = packet.decode() if packet is not None else codec.decode(None)
    except (av.FFmpegError, ValueError):
        return None
    return frames[0] if frames else None


def _decoded_pts(path: Path, *, name: str, av: ModuleType, budgets: Budgets) -> list[int]:
    """Times of the frames as the decoder gives them, for containers whose packets carry none; repeats are dropped."""
    pts: dict[int, None] = {}
    with av.open(str(path), format=name, metadata_errors="replace") as container:
        stream = best_stream(container, budgets=budgets)
        try:
            for frame in container.decode(stream):
                if frame.pts is not None:
                    pts[frame.pts] = None
                budgets.check_frames(len(pts))
        except (av.FFmpegError, ValueError):
            pass  # what came before the damage stays usable; the reader reports the rest
    if not pts:
        raise VideoError("corrupt", f"no frame of {path.name!r} has a time")
    return list(pts)


def _shortfall(container: Any, stream: Any, walk: _Walk) -> str:  # noqa: ANN401
    """What the header declares and the file does not hold, in words; empty if nothing is known to be missing."""
    if stream.frames and walk.num_packets < stream.frames:
        return f"the header declares {stream.frames} frames, the file holds {walk.num_packets}"
    if not stream.frames and container.duration:
        declared_s = (container.duration + min(0, container.start_time or 0)) / 1e6
        end_s = walk.end_s - max(0.0, (container.start_time or 0) / 1e6)
        if end_s < declared_s - max(0.25, 0.02 * declared_s):
            return f"the header declares {declared_s:.2f} s, the file holds {end_s:.2f} s"
    return ""


def _hole(pts: list[int], *, time_base: Fraction) -> str:
    """Where frames are missing from an otherwise steady stream, in words; empty if nowhere.

    Matroska and MPEG-TS lose whole blocks without declaring how many frames there were.
    """
    steps = [after - before for before, after in pairwise(pts)]
    if len(steps) < 10:
        return ""
    usual = sorted(steps)[len(steps) // 2]
    steady = sum(abs(step - usual) <= max(1, usual // 10) for step in steps) >= 0.9 * len(steps)
    widest = max(steps)
    if not steady or widest <= 8 * usual or float(widest * time_base) < 0.25:
        return ""
    start_s = float((pts[steps.index(widest)] - pts[0]) * time_base)
    return f"no frames for {float(widest * time_base):.2f} s after {start_s:.2f} s of an otherwise steady stream"
