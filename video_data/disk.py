"""What a user is told when the disk refuses to take clips or frames."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aot.errors import VideoError
from aot.files.disk import DISK_FULL


@contextmanager
def disk_errors(folder: Path, *, kept: str) -> Iterator[None]:
    """Turn what the disk refuses in the block, which writes into `folder`, into the error of `refused_by_disk`."""
    try:
        yield
    except OSError as error:
        raise refused_by_disk(error.errno, folder=folder, kept=kept) from None


def refused_by_disk(number: int | None, *, folder: Path, kept: str) -> VideoError:
    """The error for a write that failed with this errno: `disk_full`, or `unwritable` for anything else.

    Args:
        number: errno, or None where none is known.
        folder: what was being written into.
        kept: what a second call of the same command goes on from, such as `finished shards`.
    """
    again = f"then run the same command again: {kept} are kept"
    if number in DISK_FULL:
        return VideoError("disk_full", f"no_space: the disk is full while writing {folder}; free space, {again}")
    why = os.strerror(number or errno.EIO)
    return VideoError("unwritable", f"cannot write {folder}: {why}; choose another folder, {again}")
