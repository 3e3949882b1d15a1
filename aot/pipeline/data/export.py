"""`aot data export`: kept traces and lessons of a run as a folder that `datasets.load_dataset` reads.

Plain Parquet with a card, one configuration for the traces and one for the lessons of each arm, frames as files. It
appears whole or not at all; rows that others would read as something else are left out and counted.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from aot.config import RunConfig, load_saved
from aot.display import counted
from aot.errors import ConfigError, MissingPackageError, RunError, SourceError, install_command
from aot.faults.damage import DAMAGES
from aot.files.run_folder import (
    LESSONS,
    MANIFEST,
    RunFolder,
    publish,
    publish_json,
    read_rows,
    stage_done,
)
from aot.files.seals import check_seals
from aot.pipeline.data import card
from aot.pipeline.data.rows import Fields, Shown, lesson_row, question_row, schema_of, trace_row, unfit
from aot.records import Lesson, Question, Record, Trace
from aot.run_records import FileEntry, Funnel
from aot.serving.export.folder import CARD, whole_folder
from aot.student.train.checkpoints import file_entry

ROWS_AT_ONCE = 1000
LESSONS_OF = "lessons-{}"
JPEG_QUALITY = 95


class DataExport(Record):
    """What a folder was exported from, and the files it then had."""

    version: int = 1
    source: str
    """Digest of the rows of the run and of what was asked for."""
    parts: dict[str, int]
    """Rows of each configuration."""
    refused: dict[str, int]
    """Rows that were left out, by reason."""
    images: int
    files: tuple[FileEntry, ...]


@dataclass(frozen=True)
class Wanted:
    """What shall be exported of a run."""

    arms: tuple[str, ...] = ()
    """Whose lessons; none named means those of all arms that learn from chains as they are."""
    splits: tuple[str, ...] = ()
    """Splits besides train whose questions and gold answers are written too."""
    images: bool = True
    licence: str = ""
    """Of the data; empty takes what their source says."""


def export_data(root: Path, out: Path, wanted: Wanted) -> tuple[DataExport, bool]:
    """What was exported, and whether the same export lay at `out` before, so that nothing was done.

    Raises:
        RunError: the run has not come so far, `out` lies in it, or something else lies at `out`.
        ConfigError: the run has no such arm or split.
        GuardStop: the disk is full; nothing is left at `out`.
    """
    run = RunFolder(root)
    if not stage_done(run, "filter"):
        raise RunError(f"{root} has no kept traces yet; do the stages up to filter first")
    if out.resolve().is_relative_to(root.resolve()):
        raise RunError(f"{out} lies in the run folder {root}; give a folder outside of it")
    config = load_saved(run.config)
    arms = _lessons_of(run, config, wanted)
    check_seals(run, ("prepare", "filter"))
    check_seals(run, ("train",), folders={run.arm(name) for name in arms})
    source = _source(run, arms, wanted)
    if there := read_export(out):
        if there.source == source and not damaged(out, there):
            return there, True
        raise RunError(f"{out} holds another export, or one that was altered since; give a new folder, or delete it")
    exporter = _Exporter(run, config, wanted)
    with whole_folder(out) as folder:
        return exporter.write(folder, arms, source=source, title=f"Traces and lessons of {root.resolve().name}"), False


def read_export(folder: Path) -> DataExport | None:
    """What an earlier export noted of a folder; None where there is none that can be read."""
    try:
        return DataExport.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None


def damaged(folder: Path, export: DataExport) -> list[str]:
    """Files of an export that are not what they were."""
    names = []
    for entry in export.files:
        path = folder / entry.name
        if not path.is_file() or path.stat().st_size != entry.size or file_entry(path, folder=folder) != entry:
            names.append(entry.name)
    return names


def export_lines(export: DataExport, out: Path, *, was_there: bool) -> Iterator[str]:
    """What came of an export, for the terminal."""
    rows = ", ".join(f"{name} {count}" for name, count in export.parts.items())
    again = "lies there already, whole; nothing was done" if was_there else "done"
    yield f"{out}: {rows}; {counted(export.images, 'frame')} as files: {again}"
    if export.refused:
        yield "left out: " + ", ".join(f"{reason} {count}" for reason, count in export.refused.items())
    yield f'load it with datasets.load_dataset("{out}", "{[*export.parts, *export.parts][1]}")'


def _lessons_of(run: RunFolder, config: RunConfig, wanted: Wanted) -> dict[str, float]:
    """Arms whose lessons are there, each with the weight of its rationales.

    Those that learn from chains which were damaged, for a study, only where they are named.
    """
    there = {arm.name: arm for arm in config.train.arms}
    if unknown := [name for name in wanted.arms if name not in there]:
        raise ConfigError(f"the run {run.root} has no arm {unknown[0]!r}; it has {', '.join(there)}")
    lacks = [name for name in wanted.arms if not (run.arm(name) / LESSONS).exists()]
    if lacks:
        raise RunError(f"arm {lacks[0]} of {run.root} has no lessons yet; do its train stage first")
    names = wanted.arms or [
        name for name, arm in there.items() if (run.arm(name) / LESSONS).exists() and arm.chains not in DAMAGES
    ]
    return {name: there[name].rationale_weight for name in names}


def _source(run: RunFolder, arms: Iterable[str], wanted: Wanted) -> str:
    """Sixteen hex digits over the rows and what is asked for of them."""
    digest = hashlib.sha256(f"1 {sorted(wanted.splits)} {wanted.images}".encode())
    for path in (run.questions, run.kept, run.funnel, *(run.arm(name) / LESSONS for name in arms)):
        digest.update(f"{path.parent.name}/{file_entry(path, folder=path.parent)}".encode())
    return digest.hexdigest()[:16]


class _Exporter:
    """Writes one export, and counts what it leaves out."""

    def __init__(self, run: RunFolder, config: RunConfig, wanted: Wanted) -> None:
        self._run, self._config, self._wanted = run, config, wanted
        self._questions = {question.id: question for question in read_rows(run.questions, Question)}
        splits = {question.split for question in self._questions.values()}
        if unknown := [name for name in wanted.splits if name not in splits]:
            raise ConfigError(f"--split: no question is in {unknown[0]!r}; the splits are {', '.join(sorted(splits))}")
        self._shows = any(question.media for question in self._questions.values())
        self._frames = _Frames(run, config) if self._shows else None
        self._teachers: Counter[str] = Counter()

    def write(self, folder: Path, arms: dict[str, float], *, source: str, title: str) -> DataExport:
        """Write all files into a folder that is published by the caller."""
        parts = [self._part(folder, card.TRACES, card.TRACES, self._traces, ("train",))]
        for arm, weight in arms.items():
            rows = self._lessons(arm, weight)
            parts.append(self._part(folder, LESSONS_OF.format(arm), card.LESSONS, rows, ("train",)))
        if others := [split for split in self._wanted.splits if split != "train"]:
            parts.append(self._part(folder, card.QUESTIONS, card.QUESTIONS, self._held_out, others))
        images = self._frames.write(folder) if self._frames and self._wanted.images else 0
        funnel = Funnel.model_validate_json(self._run.funnel.read_bytes()) if self._run.funnel.exists() else None
        teachers = sorted(self._teachers)
        text = card.card_of(
            self._config,
            parts,
            title=title,
            teachers=teachers,
            funnel=funnel,
            images=images,
            licence=self._wanted.licence,
        )
        publish(folder / CARD, text)
        publish_json(RunFolder(folder).factory_info, card.llama_factory(parts))
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        entries = [file_entry(path, folder=folder) for path in files]
        refused: Counter[str] = sum((Counter(part.refused) for part in parts), Counter())
        counts = {part.name: sum(part.counts.values()) for part in parts}
        made = DataExport(source=source, parts=counts, refused=dict(refused), images=images, files=tuple(entries))
        publish(folder / MANIFEST, made.model_dump_json(indent=1) + "\n")
        return made

    def _part(
        self,
        folder: Path,
        name: str,
        kind: str,
        rows: Callable[[str], Iterator[Fields | str]],
        splits: Sequence[str],
    ) -> card.Part:
        """One configuration; a row that is a word is one that was left out for that reason."""
        try:
            from pyarrow.parquet import ParquetWriter
        except ModuleNotFoundError:
            raise MissingPackageError(
                f"a data set is written by the package pyarrow; {install_command('text')}"
            ) from None
        import pyarrow as pa

        schema = schema_of(kind, shows=self._shows, images=self._wanted.images)
        counts: dict[str, int] = {}
        refused: Counter[str] = Counter()
        (folder / name).mkdir()
        for split in splits:
            word = _split_word(split)
            counts[word] = 0
            with closing(ParquetWriter(folder / name / f"{word}-00000-of-00001.parquet", schema)) as writer:
                for batch in _batches(rows(split), refused):
                    writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                    counts[word] += len(batch)
        return card.Part(name, kind, counts, dict(refused), tuple(schema.names))

    def _traces(self, split: str) -> Iterator[Fields | str]:
        for trace in read_rows(self._run.kept, Trace):
            question = self._questions.get(trace.question_id)
            if question is None or question.split != split:
                yield "no_question" if question is None else "other_split"
                continue
            self._teachers[trace.teacher] += 1
            yield self._row(question, (trace.rationale,), partial(trace_row, question, trace))

    def _lessons(self, arm: str, weight: float) -> Callable[[str], Iterator[Fields | str]]:
        def rows(split: str) -> Iterator[Fields | str]:
            for lesson in read_rows(self._run.arm(arm) / LESSONS, Lesson):
                question = self._questions.get(lesson.question_id)
                if question is None or question.split != split:
                    yield "no_question" if question is None else "other_split"
                    continue
                if lesson.form != "whole":  # which others would learn as a reply, and as a right one
                    yield f"{lesson.form}_reply"
                    continue
                row = partial(lesson_row, question, lesson, arm=arm, rationale_weight=weight)
                said = (lesson.label, lesson.rationale, *(turn.text for turn in lesson.turns))
                yield self._row(question, said, row)

        return rows

    def _held_out(self, split: str) -> Iterator[Fields | str]:
        for question in self._questions.values():
            if question.split == split:
                yield self._row(question, (), partial(question_row, question))

    def _row(self, question: Question, texts: Sequence[str], make: Callable[[Shown | None], Fields]) -> Fields | str:
        """A row with its frames, or why there is none."""
        shown = None
        if self._frames is not None:
            try:
                shown = self._frames.shown(question, images=self._wanted.images)
            except SourceError:
                return "no_frames"
        if reason := unfit(question, texts, shown):
            return reason
        if self._frames is not None and shown is not None:
            self._frames.note(shown)
        return make(shown)


class _Frames:
    """Which frames of a run are shown, and their files: each frame is written once, whatever shows it."""

    def __init__(self, run: RunFolder, config: RunConfig) -> None:
        from video_data.store.shards import FrameStore

        self._store, self._count = FrameStore(run.frames), config.student.num_frames
        self._wanted: dict[str, set[float]] = {}
        """Clip to the times of the frames of it that rows show."""

    def shown(self, question: Question, *, images: bool) -> Shown | None:
        """The frames that a student is shown with a question; None for one without a clip.

        Raises:
            SourceError: its clip has none.
        """
        from aot.student.rows.frames import choose_indices

        if question.media is None:
            raise SourceError(f"{question.id} shows no clip, and other questions of the run do")
        chosen = choose_indices(self._store, question.media, num_frames=self._count)
        names = tuple(_image_name(chosen.uri, time_s) for time_s in chosen.times_s) if images else ()
        media = question.media
        return Shown(names, chosen.times_s, media.uri, media.start_s, media.end_s)

    def note(self, shown: Shown) -> None:
        """Remember that a row shows these frames."""
        self._wanted.setdefault(shown.clip, set()).update(shown.times_s)

    def write(self, folder: Path) -> int:
        """Write the frames that rows show as JPEG; returns how many."""
        from PIL import Image

        count = 0
        for uri, shown_s in self._wanted.items():
            times_s = self._store.clip(uri).times_s
            wanted = [index for index, time_s in enumerate(times_s) if time_s in shown_s]
            for index, frame in zip(wanted, self._store.frames(uri, wanted), strict=True):
                path = folder / _image_name(uri, times_s[index])
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(frame).save(path, "JPEG", quality=JPEG_QUALITY, subsampling=0)
                count += 1
        return count


def _image_name(uri: str, time_s: float) -> str:
    """A name that says clip and time; spread over at most 256 folders."""
    key = hashlib.sha256(uri.encode()).hexdigest()[:10]
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(uri).stem)[:60] or "clip"
    return f"images/{key[:2]}/{stem}-{key}-{round(time_s * 1000):08d}ms.jpg"


def _split_word(split: str) -> str:
    """A name that `datasets` takes for a split."""
    return re.sub(r"\W+", "_", split)


def _batches(rows: Iterable[Fields | str], refused: Counter[str]) -> Iterator[list[Fields]]:
    batch: list[Fields] = []
    for row in rows:
        if isinstance(row, str):
            refused[row] += 1
            continue
        batch.append(row)
        if len(batch) == ROWS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
