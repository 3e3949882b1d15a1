"""Looks at the processes of this machine for the tests of the decoding room."""

from contextlib import suppress
from pathlib import Path


def runs(pid: int) -> bool:
    """Whether the process is there, or one of its threads, and not just waiting to be buried."""
    try:
        return _fields(pid)[0] != "Z" or len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    except OSError:
        return False


def descendants(pid: int) -> set[int]:
    """Children of a process, their children, and so on."""
    parents = {}
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):  # it ended meanwhile, or is no process
            parents[int(folder.name)] = int(_fields(int(folder.name))[1])
    found, fresh = set(), {pid}
    while fresh:
        fresh = {child for child, parent in parents.items() if parent in fresh}
        found |= fresh
    return found


def _fields(pid: int) -> list[str]:
    """State, parent and the other fields of /proc/pid/stat that come after the name."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
