"""Reads and writes the language columns of a LeRobot data set of format v3; needs pyarrow, imports no LeRobot.

A data set is a folder: `meta/info.json`, `meta/tasks.parquet`, `meta/episodes/**.parquet` (where an episode lies in its
video), `data/chunk-*/file-*.parquet` with many episodes each, one row a frame. `language_persistent` holds the same
list on every frame of an episode, each row with its timestamp; `language_events` holds what belongs to that frame.
Types are those of `src/lerobot/datasets/language.py` (see `checks`). A file is read whole, so a file of 100 MB, as
LeRobot cuts them, needs a few times that in memory.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from aot.errors import SourceError, first_problem, missing_package
from aot.files.disk import whole_file
from aot.records import Record, Refusal
from aot.serving.lerobot.checks import LanguageRow, check_rows
from aot.serving.lerobot.frames import IMAGES

INFO = "meta/info.json"
PERSISTENT, EVENTS = "language_persistent", "language_events"
_FIELDS = ("role", "content", "style", "timestamp", "camera", "tool_calls")
MAX_PROBLEMS = 20
"""So many are listed in one message."""


class VideoSpan(Record):
    """Where an episode lies in the video of one camera."""

    uri: str
    """Relative to the data set."""
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Episode:
    """One episode with what its language columns say."""

    index: int
    file: Path
    task: str = ""
    frame_times_s: tuple[float, ...] = ()
    """Exactly as stored, ascending."""
    rows: tuple[LanguageRow, ...] = ()
    videos: dict[str, VideoSpan] = field(default_factory=dict)
    """By camera."""

    @property
    def end_s(self) -> float:
        """Where its last frame ends: as long after it as frames lie apart."""
        times_s = self.frame_times_s
        gap_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
        return times_s[-1] + gap_s if times_s else 0.0


def read_episodes(root: Path) -> tuple[list[Episode], list[Refusal]]:
    """Every usable episode by its index, and what could not be used: files, episodes, and single rows, with reasons.

    Raises:
        SourceError: the folder is no data set of format v3, or pyarrow is missing.
    """
    info = _info(root)
    refused: list[Refusal] = []
    tasks, videos, listed = _tasks(root, refused), _videos(root, info, refused), set[int]()
    episodes: dict[int, Episode] = {}
    for path in sorted((root / "data").rglob("*.parquet")):
        name = path.relative_to(root).as_posix()
        try:
            table = _table(path, _wanted_columns)
            starts = _bounds(table)
        except _Unusable as problem:
            refused.append(_refusal(name, problem))
            continue
        for index, first, last in starts:
            item = f"{name} episode {index}"
            listed.add(index)
            try:
                if index in episodes:
                    raise _Unusable("two_pieces", "its rows do not lie in one piece")
                episodes[index] = _episode(table.slice(first, last - first), index, path, tasks, refused, item)
            except _Unusable as problem:
                refused.append(_refusal(item, problem))
    for index in sorted(videos.keys() - listed):
        refused.append(Refusal(item=f"episode {index}", boundary="source", reason="no_frames"))
    return [
        Episode(one.index, one.file, one.task, one.frame_times_s, one.rows, videos.get(one.index, {}))
        for _, one in sorted(episodes.items())
    ], refused


def write_language(root: Path, rows: Mapping[int, Sequence[LanguageRow]]) -> list[Path]:
    """Replace the language rows of some episodes; returns the data files that were written, every one of the data set.

    Nothing is written unless all rows are fine. Episodes that are not in `rows` keep what they have; other columns keep
    their values, order and types. Each file appears whole or not at all; `meta/info.json` comes last, so that a
    killed run is finished by running it again. One process writes at a time: a file that somebody else changed
    meanwhile is left alone.

    Raises:
        SourceError: a row breaks a rule (the message lists them), an episode is not there, or a file cannot be used.
        OSError: the disk refuses.
    """
    info = _info(root)
    stamps = {path: _stamp(path) for path in sorted((root / "data").rglob("*.parquet"))}
    episodes, refused = read_episodes(root)
    by_index = {one.index: one for one in episodes}
    cameras = cameras_of(info)
    problems = [f"{one.item}: {one.reason} {one.detail}".strip() for one in refused if one.reason != "no_frames"]
    for index, new in rows.items():
        if index not in by_index:
            problems.append(f"episode {index} is not in the data set")
            continue
        broken = check_rows(new, by_index[index].frame_times_s, cameras=cameras)
        problems += [f"episode {index}: {problem}" for problem in broken]
    if problems:
        more = f"and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
        raise SourceError(
            f"{root}: nothing was written, for {len(problems)} problems; mend them first",
            lines=[*problems[:MAX_PROBLEMS], *([more] if more else [])],
        )
    wanted = {index: tuple(rows.get(index, one.rows)) for index, one in by_index.items()}
    for path in stamps:
        _rewrite(path, wanted, stamps[path])
    _declare(root, info)
    return list(stamps)


def cameras_of(info: dict[str, Any]) -> tuple[str, ...]:
    """The image keys of a data set, in its order."""
    return tuple(key for key in info["features"] if key.startswith(IMAGES))


class _Unusable(Exception):
    """Why a file or an episode cannot be used; becomes a refusal."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


def _refusal(item: str, problem: _Unusable) -> Refusal:
    return Refusal(item=item, boundary="source", reason=problem.reason, detail=problem.detail)


def _parquet() -> Any:  # noqa: ANN401 - a module
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise missing_package("pyarrow") or SourceError("pyarrow is missing") from None
    return parquet


def _stamp(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_size


def _info(root: Path) -> dict[str, Any]:
    path = root / INFO
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SourceError(f"{root} is no LeRobot data set: it has no {INFO}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{path} cannot be read: {error}; mend it, or copy the data set again") from None
    version = str(info.get("codebase_version", "")) if isinstance(info, dict) else ""
    if not version.startswith("v3."):
        raise SourceError(f"{path}: format {version or 'unknown'}; v3.x is read here, and LeRobot converts older ones")
    if not isinstance(info.get("features"), dict):
        raise SourceError(f"{path} lists no features; copy the data set again")
    return dict(info)


def _table(path: Path, wanted: Callable[[Any], list[str]] | None = None) -> Any:  # noqa: ANN401 - a pyarrow table
    """A Parquet file, or the columns of its schema that are wanted; _Unusable where it cannot be read."""
    parquet = _parquet()
    import pyarrow as pa

    try:
        file = parquet.ParquetFile(path)
        return file.read(columns=wanted(file.schema_arrow) if wanted else None)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _Unusable("not_parquet", str(error).splitlines()[0][:200]) from None


def _wanted_columns(schema: Any) -> list[str]:  # noqa: ANN401 - a pyarrow schema
    import pyarrow as pa

    _require(schema, "episode_index", pa.types.is_integer)
    _require(schema, "timestamp", pa.types.is_floating)
    for name in (PERSISTENT, EVENTS):
        if name in schema.names:
            kind = schema.field(name).type
            lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
            rows = lists and (pa.types.is_struct(kind.value_type) or pa.types.is_null(kind.value_type))
            if not (rows or pa.types.is_null(kind)):
                raise _Unusable("bad_value", f"column {name} is {kind}; a list of structs is fine")
    return [name for name in ("episode_index", "timestamp", "task_index", PERSISTENT, EVENTS) if name in schema.names]


def _require(schema: Any, name: str, fits: Callable[[Any], bool]) -> None:  # noqa: ANN401 - a pyarrow schema
    if name not in schema.names:
        raise _Unusable("missing_field", f"no column {name}")
    if not fits(schema.field(name).type):
        raise _Unusable("bad_value", f"column {name} is {schema.field(name).type}")


def _bounds(table: Any) -> list[tuple[int, int, int]]:  # noqa: ANN401 - a pyarrow table
    """Episode, first row and row after the last, for each run of rows with one episode index."""
    if table.column("episode_index").null_count or table.column("timestamp").null_count:
        raise _Unusable("bad_value", "a frame has no episode_index or no timestamp")
    index = table.column("episode_index").to_numpy()
    cuts = [0, *(np.flatnonzero(np.diff(index)) + 1).tolist(), len(index)]
    return [(int(index[first]), first, last) for first, last in pairwise(cuts) if last > first]


def _episode(
    table: Any,  # noqa: ANN401 - a pyarrow table, the episode's rows
    index: int,
    path: Path,
    tasks: dict[int, str],
    refused: list[Refusal],
    item: str,
) -> Episode:
    times_s = tuple(float(one) for one in table.column("timestamp").to_numpy())
    if not all(map(math.isfinite, times_s)) or any(b <= a for a, b in pairwise(times_s)):
        raise _Unusable("bad_times", "timestamps must be finite and ascend from frame to frame")
    rows: list[LanguageRow] = []
    for at_s, value in _language_values(table, times_s):
        fields = {name: value.get(name) for name in _FIELDS}
        if fields["timestamp"] is None:
            fields["timestamp"] = at_s
        try:
            fields["tool_calls"] = _tool_calls(fields["tool_calls"])
            rows.append(LanguageRow.model_validate(fields))
        except (ValidationError, ValueError, RecursionError) as error:
            detail = first_problem(error) if isinstance(error, ValidationError) else str(error)
            refused.append(Refusal(item=item, boundary="source", reason="bad_row", detail=detail))
    task = tasks.get(table.column("task_index")[0].as_py(), "") if "task_index" in table.column_names else ""
    return Episode(index, path, task, times_s, tuple(sorted(rows, key=LanguageRow.in_order)))


def _language_values(table: Any, times_s: Sequence[float]) -> Iterator[tuple[float, dict[str, Any]]]:  # noqa: ANN401
    """Each stored row with the time of the frame that it was read from."""
    if PERSISTENT in table.column_names:
        column = table.column(PERSISTENT).combine_chunks()
        first = column[0]
        if any(column[i] != first for i in range(1, len(column))):
            raise _Unusable("not_persistent", f"{PERSISTENT} differs between frames of the episode")
        yield from ((times_s[0], row) for row in first.as_py() or () if row)
    if EVENTS in table.column_names:
        column = table.column(EVENTS).combine_chunks()
        for i, value in enumerate(column):
            if value.is_valid and len(value):
                yield from ((times_s[i], row) for row in value.as_py() if row)


def _tool_calls(value: object) -> tuple[object, ...] | None:
    """Calls that are stored as JSON text or as structs; an empty list counts as none."""
    if not isinstance(value, list) or not value:
        return None
    return tuple(json.loads(one) if isinstance(one, str) else one for one in value)


def _tasks(root: Path, refused: list[Refusal]) -> dict[int, str]:
    """Words of a task by its index; pandas keeps them as the index of its table, under a name of its own."""
    path = root / "meta" / "tasks.parquet"
    if not path.is_file():
        return {}
    try:
        columns = _table(path).to_pydict()
    except _Unusable as problem:
        refused.append(_refusal("meta/tasks.parquet", problem))
        return {}
    words = next((name for name in ("task", "__index_level_0__") if name in columns), None)
    if words is None or "task_index" not in columns:
        return {}
    return {int(i): str(task) for i, task in zip(columns["task_index"], columns[words], strict=True) if i is not None}


def _videos(root: Path, info: dict[str, Any], refused: list[Refusal]) -> dict[int, dict[str, VideoSpan]]:
    """By episode and camera where its frames lie, from `meta/episodes`; episodes of image data sets have none."""
    spans: dict[int, dict[str, VideoSpan]] = {}
    cameras = cameras_of(info)
    for path in sorted((root / "meta" / "episodes").rglob("*.parquet")):
        name = path.relative_to(root).as_posix()
        try:
            rows = _table(path, partial(_place_columns, cameras)).to_pylist()
        except _Unusable as problem:
            refused.append(_refusal(name, problem))
            continue
        for i, row in enumerate(rows):
            if row["episode_index"] is None:
                refused.append(_refusal(f"{name} row {i}", _Unusable("bad_value", "no episode_index")))
                continue
            by_camera = spans.setdefault(row["episode_index"], {})
            for camera in cameras:
                place = [row.get(column) for column in _places_of(camera)]
                if all(number is not None and math.isfinite(number) for number in place):
                    chunk, file, start_s, end_s = place
                    # The template in info.json is somebody else's text, and is not filled in; v3 has this one layout.
                    uri = f"videos/{camera}/chunk-{int(chunk):03d}/file-{int(file):03d}.mp4"
                    by_camera[camera] = VideoSpan(uri=uri, start_s=float(start_s), end_s=float(end_s))
    return spans


def _places_of(camera: str) -> tuple[str, ...]:
    """The columns of `meta/episodes` that say where an episode lies in the videos of a camera."""
    return tuple(f"videos/{camera}/{name}" for name in ("chunk_index", "file_index", "from_timestamp", "to_timestamp"))


def _place_columns(cameras: Sequence[str], schema: Any) -> list[str]:  # noqa: ANN401 - a pyarrow schema
    import pyarrow as pa

    _require(schema, "episode_index", pa.types.is_integer)
    wanted = [column for camera in cameras for column in _places_of(camera) if column in schema.names]
    for column in wanted:
        _require(schema, column, _is_number)
    return ["episode_index", *wanted]


def _is_number(kind: Any) -> bool:  # noqa: ANN401 - a pyarrow type
    """Whether a column of this type holds numbers, or nothing at all, as that of an episode without a video may."""
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind))


def _rewrite(path: Path, wanted: Mapping[int, tuple[LanguageRow, ...]], stamp: tuple[int, int]) -> None:
    """Write a data file again with both language columns."""
    parquet = _parquet()
    source = parquet.ParquetFile(path)
    table, facts = source.read(), source.metadata
    numbers, times_s = table.column("episode_index").to_pylist(), table.column("timestamp").to_pylist()
    columns = {PERSISTENT: _persistent(numbers, wanted), EVENTS: _events(numbers, times_s, wanted)}
    for name, column in columns.items():
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, column)
        else:
            table = table.append_column(name, column)
    # What the `datasets` library noted about the columns no longer fits them; it reads the types instead.
    notes = {key: value for key, value in (table.schema.metadata or {}).items() if key != b"huggingface"}
    table = table.replace_schema_metadata(notes or None)

    def unchanged() -> None:
        if _stamp(path) != stamp:
            raise SourceError(f"{path} was changed by somebody else meanwhile; run this again when nobody writes")

    groups = facts.num_row_groups
    codec = facts.row_group(0).column(0).compression if groups else "SNAPPY"
    with whole_file(path, before_rename=unchanged) as file:
        parquet.write_table(
            table,
            file,
            row_group_size=max(1, facts.row_group(0).num_rows) if groups else None,
            compression="none" if codec == "UNCOMPRESSED" else codec.lower(),
        )


def _persistent(numbers: Sequence[int], wanted: Mapping[int, tuple[LanguageRow, ...]]) -> Any:  # noqa: ANN401
    rows: list[LanguageRow] = []
    of_episode: dict[int, np.ndarray] = {}
    for index in dict.fromkeys(numbers):
        kept = sorted((row for row in wanted[index] if row.persistent), key=LanguageRow.in_order)
        of_episode[index] = np.arange(len(rows), len(rows) + len(kept))
        rows += kept
    return _column(rows, [of_episode[index] for index in numbers], timed=True)


def _events(numbers: Sequence[int], times_s: Sequence[float], wanted: Mapping[int, tuple[LanguageRow, ...]]) -> Any:  # noqa: ANN401 - a pyarrow array
    by_frame: dict[tuple[int, float], list[LanguageRow]] = {}
    for index, kept in wanted.items():
        for row in kept:
            if not row.persistent:
                by_frame.setdefault((index, row.timestamp), []).append(row)
    rows: list[LanguageRow] = []
    takes: list[np.ndarray] = []
    for key in zip(numbers, times_s, strict=True):
        here = sorted(by_frame.get(key, ()), key=LanguageRow.in_order)
        takes.append(np.arange(len(rows), len(rows) + len(here)))
        rows += here
    return _column(rows, takes, timed=False)


def _column(rows: Sequence[LanguageRow], takes: Sequence[np.ndarray], *, timed: bool) -> Any:  # noqa: ANN401
    """A list of rows for each frame, in LeRobot's types; each row is made once, however many frames share it."""
    import pyarrow as pa

    take = np.concatenate([np.zeros(0, dtype=np.int64), *takes]).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in takes])]).astype(np.int32)
    picked = pa.array(take)
    texts = {
        name: pa.array([getattr(row, name) for row in rows], pa.string()).take(picked)
        for name in ("role", "content", "style", "camera")
    }
    arrays = [texts["role"], texts["content"], texts["style"]]
    fields = [
        pa.field("role", pa.string(), nullable=False),
        pa.field("content", pa.string()),
        pa.field("style", pa.string()),
    ]
    if timed:
        arrays.append(pa.array([row.timestamp for row in rows], pa.float32()).take(picked))
        fields.append(pa.field("timestamp", pa.float32(), nullable=False))
    calls = _calls([row.tool_calls for row in rows], take)
    arrays += [texts["camera"], calls]
    fields += [pa.field("camera", pa.string()), pa.field("tool_calls", calls.type)]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(arrays, fields=fields))


def _calls(values: Sequence[tuple[Any, ...] | None], take: np.ndarray) -> Any:  # noqa: ANN401 - a pyarrow array
    """Tool calls as lists of JSON, which older versions of pyarrow know as text only."""
    import pyarrow as pa

    texts = [None if calls is None else [json.dumps(one, ensure_ascii=False) for one in calls] for calls in values]
    lists = pa.array(texts, pa.list_(pa.string())).take(pa.array(take))
    if not hasattr(pa, "json_"):
        return lists
    typed = pa.ExtensionArray.from_storage(pa.json_(pa.string()), lists.values)
    return pa.ListArray.from_arrays(lists.offsets, typed, mask=lists.is_null())


def _declare(root: Path, info: dict[str, Any]) -> None:
    """Name both columns in info.json, where LeRobot looks for them."""
    entry = {"dtype": "language", "shape": [1], "names": None}
    features = {**info["features"], PERSISTENT: entry, EVENTS: entry}
    if features != info["features"]:
        with whole_file(root / INFO) as file:
            file.write(json.dumps({**info, "features": features}, indent=4, ensure_ascii=False).encode())
