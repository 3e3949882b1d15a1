"""Finds the file of a clip by its official id: directly in a folder, one level deep, or where a data set says.

Names are looked up in a listing and never joined to a path from an id alone; a link that leaves the folder is refused.
An accented letter may be one character or two (Unicode's composed and decomposed forms): both name the same file.
Opens no file.
"""

import os
import stat
import unicodedata
from contextlib import suppress
from pathlib import Path, PurePosixPath

from aot.errors import SourceError
from aot.files.jsonl import RowProblem

SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".flv")
"""In the order of preference, where a clip is there twice; upper case counts too."""


class DiskNames:
    """How the disk spells the names below a folder; folders are listed when one of their names is asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listed: dict[PurePosixPath, dict[str, list[str]]] = {}

    def spelled(self, path: PurePosixPath) -> PurePosixPath:
        """`path`, relative to the folder, as the disk spells it; unchanged where there is no such file.

        Raises:
            RowProblem: `clip_ambiguous`, where two files have this name.
        """
        if path.as_posix().isascii():
            return path
        spelled = PurePosixPath()
        for part in path.parts:
            alike = self._names_in(spelled).get(composed(part), [part])
            if len(alike) > 1:
                both = f"{composed(part)!r} names {len(alike)} files, spelled with composed and decomposed letters"
                raise RowProblem("clip_ambiguous", f"{both}; rename one of them")
            spelled /= alike[0]
        return spelled

    def _names_in(self, folder: PurePosixPath) -> dict[str, list[str]]:
        if folder not in self._listed:
            names = self._listed.setdefault(folder, {})
            with suppress(OSError):  # a folder nobody may look into holds no clip for us
                for entry in (self.root / folder).iterdir():
                    names.setdefault(composed(entry.name), []).append(entry.name)
        return self._listed[folder]


def composed(name: str) -> str:
    r"""`name` with each accented letter as one character.

    >>> composed("cafe\u0301") == "caf\u00e9"
    True
    """
    return unicodedata.normalize("NFC", name)


class ClipFolder:
    """The clips below a folder, listed once."""

    def __init__(self, root: Path) -> None:
        """List the folder and its direct subfolders; a SourceError where it cannot be listed."""
        self.root = root.resolve()
        self._names = DiskNames(self.root)
        self._by_stem: dict[str, str] = {}
        try:
            entries = sorted(self.root.iterdir())
        except OSError:
            raise SourceError(f"no folder {root}; set data.root to the folder of the clips") from None
        self._add([one.name for one in entries])
        for folder in entries:
            with suppress(OSError):
                if folder.is_dir():
                    self._add([f"{folder.name}/{one.name}" for one in sorted(folder.iterdir())])

    def find(self, clip_id: str, *, places: tuple[str, ...] = ()) -> tuple[str, Path]:
        """Uri (relative to the folder) and file of a clip.

        Args:
            clip_id: name of the file without its suffix.
            places: relative paths without suffix that are looked at first.

        Raises:
            RowProblem: `clip_missing`, `clip_ambiguous` or `path_outside`.
        """
        # Places come from strangers' files: they may name no folder above.
        for place in places:
            parts = PurePosixPath(place)
            if parts.is_absolute() or ".." in parts.parts or "\0" in place:
                raise RowProblem("path_outside", f"{place!r} must be a path inside {self.root}")
            for suffix in SUFFIXES:
                for ending in (suffix, suffix.upper()):
                    name = self._names.spelled(PurePosixPath(f"{place}{ending}")).as_posix()
                    if os.path.exists(self.root / name):  # noqa: PTH110 - Path.exists() raises for a long name
                        return self._checked(name)
        stem = composed(clip_id)
        if stem not in self._by_stem:
            raise RowProblem("clip_missing", f"no {clip_id}{{{','.join(SUFFIXES[:4])},...}} in {self.root}")
        return self._checked(self._names.spelled(PurePosixPath(self._by_stem[stem])).as_posix())

    def _add(self, names: list[str]) -> None:
        clips = [name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES]
        for name in sorted(clips, key=lambda one: SUFFIXES.index(PurePosixPath(one).suffix.lower())):
            self._by_stem.setdefault(composed(PurePosixPath(name).stem), name)

    def _checked(self, name: str) -> tuple[str, Path]:
        return name, regular_inside(self.root, name, named=name, folder="the folder of the clips")


def regular_inside(root: Path, relative: str, *, named: str, folder: str) -> Path:
    """The file at `relative` below a resolved `root`, called `named` and `folder` where it cannot be used.

    Raises:
        RowProblem: `clip_missing`, or `path_outside` for a link that leads out.
    """
    path = root / relative
    try:
        resolved = path.resolve(strict=True)
        is_regular = stat.S_ISREG(resolved.stat().st_mode)
    except (OSError, RuntimeError):
        raise RowProblem("clip_missing", f"there is no file {named!r} in {folder}") from None
    if not resolved.is_relative_to(root):
        raise RowProblem("path_outside", f"{named!r} is a link that leaves {folder}")
    if not is_regular:
        raise RowProblem("clip_missing", f"{named!r} is not a regular file")
    return path
