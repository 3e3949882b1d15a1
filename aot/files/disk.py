"""Files that appear whole or not at all, also where the power fails: the one home of write, fsync and rename.

Raises what the disk raises; who calls tells the user in the words of its room. Knows no file names.
"""

import errno
import glob
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole_file(path: Path, *, before_rename: Callable[[], None] | None = None) -> Iterator[IO[bytes]]:
    """A file to write into; it appears at `path` when the block ends well, and not at all when it does not.

    Raises:
        OSError: the disk refuses; `path` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # What killed processes left half-written: nobody else writes now, because each file has one writer.
        for stale in path.parent.glob(f".{glob.escape(path.name)}.[0-9]*.tmp"):
            stale.unlink(missing_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if before_rename:
            before_rename()
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def publish_file(temporary: Path, path: Path) -> None:
    """Give a file that somebody else finished, such as an encoder, its final name."""
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


def cut_half_line(path: Path) -> None:
    """Cut off what stands after the last line end of a file that is appended to."""
    position = path.stat().st_size
    with path.open("rb+") as file:
        while position > 0:
            start = max(0, position - 65536)
            file.seek(start)
            newline = file.read(position - start).rfind(b"\n")
            if newline >= 0:
                file.truncate(start + newline + 1)
                return
            position = start
        file.truncate(0)
