"""Whether a container file is whole by its own lengths: no box, cluster, chunk, tag, page or packet runs past its end.

Demuxers skip what they cannot read and say nothing, so a file that was cut off looks shorter and sound. This walks the
outer structure only, in a memory map, and decodes nothing. Formats: Matroska's EBML (RFC 8794), ISO base media boxes
(ISO 14496-12), RIFF, FLV, Ogg pages (RFC 3533), ASF and MPEG transport streams. It also counts tracks, so that a header
of a thousand streams is refused before a demuxer allocates them.
"""

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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


@dataclass(frozen=True)
class Structure:
    """What the lengths of a file say."""

    damage: str = ""
    """Where the file is cut off or its structure broken, in words; empty where it is whole."""
    num_tracks: int = 0
    """Tracks that the header declares; 0 where the format does not say so beforehand."""
    joined_at: tuple[int, ...] = ()
    """Where further files of the same format begin that were joined byte by byte, and that demuxers do not see."""


def check_structure(path: Path, *, container: str) -> Structure:
    """What the outer structure of the file at `path`, of a `containers.recognise` format, says of itself."""
    walk = _WALKS.get(container)
    if walk is None:
        return Structure()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return walk(data)


def _cut(what: str, end: int, size: int) -> str:
    return f"the file is cut off: its {what} ends at byte {end:,}, the file at {size:,}"


def _broken(what: str, at: int) -> str:
    return f"the file is damaged at byte {at:,}: {what}"


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


def _mp4(data: mmap.mmap) -> Structure:
    size, num_tracks, damage = len(data), 0, ""
    joined: list[int] = []
    for name, at, content, end in _boxes(data, 0, size):
        if name not in _MP4_TOP and not (name.isascii() and name.isalnum()):
            if not any(data[at : at + 65536]):
                break  # zeros after the last box are padding
            return Structure(_broken("no box of an MP4 file begins there", at), num_tracks, tuple(joined))
        if name == b"ftyp" and num_tracks:
            joined.append(at)
        if end > size:
            damage = _cut(f"box {name.decode('ascii', 'replace')!r}", end, size)
        if name == b"moov":
            num_tracks += sum(child == b"trak" for child, _, _, _ in _boxes(data, content, min(end, size)))
    return Structure(damage, num_tracks, tuple(joined))


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


def _matroska(data: mmap.mmap) -> Structure:
    size, at, num_tracks = len(data), 0, 0
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
            return Structure(_broken_ebml(data, at), num_tracks)
        if name == _MKV_SEGMENT or (name == _MKV_CLUSTER and len(ends) <= 3):
            end = size if length is None else content + length
            if end > size:
                return Structure(_cut("last cluster" if name == _MKV_CLUSTER else "segment", end, size), num_tracks)
            ends = [size] if name == _MKV_SEGMENT else ends[:2]
            ends.append(end)
            at = content
            continue
        known = _MKV_IN_CLUSTER | _MKV_ANYWHERE | _MKV_TOP if len(ends) > 2 else _MKV_TOP | _MKV_ANYWHERE
        if len(ends) > 1 and name not in known:
            return Structure(_broken_ebml(data, at), num_tracks)
        if length is None:
            return Structure("", num_tracks)  # not ours to tell where it ends
        if content + length > size:
            return Structure(_cut("last block", content + length, size), num_tracks)
        if name == _MKV_TRACKS:
            num_tracks += _mkv_tracks(data, content, content + length)
        at = content + length
    return Structure("", num_tracks)


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


def _broken_ebml(data: mmap.mmap, at: int) -> str:
    """Damage, unless nothing but zeros or a second file follows, which is padding or a joined recording."""
    if not any(data[at : at + 65536]) and not any(data[at:]):
        return ""
    return _broken("no element of a Matroska file begins there", at)


# RIFF, FLV, Ogg, ASF


def _avi(data: mmap.mmap) -> Structure:
    size, at, num_tracks = len(data), 0, 0
    joined: list[int] = []
    while at + 12 <= size and data[at : at + 4] == b"RIFF":
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + length
        if length == 0:
            break  # the recorder never finished it: nothing is promised
        if end > size:
            return Structure(_cut("RIFF chunk", end, size), num_tracks, tuple(joined))
        if at and data[at + 8 : at + 12] == b"AVI ":
            joined.append(at)
        if at == 0 and data[12:16] == b"LIST":
            num_tracks = data[: min(size, 12 + 8 + int.from_bytes(data[16:20], "little"))].count(b"strh")
        at = end + end % 2
    return Structure("", num_tracks, tuple(joined))


def _flv(data: mmap.mmap) -> Structure:
    size, at = len(data), int.from_bytes(data[5:9], "big") + 4
    for _ in range(MAX_ELEMENTS):
        if at + 11 > size:
            return Structure(_cut("last tag", at + 11, size) if at < size else "")
        end = at + 11 + int.from_bytes(data[at + 1 : at + 4], "big")
        if end > size:
            return Structure(_cut("last tag", end, size))
        if data[at] & 0x1F not in (8, 9, 18):
            return Structure(_broken("no tag of an FLV file begins there", at))
        at = end + 4
    return Structure()


def _ogg(data: mmap.mmap) -> Structure:
    size, at = len(data), 0
    serials: set[bytes] = set()
    for _ in range(MAX_ELEMENTS):
        if at >= size:
            break
        if data[at : at + 4] != b"OggS":
            return Structure(_broken("no Ogg page begins there", at), len(serials))
        num_segments = data[at + 26] if at + 27 <= size else 255
        table = data[at + 27 : at + 27 + num_segments]
        end = at + 27 + num_segments + sum(table)
        if len(table) < num_segments or end > size:
            return Structure(_cut("last page", max(end, at + 27 + num_segments), size), len(serials))
        serials.add(data[at + 14 : at + 18])
        at = end
    return Structure("", len(serials))


def _asf(data: mmap.mmap) -> Structure:
    size, at = len(data), int.from_bytes(data[16:24], "little")
    if 30 <= at <= size - 24 and data[at : at + 4] == b"\x36\x26\xb2\x75":
        end = at + int.from_bytes(data[at + 16 : at + 24], "little")
        if end > size:
            return Structure(_cut("data object", end, size))
    return Structure("" if at <= size else _cut("header", at, size))


def _gif(data: mmap.mmap) -> Structure:
    end = len(data)
    while end and data[end - 1] == 0:
        end -= 1
    return Structure("" if end and data[end - 1] == 0x3B else "the file is cut off: a GIF ends with the byte 0x3B")


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


def _mpegts(data: mmap.mmap) -> Structure:
    size = len(data)
    for spacing in (188, 192):
        first = sync_offset(data[: spacing * 6], spacing=spacing)
        if first is not None:
            break
    else:
        return Structure()
    whole = np.frombuffer(data, np.uint8, count=(size - first) // spacing * spacing, offset=first)
    lost = np.flatnonzero(whole.reshape(-1, spacing)[:, 0] != 0x47)
    place = first + int(lost[0]) * spacing if len(lost) else 0
    rest = (size - first) % spacing
    del whole  # or the memory map cannot be closed
    if place:
        return Structure(_broken("no packet of a transport stream begins there", place))
    # The time code of a timed stream stands before its packet.
    if rest and rest != spacing - 188:
        return Structure(_cut("last packet", size - rest + spacing, size))
    return Structure()


_WALKS: dict[str, Callable[[mmap.mmap], Structure]] = {
    "mp4": _mp4,
    "matroska": _matroska,
    "avi": _avi,
    "flv": _flv,
    "ogg": _ogg,
    "asf": _asf,
    "gif": _gif,
    "mpegts": _mpegts,
}
