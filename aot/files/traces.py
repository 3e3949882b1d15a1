"""The trace and fault parts of a run: each writer appends to files of its own, readers put them together.

A row that a kill cut in half is left out; one that was written twice counts once. Readers raise a SourceError where a
part holds a whole line that is no trace. This module knows no teacher.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic_core import from_json

from aot.errors import SourceError
from aot.files.parts import parts_of, placed_lines, row_at
from aot.files.run_folder import RunFolder, read_rows, read_run_json, whole_lines
from aot.records import Question, Trace
from aot.run_records import PlantedFault, SettingsRows

_MEND = "delete that line and run the same command again"


def read_solved(run: RunFolder) -> Iterator[tuple[Question, list[Trace]]]:
    """Each question with its traces in the order of their samples; holds those of one question in memory at a time."""
    yield from _by_question(run, run.traces)


def read_traces(run: RunFolder) -> Iterator[Trace]:
    """The traces in the order of the questions and then of their samples; holds few traces in memory at a time."""
    for _, traces in _by_question(run, run.traces):
        yield from traces


def read_earlier(run: RunFolder) -> Iterator[tuple[Question, list[Trace]]]:
    """As `read_solved`, what was tried at each question before its trace, and did not come to the gold answer."""
    yield from _by_question(run, run.attempts)


def first_traces(run: RunFolder) -> dict[str, Trace]:
    """Question id to its trace with the lowest sample index."""
    first: dict[str, Trace] = {}
    for trace in read_traces(run):
        first.setdefault(trace.question_id, trace)
    return first


def solved_samples(run: RunFolder) -> dict[str, tuple[int, ...]]:
    """The samples of each question that has a trace."""
    samples: dict[str, tuple[int, ...]] = {}
    for question_id, sample, _, _ in _rows(parts_of(run.traces)):
        samples[question_id] = (*samples.get(question_id, ()), sample)
    return samples


def any_answered(run: RunFolder, *, config_digest: str) -> bool:
    """Whether a trace that was made with these settings got a reply of its chat model, readable or not."""
    return (config_digest, True) in _replies(run)


def rows_by_settings(run: RunFolder) -> tuple[SettingsRows, ...]:
    """The rows of a run by the settings that made them, the most frequent first."""
    rows, answered = Counter[str](), Counter[str]()
    for digest, is_answered in _replies(run):
        rows[digest] += 1
        answered[digest] += is_answered
    settings = read_run_json(run).get("chat_settings", {}) if run.run_json.exists() else {}
    return tuple(
        SettingsRows(config_digest=digest, rows=count, answered=answered[digest], settings=settings.get(digest, {}))
        for digest, count in rows.most_common()
    )


def read_faults(run: RunFolder) -> list[PlantedFault]:
    """The planted faults, one at most for each trace, ordered by question id and sample."""
    parts = parts_of(run.faults)
    rows = {(row.question_id, row.sample_index): row for path in parts for row in read_rows(path, PlantedFault)}
    return [rows[key] for key in sorted(rows)]


def _by_question(run: RunFolder, folder: Path) -> Iterator[tuple[Question, list[Trace]]]:
    """Each question with its traces in `folder`; of a sample that was written twice the first."""
    parts = parts_of(folder)
    places: dict[str, tuple[int, ...]] = {}
    """Question id to (sample, part, offset) of its traces one after the other, flat to save memory."""
    for question_id, sample, part, offset in _rows(parts):
        before = places.get(question_id, ())
        if sample not in before[::3]:
            places[question_id] = (*before, sample, part, offset)
    for question in read_rows(run.questions, Question):
        flat = places.get(question.id, ())
        ordered = sorted(zip(flat[::3], flat[1::3], flat[2::3], strict=True))
        yield question, [row_at(parts[part], offset, Trace, mend=f"; {_MEND}") for _, part, offset in ordered]


def _replies(run: RunFolder) -> Iterator[tuple[str, bool]]:
    """Of each trace the settings that made it, and whether its chat model gave a reply."""
    for path in parts_of(run.traces):
        for line in whole_lines(path):
            row = from_json(line)
            yield str(row.get("config_digest")), (row.get("error") or {}).get("boundary") != "chat"


def _rows(parts: Sequence[Path]) -> Iterator[tuple[str, int, int, int]]:
    """Question id, sample, number of the part and offset of each trace."""
    for part, path in enumerate(parts):
        for number, (offset, line) in enumerate(placed_lines(path), start=1):
            question_id, sample = _key(line, path=path, number=number)
            yield question_id, sample, part, offset


def _key(line: bytes, *, path: Path, number: int) -> tuple[str, int]:
    try:
        row = from_json(line)
        return str(row["question_id"]), int(row["sample_index"])
    except (ValueError, KeyError, TypeError):
        raise SourceError(f"{path}:{number} is no trace; {_MEND}") from None
