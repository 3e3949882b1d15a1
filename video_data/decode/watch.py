"""One pass over a whole clip: every picture decoded, the wanted ones kept, and what the pass found out about the clip.

The order in which pictures come out is believed, and their times as far as they fit that order (timeline.py). Damage is
what the decoder refuses or calls damaged, pictures that do not come out, and what scan.py found missing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import av
import av.logging
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from aot.errors import VideoError
from video_data.containers.scan import WITHOUT_TIMES, ContainerFacts, chosen_stream, exact, open_part, readable
from video_data.decode.budgets import Budgets
from video_data.decode.facts import MAX_OUTPUT_BYTES, Spans, Verdict
from video_data.decode.picture import Look, fitted_size, has_alpha, look_key, look_of, paint
from video_data.decode.timeline import MAX_GAP_S, Clock, joined_spans, shown_times

_HIDDEN_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_SILENT_CODECS = {"hevc"}
"""Codecs whose decoder patches errors up and says nothing, unless it is told to stop at them."""
_LOGGING_CODECS = {"mjpeg", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2", "ffv1", "gif", "qtrle", "theora"}
"""Codecs whose decoder tells of damage in its log only, and logs no error about a clip without damage."""


def planned(facts: ContainerFacts) -> tuple[tuple[float, ...], float]:
    """Times of the pictures and the end of the last one, in seconds, as the packets promise them."""
    zero = _zero(facts, first=facts.planned_pts[0])
    *times_s, end_s = _seconds(facts, [*facts.planned_pts, facts.end_pts], zero=zero)
    return tuple(times_s), max(times_s[-1] + 1e-6, end_s)


def _zero(facts: ContainerFacts, *, first: int) -> int:
    """What the container's clock shows at our time 0: where its sound or its pictures begin, whichever is earlier.

    Subtitles and annotations count from there too. Sound that begins before 0 is the run-in of its codec.
    """
    if facts.sound_start_pts is None:
        return first
    return min(first, facts.sound_start_pts if first < 0 else max(0, facts.sound_start_pts))


def _seconds(facts: ContainerFacts, ticks: Sequence[int], *, zero: int) -> tuple[float, ...]:
    numerator, per = facts.stream.time_base.numerator, facts.stream.time_base.denominator
    # Whole microseconds: the same float on every machine, and what a store writes is what it reads.
    return tuple(round((value - zero) * numerator / per, 6) for value in ticks)


class Picks:
    """The pictures that one pass keeps, by position in the order shown."""

    def __init__(self, wanted: Sequence[int], *, max_side_px: int | None) -> None:
        self._places = {index: place for place, index in enumerate(sorted(set(wanted)))}
        self._max_side_px = max_side_px
        self._frames_THWC = np.empty((0, 0, 0, 3), np.uint8)
        self._shown_size = 0, 0
        self._converter = VideoReformatter()

    def start(self, look: Look) -> None:
        """Make room, now that the size of the pictures is known; a VideoError where so many would not fit."""
        width, height = fitted_size(*look.shown_size, max_side_px=self._max_side_px)
        count = len(self._places)
        if count * width * height * 3 > MAX_OUTPUT_BYTES:
            need = f"{count} frames of {width}x{height} take {count * width * height * 3 / 1e9:.1f} GB"
            most = f"at most {MAX_OUTPUT_BYTES / 1e9:.0f} GB are read at once"
            raise VideoError("over_budget_bytes", f"{need}; {most}: ask for fewer frames or a smaller max_side_px")
        # All at once: what would not fit is refused before the rest of the clip is decoded for nothing.
        self._frames_THWC = np.empty((count, height, width, 3), np.uint8)
        self._shown_size = look.shown_size

    def offer(self, index: int, frame: Any, look: Look) -> None:  # noqa: ANN401 - PyAV has no public types
        """Keep the picture at `index` if it is wanted."""
        place = self._places.get(index)
        if place is not None:
            _, height, width, _ = self._frames_THWC.shape
            self._frames_THWC[place] = paint(
                frame, look, size=(width, height), shown_size=self._shown_size, converter=self._converter
            )

    def pictures(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """The kept pictures at `indices`, in that order."""
        places = [self._places[index] for index in indices]
        return self._frames_THWC if places == list(range(len(self._frames_THWC))) else self._frames_THWC[places]


@dataclass
class Seen:
    """What one pass over a clip found out."""

    facts: ContainerFacts
    look: Look
    ticks: list[int] = field(default_factory=list)
    """Ascending times of all pictures in units of the container's clock."""
    restarts: list[int] = field(default_factory=list)
    changes: list[tuple[int, Look]] = field(default_factory=list)
    """Positions from which on pictures are to be shown in another way than those before."""
    is_sound: list[bool] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    """How long each picture stays, where the container says so, else 0."""
    num_errors: int = 0
    """Packets that the decoder refused."""
    has_fields: bool = False
    """Whether pictures may be stored as two packets, one for each field."""
    alpha_is_hidden: bool = False
    is_spread: bool = False
    """Whether the times are made up from the rate."""

    @cached_property
    def zero_ticks(self) -> int:
        """What the container's clock shows at our time 0."""
        return _zero(self.facts, first=self.ticks[0])

    @cached_property
    def times_s(self) -> tuple[float, ...]:
        """Seconds of all pictures, ascending."""
        return _seconds(self.facts, self.ticks, zero=self.zero_ticks)

    @cached_property
    def end_s(self) -> float:
        """Where the last picture ends; never where it begins: windows need a length."""
        planned = self.facts.planned_pts
        last = self.lengths[-1] or self.facts.step_pts
        end = self.facts.end_pts if self.ticks[-1] == planned[-1] else self.ticks[-1] + last
        return max(self.times_s[-1] + 1e-6, _seconds(self.facts, [end], zero=self.zero_ticks)[0])

    @cached_property
    def duration_s(self) -> float:
        """From time 0 to the end of the last picture, or to where a clip that lost pictures promised to end."""
        # A header that promises more than there is would stretch every window of a whole clip.
        if not self._losses():
            return self.end_s
        promised = (self.facts.end_pts, self.facts.declared_end_pts)
        return max(self.end_s, *_seconds(self.facts, promised, zero=self.zero_ticks))

    @property
    def num_sound(self) -> int:
        """How many pictures are undamaged."""
        return sum(self.is_sound)

    @cached_property
    def verdict(self) -> tuple[Verdict, str, Spans]:
        """Complete or partial, why and what else there is to say, and the stretches without damage."""
        whole = ((self.times_s[0], self.end_s),)
        lost = self._losses()
        spans_s = self._spans_s()
        if self.facts.num_damaged_packets and not lost and len(spans_s) > 1:
            end_s, start_s = spans_s[0][1], spans_s[1][0]
            lost.append(f"no frames for {start_s - end_s:.2f} s after {end_s:.2f} s, where the stream is damaged")
        notes = [*lost, *self.look.notes(), *self._remarks()]
        return ("partial" if lost else "complete"), "; ".join(notes), spans_s if lost else whole

    def _losses(self) -> list[str]:
        facts = self.facts
        lost = []
        num_damaged = len(self.is_sound) - self.num_sound
        expected = facts.num_expected or 0
        missing = max(0, expected - len(self.ticks))
        if self.has_fields and expected <= 2 * len(self.ticks):  # two packets made one picture
            missing = 0
        in_all = facts.num_declared if self.num_errors and facts.num_declared else max(expected, len(self.ticks))
        if self.num_errors or missing:
            lost.append(f"{self.num_sound} of {in_all} frames decode undamaged")
        elif num_damaged:
            lost.append(f"{num_damaged} of {in_all} frames have damaged pixels")
        return [*lost, *filter(None, [facts.shortfall])]

    def _spans_s(self) -> Spans:
        per_tick = float(self.facts.stream.time_base)
        widest = round(1.5 * self.facts.step_pts)  # a picture that is held for longer hides lost ones
        lasting = zip(self.times_s, [*self.times_s[1:], self.end_s], self.lengths, strict=True)
        until_s = [min(later_s, time_s + max(widest, length) * per_tick) for time_s, later_s, length in lasting]
        spans = zip(self.times_s, until_s, self.is_sound, strict=True)
        return joined_spans(((start_s, end_s) for start_s, end_s, is_sound in spans if is_sound), gap=MAX_GAP_S)

    def _remarks(self) -> list[str]:
        facts = self.facts
        remarks = [
            f"the clock starts again at {self.times_s[position]:.2f} s (joined recordings), and is continued"
            for position in self.restarts[:3]
        ]
        if len(self.restarts) > 3:
            remarks.append(f"and {len(self.restarts) - 3} times more")
        remarks += [self._change(position, look) for position, look in self.changes[:3]]
        if len(self.changes) > 3:
            remarks.append(f"and pictures change {len(self.changes) - 3} times more")
        if facts.num_skipped_packets:
            remarks.append(f"{facts.num_skipped_packets} packets before the first key picture cannot be shown")
        if self.is_spread:
            remarks.append("most pictures have no time of their own; all are spread evenly")
        if self.alpha_is_hidden:
            remarks.append("it has transparency that is not decoded: transparent pixels show the colour they hide")
        return remarks

    def _change(self, position: int, look: Look) -> str:
        (width, height), (whole_width, whole_height) = look.shown_size, self.look.shown_size
        changes = [f"from {self.times_s[position]:.2f} s on pictures are stored in another way"]
        if (width, height) != (whole_width, whole_height):
            changes.append(f"{width}x{height}, shown between black bars in {whole_width}x{whole_height}")
        return ", ".join([*changes, *look.notes()])


def watch(facts: ContainerFacts, *, budgets: Budgets, picks: Picks | None = None) -> Seen:
    """Decode the whole clip once; `picks` keeps the pictures that it wants.

    Raises:
        VideoError: no picture comes out, or one is over a budget.
    """
    seen: Seen | None = None
    ticks: list[int | None] = []
    lengths: list[int] = []
    pictures: list[tuple[int, bool, bool]] = []
    log = _Log()
    clock = Clock(facts.clock_span)
    key: tuple[Any, ...] = ()
    for frame, packet, per_tick, aspect in _decoded(facts, budgets=budgets, log=log):
        # A look changes with the stream's parameters, at a key picture; side data is costly to read of every picture.
        is_new = seen is None or frame.key_frame or (frame.width, frame.height) != key[:2]
        if is_new and key != (key := look_key(frame, pixel_aspect=aspect)):
            budgets.check_frame_size(frame.width, frame.height)  # the header may have told less
            look = look_of(frame, pixel_aspect=aspect)
            budgets.check_frame_size(*look.shown_size)
            if seen is None:
                seen = Seen(facts, look, has_fields=bool(frame.interlaced_frame))
                seen.alpha_is_hidden = facts.stream.has_hidden_alpha and not has_alpha(frame)
                if picks:
                    picks.start(look)
            elif look != (seen.changes[-1][1] if seen.changes else seen.look):
                seen.changes.append((len(ticks), look))
        if picks:
            picks.offer(len(ticks), frame, look)
        tick, length = frame.pts, frame.duration or 0
        if per_tick != 1:
            tick, length = None if tick is None else round(tick * per_tick), round(length * per_tick)
        ticks.append(None if tick is None else clock.at(tick))
        lengths.append(length)
        pictures.append((packet, bool(frame.key_frame), bool(frame.is_corrupt)))
    if seen is None:
        raise VideoError("corrupt", f"no frame of {facts.path.name!r} can be decoded")
    seen.lengths = lengths
    _settle_times(seen, ticks, ends=log.ends)
    seen.is_sound = _sound(pictures, errors=log.errors, gaps=_gaps(seen))
    seen.num_errors = len(log.errors)
    if facts.container in WITHOUT_TIMES and facts.shortfall and not all(seen.is_sound):
        # Pictures are counted, not timed: where some are lost, all later ones come too early.
        first = seen.is_sound.index(False)
        seen.is_sound = [*seen.is_sound[:first], *[False] * (len(seen.is_sound) - first)]
    if not any(seen.is_sound):
        raise VideoError("corrupt", f"no frame of {facts.path.name!r} can be decoded undamaged")
    budgets.check(max_duration_s=seen.end_s)
    return seen


def _settle_times(seen: Seen, ticks: list[int | None], *, ends: Sequence[int]) -> None:
    """Give all pictures their times, from those with which they came out; `ends` are the places where parts end."""
    facts = seen.facts
    timed = [tick for tick in ticks if tick is not None]
    if not facts.times_are_real and len(timed) == len(ticks):
        # They are a coding order, and the decoder has its own idea of when it begins.
        in_order = [tick for a, b in pairwise([0, *ends]) for tick in sorted(timed[a:b])]
        ticks = [tick + facts.planned_pts[0] - in_order[0] for tick in in_order]
    seen.ticks, seen.restarts = shown_times(ticks, step=facts.step_pts)
    if seen.restarts and facts.num_untimed:  # the few times that there are belong to other pictures
        seen.ticks, seen.restarts = [seen.ticks[0] + n * facts.step_pts for n in range(len(ticks))], []
        seen.is_spread = True


@dataclass
class _Log:
    """Packets that the decoder refused."""

    errors: list[tuple[int, int]] = field(default_factory=list)
    """Number of the packet, and how many pictures had come out before."""
    num_shown: int = 0
    ends: list[int] = field(default_factory=list)
    """How many pictures had come out at the end of each part of the file."""


class _Decoded(NamedTuple):
    frame: Any
    packet: int
    """Number of its packet, in the order stored."""
    per_tick: Any
    """Factor from its ticks to those of the clip's facts."""
    aspect: Fraction
    """Width by height of its pixels."""


def _decoded(facts: ContainerFacts, *, budgets: Budgets, log: _Log) -> Iterator[_Decoded]:
    """The pictures of all parts in the order shown; errors go to the log."""
    number = 0
    for part in facts.parts:
        with open_part(facts.path, part, name=facts.container) as container:
            index = facts.stream.index if part is facts.parts[0] else None
            stream = chosen_stream(container, budgets=budgets, index=index)
            codec = _decoder(facts, stream)
            # The number of its packet comes back with each frame: errors and key frames are put in the order stored.
            if facts.stream.codec in _SILENT_CODECS:
                codec.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
            codec.flags = int(codec.flags) | int(av.codec.context.Flags.copy_opaque.value)
            scale = exact(stream.time_base) / facts.stream.time_base  # joined parts may count in other units
            per_tick = 1 if scale == 1 else scale
            aspect = _Aspect(stream, codec)
            is_awaited = facts.stream.codec in _SILENT_CODECS and part in facts.parts_cut_at_head
            for packet in readable(container.demux(stream)):
                if packet is None:
                    log.errors.append((number, log.num_shown))
                    break
                is_awaited = is_awaited and not packet.is_keyframe
                if packet.size:
                    packet.opaque = number
                    number += 1
                if is_awaited and packet.size:
                    continue  # made from pictures that are not there; a decoder that stops at errors stops here
                try:
                    frames, complains = _frames_of(codec, packet, listens=facts.stream.codec in _LOGGING_CODECS)
                except (av.FFmpegError, ValueError):
                    log.errors.append((number - 1, log.num_shown))
                    continue
                if complains or facts.is_damaged(part, packet):  # VP9 makes a picture of any bits; the structure tells
                    log.errors.append((number - 1, log.num_shown))
                if packet.is_keyframe:
                    aspect.decoded(number - 1)
                for frame in frames:
                    origin = frame.opaque  # can be asked for once
                    origin = origin if isinstance(origin, int) else log.num_shown
                    yield _Decoded(frame, origin, per_tick, aspect.of(origin))
                    log.num_shown += 1
        log.ends.append(log.num_shown)


def _frames_of(codec: Any, packet: Any, *, listens: bool) -> tuple[list[Any], bool]:  # noqa: ANN401
    """The frames that a packet brings out, and whether the decoder logs an error about it, if asked to listen."""
    data = packet if packet.size else None  # the empty packet at the end brings out what is held back
    if not listens:
        return codec.decode(data), False
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # or the same error twice is heard once
    try:
        with av.logging.Capture(local=True) as lines:
            return codec.decode(data), bool(lines)
    finally:
        av.logging.set_level(None)


class _Aspect:
    """Width by height of the pixels of a stream, which may change where the container leaves it to the codec."""

    def __init__(self, stream: Any, codec: Any) -> None:  # noqa: ANN401
        self._container, self._codec = exact(stream.sample_aspect_ratio) or Fraction(1), codec
        self._since: list[tuple[int, Fraction]] = []

    def decoded(self, packet: int) -> None:
        """Take down what the codec says after the packet with this number."""
        coded = exact(self._codec.sample_aspect_ratio) or Fraction(1)
        if not self._since or coded != self._since[-1][1]:
            self._since.append((packet, coded))

    def of(self, packet: int) -> Fraction:
        """That of the picture of a packet, which may come out some packets later."""
        # A container that contradicts its codec from the start is believed; else changes come from the codec.
        if len(self._since) < 2 or self._since[0][1] != self._container:
            return self._container
        return next((coded for since, coded in reversed(self._since) if since <= packet), self._container)


def _decoder(facts: ContainerFacts, stream: Any) -> Any:  # noqa: ANN401
    """The codec context that decodes a stream: libvpx where transparency is stored beside the pictures."""
    if facts.stream.has_hidden_alpha:
        try:
            return av.CodecContext.create(_HIDDEN_ALPHA_DECODERS[facts.stream.codec], "r")
        except ValueError:
            pass  # this build of FFmpeg lacks it; a note says that transparency is not shown
    return stream.codec_context


def _gaps(seen: Seen) -> list[int]:
    """Positions before which pictures are missing, in a file that is known to be damaged."""
    if not (seen.facts.shortfall or seen.facts.num_damaged_packets):
        return []
    widest = round(1.5 * seen.facts.step_pts)
    steps = zip(seen.ticks, seen.ticks[1:], seen.lengths, strict=False)
    return [position for position, (a, b, length) in enumerate(steps, start=1) if b - a > max(widest, length)]


def _sound(
    pictures: Sequence[tuple[int, bool, bool]], *, errors: Sequence[tuple[int, int]], gaps: Sequence[int]
) -> list[bool]:
    """Whether each picture is undamaged: damage spoils what is stored or shown after it, up to the next key picture.

    Args:
        pictures: for each one in the order shown the number of its packet, whether it is a key picture, and whether
            the decoder calls it damaged.
        errors: for each packet that the decoder refused its number, and how many pictures had come out before.
        gaps: positions before which pictures are missing.
    """
    sound = [True] * len(pictures)
    refused = [packet for packet, _ in errors]
    is_broken, at = False, 0
    was_broken, key_position = False, -1  # of what is stored before the last key picture; and where that is shown
    for position in sorted(range(len(pictures)), key=lambda position: pictures[position][0]):
        packet, is_key, is_corrupt = pictures[position]  # in the order stored, in which damage spreads
        before = at
        while at < len(refused) and refused[at] <= packet:
            at += 1
        lacks = at > before
        is_spoilt = is_corrupt or (lacks and refused[at - 1] == packet)
        if is_key:
            was_broken, key_position = is_broken or lacks, position
            is_broken = is_spoilt
        elif position < key_position:  # shown before the key picture, and made from it and from what came before it
            was_broken = was_broken or is_spoilt or lacks
            sound[position] = not (was_broken or is_broken)
            continue
        else:
            is_broken = is_broken or is_spoilt or lacks
        sound[position] = not is_broken
    for number, first in [*errors, *((-1, position) for position in gaps)]:
        for position in range(first, len(pictures)):
            packet, is_key, _ = pictures[position]
            if is_key and packet > number:  # stored after the damage: all that follows is made from it
                break
            sound[position] = False
    return sound
