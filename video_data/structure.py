"""Whether a container file is whole by its own lengths: no box, cluster, chunk, tag, page or packet runs past its end.

Demuxers skip what they cannot read and say nothing, so a file that was cut off looks shorter and sound. This walks the
outer structure only, in a memory map, and decodes nothing. Formats: Matroska's EBML (RFC 8794), ISO base media boxes
(ISO 14496-12), RIFF, FLV, Ogg pages (RFC 3533), ASF and MPEG transport streams. It also counts tracks, so that a header
of a thousand streams is refused before a demuxer allocates them.
"""

import mmap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from video_data.findings import Findings, Structure
from video_data.gif_blocks import walk_gif
from video_data.pages import walk_asf, walk_ogg

MAX_ELEMENTS = 4_000_000
"""Where a walk gives up: what was seen until then was whole."""
_MKV_SEGMENT, _MKV_CLUSTER, _MKV_TRACKS, _MKV_TRACK = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE
_MKV_TOP = {0x114D9B74, 0x1549A966, _MKV_TRACKS, _MKV_CLUSTER, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367}
_MKV_IN_CLUSTER = {0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0x5854, 0xAF}
_MKV_ANYWHERE = {0xEC, 0xBF}
_MP4_TOP = {
    b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"moof", b"mfra", b"sidx", b"ssix", b"styp",
    b"uuid", b"meta", b"udta", b"emsg", b"prft", b"pdin", b"bloc", b"junk",
}  # fmt: skip


def check_structure(path: Path, *, container: str) -> Structure:
    """What the outer structure of the file at `path`, of a `containers.recognise` format, says of itself."""
    walk = _WALKS.get(container)
    if walk is None:
        return Structure()
    found = Findings()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        walk(data, found)
    return found.structure()


# ISO base media files: boxes of size and four letters


def _boxes(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Name, start, start of the content and end of each box; an end may lie past `end`."""
    at = start
    while at + 8 <= end:
        size, name, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = end - at
        size = max(size, head)
        yield name, at, at + head, at + size
        at += size


def _mp4(data: mmap.mmap, found: Findings) -> None:
    size = len(data)
    for name, at, content, end in _boxes(data, 0, size):
        if name not in _MP4_TOP and not (name.isascii() and name.isalnum()):
            if any(data[at : at + 65536]):  # zeros after the last box are padding
                found.broken("no box of an MP4 file begins there", at=at, start=at, end=size)
            return
        if name == b"ftyp" and found.num_tracks:
            found.joined_at.append(at)
        if end > size:
            found.cut(f"box {name.decode('ascii', 'replace')!r}", end=end, size=size)
        if name == b"moov":
            found.num_tracks += sum(child == b"trak" for child, _, _, _ in _boxes(data, content, min(end, size)))


# Matroska: elements of an id and a length, both of variable size


def _ebml_number(data: mmap.mmap, at: int, *, is_id: bool) -> tuple[int | None, int]:
    """An id or a length at `at` and the place after it; None for a length that is not known beforehand.

    Raises:
        ValueError: there is none.
    """
    if at >= len(data) or data[at] == 0:
        raise ValueError("no number")
    length = 9 - data[at].bit_length()
    if at + length > len(data) or (is_id and length > 4):
        raise ValueError("no number")
    value = int.from_bytes(data[at : at + length], "big")
    if is_id:
        return value, at + length
    bare = value & ((1 << (7 * length)) - 1)
    return (None if bare == (1 << (7 * length)) - 1 else bare), at + length


def _matroska(data: mmap.mmap, found: Findings) -> None:
    size, at, last = len(data), 0, 0
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
            return _broken_ebml(data, found, at=at, start=last)
        if name == _MKV_SEGMENT or (name == _MKV_CLUSTER and len(ends) <= 3):
            end = size if length is None else content + length
            if end > size and name == _MKV_SEGMENT:
                return found.cut("segment", end=end, size=size)
            if end > size:
                return found.cut("last cluster", end=end, size=size)
            ends = [size] if name == _MKV_SEGMENT else ends[:2]
            ends.append(end)
            last, at = at, content
            continue
        known = _MKV_IN_CLUSTER | _MKV_ANYWHERE | _MKV_TOP if len(ends) > 2 else _MKV_TOP | _MKV_ANYWHERE
        if len(ends) > 1 and name not in known:
            return _broken_ebml(data, found, at=at, start=last)
        if length is None:
            return None  # not ours to tell where it ends
        if content + length > size:
            return found.cut("last block", end=content + length, size=size, start=at)
        if name == _MKV_TRACKS:
            found.num_tracks += _mkv_tracks(data, content, content + length)
        last, at = at, content + length
    return None


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


def _broken_ebml(data: mmap.mmap, found: Findings, *, at: int, start: int) -> None:
    """Damage, unless nothing but zeros follows, which is padding."""
    if any(data[at : at + 65536]) or any(data[at:]):
        found.broken("no element of a Matroska file begins there", at=at, start=start, end=len(data))


# RIFF and FLV


def _avi(data: mmap.mmap, found: Findings) -> None:
    size, at = len(data), 0
    while at + 12 <= size and data[at : at + 4] == b"RIFF":
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + length
        if length == 0:
            break  # the recorder never finished it: nothing is promised
        if end > size:
            return found.cut("RIFF chunk", end=end, size=size)
        if at and data[at + 8 : at + 12] == b"AVI ":
            found.joined_at.append(at)
        if at == 0 and data[12:16] == b"LIST":
            found.num_tracks = data[: min(size, 12 + 8 + int.from_bytes(data[16:20], "little"))].count(b"strh")
        at = end + end % 2
    return None


def _flv(data: mmap.mmap, found: Findings) -> None:
    size, at = len(data), int.from_bytes(data[5:9], "big") + 4
    last = at
    for _ in range(MAX_ELEMENTS):
        if at >= size:
            return None
        end = at + 11 + int.from_bytes(data[at + 1 : at + 4], "big")
        if at + 11 > size or end > size:
            return found.cut("last tag", end=max(end, at + 11), size=size, start=at)
        if data[at] & 0x1F not in (8, 9, 18):
            return found.broken("no tag of an FLV file begins there", at=at, start=last, end=size)
        last, at = at, end + 4
    return None


# MPEG transport streams: a packet every 188 bytes, or every 192 with a time code


def sync_offset(head: bytes, *, spacing: int) -> int | None:
    """The first byte below `spacing` from which sync bytes 0x47 stand `spacing` bytes apart (three at least), or None.

    >>> sync_offset(b"xx" + (b"G" + bytes(187)) * 3, spacing=188)
    2
    """
    for first in range(min(spacing, len(head))):
        marks = head[first::spacing]
        if len(marks) >= 3 and marks == b"\x47" * len(marks):
            return first
    return None


def _mpegts(data: mmap.mmap, found: Findings) -> None:
    size = len(data)
    for spacing in (188, 192):
        first = sync_offset(data[: spacing * 6], spacing=spacing)
        if first is not None:
            break
    else:
        return None
    whole = np.frombuffer(data, np.uint8, count=(size - first) // spacing * spacing, offset=first)
    lost = np.flatnonzero(whole.reshape(-1, spacing)[:, 0] != 0x47)
    place = first + int(lost[0]) * spacing if len(lost) else 0
    rest = (size - first) % spacing
    del whole  # or the memory map cannot be closed
    if place:
        return found.broken(
            "no packet of a transport stream begins there", at=place, start=place - spacing, end=place + spacing
        )
    # The time code of a timed stream stands before its packet.
    if rest and rest != spacing - 188:
        return found.cut("last packet", end=size - rest + spacing, size=size, start=size - rest)
    return None


_WALKS: dict[str, Callable[[mmap.mmap, Findings], None]] = {
    "mp4": _mp4,
    "matroska": _matroska,
    "avi": _avi,
    "flv": _flv,
    "ogg": walk_ogg,
    "asf": walk_asf,
    "gif": walk_gif,
    "mpegts": _mpegts,
}
