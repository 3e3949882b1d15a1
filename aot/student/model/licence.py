"""Under which licence a student may be passed on, as the files of its base name it.

That is a claim about somebody else's work, so nothing is guessed: what no file names is unknown.
"""

import json
import re
from pathlib import Path

from aot.config import EMBEDDED_STUDENTS
from aot.student.model.folders import CONFIG

SYNTHETIC = ("toy_kitchen", "toy_math")
"""Data sets that come with this project."""
OWN = "Apache-2.0"
UNKNOWN = "unknown"
_NAME = r"[\"']?([A-Za-z0-9][A-Za-z0-9.+_-]{0,60})[\"']?[ \t]*(?:\n|$)"
_FIELDS = [re.compile(rf"^{key}:[ \t]*(?:\n[ \t]*-[ \t]*)?{_NAME}", re.M) for key in ("license", "license_name")]
_FILES = re.compile(r"(?:licen[cs]e|copying)(?:[.-].*)?", re.IGNORECASE)
_TEXTS = (
    ("apache-2.0", re.compile(r"Apache License\s+Version 2\.0")),
    ("mit", re.compile(r"Permission is hereby granted, free of charge, to any person obtaining a copy")),
)
"""Licences that are known by their own words."""
_READ_BYTES = 1 << 16


def licence_of(base: str, dataset: str) -> tuple[str, str]:
    """The licence of the students of a run, for the metadata, and what the card says about it."""
    is_synthetic = dataset in SYNTHETIC
    if base in EMBEDDED_STUDENTS:
        if is_synthetic:
            return OWN, f"{OWN}."
        return UNKNOWN, "unknown: the licence of the training data decides; fill it in before you pass the model on."
    terms = "" if is_synthetic else " The training data may add terms of their own."
    name = base_licence(Path(base)) if Path(base).is_dir() else ""
    if not name:
        return UNKNOWN, f"unknown: see the base's licence, and fill it in before you pass the model on.{terms}"
    return name, f"{name}: the licence that the base gives itself.{terms}"


def licences_of(base: str, dataset: str) -> dict[str, str]:
    """The licences of a base, of the data, and of a student made from both."""
    own_base = OWN if base in EMBEDDED_STUDENTS else base_licence(Path(base)) if Path(base).is_dir() else ""
    data = OWN if dataset in SYNTHETIC else UNKNOWN
    return {"base": own_base or UNKNOWN, "data": data, "student": licence_of(base, dataset)[0]}


def base_licence(folder: Path) -> str:
    """The name of the licence that a model folder gives itself; `other` for a licence file that is not known.

    Asked in turn: the metadata of README.md, config.json, a licence file. Empty where none of them says anything.
    """
    head = re.match(r"---\r?\n(.*?)\r?\n---", _text(folder / "README.md"), re.DOTALL)
    named = [match[1] for field in _FIELDS if head and (match := field.search(head[1]))]
    if named:
        return named[0] if named[0] != "other" else named[-1]
    try:
        value = json.loads(_text(folder / CONFIG))["license"]
    except (ValueError, LookupError, TypeError, RecursionError):
        value = None
    if isinstance(value, str) and re.fullmatch(_NAME, value):
        return value
    files = [path for path in sorted(folder.iterdir()) if _FILES.fullmatch(path.name) and path.is_file()]
    by_words = (name for name, words in _TEXTS for path in files[:1] if words.search(_text(path)))
    return next(by_words, "other" if files else "")


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_READ_BYTES).decode(errors="replace")
    except OSError:
        return ""
