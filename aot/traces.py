"""The trace and fault parts of a run: each writer appends to files of its own, readers put them together.

A row that a kill cut in half is left out; one that was written twice counts once. This module knows no teacher.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic_core import from_json

from aot.errors import SourceError
from aot.records import PlantedFault, Question, Trace
from aot.runs import RunFolder, read_rows


def read_traces(run: RunFolder) -> Iterator[Trace]:
    """The traces in the order of the questions and then of their samples; holds one trace in memory at a time.

    Raises:
        SourceError: a part holds a whole line that is no trace.
    """
    places = _places(run.traces)
    for question in read_rows(run.questions, Question):
        samples = places.get(question.id, {})
        for sample_index in sorted(samples):
            place = samples[sample_index]
            with place.path.open("rb") as file:
                file.seek(place.offset)
                yield Trace.model_validate_json(file.readline())


def first_traces(run: RunFolder) -> dict[str, Trace]:
    """Question id to its trace with the lowest sample index."""
    first: dict[str, Trace] = {}
    for trace in read_traces(run):
        first.setdefault(trace.question_id, trace)
    return first


def solved_ids(run: RunFolder) -> set[str]:
    """Ids of the questions that have a trace."""
    return set(_places(run.traces))


def solved_samples(run: RunFolder) -> set[tuple[str, int]]:
    """(question id, sample index) of every trace there is."""
    return {(question_id, sample) for question_id, samples in _places(run.traces).items() for sample in samples}


def read_faults(run: RunFolder) -> list[PlantedFault]:
    """The planted faults, one at most for each trace, ordered by question id and sample."""
    parts = _parts(run.faults)
    rows = {(row.question_id, row.sample_index): row for path in parts for row in read_rows(path, PlantedFault)}
    return [rows[key] for key in sorted(rows)]


def part_path(folder: Path, writer: str) -> Path:
    """The file that one writer appends to."""
    return folder / f"part-{writer}.jsonl"


@dataclass(frozen=True)
class _Place:
    path: Path
    offset: int


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.jsonl"))


def _places(folder: Path) -> dict[str, dict[int, _Place]]:
    """Where each sample of each question lies; the first place of a sample that was written twice."""
    places: dict[str, dict[int, _Place]] = {}
    for path in _parts(folder):
        offset = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    question_id, sample_index = _key(line, path=path, number=number)
                    places.setdefault(question_id, {}).setdefault(sample_index, _Place(path, offset))
                offset += len(line)
    return places


def _key(line: bytes, *, path: Path, number: int) -> tuple[str, int]:
    try:
        row = from_json(line)
        return str(row["question_id"]), int(row["sample_index"])
    except (ValueError, KeyError, TypeError):
        raise SourceError(f"{path}:{number} is no trace; delete that line and run the same command again") from None
