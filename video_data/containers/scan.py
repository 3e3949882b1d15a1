"""Reads what a container says of its video stream, without decoding: header facts, packet times, and what is missing.

Every budget that can be checked here is checked here, before a picture is decoded. The packet times are a plan only:
what comes out of the decoder decides (decode/watch.py). The video stream is the one that FFmpeg ranks best, or the one
asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.logging

from aot.errors import VideoError
from video_data.containers.recognise import local_file, recognise
from video_data.containers.structure import Structure, check_structure
from video_data.decode.budgets import Budgets
from video_data.decode.facts import Announce
from video_data.decode.timeline import Clock, shown_times, usual_step

ONE_PACKET_ONE_PICTURE = {"h264", "hevc", "av1", "mpeg1video", "mpeg2video", "mjpeg", "prores", "ffv1", "qtrle", "png"}
"""Codecs whose every packet is one picture, so that a picture that does not come out is missing. VP8, VP9 and MPEG-4
have packets that show nothing."""
WITHOUT_TIMES = {"avi"}
"""Containers that store no times of presentation; those of their packets are made up in the order stored."""
LENGTHS_FROM_0 = {"matroska", "flv"}
"""Containers that count their length from 0 and not from their first picture."""
CLOCK_SPANS = {"mpegts": 2**33, "mpeg": 2**33}
"""Containers whose clock begins again at 0 after so many ticks of 1/90,000 s; they declare no length either."""


@dataclass(frozen=True)
class Part:
    """A stretch of a file that is a container of its own; all of the file, unless files were joined byte by byte."""

    start: int
    end: int


@dataclass(frozen=True)
class StreamFacts:
    """What the header of a container says about one video stream, and about those beside it."""

    index: int
    codec: str
    time_base: Fraction
    width: int
    """Pixels of a picture as it is coded."""
    height: int
    has_hidden_alpha: bool
    """Whether transparency lies beside the pictures, where the usual decoder does not look (VP8 and VP9 in WebM)."""
    num_video_streams: int
    has_audio: bool


@dataclass(frozen=True)
class ContainerFacts:
    """What the header and the packets of a file say about one video stream; times are in its `time_base`."""

    path: Path
    container: str
    stream: StreamFacts
    num_declared: int | None
    num_expected: int | None
    """Pictures that have to come out of the packets; None where the codec does not tell."""
    planned_pts: tuple[int, ...]
    """Ascending times of the pictures, as the packets have them."""
    end_pts: int
    """Where the last picture ends."""
    step_pts: int
    """The usual distance of two pictures."""
    sound_start_pts: int | None
    """Where the sound begins; None where there is none."""
    declared_end_pts: int
    """Where the header says that the clip ends; 0 where it does not."""
    times_are_real: bool
    """Whether the container stores times of presentation; AVI does not."""
    num_untimed: int
    """Packets without any time."""
    parts: tuple[Part, ...]
    shortfall: str
    """Why less is there than the file declares; empty if nothing is known to be missing."""
    damaged_bytes: tuple[tuple[int, int], ...]
    """Ranges of the whole file, all parts, in which something is lost or overwritten; see `Structure`."""
    num_packets: int
    num_damaged_packets: int
    """Packets that the demuxer calls damaged; a transport stream has them where something was lost or joined."""
    num_skipped_packets: int
    """Packets before the first picture that can be decoded."""
    parts_cut_at_head: frozenset[Part] = frozenset()
    """Parts that begin with packets which cannot be decoded."""

    def is_damaged(self, part: Part, packet: Any) -> bool:  # noqa: ANN401 - PyAV has no public types
        """Whether a packet of a part shares a byte with a stretch of the file whose structure is damaged."""
        if not self.damaged_bytes or not packet.size or packet.pos is None or packet.pos < 0:
            return False
        start = part.start + packet.pos
        # A packet of a program or transport stream lies there in pieces, with headers and sound between them.
        end = start + (packet.size if self.clock_span is None else packet.size * 5 // 4 + 376)
        return any(low < end and start < high for low, high in self.damaged_bytes)

    @property
    def clock_span(self) -> int | None:
        """Ticks after which the clock begins again at 0; None where it never does."""
        return CLOCK_SPANS.get(self.container)

    @property
    def gigapixels(self) -> float:
        """Pixels of all pictures together, in 10**9."""
        return self.num_packets * self.stream.width * self.stream.height / 1e9


def scan(path: Path, *, budgets: Budgets, stream: int | None, announce: Announce | None) -> ContainerFacts:
    """Facts of the container at `path`, after every budget was checked.

    Args:
        path: a local file.
        budgets: limits.
        stream: index in the container of the video stream to read; None takes the best.
        announce: called when all is well and decoding may start.

    Raises:
        VideoError: not a local video file, over a budget, no such video stream, or no packet of it can be read.
    """
    path = local_file(path, budgets=budgets)
    name = recognise(path)
    av.logging.set_level(None)  # what FFmpeg prints may hold addresses
    structure = check_structure(path, container=name)
    budgets.check(max_tracks=structure.num_tracks)
    size = path.stat().st_size
    starts = [0, *structure.joined_at]
    parts = [Part(start, end) for start, end in zip(starts, [*starts[1:], size], strict=True)]
    try:
        walks = [_walk(path, part, name=name, budgets=budgets, stream=stream) for part in parts]
    except (av.FFmpegError, ValueError, EOFError, IndexError, UnicodeError):
        raise VideoError("corrupt", f"{path.name!r} cannot be read as {name}: header or data are damaged") from None
    facts = _facts(path, name, parts, walks, structure=structure)
    length_s = float((facts.end_pts - facts.planned_pts[0]) * facts.stream.time_base)
    budgets.check(max_frames=facts.num_packets, max_duration_s=length_s, max_gigapixels=facts.gigapixels)
    if announce:
        announce(facts.gigapixels)
    return facts


def open_part(path: Path, part: Part, *, name: str, **options: str) -> Any:  # noqa: ANN401 - PyAV has no public types
    """An open PyAV container of one part of a file, by the demuxer `name`; nothing but this file is ever opened."""
    # FFmpeg takes a clock that jumps back for one that overflowed, and adds 26 hours; see timeline.py instead.
    settings: dict[str, Any] = {"format": name, "options": {"correct_ts_overflow": "0", **options}}
    if int(av.__version__.split(".")[0]) < 19:
        settings["metadata_errors"] = "replace"  # or it stops at tags that are no UTF-8; PyAV 19 reads no tag unasked
    is_whole = part == Part(0, path.stat().st_size)
    return av.open(str(path) if is_whole else f"subfile,,start,{part.start},end,{part.end},,:{path}", **settings)


def chosen_stream(container: Any, *, budgets: Budgets, index: int | None) -> Any:  # noqa: ANN401 - PyAV has no public types
    """The video stream `index` of an open container, or its best; a VideoError for none, or one over a budget."""
    videos = [one for one in container.streams.video if not _is_picture(one)]
    budgets.check(max_tracks=len(container.streams), max_streams=len(videos))
    best = container.streams.best("video") if videos else None
    stream = best if best in videos else next(iter(videos), None)  # FFmpeg may rank a cover picture best
    if stream is None:
        raise VideoError("no_video_stream", "the file has no video stream (only audio, data or cover pictures)")
    if index is not None:
        stream = next((one for one in videos if one.index == index), None)
        if stream is None:
            there = ", ".join(str(one.index) for one in videos)
            raise VideoError("no_video_stream", f"stream {index} is no video stream of this file; there are: {there}")
    budgets.check_frame_size(stream.width or 0, stream.height or 0)
    budgets.check(max_frames=stream.frames or 0)
    if stream.duration and stream.time_base:
        budgets.check(max_duration_s=float(stream.duration * exact(stream.time_base)))
    elif container.duration:
        budgets.check(max_duration_s=_declared_s(container)[1])
    # With threads a decoder tells of errors some packets late, and not in the log of the thread that listens.
    stream.codec_context.thread_count = 1
    return stream


def exact(rational: Any) -> Fraction:  # noqa: ANN401 - a Fraction in PyAV 18, a type of its own in PyAV 19
    """`rational` as a Fraction; 0 for none."""
    return Fraction(rational.numerator, rational.denominator) if rational else Fraction(0)


def readable(packets: Iterator[Any]) -> Iterator[Any]:
    """The packets of a demuxer, and at last None if it stopped at damage: what came before stays usable."""
    try:
        yield from packets
    except (av.FFmpegError, ValueError):
        yield None


@dataclass
class _Walk:
    """What the header of a part says and one pass over its packets found."""

    stream: StreamFacts
    is_chosen: bool
    """Whether this stream was asked for by its index."""
    declared: tuple[float, float]
    """Where the header says that the part ends, on its own clock, and how long it says it is, in seconds; 0 if not."""
    rate: Fraction
    num_declared: int = 0
    pts: list[int] = field(default_factory=list)
    """Of the packets that are shown, from the first that can be decoded alone, in the order stored."""
    end_pts: int = 0
    num_skipped_at_head: int = 0
    """Packets before the first key picture."""
    num_packets: int = 0
    num_in_file: int = 0
    """Packets with those that an edit list leaves out, where that had to be asked."""
    num_damaged: int = 0
    num_untimed: int = 0
    num_skipped: int = 0
    """Packets before the first picture that can be decoded."""
    goes_on_in: int | None = None
    """A video stream that begins in the file where this one ends."""
    is_broken_off: bool = False
    """Whether the demuxer stopped at damage."""
    sound_start_s: Fraction | None = None
    end_s: Fraction = Fraction(0)
    """End of the last packet of any stream."""


def _walk(path: Path, part: Part, *, name: str, budgets: Budgets, stream: int | None) -> _Walk:
    with open_part(path, part, name=name) as container:
        video = chosen_stream(container, budgets=budgets, index=stream)
        codec = video.codec_context.codec.canonical_name
        alpha_mode = video.metadata.get("alpha_mode", video.metadata.get("ALPHA_MODE", ""))
        facts = StreamFacts(
            index=video.index,
            codec=codec,
            time_base=exact(video.time_base),
            width=video.width or 0,
            height=video.height or 0,
            has_hidden_alpha=str(alpha_mode) == "1" and codec in ("vp8", "vp9"),
            num_video_streams=len(container.streams.video),
            has_audio=len(container.streams.audio) > 0,
        )
        told_rate = exact(video.average_rate)
        walk = _Walk(
            facts,
            is_chosen=stream is not None,
            declared=(0.0, 0.0) if name in CLOCK_SPANS else _declared_s(container),
            rate=told_rate or exact(video.guessed_rate) or Fraction(25),
            num_declared=video.frames or 0,
        )
        _walk_packets(container, walk, budgets=budgets, name=name)
        # Sound may begin just before the clock went round, and the pictures after it: both are brought together.
        starts = [
            Clock(CLOCK_SPANS.get(name), last=min(walk.pts, default=None)).at(one.start_time) * exact(one.time_base)
            for one in container.streams.audio
            if one.start_time is not None
        ]
        walk.sound_start_s = min(starts, default=None)
        # An edit list leaves packets out that the header counts: that is no loss.
        if name == "mp4" and walk.num_packets < walk.num_declared:
            with open_part(path, part, name=name, ignore_editlist="1") as whole:
                walk.num_in_file = sum(packet.size > 0 for packet in whole.demux(whole.streams[video.index]))
    if walk.num_untimed and (not walk.pts or (walk.num_packets - walk.num_untimed < 2 and not told_rate)):
        raise VideoError(
            "no_times",
            f"{path.name!r} stores no times of its pictures, and none can be reckoned; write it anew with its true "
            "rate, for example by ffmpeg -r RATE -i CLIP new.mp4",
        )
    if not walk.pts:
        raise VideoError("corrupt", f"no frame of {path.name!r} can be decoded")
    return walk


def _walk_packets(container: Any, walk: _Walk, *, budgets: Budgets, name: str) -> None:  # noqa: ANN401
    clocks = [Clock(CLOCK_SPANS.get(name)) for _ in container.streams]
    ends: dict[int, int] = {}
    places: dict[int, tuple[int, int]] = {}
    timed: list[tuple[int, int]] = []  # the first and the last packet with a time of its own
    key_pts: int | None = None
    is_leading = True
    for packet in readable(container.demux()):
        if packet is None:
            walk.is_broken_off = True
            break
        is_held = packet.size == 0  # AVI: the last picture stays for one more step; elsewhere: the end
        if is_held and packet.dts is None:
            continue
        pts = packet.dts if packet.pts is None or name in WITHOUT_TIMES else packet.pts
        if pts is not None and packet.stream_index < len(clocks):
            pts = clocks[packet.stream_index].at(pts)
        if packet.pts is not None and pts is not None:
            end = pts + (packet.duration or 0)
            ends[packet.stream_index] = max(end, ends.get(packet.stream_index, end))
        if packet.pos is not None:
            low, high = places.get(packet.stream_index, (packet.pos, packet.pos))
            places[packet.stream_index] = min(low, packet.pos), max(high, packet.pos)
        if packet.stream_index != walk.stream.index:
            continue
        walk.num_packets += 1
        budgets.check(max_frames=walk.num_packets)  # while counting: a hostile file may have packets without end
        if is_held:
            continue
        walk.num_damaged += packet.is_corrupt  # lost or joined inside a transport stream
        walk.num_untimed += packet.pts is None
        if packet.pts is not None and pts is not None:
            timed = [*timed[:1], (walk.num_packets, pts)]
        if pts is None:
            continue
        if key_pts is None and packet.is_keyframe:
            # A recording may start in the middle of a group of pictures: nothing can be made of what came before.
            walk.num_skipped = walk.num_skipped_at_head = len(walk.pts)
            key_pts = pts
            walk.pts.clear()
        elif is_leading and key_pts is not None:
            is_leading = pts < key_pts
            if is_leading:  # shown before the first key picture, and made from one that is not there
                walk.num_skipped += not packet.is_discard
                continue
        if not packet.is_discard:  # left out by an edit list: decoded, not shown
            walk.pts.append(pts)
            walk.end_pts = max(walk.end_pts, pts + (packet.duration or 0))
    (first, first_pts), (last, last_pts) = (timed[0], timed[-1]) if timed else ((0, 0), (0, 0))
    if walk.num_untimed and last_pts > first_pts:
        seen_rate = Fraction(last - first) / ((last_pts - first_pts) * walk.stream.time_base)
        # Some headers hold a time base for a rate; where most packets have no time, the few that have one decide.
        if not Fraction(3, 4) < seen_rate / walk.rate < Fraction(4, 3):
            walk.rate = seen_rate
    low, high = places.get(walk.stream.index, (0, 0))
    videos = (one.index for one in container.streams.video if not _is_picture(one) and one.index in places)
    walk.goes_on_in = next((one for one in videos if high < places[one][0] or places[one][1] < low), None)
    walk.end_s = max(
        (end * exact(container.streams[index].time_base) for index, end in ends.items()), default=walk.end_s
    )


def _facts(path: Path, name: str, parts: list[Part], walks: list[_Walk], *, structure: Structure) -> ContainerFacts:
    """The facts of the first part, with the plans of all parts one after the other."""
    first, last = walks[0], walks[-1]
    time_base = first.stream.time_base
    ticks: list[int] = []
    for walk in walks:
        scale = walk.stream.time_base / time_base
        ticks += [round(pts * scale) for pts in sorted(walk.pts)]
    by_rate = max(1, int(1 / first.rate / time_base))
    num_untimed = sum(walk.num_untimed for walk in walks)
    # Made up times would give a made up step.
    step = by_rate if num_untimed else usual_step(ticks, otherwise=by_rate)
    planned, _ = shown_times(ticks, step=step)
    last_step = round(max(0, last.end_pts - max(last.pts)) * last.stream.time_base / time_base) or step
    return ContainerFacts(
        path=path,
        container=name,
        stream=first.stream,
        num_declared=sum(walk.num_declared for walk in walks) or None,
        num_expected=len(ticks) if first.stream.codec in ONE_PACKET_ONE_PICTURE else None,
        planned_pts=tuple(planned),
        end_pts=planned[-1] + last_step,
        sound_start_pts=None if first.sound_start_s is None else round(first.sound_start_s / time_base),
        declared_end_pts=round(first.declared[0] / time_base) if len(parts) == 1 else 0,  # of its part only
        times_are_real=name not in WITHOUT_TIMES and not num_untimed,
        num_untimed=num_untimed,
        step_pts=step,
        parts=tuple(parts),
        shortfall=structure.damage or next(filter(None, (_shortfall(walk, name=name) for walk in walks)), ""),
        damaged_bytes=structure.damaged_bytes,
        num_packets=sum(walk.num_packets for walk in walks),
        num_damaged_packets=sum(walk.num_damaged for walk in walks),
        num_skipped_packets=first.num_skipped,
        parts_cut_at_head=frozenset(part for part, walk in zip(parts, walks, strict=True) if walk.num_skipped_at_head),
    )


def _shortfall(walk: _Walk, *, name: str) -> str:
    """What the header declares and the file does not hold, in words; empty if nothing is known to be missing."""
    if walk.goes_on_in is not None and name in CLOCK_SPANS and not walk.is_chosen:
        return f"the recording goes on in another video stream, {walk.goes_on_in}, which is read where it is asked for"
    if walk.is_broken_off:
        return f"the file cannot be read beyond {float(walk.end_s):.2f} s of its clock"
    num_packets = max(walk.num_packets, walk.num_in_file)
    if name == "avi" and walk.pts:  # it declares steps of its clock, of which a picture may take many
        num_packets = max(num_packets, max(walk.pts) + usual_step(walk.pts, otherwise=1))
    if walk.num_declared and num_packets < walk.num_declared:
        return f"the header declares {walk.num_declared} frames, the file holds {num_packets}"
    end_s, length_s = walk.declared
    # The last packet may lack a duration, and headers round: less than that is no loss.
    if length_s and not walk.num_declared and float(walk.end_s) < end_s - max(0.1, 1.5 / float(walk.rate)):
        return f"the header declares {length_s:.2f} s, the file holds {length_s - end_s + float(walk.end_s):.2f} s"
    return ""


def _declared_s(container: Any) -> tuple[float, float]:  # noqa: ANN401
    """Where the header says that the clip ends, on the container's clock, and how long it says that it lasts."""
    start_s, length_s = (container.start_time or 0) / 1e6, (container.duration or 0) / 1e6
    if LENGTHS_FROM_0.intersection(container.format.name.split(",")):
        return length_s, length_s - max(0.0, start_s)
    return start_s + length_s, length_s


def _is_picture(stream: Any) -> bool:  # noqa: ANN401
    return "attached_pic" in str(getattr(stream, "disposition", ""))
