"""What the readers of published data sets share: their settings, their result, strict reading of JSON and CSV files.

A reader knows one official format. It opens no clip and looks for none: the uri of its rows is the clip's official id,
and `annotated.py` puts the file there. Files are decoded so that a byte that is not UTF-8 spoils the row it stands in
and no other (`surrogateescape`, PEP 383).
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aot.errors import SourceError
from aot.files.jsonl import RefusedRow, RowProblem, without_nulls
from aot.files.tables import CsvLine, read_lines, read_table, unreadable
from video_data.datasets.rows import QuestionRow, SegmentRow, set_aside

TRAIN, TEST, UNTOLD = "train", "test", ""
"""Splits of a row as its file tells it; `UNTOLD` where the file says nothing."""
Layout = Literal["database", "list"]
MAX_ID_CHARS = 200


@dataclass(frozen=True)
class Wanted:
    """Which official files are read, and which questions are made of them."""

    train: Path | None
    test: Path | None
    test_share: float = 0.2
    kinds: tuple[str, ...] = ("next_choice", "next_open")
    num_choices: int = 4
    min_history: int = 1
    per_clip: int | None = 4
    window_s: float | None = None
    gap_s: float = 1.0
    seed: int = 0

    def files(self) -> list[tuple[Path, str]]:
        """The files in the order of reading, each with the split of rows that do not tell theirs.

        The training file tells nothing where it is the only one: then whole groups are held out.
        """
        untold = TRAIN if self.test else UNTOLD
        pairs = [(self.train, untold), (self.test, TEST)]
        return [(path, split) for path, split in pairs if path is not None]


@dataclass(frozen=True)
class StepClip:
    """The annotated steps of one clip, sorted by start."""

    id: str
    split: str
    task: str
    duration_s: float
    segments: tuple[SegmentRow, ...]
    start_s: float = 0.0
    """What lies before is not about the task."""
    places: tuple[str, ...] = ()
    """Relative paths, without suffix, where its file may lie too."""


@dataclass(frozen=True)
class Official:
    """What official files hold."""

    clips: tuple[StepClip, ...] = ()
    questions: tuple[QuestionRow, ...] = ()
    """Questions as given; next-step questions are made of `clips` by `next_steps.py`."""
    refused: tuple[RefusedRow, ...] = ()
    places: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The same of clips that questions are given about, by clip id."""
    notes: tuple[str, ...] = ()
    """What a user should know, a line each."""


def kitchen_places(kitchen: str, video: str) -> tuple[str, ...]:
    """Where a video of a kitchen of EPIC-KITCHENS may lie."""
    return f"{kitchen}/{video}", f"{kitchen}/videos/{video}"


def read_json(path: Path) -> tuple[Any, list[str]]:
    """The JSON value of a file, and keys that stood twice in one object (the first of each counts).

    Raises:
        SourceError: the file is missing, unreadable or not JSON.
    """
    twice: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for key, value in pairs:
            if key in fields:
                twice.append(key)
            fields.setdefault(key, value)  # Python's reader would take the last one in silence
        return fields

    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            return json.load(file, object_pairs_hook=unique), twice
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise SourceError(f"{path} is not JSON ({why}); download it again") from None
    except OSError as error:
        raise unreadable(path, error) from None


def read_database(path: Path) -> tuple[dict[str, Any], list[RefusedRow], Layout]:
    """Clip id to entry of a file such as COIN's, what of it is refused, and how the file is laid out.

    `database` is the official layout, an object of all entries; `list` is how other splits are published: a list with
    one entry in each item, `{"xZecGPPhbHE": {...}}`. What is null inside an entry counts as left out.

    Raises:
        SourceError: the file is missing, unreadable or holds neither.
    """
    value, twice = read_json(path)
    refused: list[RefusedRow] = []
    layout: Layout = "list" if isinstance(value, list) else "database"
    entries = value.get("database") if isinstance(value, dict) else None
    database: dict[str, Any] = entries if isinstance(entries, dict) else {}
    for number, item in enumerate(value if layout == "list" else ()):
        with set_aside(f"{path.name}[{number}]", refused):
            _check_entries(item)
            twice += [name for name in item if name in database]
            database |= {name: entry for name, entry in item.items() if name not in database}
    if not database:
        raise SourceError(
            f"{path} holds no object `database`, and is no list of entries; give the official annotation file"
        )
    refused += [RefusedRow(key, "duplicate_id", "stands twice; the first counts") for key in twice if key in database]
    return {key: without_nulls(entry) for key, entry in database.items()}, refused, layout


def _check_entries(item: object) -> None:
    """Refuse an item of a list that is no {clip id: entry}."""
    if not isinstance(item, dict):
        raise RowProblem("bad_value", f"an item must be {{clip id: entry}}, got {_kind(item)}")
    for name, entry in item.items():
        if not isinstance(entry, dict):
            raise RowProblem("bad_value", f"the entry of {name[:80]!r} must be an object, got {_kind(entry)}")


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__


def read_rows(path: Path) -> list[Any]:
    """The list in a JSON file, without what is null inside its rows; a SourceError where the file holds none."""
    value, _ = read_json(path)
    if not isinstance(value, list):
        raise SourceError(f"{path} must hold a list of questions; give the official annotation file")
    return [without_nulls(row) for row in value]


def read_csv(path: Path, *, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]] | RefusedRow]:
    """Place and fields of each row of a CSV file with a header, or a refused row.

    Raises:
        SourceError: the file is missing or unreadable, or its header lacks a column or names one twice.
    """
    names, lines = read_table(path)
    missing = [name for name in columns if name not in names]
    if missing and any(is_not_utf8(name) or "\0" in name for name in names):
        raise SourceError(f"{path} is not CSV in UTF-8; save it as UTF-8, or download it again")
    if missing:
        raise SourceError(f"{path} has no column {', '.join(missing)}; give an official annotation file with labels")
    for line in map(_in_utf8, lines):
        if isinstance(line, RefusedRow):
            yield line
            continue
        place, row = line
        fields = dict(zip(names, row, strict=False))
        if len(row) > len(names) or any(name not in fields for name in columns):
            yield RefusedRow(place, "broken_csv", "the row has more or fewer fields than the header")
        else:
            yield place, fields


def read_plain_csv(path: Path) -> list[list[str] | RefusedRow]:
    """The rows of a CSV file without a header, or refused rows; a SourceError where the file cannot be read."""
    return [line if isinstance(line, RefusedRow) else line[1] for line in map(_in_utf8, read_lines(path))]


def _in_utf8(line: CsvLine) -> CsvLine:
    """The row, or a refused row where one of its bytes is not UTF-8."""
    if isinstance(line, tuple) and any(map(is_not_utf8, line[1])):
        return RefusedRow(line[0], "not_utf8", "the row holds a byte that is not UTF-8")
    return line


def is_not_utf8(text: str) -> bool:
    """Whether a byte of `text` could not be decoded."""
    return any("\udc80" <= char <= "\udcff" for char in text)


def text_of(value: object, what: str) -> str:
    """A text with single spaces; a RowProblem where it is none, empty, or cannot be written as UTF-8."""
    if not isinstance(value, str) or not value.strip():
        raise RowProblem("bad_value", f"{what} must be a text, got {value!r}"[:200])
    if is_not_utf8(value):
        raise RowProblem("not_utf8", f"{what} holds a byte that is not UTF-8")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise RowProblem("bad_text", f"{what} holds half a character (a lone surrogate)")
    return " ".join(value.split())


def clip_id_of(value: object) -> str:
    """The official id of a clip; a RowProblem where it could name a file elsewhere."""
    name = text_of(value, "the id of a clip")
    if "/" in name or "\\" in name or "\0" in name or name in (".", "..") or len(name) > MAX_ID_CHARS:
        why = f"{name[:MAX_ID_CHARS]!r} is no id of a clip: it names a folder, or is too long"
        raise RowProblem("bad_clip_id", why)
    return name


def seconds_of(value: object, what: str) -> float:
    """A time in seconds; a RowProblem where it is no finite number from 0."""
    try:
        # float(True) is 1.0, and no second.
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        number = float(value)
    except (ValueError, OverflowError):
        raise RowProblem("bad_value", f"{what} must be a number of seconds, got {value!r}"[:200]) from None
    if not math.isfinite(number) or number < 0:
        raise RowProblem("bad_value", f"{what} must be a number of seconds from 0, got {number}")
    return number


def folded(label: str) -> str:
    """A label without case and the last dot: drawn options differ in more than these, as the grader folds them."""
    return label.casefold().rstrip(". ")
