"""Walks of containers made of pages or packets that name their stream and are numbered: Ogg (RFC 3533) and ASF.

What was lost shows in the numbers, and in Ogg in the checksum of each page as well. No demuxer reports either.
"""

import mmap
import zlib
from dataclasses import dataclass, field

from video_data.containers.findings import Structure

_BIT_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_OGG_NO_PICTURES = (b"\x01vorbis", b"OpusHead", b"Speex   ", b"\x7fFLAC", b"fishead\0", b"\x80kate", b"CMML")
"""How streams begin that hold no pictures."""
_BEGINS, _ENDS = 2, 4


@dataclass
class _Stream:
    """A stream of an Ogg file, as far as it was walked."""

    next_number: int
    has_pictures: bool
    start: int = 0
    """Where its last page lies."""
    end: int = 0
    is_open: bool = False
    """Whether the last packet of that page goes on in the next."""
    has_ended: bool = False


def ogg_checksum(page: bytes) -> int:
    """The checksum of an Ogg page whose own field is zero: zlib's polynomial, with the bits the other way round.

    >>> hex(ogg_checksum(b"123456789"))
    '0x89a1897f'
    """
    mirrored = zlib.crc32(page.translate(_BIT_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_BIT_REVERSED), "big")


def walk_ogg(data: mmap.mmap, findings: Structure) -> None:
    """Check that every page is whole, in its turn, and that every stream of pictures comes to its end."""
    size, at = len(data), 0
    link = _Link(findings)
    while at < size:
        if findings.is_full:
            return findings.broken("too much of it is damaged", at=at, start=at, end=size)
        end = _page_end(data, at)
        if end is not None and end <= size and _is_sound(data, at, end):
            link.page(data, at, end)
            at = end
            continue
        start, at = at, data.find(b"OggS", at + 1)
        if at < 0 and link.has_ended():
            break  # what follows the last page of all is no part of the clip
        if at < 0 and end is not None and end > size:
            findings.cut("last page", end=end, size=size, start=start)
        elif at >= 0 or any(data[start:]):
            what = "no Ogg page begins there" if end is None else "the checksum of its Ogg page does not match"
            findings.broken(what, at=start, start=start, end=size if at < 0 else at)
        if at < 0:
            break
    return link.finish(size)


def _page_end(data: mmap.mmap, at: int) -> int | None:
    """Where the page ends that begins at a byte; None where none begins."""
    if data[at : at + 4] != b"OggS":
        return None
    num_segments = data[at + 26] if at + 27 <= len(data) else 255  # cut in its head: as long as can be
    return at + 27 + num_segments + sum(data[at + 27 : at + 27 + num_segments])


def _is_sound(data: mmap.mmap, at: int, end: int) -> bool:
    page = data[at:end]
    return ogg_checksum(page[:22] + bytes(4) + page[26:]) == int.from_bytes(page[22:26], "little")


class _Link:
    """The streams between two beginnings: an Ogg file may be a chain of several files."""

    def __init__(self, findings: Structure) -> None:
        self._findings = findings
        self._streams: dict[bytes, _Stream] = {}
        self._start = 0
        self._is_beginning = True

    def page(self, data: mmap.mmap, at: int, end: int) -> None:
        """Take the next sound page."""
        flags, serial = data[at + 5], data[at + 14 : at + 18]
        number = int.from_bytes(data[at + 18 : at + 22], "little")
        if flags & _BEGINS and not self._is_beginning:
            self.finish(at)
            self._streams, self._start = {}, at
        self._is_beginning = bool(flags & _BEGINS)
        if flags & _BEGINS:
            body = at + 27 + data[at + 26]
            has_pictures = not data[body : body + 8].startswith(_OGG_NO_PICTURES)
            self._streams[serial] = _Stream(number, has_pictures)
            self._findings.num_tracks += not self._start
            if has_pictures and self._start and self._start not in self._findings.joined_at:  # sound alone is none
                self._findings.joined_at.append(self._start)
        stream = self._streams.setdefault(serial, _Stream(number, has_pictures=False))
        if number != stream.next_number:
            start = stream.start if stream.is_open else stream.end
            if not self._is_noted(since=stream.end):
                self._findings.note(f"the Ogg page numbered {stream.next_number} of a stream is not there")
            # Pictures are timed by counting, so that those of this page come out with the times of lost ones.
            self._findings.ranges.append((start, end))
        stream.next_number = (number + 1) & 0xFFFFFFFF  # 32 bits, which go round
        stream.start, stream.end = at, end
        # RFC 3533, 6: a last segment of 255 bytes means that its packet goes on in the next page.
        stream.is_open = data[at + 26] > 0 and data[at + 26 + data[at + 26]] == 255
        stream.has_ended = bool(flags & _ENDS)

    def _is_noted(self, *, since: int) -> bool:
        return any(end > since for _, end in self._findings.ranges[-1:])

    def has_ended(self) -> bool:
        """Whether every stream of pictures had its last page."""
        return all(stream.has_ended for stream in self._streams.values() if stream.has_pictures)

    def finish(self, end: int) -> None:
        """Tell of a stream that stops before its last page, at the end of the chain's link."""
        for stream in self._streams.values():
            if stream.has_pictures and not stream.has_ended and not self._is_noted(since=stream.end):
                words = f"the file is cut off at byte {end:,}: its stream of pictures has no last page"
                if stream.is_open:
                    self._findings.add(words, start=stream.start, end=stream.end)
                else:
                    self._findings.note(words)


# ASF: an object of header facts, then packets of one size, each of which holds pieces of numbered media objects

_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_STREAM = bytes.fromhex("9107dcb7b7a9cf118ee600c00c205365")
_ASF_VIDEO = bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b")
MAX_SHIFT = 65536
"""How far behind a broken packet the next one is looked for."""
_WIDTHS = (0, 1, 2, 4)
"""Bytes of a field by the two bits that say so."""


def _little(data: mmap.mmap | bytes, at: int, width: int) -> int:
    return int.from_bytes(data[at : at + width], "little")


def walk_asf(data: mmap.mmap, findings: Structure) -> None:
    """Check every packet of every data object, and that no media object of a video stream is missing."""
    size, at = len(data), 0
    while at + 24 <= size:
        name, end = data[at : at + 16], at + _little(data, at + 16, 8)
        if at == 0 and end > size:
            return findings.cut("header", end=end, size=size)
        if name != _ASF_HEADER or end > size or end < at + 30:
            return None  # an index, or what is no part of the clip
        if at:
            findings.joined_at.append(at)
        header = _asf_header(data, at, end)
        findings.num_tracks = max(findings.num_tracks, header.num_streams)
        if data[end : end + 16] != _ASF_DATA:
            return None
        at = _asf_data(data, findings, header, at=end)
        while at + 24 <= size and data[at : at + 16] != _ASF_HEADER and _little(data, at + 16, 8) >= 24:
            at += _little(data, at + 16, 8)
    return None


@dataclass
class _AsfHeader:
    """What the header object of an ASF file says."""

    packet_size: int = 0
    is_live: bool = False
    """Whether it was sent live: then its lengths are not filled in."""
    videos: set[int] = field(default_factory=set)
    """Numbers of the video streams."""
    num_streams: int = 0


def _asf_header(data: mmap.mmap, at: int, end: int) -> _AsfHeader:
    header = _AsfHeader()
    at += 30
    while at + 24 <= end:
        name, length = data[at : at + 16], _little(data, at + 16, 8)
        if name == _ASF_FILE:
            header.is_live, header.packet_size = bool(data[at + 88] & 1), _little(data, at + 92, 4)
        elif name == _ASF_STREAM:
            header.num_streams += 1
            if data[at + 24 : at + 40] == _ASF_VIDEO:  # the type; 7 bits of the flags behind it are the number
                header.videos.add(data[at + 72] & 0x7F)
        at += max(24, length)  # a length below that of its own head would be walked for ever
    return header


def _asf_data(data: mmap.mmap, findings: Structure, header: _AsfHeader, *, at: int) -> int:
    """Walk one data object; where it ends."""
    size, end, first = len(data), at + _little(data, at + 16, 8), at + 50
    packet_size = header.packet_size
    if header.is_live or end <= first:
        following = data.find(_ASF_HEADER, first)
        end = size if following < 0 else following
    if packet_size < 16:
        return end
    objects = {number: _Objects() for number in header.videos}
    last, start = min(end, size), first
    while start + packet_size <= last and not findings.is_full:
        payloads = _asf_payloads(data[start : start + packet_size])
        if payloads is None:
            following = _next_asf_packet(
                data, start + 1, last=last, packet_size=packet_size, begins=data[first : first + 1]
            )
            findings.broken("no packet of an ASF file begins there", at=start, start=start, end=following)
            start = following
            continue
        for stream, payload in payloads:
            one = objects.get(stream)
            if one and not one.follows(payload):
                begin = start if one.last_packet < 0 else one.last_packet
                findings.broken("a piece of a picture is not there", at=start, start=begin, end=start + packet_size)
            if one:
                one.last_packet = start
        start += packet_size
    if end > size:
        findings.cut("data object", end=end, size=size, start=start)
    elif not header.is_live:
        for one in objects.values():
            if one.next_offset < one.size:
                findings.broken("the last picture has no end", at=last, start=one.last_packet, end=last)
    return end


def _next_asf_packet(data: mmap.mmap, at: int, *, last: int, packet_size: int, begins: bytes) -> int:
    """Where the next packet begins that makes sense, as does the one after it; the end where there is none."""
    for place in range(at, min(at + 2 * packet_size + MAX_SHIFT, last - packet_size + 1)):
        if data[place : place + 1] != begins or _asf_payloads(data[place : place + packet_size]) is None:
            continue
        after = place + packet_size
        if after + packet_size > last or _asf_payloads(data[after : after + packet_size]) is not None:
            return place
    return last


@dataclass(frozen=True)
class _Payload:
    number: int
    width: int
    """Bytes of the number."""
    offset: int
    length: int
    size: int
    """Of the whole media object; 0 where the packet does not say so."""


@dataclass
class _Objects:
    """How far the media objects of one stream were read."""

    number: int = -1
    next_offset: int = 0
    size: int = 0
    last_packet: int = -1

    def follows(self, payload: _Payload) -> bool:
        """Whether a payload is the next one; it is taken in any case."""
        if payload.size == 0 or payload.width == 0:  # nothing tells what should follow
            self.number = -1
            return True
        if self.number < 0:
            is_next = payload.offset == 0 or self.last_packet < 0
        elif self.next_offset < self.size:
            is_next = (payload.number, payload.offset, payload.size) == (self.number, self.next_offset, self.size)
        else:
            is_next = (payload.number, payload.offset) == ((self.number + 1) % (1 << 8 * payload.width), 0)
        self.number, self.size = payload.number, payload.size
        self.next_offset = payload.offset + payload.length
        return is_next


def _asf_payloads(packet: bytes) -> list[tuple[int, _Payload]] | None:
    """Stream and piece of each payload of a packet; None where the packet makes no sense."""
    try:
        return _parse_asf_packet(packet)
    except IndexError:
        return None


def _parse_asf_packet(packet: bytes) -> list[tuple[int, _Payload]] | None:
    at = 1 + (packet[0] & 0x0F) if packet[0] & 0x80 else 0
    if packet[0] & 0x80 and packet[0] & 0x70:  # error correction data of a kind that nothing writes
        return None

    def number(kind: int) -> int:
        """The next number, of as many bytes as the last two bits of `kind` say."""
        nonlocal at
        width = _WIDTHS[kind & 3]
        at += width
        return _little(packet, at - width, width)

    kinds, fields = packet[at], packet[at + 1]
    at += 2
    packet_length, _, padding = (number(kinds >> shift) for shift in (5, 1, 3))
    end = (packet_length or len(packet)) - padding
    at += 6
    count, length_kind = 1, 0
    if kinds & 1:
        count, length_kind = packet[at] & 0x3F, packet[at] >> 6
        at += 1
    payloads = []
    for _ in range(count):
        stream = packet[at] & 0x7F
        at += 1
        object_number, offset, replicated = (number(fields >> shift) for shift in (4, 2, 0))
        # Less than 8 bytes of replicated data do not tell the size; 1 means several objects in one payload.
        size = _little(packet, at, 4) if replicated >= 8 else 0
        at += replicated
        length = number(length_kind) if length_kind else end - at
        if length < 0 or at + length > end or end > len(packet) or (size and offset + length > size):
            return None
        payloads.append((stream, _Payload(object_number, _WIDTHS[fields >> 4 & 3], offset, length, size)))
        at += length
    return payloads
