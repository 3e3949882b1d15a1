"""Under which licence a student may be passed on: that of its base, as far as the base says so itself.

A licence is a claim about somebody else's work, so nothing is guessed: what no file of the base names is unknown.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from aot.config import EMBEDDED_STUDENTS, RunConfig

SYNTHETIC = ("toy_kitchen", "toy_math")
"""Data sets that come with this project."""
OWN = "Apache-2.0"
UNKNOWN = "unknown"
_NAME = r"[\"']?([A-Za-z0-9][A-Za-z0-9.+_-]{0,60})[\"']?[ \t]*(?:\n|$)"
_FIELD = {
    key: re.compile(rf"^{key}:[ \t]*(?:\n[ \t]*-[ \t]*)?{_NAME}", re.MULTILINE) for key in ("license", "license_name")
}
_FILES = re.compile(r"(?:licen[cs]e|copying)(?:[.-].*)?", re.IGNORECASE)
_TEXTS = (
    ("apache-2.0", re.compile(r"Apache License\s+Version 2\.0")),
    ("mit", re.compile(r"Permission is hereby granted, free of charge, to any person obtaining a copy")),
)
"""Licences that are known by their own words."""
_READ_BYTES = 1 << 16


@dataclass(frozen=True)
class Licence:
    """What the card says about it."""

    name: str
    """For the metadata."""
    sentence: str


def licence_of(config: RunConfig) -> Licence:
    """The licence of the students of a run."""
    base, is_synthetic = config.student.base, config.data.dataset in SYNTHETIC
    if base in EMBEDDED_STUDENTS:
        if is_synthetic:
            return Licence(OWN, f"{OWN}.")
        return Licence(
            UNKNOWN, "unknown: the licence of the training data decides; fill it in before you pass the model on."
        )
    terms = "" if is_synthetic else " The training data may add terms of their own."
    name = base_licence(Path(base)) if Path(base).is_dir() else ""
    if not name:
        return Licence(UNKNOWN, f"unknown: see the base's licence, and fill it in before you pass the model on.{terms}")
    return Licence(name, f"{name}: the licence that the base gives itself.{terms}")


def base_licence(folder: Path) -> str:
    """The name of the licence that a model folder gives itself; `other` for a licence file that is not known.

    Asked in turn: the metadata of README.md, config.json, a licence file. Empty where none of them says anything.
    """
    head = re.match(r"---\r?\n(.*?)\r?\n---", _text(folder / "README.md"), re.DOTALL)
    fields = {key: field.search(head[1]) for key, field in _FIELD.items()} if head else {}
    named = [match[1] for key in ("license", "license_name") if (match := fields.get(key))]
    if named and named[0] != "other":
        return named[0]
    return named[-1] if named else _of_config(folder / "config.json") or _of_file(folder)


def _of_config(path: Path) -> str:
    try:
        value = json.loads(_text(path))["license"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return value if isinstance(value, str) and re.fullmatch(_NAME, value) else ""


def _of_file(folder: Path) -> str:
    for path in sorted(folder.iterdir()):
        if _FILES.fullmatch(path.name) and path.is_file():
            text = _text(path)
            return next((name for name, words in _TEXTS if words.search(text)), "other")
    return ""


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_READ_BYTES).decode(errors="replace")
    except OSError:
        return ""
