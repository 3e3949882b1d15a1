"""The contract of an exported student: read and checked before any weight is loaded; knows no torch.

Its JSON schema, for readers in other languages: `python -m aot.serving.contract > docs/student_contract.schema.json`.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from aot.errors import CheckpointError, first_problem
from aot.files.run_folder import CONTRACT, publish
from aot.run_records import FileEntry
from aot.served_records import CONTRACT_VERSION, StudentContract
from aot.student.train.checkpoints import file_entry


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
    try:
        contract = _contract_of(row, is_newer=_minor(version) > _minor(CONTRACT_VERSION))
    except ValidationError as error:
        raise CheckpointError(f"{path}: {first_problem(error)}; export the student again") from None
    if check_files:
        _check_files(folder, contract)
    return contract


def check_templates(renderer: Any, contract: StudentContract, folder: Path | str) -> None:  # noqa: ANN401 - Renderer needs torch
    """Let prompts be those that the student learned.

    Raises:
        CheckpointError: the files of the folder make other ones.
    """
    from aot.student.rows.talks import talk_hash

    for promised, now, what in (
        (contract.template_hash, renderer.template_hash(), "prompts"),
        (contract.talk_hash, talk_hash(renderer) if contract.talk_hash else "", "talks"),
    ):
        if now != promised:
            words = f"{folder} promises {what} of template {promised}, its files make {now}; export it again"
            raise CheckpointError(words)


def publish_contract(folder: Path, contract: StudentContract) -> StudentContract:
    """Write the contract over the files that lie in `folder` now; returns it with their hashes.

    Its version becomes the one of this reader, who knows no more fields than that.
    """
    whole = contract.model_copy(update={"version": CONTRACT_VERSION, "files": tuple(_hashes(folder))})
    publish(folder / CONTRACT, whole.model_dump_json(indent=1) + "\n")
    return whole


def replace_contract(folder: Path, contract: StudentContract) -> None:
    """Write a contract over one of the same files, which were compared when the export was loaded."""
    publish(
        folder / CONTRACT, contract.model_copy(update={"version": CONTRACT_VERSION}).model_dump_json(indent=1) + "\n"
    )


def contract_schema() -> str:
    """The JSON schema of a contract, as published; it lets newer minor versions say more."""
    schema = StudentContract.model_json_schema()
    # A reader of this version knows nothing of fields that later ones add, and need not.
    for record in (schema, *schema["$defs"].values()):
        if record.get("type") == "object":
            record["additionalProperties"] = True
    schema["title"] = f"Contract of an exported student, version {CONTRACT_VERSION.partition('.')[0]}.x"
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def _minor(version: str) -> int:
    """The minor number of a version; 0 where there is none."""
    minor = version.partition(".")[2]
    return int(minor) if minor.isdecimal() and len(minor) < 10 else 0


def _contract_of(row: Any, *, is_newer: bool) -> StudentContract:  # noqa: ANN401 - whatever JSON holds
    """The contract in a row; what a newer minor version says besides is left out, in records within records too.

    Raises:
        ValidationError: a field is missing or wrong, or unknown in a version whose fields are all known.
    """
    try:
        return StudentContract.model_validate_json(json.dumps(row))
    except ValidationError as error:
        unknown = [one["loc"] for one in error.errors() if one["type"] == "extra_forbidden"]
        if not is_newer or not unknown:
            raise
    kept = json.loads(json.dumps(row))
    for *places, name in unknown:
        record = kept
        for place in places:
            record = record[place]
        del record[name]
    return StudentContract.model_validate_json(json.dumps(kept))


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


def _hashes(folder: Path) -> Iterator[FileEntry]:
    """Every file but the contract.

    Raises:
        CheckpointError: one is a link out of the folder, or no file at all.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise CheckpointError(f"{path} is a link out of the export; put the file itself there")
        if path == folder / CONTRACT or (path.is_dir() and not path.is_symlink()):
            continue
        if not path.is_file():
            raise CheckpointError(f"{path} is no plain file and does not belong to the export; move it elsewhere")
        yield file_entry(path, folder=folder)


if __name__ == "__main__":
    sys.stdout.write(contract_schema())
