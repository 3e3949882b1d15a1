"""Files that appear whole or not at all, also where the power fails: the one home of write, fsync and rename.

Raises what the disk raises; who calls tells the user in the words of its room. Knows no file names.
"""

import errno
import glob
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


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


def first_file(path: Path, data: bytes) -> bool:
    """Write `path` whole unless it is there; whether this call did it, of all that try at the same time.

    Raises:
        OSError: the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.first-{secrets.token_hex(8)}.tmp")
    try:
        with whole_file(temporary) as file:
            file.write(data)
        return not path.exists() and linked(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def linked(source: Path, target: Path) -> bool:
    """Whether `target` is now `source`; False if somebody else was there before.

    Raises:
        OSError: the disk refuses.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        # NFS may lose the reply to a link that it made, and finds its own one when it asks again.
        return source.stat().st_nlink > 1 and target.exists() and source.samefile(target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _copied(source, target)
    return True


def _copied(source: Path, target: Path) -> bool:
    """As `linked`, on a file system without links."""
    try:
        handle = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    with os.fdopen(handle, "wb") as file:
        file.write(source.read_bytes())
        file.flush()
        os.fsync(file.fileno())
    return True


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
