"""Finds the file of a clip by its official id: directly in a folder, one level deep, or where a data set says.

Names are looked up in a listing and never joined to a path from an id alone; a link that leaves the folder is refused.
Opens no file.
"""

import stat
from pathlib import Path, PurePosixPath

from video_data.datasets.strict_jsonl import RowProblem
from video_data.errors import VideoError

SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".flv")
"""In the order of preference, where a clip is there twice; upper case counts too."""


class ClipFolder:
    """The clips below a folder, listed once."""

    def __init__(self, root: Path) -> None:
        """List the folder and its direct subfolders.

        Raises:
            VideoError: there is no such folder, or it cannot be listed.
        """
        self.root = root.resolve()
        self._by_stem: dict[str, str] = {}
        try:
            entries = sorted(self.root.iterdir())
        except OSError:
            raise VideoError("missing", f"no folder {root}; set data.root to the folder of the clips") from None
        self._add([one.name for one in entries])
        for folder in entries:
            try:
                if folder.is_dir():
                    self._add([f"{folder.name}/{one.name}" for one in sorted(folder.iterdir())])
            except OSError:
                continue  # a folder nobody may look into holds no clip for us

    def find(self, clip_id: str, *, places: tuple[str, ...] = ()) -> tuple[str, Path]:
        """Uri (relative to the folder) and file of a clip.

        Args:
            clip_id: name of the file without its suffix.
            places: relative paths without suffix that are looked at first.

        Raises:
            RowProblem: `clip_missing` or `path_outside`.
        """
        for place in places:
            parts = PurePosixPath(place)
            if parts.is_absolute() or ".." in parts.parts or "\0" in place:
                raise RowProblem("path_outside", f"{place!r} must be a path inside {self.root}")
            for suffix in SUFFIXES:
                for name in (f"{place}{suffix}", f"{place}{suffix.upper()}"):
                    if _exists(self.root / name):
                        return self._checked(name)
        if clip_id not in self._by_stem:
            raise RowProblem("clip_missing", f"no {clip_id}{{{','.join(SUFFIXES[:4])},...}} in {self.root}")
        return self._checked(self._by_stem[clip_id])

    def _add(self, names: list[str]) -> None:
        clips = [name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES]
        for name in sorted(clips, key=lambda one: SUFFIXES.index(PurePosixPath(one).suffix.lower())):
            self._by_stem.setdefault(PurePosixPath(name).stem, name)

    def _checked(self, name: str) -> tuple[str, Path]:
        path = self.root / name
        try:
            resolved = path.resolve(strict=True)
            regular = stat.S_ISREG(resolved.stat().st_mode)
        except (OSError, RuntimeError):
            raise RowProblem("clip_missing", f"{name} cannot be looked at") from None
        if not resolved.is_relative_to(self.root):
            raise RowProblem("path_outside", f"{name!r} is a link that leaves the folder of the clips")
        if not regular:
            raise RowProblem("clip_missing", f"{name!r} is not a regular file")
        return PurePosixPath(name).as_posix(), path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long, or not to be looked at
        return False
