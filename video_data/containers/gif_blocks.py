"""Walks the blocks of a GIF and counts the pixels that each compressed picture yields.

FFmpeg's demuxer ends at a label that it does not know, and its decoder leaves a picture half drawn where the codes
break: both in silence. The codes between two clear codes have widths that depend on their count alone, so all of them
are taken at once, and the length of what they stand for follows from their references.
"""

import mmap
import re
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from video_data.containers.findings import Structure

MAX_CHECKED_BYTES = 24_000_000
"""Compressed bytes after which codes are no longer counted; what was counted until then was whole."""
MAX_CODES = 2_000_000
"""Codes of one table after which a picture is believed: they take about 100 MB."""
COST_OF_A_TABLE = 2048
"""Bytes that each table of codes is charged with, so that a file of clear codes costs no hours."""
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_CONTROL = re.compile(rb"\x21\xf9\x04.{4}\0[\x2c\x21]", re.DOTALL)
"""The control block before a picture."""


def walk_gif(data: mmap.mmap, findings: Structure) -> None:
    """Check every block up to the trailer, and note where a further GIF begins."""
    at, size, left = 0, len(data), MAX_CHECKED_BYTES
    while data[at : at + 4] == b"GIF8":
        if at:
            findings.joined_at.append(at)
        end, left = _walk_one(data, findings, at=at, left=left)
        if end is None:
            return
        at = end
        while at < size and data[at] == 0:
            at += 1


def _walk_one(data: mmap.mmap, findings: Structure, *, at: int, left: int) -> tuple[int | None, int]:
    """Walk one GIF from its header on; where it ends, None where it does not, and how many bytes may yet be checked."""
    size, last = len(data), at
    at += 13 + _table_bytes(data, at + 10)  # signature and screen
    while at < size:
        start, label = at, data[at]
        if label == _TRAILER:
            return at + 1, left
        if label == _EXTENSION:
            at, _ = _sub_blocks(data, at + 2)
        elif label == _IMAGE:
            codes = at + 10 + _table_bytes(data, at + 9)
            at, packed = _sub_blocks(data, codes + 1)
            if at <= size and left > 0:
                wanted = int.from_bytes(data[start + 5 : start + 7], "little")
                wanted *= int.from_bytes(data[start + 7 : start + 9], "little")
                pixels, left = _count_pixels(packed, bits=data[codes], wanted=wanted, left=left)
                if pixels != wanted:
                    what = f"the codes of its picture yield {pixels} pixels, not {wanted}"
                    findings.broken(what, at=start, start=start, end=at)
        else:
            following = _CONTROL.search(data, at)
            end = following.start() if following else size
            findings.broken("no block of a GIF begins there", at=at, start=last, end=end)
            if following is None:
                return None, left
            start = at = end
        last = start
    words = "the file is cut off: it has no last block, as a GIF must"
    if at > size:
        findings.add(words, start=last, end=size)
    else:
        findings.note(words)
    return None, left


def _table_bytes(data: mmap.mmap, at: int) -> int:
    """Bytes of the colour table that the flags at a byte declare."""
    return 3 << (data[at] & 7) + 1 if at < len(data) and data[at] & 0x80 else 0


def _sub_blocks(data: mmap.mmap, at: int) -> tuple[int, bytes]:
    """Where a chain of sub-blocks ends, a place beyond the file where it is cut off, and what it holds."""
    size, parts = len(data), []
    while at < size and data[at]:
        parts.append(data[at + 1 : at + 1 + data[at]])
        at += data[at] + 1
    return (at if at < size else size) + 1, b"".join(parts)


def _count_pixels(codes: bytes, *, bits: int, wanted: int, left: int) -> tuple[int, int]:
    """How many pixels the codes yield, and how many bytes may yet be checked; `wanted` where that is used up."""
    if not 1 <= bits <= 11:  # codes have at most 12 bits, one more than these
        return 0, left
    left -= len(codes)  # also where they turn out to be damaged: work is what is limited
    total = 0
    try:
        for lengths in _tables(codes, bits=bits):
            left -= COST_OF_A_TABLE
            total += int(lengths.sum())
            if left <= 0:
                return wanted, left
            if total > wanted:
                break
    except OverflowError:
        return wanted, left
    return total, left


def _tables(codes: bytes, *, bits: int) -> Iterator[NDArray[np.int64]]:
    """For each table, from one clear code to the next, the pixels that each of its codes stands for.

    An OverflowError where a table is used for so long that its codes do not fit the memory meant for them.
    """
    padded = np.frombuffer(codes + bytes(4), np.uint8).astype(np.int64)  # 12 bits touch three bytes, also at the end
    clear, num_bits, at = 1 << bits, 8 * len(codes), 0
    count = 4352
    while at < num_bits:
        widths, offsets = _widths(bits, count)
        fitting = int(np.searchsorted(offsets + widths, num_bits - at, side="right"))
        first = at + offsets[:fitting]
        byte = first >> 3
        here = padded[byte] | padded[byte + 1] << 8 | padded[byte + 2] << 16
        here = here >> (first & 7) & ((1 << widths[:fitting]) - 1)
        stops = np.flatnonzero((here == clear) | (here == clear + 1))
        if not len(stops) and fitting == count:  # 4,352 hold any table that is cleared when it is full
            if count >= MAX_CODES:
                raise OverflowError
            count *= 8  # the table goes on
            continue
        stop = int(stops[0]) if len(stops) else fitting
        lengths = _lengths(here[:stop], clear=clear)
        yield lengths
        if not len(stops) or len(lengths) < stop or here[stop] == clear + 1:
            return
        at += int(offsets[stop] + widths[stop])
        # An encoder that clears its table early does so again: then few codes are taken at once.
        count = 4352 if stop > 200 or not stop else 256


@lru_cache(maxsize=32)
def _widths(bits: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bits of the first codes after a clear code, and where each begins.

    A code is one bit wider than the one before as soon as the table has no room for the next entry.
    """
    entries = (1 << bits) + 2 + np.maximum(0, np.arange(count) - 1)
    widths = np.minimum(12, np.maximum(bits + 1, np.floor(np.log2(entries)).astype(np.int64) + 1))
    return widths, np.cumsum(widths) - widths


def _lengths(codes: NDArray[np.int64], *, clear: int) -> NDArray[np.int64]:
    """Pixels of each code up to the first that refers to an entry that is not there yet.

    The entry that code number i + 1 completes is what code i stands for and one pixel more.
    """
    parents = codes - clear - 2
    order = np.arange(len(codes))
    wrong = np.flatnonzero(parents >= order)
    if len(wrong):
        parents, order = parents[: wrong[0]], order[: wrong[0]]
    lengths = np.ones(len(parents), np.int64)
    parents = np.where(parents < 0, order, parents)
    steps = np.where(parents == order, 0, 1)
    while True:  # each round looks twice as far back
        further = parents[parents]
        if np.array_equal(further, parents):
            return lengths + steps
        steps = steps + steps[parents]
        parents = further
