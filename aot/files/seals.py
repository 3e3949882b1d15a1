"""Lines, bytes and SHA-256 of the JSON files that a stage published: kept in run.json, compared before they are read.

Files that a stage uses again when it is repeated get theirs at once, beside them (`lessons.seal`), so that processes
which work side by side on one stage share no paper. A file that was cut or altered since is never read as if it were
whole: it is named, with what would make it anew. A
file that is gone is no matter of this module: its stage is not done then (aot.files.run_folder). Weights have
manifests of their own, frames checksums in their index. Run folders of before seals were made are taken as they are.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from aot.display import counted
from aot.errors import RunError
from aot.files.run_folder import CHECKPOINTS, PUBLISHED, RunFolder, publish, publish_rows, read_run_json
from aot.records import Record

log = logging.getLogger(__name__)
BESIDE = {"prepare": ("book",), "generate": ("attempts", "faults"), "evaluate": ("student_traces",)}
"""What stages publish, if anything, besides what they must; as properties of RunFolder."""
NAMED = 5
"""Damaged files that an error names."""


class Seal(Record):
    """What one file was when it was published."""

    model_config = ConfigDict(extra="ignore")  # earlier versions noted more

    lines: int
    bytes: int
    sha256: str


def seal_of(path: Path) -> Seal:
    """The seal of a file as it is now, read in blocks."""
    digest, lines, size = hashlib.sha256(), 0, 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            lines += block.count(b"\n")
            size += len(block)
    return Seal(lines=lines, bytes=size, sha256=digest.hexdigest())


def stage_seals(run: RunFolder, stage: str) -> dict[str, dict[str, object]]:
    """Seals of everything that `stage` has left behind, by path in the run folder, as run.json keeps them."""
    return {path.relative_to(run.root).as_posix(): seal_of(path).model_dump() for path in sorted(_files(run, stage))}


def publish_once(path: Path, rows: Callable[[], Iterable[BaseModel]]) -> None:
    """Publish `rows` with their seal, unless an earlier attempt has published `path`."""
    if path.exists():
        return
    _seal_path(path).unlink(missing_ok=True)  # of a file that was deleted since
    publish_rows(path, rows())
    publish(_seal_path(path), seal_of(path).model_dump_json() + "\n")


def check_seals(run: RunFolder, stages: Sequence[str], *, folders: Container[Path] | None = None) -> None:
    """Compare the files that `stages` published, or those of them that lie in `folders`, with their seals.

    Raises:
        RunError: some are not what they were; it names them, and what to do.
    """
    broken = [
        f"{run.root / name} {problem}; the {stage} stage published {counted(seal.lines, 'line')}, {seal.bytes} bytes"
        for stage in stages
        for name, seal in read_seals(run, stage, folders=folders).items()
        if (problem := _problem(run.root / name, seal))
    ]
    if not broken:
        return
    more = f"; and {len(broken) - NAMED} more files" if len(broken) > NAMED else ""
    raise RunError(
        f"{'; '.join(broken[:NAMED])}{more}. Put back what was published, or delete "
        f"{'this file' if len(broken) == 1 else 'these files'} and give the `aot run CONFIG` of {run.root} again, "
        f"which makes {'it' if len(broken) == 1 else 'them'} anew"
    )


def unsealed_stages(run: RunFolder, stages: Iterable[str]) -> list[str]:
    """Those of the finished `stages` whose files have no seals, because an earlier version of aot published them."""
    entries = read_run_json(run)["stages"]
    return [stage for stage in stages if "files" not in entries.get(stage, {})]


def read_seals(run: RunFolder, stage: str, *, folders: Container[Path] | None = None) -> dict[str, Seal]:
    """Path in the run folder to seal, those beside the files too; empty where none were made.

    With `folders` only of files that lie in one of them, and not deeper.

    Raises:
        RunError: run.json holds something else there, or a seal beside a file cannot be read.
    """
    entries = read_run_json(run)["stages"].get(stage, {}).get("files", {})
    try:
        noted = {name: Seal.model_validate(entry) for name, entry in entries.items()}
    except (ValidationError, AttributeError):
        raise RunError(f"{run.run_json}: files of stage {stage} are not noted as they should be; restore it") from None
    beside = ((path.relative_to(run.root).as_posix(), _seal_beside(path)) for path in _files(run, stage)
              if folders is None or path.parent in folders)  # fmt: skip
    seals = noted | {name: seal for name, seal in beside if seal}
    return {name: seal for name, seal in seals.items() if folders is None or (run.root / name).parent in folders}


def _seal_path(path: Path) -> Path:
    return path.with_suffix(".seal")


def _seal_beside(path: Path) -> Seal | None:
    try:
        return Seal.model_validate_json(_seal_path(path).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        raise RunError(f"{_seal_path(path)} is no seal of {path.name}; delete both to have them made anew") from None


def _files(run: RunFolder, stage: str) -> list[Path]:
    """The JSON files of a stage; of the report stage none, because people may edit what they read."""
    if stage == "report":
        return []
    if stage == "train":
        return list(_arm_files(run.arm("")))
    places = [getattr(run, name) for name in (*PUBLISHED[stage], *BESIDE.get(stage, ()))]
    return [path for place in places for path in (sorted(place.glob("*.json*")) if place.is_dir() else [place])
            if path.is_file()]  # fmt: skip


def _arm_files(root: Path) -> Iterator[Path]:
    """JSON files of all students and helpers; not of checkpoints, which a job beside this one may be removing."""
    for folder, inner, names in os.walk(root):
        inner[:] = [name for name in inner if name != CHECKPOINTS]
        yield from (Path(folder, name) for name in names if name.endswith((".json", ".jsonl")))


def _problem(path: Path, seal: Seal) -> str:
    """What is wrong with a file; empty if nothing is, or if there is none."""
    try:
        size = path.stat().st_size
        if size == seal.bytes:
            return "" if seal_of(path).sha256 == seal.sha256 else "was altered, though it is as long as it was"
        return f"holds {counted(seal_of(path).lines, 'line')}, {size} bytes"
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
