"""The manifest of a published folder: every file with its hash, and a chain of hashes from the clips to the card.

Each link holds hashes of files, some of this folder and some of the run that stay there, and its own hash covers them
and the link before it. So a card belongs to one adapter, that to certain lessons, and those to certain clips. A changed
byte anywhere in the folder is told from a changed, missing or additional file. What this cannot tell is who made the
folder: whoever changes all of it can make a manifest that fits, so its hash belongs in a second place.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from aot.errors import RunError
from aot.files.run_folder import CONTRACT, MANIFEST, publish
from aot.records import Record
from aot.run_records import FileEntry
from aot.student.train.checkpoints import file_entry

CARD, NOTICE, BOM, CROISSANT, CLIPS = "README.md", "NOTICE.md", "bom.cdx.json", "croissant.json", "clips.jsonl"
STUDENT, DATA = "student", "data"
MANIFEST_HASH = f"{MANIFEST}.sha256"
"""Beside the manifest, as `sha256sum --check` reads it."""
LinkName = Literal["clips", "questions", "traces", "lessons", "adapter", "card"]
LINKS: dict[LinkName, str] = {
    "clips": "the clips whose frames were shown",
    "questions": "the questions about them, of every split",
    "traces": "all traces that the teacher wrote",
    "lessons": "the traces that passed the filters, and what the student was taught from them",
    "adapter": "the weights that were learned, and the student that they were merged into",
    "card": "what is said of all this",
}
"""In the order of the chain."""


class ChainFile(Record):
    """A file that a link is about."""

    place: Literal["run", "here"]
    """Whether it stays in the run folder, or lies in this one."""
    name: str
    """Path relative to that folder."""
    size: int
    sha256: str


class ChainLink(Record):
    """One step from the clips to the card."""

    name: LinkName
    files: tuple[ChainFile, ...]
    sha256: str
    """Of this link's files and of the link before it."""


class Publication(Record):
    """The manifest of a published folder."""

    version: int = 1
    name: str
    """Of the student, as servers name it."""
    run: str
    """Name of the run folder."""
    arm: str
    licences: dict[str, str]
    """Of the base, the data and the student."""
    stated: tuple[str, ...] = ()
    """Those of them that no file names, and that whoever published stated."""
    made: str
    """When, in UTC."""
    chain: tuple[ChainLink, ...]
    files: tuple[FileEntry, ...]
    """Everything in the folder but the manifest and its hash."""


def run_files(root: Path, paths: Iterable[Path]) -> list[ChainFile]:
    """Entries of files of a run; those that are not there are left out."""
    entries = (file_entry(path, folder=root) for path in paths if path.is_file())
    return [ChainFile(place="run", **entry.model_dump()) for entry in entries]


def files_here(entries: Iterable[FileEntry], names: Iterable[str]) -> list[ChainFile]:
    """Entries of files of the published folder: those of these names, and all below names that end with a slash."""
    wanted = tuple(names)
    below = tuple(name for name in wanted if name.endswith("/"))
    return [
        ChainFile(place="here", **one.model_dump())
        for one in entries
        if one.name in wanted or (below and one.name.startswith(below))
    ]


def chained(parts: Sequence[tuple[LinkName, Sequence[ChainFile]]]) -> tuple[ChainLink, ...]:
    """The links over these files, each with a hash that covers the one before it."""
    links: list[ChainLink] = []
    for name, files in parts:
        before = links[-1].sha256 if links else ""
        links.append(ChainLink(name=name, files=tuple(files), sha256=_link_hash(before, name, files)))
    return tuple(links)


def _link_hash(before: str, name: str, files: Sequence[ChainFile]) -> str:
    row = {"before": before, "name": name, "files": [one.model_dump() for one in files]}
    return hashlib.sha256(json.dumps(row, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def folder_entries(folder: Path) -> Iterator[FileEntry]:
    """Every file but the manifest and its hash, in the order of their names.

    Raises:
        RunError: there is a link, or something that is no plain file.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise RunError(f"{path} is no plain file and does not belong to what was published; move it elsewhere")
        if path.is_file() and path not in (folder / MANIFEST, folder / MANIFEST_HASH):
            yield file_entry(path, folder=folder)


def write_manifest(folder: Path, publication: Publication) -> None:
    """Write the manifest, and its hash beside it."""
    text = publication.model_dump_json(indent=1) + "\n"
    publish(folder / MANIFEST, text)
    publish(folder / MANIFEST_HASH, _hash_line(text.encode()))


def _hash_line(manifest: bytes) -> str:
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n"


def manifest_hash(folder: Path) -> str:
    """SHA-256 of the manifest as it is."""
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def read_manifest(folder: Path) -> Publication:
    """The manifest of a published folder, after its own hash was compared.

    Raises:
        RunError: there is none, it was altered, or it is none that can be read here.
    """
    path = folder / MANIFEST
    try:
        content, noted = path.read_bytes(), (folder / MANIFEST_HASH).read_bytes()
    except FileNotFoundError as error:
        there = "it holds an exported student, no more: " if (folder / CONTRACT).is_file() else ""
        raise RunError(
            f"{folder} is nothing that was published ({there}{Path(str(error.filename)).name} is missing); "
            "make one with aot publish RUN OUT"
        ) from None
    except OSError as error:
        raise RunError(f"{folder}: {error.strerror or error}; give a folder that aot publish made") from None
    if noted != _hash_line(content).encode():
        raise RunError(f"{path} and {MANIFEST_HASH} do not fit each other: one was altered; publish again")
    try:
        return Publication.model_validate_json(content)
    except ValidationError:
        raise RunError(f"{path} is no manifest that can be read here; publish again, or update aot-distill") from None


def problems_of(folder: Path, publication: Publication) -> list[str]:
    """What is not as the manifest says, each in a sentence; empty where everything is.

    Raises:
        RunError: the folder holds a link, or something that is no plain file.
    """
    there = {one.name: one for one in folder_entries(folder)}
    listed = {one.name: one for one in publication.files}
    problems = [f"{name} is missing" for name in listed if name not in there]
    problems += [f"{name} was altered" for name, one in listed.items() if name in there and there[name] != one]
    problems += [f"{name} is not listed" for name in there if name not in listed]
    before = ""
    for link in publication.chain:
        if link.sha256 != _link_hash(before, link.name, link.files):
            problems.append(f"the link {link.name} of the chain does not follow from the one before it")
        before = link.sha256
        for one in link.files:
            entry = FileEntry(name=one.name, size=one.size, sha256=one.sha256)
            if one.place == "here" and listed.get(one.name) != entry:
                problems.append(f"the link {link.name} of the chain is about another {one.name}")
    if [link.name for link in publication.chain] != [name for name in LINKS if name in _names(publication)]:
        problems.append("the chain has not its links in their order")
    return problems


def _names(publication: Publication) -> set[str]:
    return {link.name for link in publication.chain} | set(LINKS) - {"clips"}


def strange_links(publication: Publication, root: Path) -> list[str]:
    """Links whose files in the run folder `root` are others now, or are not there, each in a sentence."""
    strange = []
    for link in publication.chain:
        wanted = [one for one in link.files if one.place == "run"]
        # A manifest of a stranger is no reason to look at files outside of the run.
        inside = [root / one.name for one in wanted if (root / one.name).resolve().is_relative_to(root.resolve())]
        there = {one.name: one for one in run_files(root, inside)}
        changed = [one.name for one in wanted if there.get(one.name) != one]
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            strange.append(f"the link {link.name} does not come from {root}: {changed[0]}{more} is another file there")
    return strange
