"""What a walk through the structure of a container finds: where it is cut off or broken, and what is joined to it."""

import mmap
from dataclasses import dataclass, field

from video_data.decode.timeline import joined_spans

MAX_DAMAGES = 1000
"""Places of damage after which a walk gives up, and the rest of the file counts as damaged."""


@dataclass
class Structure:
    """What the lengths of a file say; a walk tells it here as it goes."""

    num_tracks: int = 0
    """Tracks that the header declares; 0 where the format does not say so beforehand."""
    joined_at: list[int] = field(default_factory=list)
    """Where further files of the same format begin that were joined byte by byte, and that demuxers do not see."""
    damages: list[str] = field(default_factory=list)
    ranges: list[tuple[int, int]] = field(default_factory=list)
    """Of the damages, as they were seen: the first byte, and the byte after the last."""

    def cut(self, what: str, *, end: int, size: int, start: int | None = None) -> None:
        """The file of `size` bytes ends before `what` does, in the middle of the element that begins at `start`.

        A file that ends between two elements, at `start`, lacks some and has none that is damaged.
        """
        words = f"the file is cut off: its {what} ends at byte {end:,}, the file at {size:,}"
        if start is not None and start >= size:
            self.note(words)
        else:
            self.add(words, start=size - 1 if start is None else start, end=size)

    def broken(self, what: str, *, at: int, start: int, end: int) -> None:
        """The structure breaks at a byte; the damage lies between `start` and `end`."""
        self.add(f"the file is damaged at byte {at:,}: {what}", start=start, end=end)

    def note(self, words: str) -> None:
        """Damage that spoils no byte, or of which nothing says where it lies, as a checksum over many packets."""
        self.damages.append(words)

    def add(self, words: str, *, start: int, end: int) -> None:
        """Damage in words and where it lies."""
        self.damages.append(words)
        self.ranges.append((start, max(end, start + 1)))

    @property
    def is_full(self) -> bool:
        """Whether so much is damaged that a walk is not worth its time."""
        return len(self.damages) >= MAX_DAMAGES

    @property
    def damage(self) -> str:
        """Where the file is cut off or its structure broken first, in words; empty where it is whole."""
        more = len(self.damages) - 1
        return "".join(self.damages[:1]) + (f" (and at {more} further place{'s' * (more > 1)})" if more > 0 else "")

    @property
    def damaged_bytes(self) -> tuple[tuple[int, int], ...]:
        """Ranges of the file, ascending, in which something is lost or overwritten; none empty, no two touching.

        Each goes from the start of the last element that can hold the damage to where the structure is sound again, or
        to the end of the file: a packet that shares a byte with one of them is not to be trusted. For a file cut off
        inside a box that holds many packets this is its last byte alone.
        """
        return joined_spans(self.ranges, gap=1)


def only_zeros(data: mmap.mmap, at: int) -> bool:
    """Whether nothing but padding follows from a byte on."""
    step = 1 << 20
    return all(not data[place : place + step].strip(b"\0") for place in range(at, len(data), step))
