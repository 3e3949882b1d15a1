"""What the disk is asked and what it refuses: files that appear whole or not at all, and its errors in our words."""

import errno
import os
from pathlib import Path

from aot.errors import VideoError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def publish(path: Path, data: bytes) -> None:
    """Write `data` so that `path` holds either its old content or all of the new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
    publish_file(temporary, path)


def publish_file(temporary: Path, path: Path) -> None:
    """Give a finished file its final name, so that even a power cut leaves the old `path` or all of the new one."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refused_by_disk(number: int | None, *, folder: Path, kept: str) -> VideoError:
    """The error for a write into `folder` that failed with this errno: `disk_full`, or `unwritable` for anything else.

    Args:
        number: errno, or None where none is known.
        folder: what was being written into.
        kept: what a second call of the same command goes on from, such as `finished shards`.
    """
    again = f"then run the same command again: {kept} are kept"
    if number in _FULL:
        return VideoError("disk_full", f"no_space: the disk is full while writing {folder}; free space, {again}")
    why = os.strerror(number or errno.EIO)
    return VideoError("unwritable", f"cannot write {folder}: {why}; choose another folder, {again}")
