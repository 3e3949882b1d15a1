"""Checkpoint folders with a manifest: size and SHA-256 of every file, written last, so that half a save is no save.

One is written under another name and renamed when it is whole. The newest intact checkpoint wins; a damaged one is
skipped and named. Nothing here knows what the files mean.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from aot.errors import AotError, CheckpointError, GuardStop
from aot.files import jsonl
from aot.files.disk import sync_folder
from aot.files.run_folder import MANIFEST, publish, write_error
from aot.records import Record
from aot.run_records import FileEntry

log = logging.getLogger(__name__)

PREFIX = "checkpoint-"
UNFINISHED = "unfinished"
"""Folder beside the checkpoints in which one is written."""
SAVED = "SAVED"
"""Lies beside checkpoints once one was finished: then a folder without manifest is damage, not a first save."""

_FULL = ("no space left", "file too large", "quota exceeded", "file write failed", "failed writing", "unexpected pos")
"""How torch and safetensors put it, which keep the number of the error to themselves."""


class Manifest(Record):
    """Everything a checkpoint holds, and the set-up it can be resumed with."""

    step: int
    world_size: int = 1
    zero_stage: int = 0
    sharding: str = "zero"
    any_processes: bool = False
    """Whether another number of processes may go on: no random number was taken that depends on how many there are."""
    files: tuple[FileEntry, ...]


def write_manifest(
    folder: Path,
    *,
    step: int,
    world_size: int = 1,
    zero_stage: int = 0,
    sharding: str = "zero",
    any_processes: bool = False,
) -> Manifest:
    """Describe every file of `folder` in its manifest, which is published last."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    files = [file_entry(path, folder=folder, sync=True) for path in paths]
    sync_folder(folder)
    manifest = Manifest(
        step=step, world_size=world_size, zero_stage=zero_stage, sharding=sharding, any_processes=any_processes,
        files=tuple(files),
    )  # fmt: skip
    publish(folder / MANIFEST, manifest.model_dump_json(indent=1) + "\n")
    return manifest


def publish_checkpoint(folder: Path, *, root: Path) -> None:
    """Give a checkpoint that has its manifest the name under which it counts."""
    final = root / folder.name
    if os.path.lexists(final):  # of the same step, and damaged: or training would have begun after it
        _remove(final)
    folder.rename(final)
    folder.parent.rmdir()
    sync_folder(root)


@contextmanager
def telling_full_disk(root: Path) -> Iterator[None]:
    """Turn what libraries throw when the disk of `root` is full into one sentence; half a checkpoint is taken away.

    Raises:
        GuardStop: the disk is full; the checkpoints that were there are intact.
    """
    try:
        yield
    except AotError:
        raise
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        by_number = isinstance(error, OSError) and isinstance(write_error(root, error), GuardStop)
        if not by_number and not any(mark in words.lower() for mark in _FULL):
            raise
        shutil.rmtree(root / UNFINISHED, ignore_errors=True)
        steps = sorted(map(checkpoint_step, checkpoint_folders(root)))
        left = f"the checkpoint of step {steps[-1]} is untouched" if steps else "there is none before it"
        raise GuardStop(
            f"no_space: a checkpoint could not be written to {root} ({words}); {left}. Free space, then run the same "
            "command again: it goes on from there"
        ) from error


def file_entry(path: Path, *, folder: Path, sync: bool = False) -> FileEntry:
    """The name of a file in `folder`, its size and its hash; `sync` has it on the disk before."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if sync:
            os.fsync(file.fileno())
    return FileEntry(name=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=digest)


def note_saved(root: Path) -> None:
    """Leave word that a checkpoint in `root` got its manifest."""
    if not (root / SAVED).exists():
        publish(root / SAVED, "")


def check_folder(folder: Path) -> Manifest:
    """The manifest of `folder` after every file was compared with it.

    Raises:
        CheckpointError: the manifest is missing or unreadable, or a file is missing or altered; it is named.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder")
    manifest = read_manifest(folder)
    for entry in manifest.files:
        path = folder / entry.name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing; its manifest lists it")
        if path.stat().st_size != entry.size:
            raise CheckpointError(f"{path} has {path.stat().st_size} bytes, its manifest says {entry.size}")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256:
                raise CheckpointError(f"{path} was altered: its SHA-256 is not the one in its manifest")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of `folder`, without a look at the files it lists.

    Raises:
        CheckpointError: it is missing or unreadable.
    """
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no {MANIFEST}: its save was never finished") from None
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"{folder / MANIFEST} cannot be read; restore it or train again") from error


def newest_intact(root: Path) -> Manifest | None:
    """Manifest of the newest intact checkpoint, which names its step; damaged newer ones are logged and passed over.

    None if no checkpoint was ever finished, so that training begins.

    Raises:
        GuardStop: some were finished, and all of them are damaged; nothing was changed.
    """
    if os.path.lexists(root) and not root.is_dir():
        raise GuardStop(
            f"{root} should be the folder of checkpoints and is none; delete it and run the same command again"
        )
    problems: list[str] = []
    folders = sorted(checkpoint_folders(root), key=checkpoint_step, reverse=True)
    for folder in folders:
        try:
            manifest = check_folder(folder)
            if manifest.step != checkpoint_step(folder):
                raise CheckpointError(f"its manifest is that of step {manifest.step}")
        except CheckpointError as error:
            log.warning("skipped checkpoint %s: %s", folder.name, error)
            problems.append(f"{folder.name}: {error}")
        else:
            return manifest
    # A kill during the very first save leaves one folder without manifest, and nothing that says it was finished.
    one_begun = len(folders) == 1 and not (root / SAVED).exists() and folders[0].is_dir()
    if not folders or (one_begun and not (folders[0] / MANIFEST).exists()):
        return None
    raise GuardStop(
        f"all checkpoints in {root} are damaged ({'; '.join(problems)}); put one of them back, or delete that folder "
        "to train this arm from the start; then run the same command again"
    )


def checkpoint_folders(root: Path) -> list[Path]:
    """What is named like a checkpoint, damaged ones too, such as a file in place of the folder."""
    if not root.is_dir():
        return []
    return [p for p in root.iterdir() if p.name.startswith(PREFIX) and p.name[len(PREFIX) :].isdigit()]


def checkpoint_step(folder: Path) -> int:
    """The optimiser step a checkpoint folder is named after."""
    return int(folder.name[len(PREFIX) :])


def remove_newer(root: Path, *, step: int) -> None:
    """Delete checkpoints after `step`, which are damaged, and an unfinished one: they will be written again."""
    shutil.rmtree(root / UNFINISHED, ignore_errors=True)
    for folder in checkpoint_folders(root):
        if checkpoint_step(folder) > step:
            _remove(folder)


def keep_newest(root: Path, *, count: int, besides: int | None = None) -> None:
    """Delete all but the `count` newest checkpoints; call it only after the newest got its manifest.

    `besides` is the step of an older one that is kept, too.
    """
    for folder in sorted(checkpoint_folders(root), key=checkpoint_step)[:-count]:
        if checkpoint_step(folder) != besides:
            _remove(folder)


def _remove(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    else:
        folder.unlink()


def read_json(path: Path) -> dict[str, object]:
    """A JSON object that this project wrote.

    Raises:
        CheckpointError: it is missing or not JSON.
    """
    try:
        data = jsonl.read_json(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path} ({error}); train this arm again") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return data
