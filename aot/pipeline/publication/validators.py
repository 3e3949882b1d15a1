"""The official validators of what is published for machines, where they are installed (the extra `validate`).

CycloneDX brings the schema of its version 1.7; `mlcroissant` reads Croissant 1.1 as a program would that uses the data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aot.display import counted, one_line
from aot.errors import install_command
from aot.pipeline.publication.chain import BOM, CROISSANT


@dataclass(frozen=True)
class Finding:
    """What a validator said of a file."""

    file: str
    validator: str
    """With its version; what is missing where `errors` is None."""
    errors: tuple[str, ...] | None
    """None where it is not installed."""


def validated(folder: Path) -> list[Finding]:
    """What each validator says of its file in a published folder."""
    return [_finding(folder, BOM, "cyclonedx", _of_bom), _finding(folder, CROISSANT, "mlcroissant", _of_croissant)]


def finding_line(finding: Finding) -> str:
    """One finding, for the terminal."""
    if finding.errors is None:
        return f"{finding.file}: not validated, {finding.validator} is not installed; {install_command('validate')}"
    first = f", first: {one_line(finding.errors[0])[:500]}" if finding.errors else ""
    return f"{finding.file}: {finding.validator}: {counted(len(finding.errors), 'error')}{first}"


def _finding(folder: Path, name: str, package: str, validate: Callable[[Path], tuple[str, list[str]]]) -> Finding:
    try:
        version, errors = validate(folder / name)
    except ModuleNotFoundError:
        return Finding(name, package, None)
    return Finding(name, version, tuple(errors))


def _of_bom(path: Path) -> tuple[str, list[str]]:
    import jsonschema  # noqa: F401 - the validator without it knows no schema of JSON
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    problems = JsonStrictValidator(SchemaVersion.V1_7).validate_str(path.read_text(encoding="utf-8"), all_errors=True)
    return f"schema of CycloneDX 1.7 (cyclonedx-python-lib {version('cyclonedx-python-lib')})", [
        str(getattr(one.data, "message", one.data)) for one in problems or ()
    ]


def _of_croissant(path: Path) -> tuple[str, list[str]]:
    import mlcroissant

    try:
        issues: Any = mlcroissant.Dataset(str(path)).metadata.ctx.issues
        errors, warnings = [str(one) for one in issues.errors], len(issues.warnings)
    except mlcroissant.ValidationError as error:
        errors, warnings = [str(error)], 0
    return f"mlcroissant {version('mlcroissant')}, {counted(warnings, 'warning')}", errors
