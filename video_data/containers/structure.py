"""Whether a container file is whole by its own lengths: no box, cluster, chunk, tag, page or packet runs past its end.

Demuxers skip what they cannot read and say nothing, so a file that was cut off looks shorter and sound. This walks the
outer structure only, in a memory map, and decodes nothing. Formats: Matroska's EBML (RFC 8794), ISO base media boxes
(ISO 14496-12), RIFF, FLV, Ogg pages (RFC 3533), ASF and MPEG transport streams. It also counts tracks, so that a header
of a thousand streams is refused before a demuxer allocates them.
"""

import mmap
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from video_data.containers.findings import Structure, only_zeros
from video_data.containers.gif_blocks import walk_gif
from video_data.containers.pages import walk_asf, walk_ogg

MAX_ELEMENTS = 4_000_000
"""Where a walk gives up: what was seen until then was whole."""
_MKV_HEADER, _MKV_SEGMENT, _MKV_CLUSTER, _MKV_TRACKS, _MKV_TRACK = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE
_MKV_TOP = {0x114D9B74, 0x1549A966, _MKV_TRACKS, _MKV_CLUSTER, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367}
_MKV_IN_CLUSTER = {0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0x5854, 0xAF}
_MKV_ANYWHERE = {0xEC, 0xBF}
_MP4_TOP = {
    b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"moof", b"mfra", b"sidx", b"ssix", b"styp",
    b"uuid", b"meta", b"udta", b"emsg", b"prft", b"pdin", b"bloc", b"junk",
}  # fmt: skip


def check_structure(path: Path, *, container: str) -> Structure:
    """What the outer structure of the file at `path`, of a `containers.recognise` format, says of itself."""
    findings = Structure()
    if walk := _WALKS.get(container):
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            walk(data, findings)
    return findings


# ISO base media files: boxes of size and four letters


def _boxes(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Name, start, start of the content and end of each box; an end may lie past `end`."""
    at = start
    while at + 8 <= end:
        size, name, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        # ISO 14496-12, 4.2: 1 announces a length of 64 bits, 0 a box that reaches to the end of the file.
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = end - at
        size = max(size, head)  # or a length below its own head would be walked for ever
        yield name, at, at + head, at + size
        at += size


def _mp4(data: mmap.mmap, findings: Structure) -> None:
    size = len(data)
    for name, at, content, end in _boxes(data, 0, size):
        if name not in _MP4_TOP and not (name.isascii() and name.isalnum()):  # vendors invent boxes
            if not only_zeros(data, at):
                findings.broken("no box of an MP4 file begins there", at=at, start=at, end=size)
            return
        if name == b"ftyp" and findings.num_tracks:  # a second beginning after a whole header
            findings.joined_at.append(at)
        if end > size:
            findings.cut(f"box {name.decode('ascii', 'replace')!r}", end=end, size=size)
        if name == b"moov":
            findings.num_tracks += sum(child == b"trak" for child, _, _, _ in _boxes(data, content, min(end, size)))


# Matroska: elements of an id and a length, both of variable size


def _ebml_number(data: mmap.mmap, at: int, *, is_id: bool) -> tuple[int | None, int]:
    """An id or a length at `at` and the place after it, or a ValueError; None for a length not known beforehand."""
    if at >= len(data) or data[at] == 0:
        raise ValueError("no number")
    # RFC 8794, 4: leading zero bits say how many bytes follow; an id keeps that mark, a length does not.
    length = 9 - data[at].bit_length()
    if at + length > len(data) or (is_id and length > 4):
        raise ValueError("no number")
    value = int.from_bytes(data[at : at + length], "big")
    if is_id:
        return value, at + length
    bare = value & ((1 << (7 * length)) - 1)
    return (None if bare == (1 << (7 * length)) - 1 else bare), at + length  # all ones: written live


def _matroska(data: mmap.mmap, findings: Structure) -> None:
    size, at, last = len(data), 0, 0
    cut = ("", 0)
    ends = [size]
    for _ in range(MAX_ELEMENTS):
        while len(ends) > 1 and at >= ends[-1]:
            ends.pop()
        if at >= size:
            break
        try:
            name, after = _ebml_number(data, at, is_id=True)
            length, content = _ebml_number(data, after, is_id=False)
        except ValueError:
            name, length, content = None, 0, at
        end = size if length is None else content + length
        if name == _MKV_HEADER and all(end == size for end in ends):
            ends = [size]  # what was sent live has no lengths: a joined file ends it
        expected = _MKV_TOP | _MKV_ANYWHERE | (_MKV_IN_CLUSTER if len(ends) > 2 else set())
        if name is None or (len(ends) > 1 and name not in expected | {_MKV_SEGMENT}):
            following = _next_cluster(data, at, findings=findings, last=last, is_open=len(ends) > 1)
            if following is None:
                break
            ends, last, at = ends[:2], following, following
        # A cluster of unknown length ends where the next begins, so that one is found inside the other.
        elif name == _MKV_SEGMENT or (name == _MKV_CLUSTER and len(ends) <= 3):
            if end > size:
                cut = max(cut, ("last cluster" if name == _MKV_CLUSTER else "segment", end))
            elif name == _MKV_CLUSTER and length is not None:
                _check_cluster(data, findings, at=at, content=content, end=end)
            ends = [*([size] if name == _MKV_SEGMENT else ends[:2]), min(end, size)]
            last, at = at, content
        elif length is None:
            break  # not ours to tell where it ends
        else:
            if end > size:
                cut = max(cut, ("last block", end))
            if name == _MKV_TRACKS:
                findings.num_tracks += _mkv_tracks(data, content, min(end, size))
            last, at = at, end
    if cut[1]:
        findings.cut(cut[0], end=cut[1], size=size, start=last if at > size else size)


def _check_cluster(data: mmap.mmap, findings: Structure, *, at: int, content: int, end: int) -> None:
    """Compare the checksum of a cluster that has one."""
    if data[content : content + 2] == b"\xbf\x84":  # RFC 8794, 11.3.1: CRC-32 comes first, if at all
        stored = int.from_bytes(data[content + 2 : content + 6], "little")
        if zlib.crc32(data[content + 6 : end]) != stored:
            findings.note(f"the file is damaged after byte {at:,}: the checksum of the cluster there does not match")


def _next_cluster(data: mmap.mmap, at: int, *, findings: Structure, last: int, is_open: bool) -> int | None:
    """Where the next cluster begins behind damage, which is noted; None where there is none.

    What follows the end of the segment is no part of the clip, unless another cluster is among it.
    """
    start, size = at, len(data)
    while (at := data.find(_MKV_CLUSTER.to_bytes(4, "big"), at + 1)) >= 0:
        try:
            _, content = _ebml_number(data, at + 4, is_id=False)
            name, _ = _ebml_number(data, content, is_id=True)
        except ValueError:
            continue
        if name in _MKV_IN_CLUSTER | _MKV_ANYWHERE:
            break
    if at >= 0 or (is_open and not only_zeros(data, start)):
        what = "no element of a Matroska file begins there"
        findings.broken(what, at=start, start=last, end=size if at < 0 else at)
    return None if at < 0 or findings.is_full else at


def _mkv_tracks(data: mmap.mmap, at: int, end: int) -> int:
    count = 0
    while at < end:
        try:
            name, after = _ebml_number(data, at, is_id=True)
            length, content = _ebml_number(data, after, is_id=False)
        except ValueError:
            break
        if length is None:
            break
        count += name == _MKV_TRACK
        at = content + length
    return count


# RIFF and FLV


_AVI_CHUNK = re.compile(rb"[0-9][0-9A-Za-z](?:d[bc]|wb|tx|pc)|ix[0-9][0-9]|idx1|JUNK|LIST|RIFF|rec ")


def _avi(data: mmap.mmap, findings: Structure) -> None:
    size, at = len(data), 0
    while at + 12 <= size and data[at : at + 4] == b"RIFF":
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + length
        if length == 0:
            break  # the recorder never finished it: nothing is promised
        if at and data[at + 8 : at + 12] == b"AVI ":
            findings.joined_at.append(at)
        if at == 0 and data[12:16] == b"LIST":
            findings.num_tracks = data[: min(size, 12 + 8 + int.from_bytes(data[16:20], "little"))].count(b"strh")
        last = _avi_chunks(data, findings, at=at + 12, end=min(end, size))
        if end > size:
            return findings.cut("RIFF chunk", end=end, size=size, start=last)
        at = end + end % 2
    return None


def _avi_chunks(data: mmap.mmap, findings: Structure, *, at: int, end: int) -> int:
    """Walk the chunks of one RIFF chunk, and those of its list of pictures, up to where none begins that is whole."""
    last, pictures_end = at, 0
    while at + 8 <= end and not findings.is_full:
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        after = at + 8 + length
        if name == b"LIST" and data[at + 8 : at + 12] in (b"movi", b"rec "):
            pictures_end = max(pictures_end, after)  # chunks are known by name in there, anything may follow
            last, at = at, at + 12
        elif at >= pictures_end or (after <= end + 1 and _AVI_CHUNK.fullmatch(name)):
            last, at = at, after + length % 2
        elif _AVI_CHUNK.match(data[at - 1 : at + 3]):
            at -= 1  # some recorders leave out the byte that makes lengths even
        elif end == len(data) and _AVI_CHUNK.fullmatch(name):
            break  # the file is cut off here
        else:
            chunks = (match.start() for match in _AVI_CHUNK.finditer(data, at + 1, end))
            following = next((place for place in chunks if _is_chunk(data, place, end)), end)
            findings.broken("no chunk of an AVI file begins there", at=at, start=last, end=following)
            last = at = following
    return at


def _is_chunk(data: mmap.mmap, at: int, end: int) -> bool:
    """Whether a chunk begins at a byte that another one follows, or the end."""
    after = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
    after += after % 2
    return end - 1 <= after <= end + 1 or (after < end and bool(_AVI_CHUNK.match(data[after : after + 4])))


_FLV_TAG = re.compile(rb"[\x08\x09\x12].{6}.\0\0\0", re.DOTALL)


def _flv(data: mmap.mmap, findings: Structure) -> None:
    size, at = len(data), int.from_bytes(data[5:9], "big") + 4
    last = at
    for _ in range(MAX_ELEMENTS):
        if at >= size:
            return None
        end = at + 11 + int.from_bytes(data[at + 1 : at + 4], "big")
        if data[at : at + 4] == b"FLV\x01":
            findings.joined_at.append(at)
            at += int.from_bytes(data[at + 5 : at + 9], "big") + 4
            continue
        # Sound, pictures, script data; the bits above mark encrypted tags.
        is_tag = data[at] & 0x1F in (8, 9, 18)
        if is_tag and end + 4 <= size:
            last, at = at, end + 4
            continue
        if only_zeros(data, at) and at - last - 4 == int.from_bytes(data[at - 4 : at], "big"):
            return None
        following = next((m.start() for m in _FLV_TAG.finditer(data, at + 1) if _is_tag(data, m.start())), size)
        if following == size and (is_tag or size - at < 11):
            return findings.cut("last tag", end=max(end, at + 11), size=size, start=at) if end != size else None
        findings.broken("no tag of an FLV file begins there", at=at, start=last, end=following)
        last = at = following
        if findings.is_full:
            return None
    return None


def _is_tag(data: mmap.mmap, at: int) -> bool:
    """Whether the length of the FLV tag at a byte stands behind it as well."""
    length = int.from_bytes(data[at + 1 : at + 4], "big") + 11
    return int.from_bytes(data[at + length : at + length + 4], "big") == length  # a sync word alone is common


# MPEG transport streams: a packet every 188 bytes; 192 with a time code before it, 204 with parity behind

TS_SPACINGS = (188, 192, 204)
_NULL_PACKETS = 0x1FFF


def sync_offset(head: bytes, *, spacing: int) -> int | None:
    """The first byte below `spacing` from which sync bytes 0x47 stand `spacing` bytes apart (three at least), or None.

    >>> sync_offset(b"xx" + (b"G" + bytes(187)) * 3, spacing=188)
    2
    """
    for first in range(min(spacing, len(head))):
        # Not asked of the first byte alone: recordings begin in the middle of a packet.
        marks = head[first::spacing]
        if len(marks) >= 3 and marks == b"\x47" * len(marks):
            return first
    return None


def _mpegts(data: mmap.mmap, findings: Structure) -> None:
    size = len(data)
    for spacing in TS_SPACINGS:
        first = sync_offset(data[: spacing * 6], spacing=spacing)
        if first is not None:
            break
    else:
        return None
    # 0x47 is a G, and common: one alone means nothing.
    three = re.compile(rb"\x47(?=.{%d}\x47.{%d}\x47)" % (spacing - 1, spacing - 1), re.DOTALL)
    at = first
    while (place := _lost_packet(data, at, spacing=spacing)) is not None:
        if only_zeros(data, place) and _is_whole_packet(data, place - spacing):
            return None
        following = None if findings.is_full else three.search(data, place + 1)
        at = following.start() if following else size
        what = "no packet of a transport stream begins there"
        findings.broken(what, at=place, start=max(first, place - spacing), end=at)
        if following is None:
            return None
    start = size - (size - at) % spacing
    if size - 188 < start < size and not only_zeros(data, start):
        return findings.cut("last packet", end=start + 188, size=size, start=start)
    return None


def _lost_packet(data: mmap.mmap, at: int, *, spacing: int) -> int | None:
    """The first place from `at` on where a packet should begin and does not."""
    step = 100_000 * spacing  # some 19 MB in memory at a time, whatever the size of the file
    for start in range(at, len(data) - spacing + 1, step):
        count = min(step, (len(data) - start) // spacing * spacing)
        marks = np.frombuffer(data[start : start + count], np.uint8)[::spacing]
        lost = np.flatnonzero(marks != 0x47)
        if len(lost):
            return start + int(lost[0]) * spacing
    return None


def _is_whole_packet(data: mmap.mmap, at: int) -> bool:
    """Whether the last packet before padding is whole: a download that has yet to come leaves zeros inside one."""
    is_null = int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF == _NULL_PACKETS
    return is_null or any(data[at + 172 : at + 188])


_WALKS: dict[str, Callable[[mmap.mmap, Structure], None]] = {
    "mp4": _mp4,
    "matroska": _matroska,
    "avi": _avi,
    "flv": _flv,
    "ogg": walk_ogg,
    "asf": walk_asf,
    "gif": walk_gif,
    "mpegts": _mpegts,
}
