"""The contract of an exported student: read and checked before any weight is loaded; knows no torch."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from aot.errors import CheckpointError
from aot.files.run_folder import CONTRACT, publish
from aot.served_records import CONTRACT_VERSION, FileHash, StudentContract


def read_contract(folder: Path, *, check_files: bool = True) -> StudentContract:
    """The contract of an exported folder, after every file was compared with it.

    Raises:
        CheckpointError: no export lies there, its major version is unknown, or a file is missing, altered or not its.
    """
    path = folder / CONTRACT
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} holds no exported student; make one with aot export RUN {folder}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; export the student again") from None
    version = str(row.get("version", "")) if isinstance(row, dict) else ""
    if isinstance(row, dict) and "files" not in row:
        raise CheckpointError(f"{folder} is an arm of a run, not an exported student; use aot export RUN OUT")
    if version.partition(".")[0] != CONTRACT_VERSION.partition(".")[0]:
        readable = f"{CONTRACT_VERSION.partition('.')[0]}.x"
        raise CheckpointError(
            f"{path} has contract version {version!r}, {readable} can be read here; update aot-distill"
        )
    fields = StudentContract.model_fields
    try:  # a newer minor version may say more
        contract = StudentContract.model_validate_json(json.dumps({k: v for k, v in row.items() if k in fields}))
    except ValidationError as error:
        problem = error.errors()[0]
        raise CheckpointError(f"{path}: {problem['msg']} at {problem['loc']}; export the student again") from None
    if check_files:
        _check_files(folder, contract)
    return contract


def publish_contract(folder: Path, contract: StudentContract) -> StudentContract:
    """Write the contract over the files that lie in `folder` now; returns it with their hashes."""
    whole = contract.model_copy(update={"files": tuple(_hashes(folder))})
    publish(folder / CONTRACT, whole.model_dump_json(indent=1) + "\n")
    return whole


def _check_files(folder: Path, contract: StudentContract) -> None:
    there = {one.name: one for one in _hashes(folder)}
    for listed in contract.files:
        if listed.name not in there:
            raise CheckpointError(f"{folder / listed.name} is missing; export the student again")
        if there[listed.name] != listed:
            raise CheckpointError(f"{folder / listed.name} was altered after the export; export the student again")
    # A stray template or weight file would be read by libraries beside those that were proved.
    if stray := sorted(there.keys() - {one.name for one in contract.files}):
        raise CheckpointError(f"{folder / stray[0]} does not belong to the export; move it elsewhere")


def _hashes(folder: Path) -> Iterator[FileHash]:
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / CONTRACT):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        yield FileHash(name=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=digest)
