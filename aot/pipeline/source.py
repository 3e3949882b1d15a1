"""What a video data set offers before anything is decoded: questions, annotations and clip paths, from any data set."""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from aot.config import AnnotatedData, ClipData, EvaluateConfig, KitchenData, PlainData, RunConfig, VideoRun
from aot.errors import ConfigError, SourceError
from aot.files.jsonl import Refused, refused_words
from aot.files.run_folder import RunFolder
from aot.records import Question
from video_data.datasets.rows import QuestionRow, VideoData


def read_source(config: VideoRun, run: RunFolder) -> VideoData:
    """Questions, annotations and clip paths of the configured data set, cut to `data.limit` clips of each split.

    Raises:
        SourceError: the folder or the questions file is missing.
    """
    data, root = config.data, clips_root(config.data, run)
    if isinstance(data, KitchenData):
        from video_data.kitchen.dataset import plan_toy_kitchen

        toy = data.toy
        return plan_toy_kitchen(
            root, seed=config.seed, counts=toy_counts(data), open_book_count=toy.open_book, card=toy.card
        )
    if isinstance(data, PlainData):
        return _plain_source(data, root, clips="needed")
    return annotated_source(data, clips=root, seed=config.seed)


def labels_source(config: VideoRun, run: RunFolder) -> VideoData:
    """As `read_source` of any video data set, without looking for any clip.

    Raises:
        SourceError: a file of questions or annotations is missing or unreadable.
    """
    data = config.data
    if isinstance(data, KitchenData):
        return read_source(config, run)
    if isinstance(data, PlainData):
        return _plain_source(data, Path(data.root or "."), clips="not_needed")
    return annotated_source(data, clips=None, seed=config.seed)


def _plain_source(data: PlainData, root: Path, *, clips: Literal["needed", "not_needed"]) -> VideoData:
    from video_data.datasets.plain import read_plain

    return _limited(read_plain(root, *side_files(data, root), clips=clips), data.limit)


def annotated_source(data: AnnotatedData, *, clips: Path | None, seed: int) -> VideoData:
    """The questions of a published data set, cut as `read_source`; with `clips` None no clip is looked for.

    Raises:
        SourceError: an official file, or the folder of the clips, is missing or unreadable.
    """
    from video_data.datasets.annotated import read_annotated
    from video_data.datasets.official import Wanted

    train, test = official_files(data)
    wanted = Wanted(train, test, seed=seed, **data.annotated.model_dump(exclude={"train", "test"}))
    return _limited(read_annotated(data.dataset, wanted, clips=clips), data.limit)


def official_files(data: AnnotatedData) -> tuple[Path | None, Path | None]:
    """The official training and test files.

    Raises:
        SourceError: neither is given, or one is not there.
    """
    given = data.annotated
    if given.train is None and given.test is None:
        raise SourceError(
            f"data.annotated.train is needed for {data.dataset}: its official annotation file (docs/annotated_data.md)"
        )
    for key, name in (("train", given.train), ("test", given.test)):
        if name is not None and not Path(name).exists():
            raise SourceError(f"there is no {name}; set data.annotated.{key} to the official annotation file")
    return (Path(given.train) if given.train else None, Path(given.test) if given.test else None)


def usable_source(config: VideoRun, run: RunFolder) -> VideoData:
    """As `read_source`, after a look at whether anything can be asked, and in the splits that shall be evaluated.

    Raises:
        SourceError: a file is missing, or every question was refused.
        ConfigError: evaluate.splits names a split without questions.
    """
    source = read_source(config, run)
    require_questions(source.questions, source.refused, config=config, where=clips_root(config.data, run))
    return source


def side_files(data: PlainData, root: Path) -> tuple[str, str | None]:
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


def clips_root(data: ClipData, run: RunFolder) -> Path:
    """The folder that clip paths are relative to.

    Raises:
        SourceError: the data set needs one, and none is given.
    """
    if data.root is not None:
        return Path(data.root)
    if not isinstance(data, KitchenData):
        raise SourceError(f"data.root is needed for the data set {data.dataset}: the folder of the clips")
    return run.clips


def toy_counts(data: KitchenData) -> dict[str, int]:
    """Clips of each split of the synthetic kitchen, after `data.limit`."""
    toy, limit = data.toy, data.limit
    counts = {
        "train": toy.train_clips,
        "test": toy.test_clips,
        "test_ood": toy.test_ood_clips,
        "new_dishes": toy.new_dishes,
    }
    return {split: min(count, limit) if limit else count for split, count in counts.items()}


def require_questions(
    questions: Sequence[QuestionRow] | Sequence[Question], refused: Sequence[Refused], *, config: RunConfig, where: Path
) -> None:
    """Return if something can be asked, and in the splits that shall be evaluated; errors name what was refused.

    Raises:
        SourceError: no question is left.
        ConfigError: evaluate.splits names a split without questions.
    """
    refusal_words = refused_words(refused)
    if not questions:
        why = refusal_words or "the questions file is empty"
        raise SourceError(
            f"no usable question is left about clips in {where} ({why}); fix these rows, or set data.root"
        )
    there = sorted({row.split for row in questions})
    wanted = config.evaluate.splits
    unknown = [split for split in wanted if split not in there]
    by_default = wanted == EvaluateConfig().splits and len(unknown) < len(wanted)
    if unknown and not by_default:
        near = difflib.get_close_matches(unknown[0], there, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(
            f"evaluate.splits: no question is in split {unknown[0]!r}; {hint}the questions have: {', '.join(there)}"
            + (f"; {refusal_words}" if refusal_words else "")
        )


def _limited(source: VideoData, limit: int | None) -> VideoData:
    """`source` with at most `limit` clips of each split."""
    if limit is None:
        return source
    chosen: dict[str, list[str]] = {}
    for question in source.questions:
        uris = chosen.setdefault(question.split, [])
        if question.uri not in uris and len(uris) < limit:
            uris.append(question.uri)
    uris_kept = {uri for uris in chosen.values() for uri in uris}
    return replace(
        source,
        questions=tuple(q for q in source.questions if q.uri in uris_kept),
        annotations=tuple(a for a in source.annotations if a.uri in uris_kept),
        clips=tuple(c for c in source.clips if c[0] in uris_kept),
    )
