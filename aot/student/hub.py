"""Models and data sets of a hub, at one commit, whole and checked; the only module that talks to a hub.

A model is fetched into the folder that the run reads, a data set into the cache of `huggingface_hub`. Weights are
safetensors only: pickles and code are never fetched. Beside a model lies a lock with its commit and the SHA-256 of each
file, so that a branch means the same commit another time, and a second look needs no network.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from aot.config import HubModel
from aot.display import one_line
from aot.errors import GuardStop, RunError, SourceError
from aot.files.run_folder import MANIFEST, publish
from aot.records import Record
from aot.run_records import FileEntry

MODEL_FILES = (".safetensors", ".json", ".txt", ".model", ".jinja")
DATA_FILES = (".parquet", ".jsonl", ".json", ".csv")
PAPERS = ("readme", "license", "licence", "notice")
"""How the names of files begin that say what may be done with the others."""
TWICE = "consolidated"
"""How the names of the same weights begin that lie there once more, in the layout of their makers."""
SPARE_BYTES = 1 << 30
"""To be left free on the disk."""
Kind = Literal["model", "dataset"]


class HubLock(Record):
    """What lies in a folder that was fetched."""

    name: str
    revision: str
    """As the config names it."""
    commit: str
    files: tuple[FileEntry, ...] = ()
    """Empty until all of them have been fetched and checked."""


@dataclass(frozen=True)
class Remote:
    """One file of a repository at a commit."""

    name: str
    size: int
    sha256: str
    """Of a file in large storage; else empty."""
    blob: str
    """What git calls its content: SHA-1 of `blob SIZE`, a zero byte and the content."""


@dataclass(frozen=True)
class Listing:
    """The files of a repository that would be fetched."""

    name: str
    kind: Kind
    commit: str
    files: tuple[Remote, ...]

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(file.size for file in self.files)


def list_files(hub: HubModel, kind: Kind, *, commit: str = "", endpoint: str | None = None) -> Listing:
    """What the hub has under a name at a commit, or at that to which a branch or tag leads now.

    Raises:
        SourceError: there is no such name or state, none of its files can be used, or nobody answers.
    """
    with _hub_errors(hub):
        api = _api(endpoint)
        commit = commit or (hub.revision if _is_commit(hub.revision) else "")
        # A branch may move between two calls, so everything after this line names the commit.
        commit = commit or str(api.repo_info(hub.name, revision=hub.revision, repo_type=kind).sha)
        rows = api.list_repo_tree(hub.name, recursive=True, revision=commit, repo_type=kind)
        files = [
            Remote(row.path, row.size, row.lfs.sha256 if row.lfs else "", row.blob_id)
            for row in rows
            if hasattr(row, "blob_id") and _is_wanted(row.path, kind)
        ]
    if kind == "model" and not any(file.name.endswith(".safetensors") for file in files):
        raise SourceError(f"{hub.name} at {commit} has no safetensors, and other weights are never read; take a model "
                          "that has them")  # fmt: skip
    if not files:
        raise SourceError(f"{hub.name} at {commit} has no file that is read ({', '.join(DATA_FILES)})")
    return Listing(hub.name, kind, commit, tuple(sorted(files, key=lambda file: file.name)))


def _is_wanted(path: str, kind: Kind) -> bool:
    name = path.rpartition("/")[2].lower()
    is_paper = name.startswith(PAPERS) and "/" not in path and not name.endswith((".py", ".bin"))
    if kind == "dataset":
        return is_paper or name.endswith(DATA_FILES)
    return "/" not in path and (is_paper or name.endswith(MODEL_FILES)) and not name.startswith(TWICE)


def missing_bytes(listing: Listing, into: Path | None) -> int:
    """How much of a listing is not on this machine yet, by the sizes of files."""
    folder = into or _snapshot(listing)
    return sum(file.size for file in listing.files if _size(folder / file.name) != file.size)


def require_room(into: Path, num_bytes: int) -> None:
    """Return if so many bytes fit on the disk of a folder, and some more.

    Raises:
        GuardStop: they do not.
    """
    there = next(path for path in (into.absolute(), *into.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < num_bytes + SPARE_BYTES:
        raise GuardStop(
            f"no_space: {num_bytes / 1e9:.2f} GB are to be fetched into {into}, where {free / 1e9:.2f} GB are free and "
            f"{SPARE_BYTES / 1e9:.1f} GB shall stay so; free space, or give another folder"
        )


def fetch(hub: HubModel, listing: Listing, into: Path | None, *, endpoint: str | None = None) -> Path:
    """The folder that now holds a listing, each file compared with its hash; goes on where an earlier call stopped.

    Raises:
        SourceError: nobody answers, or a file came out damaged, which is then gone.
        AotError: the disk refuses.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():  # a log of a job would be full of them
        disable_progress_bars()
    if into is not None:
        # Before the first byte: a folder without a lock is somebody's own and never written into.
        write_lock(into, HubLock(name=hub.name, revision=hub.revision, commit=listing.commit))
    with _hub_errors(hub):
        place = snapshot_download(
            hub.name, repo_type=listing.kind, revision=listing.commit, local_dir=into, endpoint=_endpoint(endpoint),
            allow_patterns=[_exactly(file.name) for file in listing.files],
        )  # fmt: skip
    entries = checked(Path(place), listing)
    if into is not None:
        write_lock(into, HubLock(name=hub.name, revision=hub.revision, commit=listing.commit, files=entries))
    elif not _is_commit(hub.revision):
        # The library notes a branch only where it resolved the name itself, and it was given the commit.
        publish(_ref(hub.name, hub.revision), listing.commit)
    return Path(place)


def checked(folder: Path, listing: Listing) -> tuple[FileEntry, ...]:
    """Every file of a listing with its SHA-256, after a look at whether it is what the hub has.

    Raises:
        SourceError: some are not; they are deleted, so that the next call fetches them anew.
    """
    entries, damaged = [], []
    for file in listing.files:
        path = folder / file.name
        sha256, blob = _hashes(path)
        entries.append(FileEntry(name=file.name, size=_size(path), sha256=sha256))
        # Small files lie in git, which has no SHA-256 of them.
        if (sha256 != file.sha256) if file.sha256 else (blob != file.blob):
            damaged.append(file.name)
            path.resolve().unlink(missing_ok=True)  # of the cache the file itself, not the link to it
            path.unlink(missing_ok=True)
    if damaged:
        raise SourceError(
            f"{', '.join(damaged[:5])} of {listing.name} came out damaged and is gone from {folder}; give the "
            "command again"
        )
    return tuple(entries)


def fetched_dataset(name: str, revision: str) -> Path | None:
    """The snapshot of a data set that an earlier `fetch` left in the cache; None where there is none."""
    commit = revision if _is_commit(revision) else pinned_dataset(name, revision)
    folder = _repo_folder(name) / "snapshots" / commit
    return folder if commit and folder.is_dir() else None


def pinned_dataset(name: str, revision: str) -> str:
    """The commit that a branch or tag of a data set meant when it was fetched; empty where it was not."""
    try:
        return _ref(name, revision).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def read_lock(folder: Path) -> HubLock | None:
    """What was fetched into a folder; None where it was not fetched.

    Raises:
        SourceError: its lock cannot be read.
    """
    path = folder / MANIFEST
    try:
        return HubLock.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        raise SourceError(f"{path} cannot be read; delete it and give the command again") from None


def write_lock(folder: Path, lock: HubLock) -> None:
    """Publish the lock of a folder; raises AotError when the disk refuses it."""
    publish(folder / MANIFEST, lock.model_dump_json(indent=1) + "\n")


def damaged_files(folder: Path, lock: HubLock) -> list[str]:
    """The files of a folder that are not what was fetched, by size and SHA-256."""
    return [one.name for one in lock.files
            if _size(folder / one.name) != one.size or _hashes(folder / one.name)[0] != one.sha256]  # fmt: skip


def _hashes(path: Path) -> tuple[str, str]:
    """SHA-256 of a file, and what git calls its content; empty where it cannot be read."""
    sha256 = hashlib.sha256()
    blob = hashlib.sha1(f"blob {_size(path)}\0".encode(), usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                sha256.update(block)
                blob.update(block)
    except OSError:
        return "", ""
    return sha256.hexdigest(), blob.hexdigest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _is_commit(revision: str) -> bool:
    return len(revision) == 40 and all(letter in "0123456789abcdef" for letter in revision)


def _exactly(name: str) -> str:
    """A pattern that only this name fits."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _endpoint(endpoint: str | None) -> str | None:
    return endpoint or os.environ.get("HF_ENDPOINT") or None


def _api(endpoint: str | None) -> Any:  # noqa: ANN401 - the library is not imported at the top
    from huggingface_hub import HfApi

    return HfApi(endpoint=_endpoint(endpoint))


def cache_folder() -> Path:
    """Where `huggingface_hub` keeps what it fetched."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _repo_folder(name: str) -> Path:
    return cache_folder() / f"datasets--{name.replace('/', '--')}"


def _ref(name: str, revision: str) -> Path:
    return _repo_folder(name) / "refs" / revision


def _snapshot(listing: Listing) -> Path:
    return _repo_folder(listing.name) / "snapshots" / listing.commit


@contextmanager
def _hub_errors(hub: HubModel) -> Iterator[None]:
    """What the library of the hub throws, in one sentence of ours."""
    from huggingface_hub import errors

    what = f"{hub.name} at {hub.revision}"
    try:
        yield
    except errors.OfflineModeIsEnabled:
        raise SourceError(
            f"HF_HUB_OFFLINE is set, so {what} cannot be fetched; unset it where there is a network"
        ) from None
    except errors.GatedRepoError:
        raise SourceError(
            f"{hub.name} is given to those only who accepted its terms; accept them on its page, and put your token "
            "into HF_TOKEN"
        ) from None
    except errors.RevisionNotFoundError:
        raise SourceError(
            f"{hub.name} has no revision {hub.revision!r}; give one of its commits, branches or tags"
        ) from None
    except errors.RepositoryNotFoundError:
        raise SourceError(
            f"the hub has no {hub.name!r}, or shows it to others only; check the name, or set HF_TOKEN"
        ) from None
    except OSError as error:
        if error.errno is not None and error.filename is not None:
            raise RunError(f"cannot write {error.filename}: {error.strerror}; give another folder") from None
        raise SourceError(f"{what} cannot be fetched: {_words(error)}; is there a network?") from None
    except Exception as error:  # noqa: BLE001 - whatever a library throws
        raise SourceError(f"{what} cannot be fetched: {_words(error)}; is there a network?") from None


def _words(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}")[:300]
