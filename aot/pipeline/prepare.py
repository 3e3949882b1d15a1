"""The prepare stage: questions and annotations as records, every clip decoded once into frame shards.

A clip or question that cannot be used becomes a Refusal row; the rest goes on.
"""

import difflib
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError

from aot.answers import grade
from aot.config import DataConfig, EvaluateConfig, RunConfig
from aot.errors import ConfigError, SourceError
from aot.records import ClipAnnotation, MediaRef, Question, Refusal
from aot.runs import RunFolder, publish_rows
from video_data.budgets import Budgets
from video_data.datasets.rows import AnnotationRow, QuestionRow, RefusedRow
from video_data.shards import FrameStore

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
NEAR_DUPLICATE_BITS = 0.06
"""Share of differing fingerprint bits below which two clips count as one; unrelated clips differ in about half."""


@dataclass(frozen=True)
class Source:
    """What a data set offers, before anything is decoded."""

    questions: tuple[QuestionRow, ...]
    annotations: tuple[AnnotationRow, ...]
    clips: tuple[tuple[str, Path], ...]
    refused: tuple[RefusedRow, ...] = ()


def prepare(run: RunFolder, config: RunConfig, progress: Progress) -> dict[str, int]:
    """Publish questions, annotations, refusals and frame shards; returns their counts."""
    from video_data.datasets.plain import check_windows
    from video_data.prepare import decode_clips

    source = usable_source(config, run)
    if config.data.dataset == "toy_kitchen":
        _draw(config, run, progress)
    frames = config.frames
    refused = decode_clips(
        source.clips,
        out=run.frames,
        fps=frames.fps,
        max_stored_frames=frames.max_stored_frames,
        max_side_px=frames.max_side_px,
        shard_clips=frames.shard_clips,
        workers=frames.workers,
        time_limit_s=frames.time_limit_s,
        budgets=_budgets(config),
        progress=progress,
    )
    store = FrameStore(run.frames)
    refusals = [Refusal(item=r.item, boundary="source", reason=r.reason, detail=r.detail) for r in source.refused]
    refusals += [Refusal(item=r.item, boundary="decode", reason=r.reason, detail=r.detail) for r in refused]
    clips = {uri: store.clip(uri) for uri in store.uris()}
    durations_s = {uri: clip.duration_s for uri, clip in clips.items()}
    times_s = {uri: clip.times_s for uri, clip in clips.items()}
    checked = check_windows(source.questions, durations_s, times_s=times_s)
    refusals += [Refusal(item=r.item, boundary="source", reason=r.reason, detail=r.detail) for r in checked.refused]
    questions, more = _usable_questions(checked.questions, dataset=config.data.dataset)
    leaks = _near_duplicates(store, [*source.annotations, *checked.questions])
    kept = [q for q in questions if not (q.split == "train" and q.media and q.media.uri in leaks)]
    refusals += more + [
        Refusal(item=uri, boundary="source", reason="near_duplicate_of_test", detail=other)
        for uri, other in leaks.items()
    ]
    if not kept:
        raise _no_question([f"{r.item}: {r.reason}" for r in refusals], where=clips_root(config, run))
    known = (row for row in source.annotations if row.uri not in leaks)  # or its truth would reach the teacher
    publish_rows(run.annotations, (ClipAnnotation.model_validate(asdict(row)) for row in known))
    publish_rows(run.refusals, refusals)
    publish_rows(run.questions, kept)
    return {"clips": len(source.clips), "questions": len(kept), "refused": len(refusals)}


def read_source(config: RunConfig, run: RunFolder) -> Source:
    """Questions, annotations and clip paths of the configured data set, cut to `data.limit` clips of each split.

    Raises:
        SourceError: the folder or the questions file is missing.
    """
    data = config.data
    if data.dataset == "toy_kitchen":
        from video_data.datasets.toy_kitchen import plan_toy_kitchen

        toy = plan_toy_kitchen(clips_root(config, run), seed=config.seed, counts=toy_counts(config))
        return Source(toy.questions, toy.annotations, toy.clips)
    from video_data.datasets.plain import read_plain

    root = clips_root(config, run)
    plain = read_plain(root, *side_files(data, root))
    source = Source(plain.questions, plain.annotations, plain.clips, plain.refused)
    return _limited(source, data.limit) if data.limit else source


def usable_source(config: RunConfig, run: RunFolder) -> Source:
    """As `read_source`, after a look at whether anything can be asked, and in the splits that shall be evaluated.

    Raises:
        SourceError: a file is missing, or every question was refused.
        ConfigError: evaluate.splits names a split without questions.
    """
    source = read_source(config, run)
    if not source.questions:
        raise _no_question([f"{row.item}: {row.reason}" for row in source.refused], where=clips_root(config, run))
    there = sorted({row.split for row in source.questions})
    wanted = config.evaluate.splits
    unknown = [split for split in wanted if split not in there]
    by_default = wanted == EvaluateConfig().splits and len(unknown) < len(wanted)
    if unknown and not by_default:
        near = difflib.get_close_matches(unknown[0], there, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(
            f"evaluate.splits: no question is in split {unknown[0]!r}; {hint}the questions have: {', '.join(there)}"
        )
    return source


def side_files(data: DataConfig, root: Path) -> tuple[str, str | None]:
    """Absolute paths of the questions and, if there are any, the annotations.

    Raises:
        SourceError: one of them is missing.
    """
    questions = _side_file(root, data.questions, key="data.questions")
    return questions, _side_file(root, data.annotations, key="data.annotations") if data.annotations else None


def _side_file(root: Path, name: str, *, key: str) -> str:
    """An absolute path of a file named relative to the data folder or, if it is not there, to the working folder."""
    for path in (root / name, Path(name)):
        if path.is_file():
            return str(path.resolve())
    raise SourceError(f"no file {name} in {root} or the working folder; set {key} (see docs/plain_data.md)")


def clips_root(config: RunConfig, run: RunFolder) -> Path:
    """The folder that clip paths are relative to."""
    if config.data.root is not None:
        return Path(config.data.root)
    if config.data.dataset == "plain":
        raise SourceError("data.root is needed for the plain data set: the folder that holds clips and questions")
    return run.clips


def toy_counts(config: RunConfig) -> dict[str, int]:
    """Clips of each split of the drawn kitchen, after `data.limit`."""
    toy, limit = config.data.toy, config.data.limit
    counts = {"train": toy.train_clips, "test": toy.test_clips, "test_ood": toy.test_ood_clips}
    return {split: min(count, limit) if limit else count for split, count in counts.items()}


def _limited(source: Source, limit: int) -> Source:
    chosen: dict[str, list[str]] = {}
    for question in source.questions:
        uris = chosen.setdefault(question.split, [])
        if question.uri not in uris and len(uris) < limit:
            uris.append(question.uri)
    uris_kept = {uri for uris in chosen.values() for uri in uris}
    return Source(
        tuple(q for q in source.questions if q.uri in uris_kept),
        tuple(a for a in source.annotations if a.uri in uris_kept),
        tuple(c for c in source.clips if c[0] in uris_kept),
        source.refused,
    )


def _draw(config: RunConfig, run: RunFolder, progress: Progress) -> None:
    from video_data.datasets.toy_kitchen import draw_toy_kitchen

    draw_toy_kitchen(
        clips_root(config, run),
        seed=config.seed,
        counts=toy_counts(config),
        workers=config.frames.workers,
        progress=progress,
    )


def _budgets(config: RunConfig) -> Budgets:
    names = ("max_file_mb", "max_pixels", "max_frames", "max_duration_s", "max_streams")
    return Budgets(**{name: getattr(config.frames, name) for name in names})


def _usable_questions(rows: Sequence[QuestionRow], *, dataset: str) -> tuple[list[Question], list[Refusal]]:
    questions, refusals = [], []
    for row in rows:
        try:
            question = _to_question(row, dataset=dataset)
            _check_gold(question)
        except (ValidationError, SourceError) as error:
            detail = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error)
            refusals.append(Refusal(item=row.id, boundary="source", reason="bad_question", detail=detail))
        else:
            questions.append(question)
    return questions, refusals


def _check_gold(question: Question) -> None:
    """Refuse a gold answer that nobody could give: the grader must call it right."""
    graded = grade(question.answer, question)
    if graded.verdict != "right":
        raise SourceError(f"the gold answer {question.answer!r} would not count as right if it were given")


def _to_question(row: QuestionRow, *, dataset: str) -> Question:
    fields = asdict(row)
    media = MediaRef(uri=fields.pop("uri"), start_s=fields.pop("start_s"), end_s=fields.pop("end_s"))
    return Question.model_validate({**fields, "dataset": dataset, "media": media})


def _no_question(reasons: Sequence[str], *, where: Path) -> SourceError:
    told = "; ".join(reasons[:5]) or "the questions file is empty"
    return SourceError(f"no usable question is left about clips in {where} ({told}); mend these rows, or set data.root")


def _near_duplicates(store: FrameStore, rows: Sequence[AnnotationRow | QuestionRow]) -> dict[str, str]:
    """Training clips that look like a clip of another split: uri to the other uri.

    Clips that are only annotated count too: their annotations reach the teacher.
    """
    from video_data.fingerprint import near_duplicate_pairs

    decoded = set(store.uris())
    splits = {row.uri: row.split for row in rows if row.uri in decoded}
    train = sorted(uri for uri, split in splits.items() if split == "train")
    other = sorted(uri for uri, split in splits.items() if split != "train")
    if not train or not other:
        return {}
    pairs = near_duplicate_pairs(store, train, other, NEAR_DUPLICATE_BITS)
    return {pair.uri_a: pair.uri_b for pair in pairs}
