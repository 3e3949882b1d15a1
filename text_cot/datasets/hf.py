"""Data sets of the `datasets` library, row by row: which files and splits there are it tells, their rows are read here.

A file is read as any other file of text problems; a folder of `save_to_disk` from its memory maps; a folder of data
files, or a snapshot of the hub that `aot prefetch` left, by its card. Nothing is fetched, no code of a data set runs.
"""

import itertools
import json
import logging
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from aot.config import HfSection
from aot.errors import ConfigError, MissingPackageError, SourceError, install_command
from aot.files.jsonl import RefusedRow, refused_words
from text_cot.datasets.chats import no_layout, pick_layout
from text_cot.datasets.files import LOOK_AHEAD, SplitReader
from text_cot.datasets.layouts import Layout
from text_cot.datasets.rows import TextRow, read_rows
from text_cot.datasets.source import TextSource

log = logging.getLogger(__name__)
HF = "hf"
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
CARD = "README.md"
_SAVED = ("dataset_dict.json", "state.json")
"""What `save_to_disk` leaves: of several splits, or of one."""
_READABLE = (".parquet", ".jsonl", ".json", ".csv")
_MEDIA_FEATURES = ("Image", "Audio", "Video", "Pdf")
Rows = Iterator[TextRow | RefusedRow]
Splits = dict[str, Callable[[], Rows]]


def read_hf(section: HfSection, *, seed: int, limit: int | None) -> TextSource:
    """Questions of the splits `train` and `test`, chains that came with them, and a refusal for each unusable row.

    Raises:
        SourceError: nothing can be read there, or no row of it be used.
        ConfigError: `data.hf.path`, or a split that is named, is not there.
        MissingPackageError: a folder is given and `datasets` is not installed.
    """
    splits = open_splits(section)
    has_test = "test" in splits
    reader = SplitReader(HF, test_share=0.0 if has_test else section.test_share, seed=seed, limit=limit)
    for role in ("test", "train") if has_test else ("train",):
        rows, layout, place = _with_layout(splits[role](), section, place=f"{section.path} ({role})")
        log.info("%s: reads the columns %s", place, ", ".join(layout.wanted))
        reader.read(itertools.islice(rows, section.first_rows), layout, role=role, place=place)
    return reader.source()


def open_splits(section: HfSection) -> Splits:
    """How the rows of `train` and, where one is named, `test` are read; looks at names and cards only.

    Raises:
        AotError: as `read_hf`.
    """
    path = hf_path(section)
    if path.is_file():
        files = {"train": path} | ({"test": Path(section.test_file)} if section.test_file else {})
        return {role: _rows_of([file]) for role, file in files.items()}
    if section.test_file:
        raise ConfigError(
            "data.hf.test_file belongs to a file in data.hf.path; name a split of a folder in data.hf.test"
        )
    there = _saved_splits(path) if any((path / name).is_file() for name in _SAVED) else _split_files(path, section)
    wanted = {"train": section.train} | ({"test": section.test} if section.test else {})
    if section.test == section.train:
        raise ConfigError(f"data.hf.train and data.hf.test are both {section.test!r}; leave data.hf.test out")
    if len(there) == 1 and not section.test and section.train == HfSection().train:
        return {"train": next(iter(there.values()))}
    for role, name in wanted.items():
        if name not in there:
            raise ConfigError(f"data.hf.{role}: {path} has no split {name!r}; it has {', '.join(there) or 'none'}")
    if left := there.keys() - set(wanted.values()):
        log.info("%s: the splits %s are not read", path, ", ".join(sorted(left)))
    return {role: there[name] for role, name in wanted.items()}


def hf_path(section: HfSection) -> Path:
    """Where the data set lies on this machine: a file, a folder, or the snapshot that `aot prefetch` left.

    Raises:
        ConfigError: no path is given, or it is nothing of that.
        SourceError: it is a name on the hub, and has not been fetched.
    """
    if section.path is None:
        raise ConfigError("data.hf.path is not set; give a folder, a file or a name on the hub (docs/text_data.md)")
    path = Path(section.path)
    if path.exists() or not HUB_NAME.fullmatch(section.path):
        if not path.exists():
            raise SourceError(f"there is no {path}; set data.hf.path to a folder or file, or to owner/name on the hub")
        return path
    if section.revision is None:
        raise ConfigError(
            f"data.hf.path {section.path!r} is nothing here; if it is a name on the hub, data.hf.revision must say "
            "which state of it (a commit), and `aot prefetch CONFIG` fetches it"
        )
    from aot.student.hub import fetched_dataset

    if (folder := fetched_dataset(section.path, section.revision)) is None:
        raise SourceError(
            f"the data set {section.path} has not been fetched; run `aot prefetch CONFIG` where there is a network, "
            "with the same HF_HOME"
        )
    return folder


def _saved_splits(folder: Path) -> Splits:
    datasets = _library()
    try:
        saved = datasets.load_from_disk(str(folder))
    except Exception as error:  # noqa: BLE001 - whatever a library throws at the files of strangers
        raise SourceError(f"{folder} cannot be read as a folder of save_to_disk: {_words(error)}") from None
    splits = dict(saved) if isinstance(saved, datasets.DatasetDict) else {"train": saved}
    for name, split in splits.items():
        shown = [column for column, feature in split.features.items() if _shows(feature)]
        if shown:
            raise SourceError(
                f"{folder}: split {name} shows pictures or sound in {', '.join(shown)}, and text runs show none; drop "
                "these columns, or give clips and questions with data.dataset plain (docs/plain_data.md)"
            )
    return {name: partial(_saved_rows, split, name) for name, split in splits.items()}


def _saved_rows(split: Any, name: str) -> Rows:  # noqa: ANN401 - a Dataset
    for number, fields in enumerate(split, start=1):
        yield TextRow(f"{name}:{number}", str(number), fields)


def _split_files(folder: Path, section: HfSection) -> Splits:
    """The data files of each split, as the card of a folder or the names of its files say."""
    datasets = _library()
    _require_local_card(folder / CARD)
    try:
        builder = datasets.load_dataset_builder(str(folder), name=section.subset)
    except Exception as error:  # noqa: BLE001 - whatever a library throws at the files of strangers
        raise SourceError(f"{folder} cannot be read as a data set: {_words(error)}") from None
    splits: Splits = {}
    for name, files in (builder.config.data_files or {}).items():
        paths = [Path(str(file)) for file in files]
        for path in paths:
            if not path.absolute().is_relative_to(folder.absolute()) or path.suffix.lower() not in _READABLE:
                raise SourceError(f"{folder}: split {name} has the file {path}; read are {', '.join(_READABLE)} in it")
        splits[str(name)] = _rows_of(paths)
    return splits


def _require_local_card(card: Path) -> None:
    """A card may name files anywhere; those of other machines are not opened."""
    try:
        head = re.match(r"---\r?\n(.*?)\r?\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
        configs = (yaml.safe_load(head[1]) or {}).get("configs") if head else None
    except FileNotFoundError:
        return
    except (OSError, ValueError, AttributeError, yaml.YAMLError, RecursionError) as error:
        raise SourceError(f"{card} cannot be read: {_words(error)}; mend its head, or delete it") from None
    if "://" in json.dumps(configs, default=str) or ".." in json.dumps(configs, default=str):
        raise SourceError(f"{card} names data files outside of its folder, which are not opened; mend its `configs`")


def _rows_of(paths: list[Path]) -> Callable[[], Rows]:
    """The rows of files, one after the other; with several of them a row is named by its file too."""
    return lambda: itertools.chain.from_iterable(_named_rows(path, alone=len(paths) == 1) for path in paths)


def _named_rows(path: Path, *, alone: bool) -> Rows:
    for row in read_rows(path):
        yield row if alone or isinstance(row, RefusedRow) else TextRow(row.place, f"{path.stem}/{row.name}", row.fields)


def _with_layout(rows: Rows, section: HfSection, *, place: str) -> tuple[Rows, Layout, str]:
    """The rows, none lost, with the layout that fits the columns of the first ones."""
    seen: list[TextRow | RefusedRow] = []
    columns: dict[str, None] = {}
    layout = None
    for row in itertools.islice(rows, LOOK_AHEAD):
        seen.append(row)
        columns.update(dict.fromkeys(map(str, row.fields)) if isinstance(row, TextRow) else ())
        if isinstance(row, TextRow) and (layout := pick_layout(tuple(columns), section)):
            break
    if layout is None:
        if not seen:
            raise SourceError(f"{place} has no rows")
        bad = [row for row in seen if isinstance(row, RefusedRow)]
        if len(bad) == len(seen):
            why = refused_words(bad, most=1).removeprefix("refused: ")
            raise SourceError(f"{place}: none of the first {len(seen)} rows can be read: {why}")
        raise SourceError(f"{place}: {no_layout(tuple(columns), section)}")
    return itertools.chain(seen, rows), layout, place


def _library() -> Any:  # noqa: ANN401 - a module
    try:
        import datasets
    except ImportError:
        raise MissingPackageError(
            f"reading a folder as a data set needs the package datasets; {install_command('train')}, or give one "
            ".parquet or .jsonl file in data.hf.path"
        ) from None
    datasets.disable_progress_bars()
    return datasets


def _shows(feature: object) -> bool:
    """Whether a feature holds pictures or sound, at any depth."""
    if isinstance(feature, dict):
        return any(map(_shows, feature.values()))
    if isinstance(feature, list | tuple):
        return any(map(_shows, feature))
    inner = getattr(feature, "feature", None)
    return type(feature).__name__ in _MEDIA_FEATURES or (inner is not None and _shows(inner))


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
