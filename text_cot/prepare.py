"""The prepare stage of a text run: questions, the solutions that came with them, and what was refused."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from aot.answers import check_packages
from aot.config import FilesData, GymData, HfData, MathData, TextData, TextRun
from aot.errors import ConfigError, SourceError
from aot.files.jsonl import refused_words
from aot.files.run_folder import RunFolder, publish_rows
from aot.records import ClipAnnotation
from text_cot.datasets.source import TextSource
from text_cot.datasets.toy_math import draw_toy_math

log = logging.getLogger(__name__)
TRAIN = "train"


def prepare(
    run: RunFolder, config: TextRun, progress: Callable[[int, int], None], source: TextSource | None = None
) -> dict[str, int]:
    """Publish questions, given rationales and refusals of a data set, read already or now; returns their counts.

    A shard has nothing to do: a text run reads its questions in seconds, and the command without a shard does that.
    """
    if config.run.shard is not None:
        log.info("shard %s: nothing to do: a text run has no clips to decode, and `aot prepare` without --shard reads "
                 "all questions", config.run.shard)  # fmt: skip
        return {"questions": 0}
    source = source or usable_source(config.data, seed=config.seed, splits=config.evaluate.splits)
    publish_rows(run.rationales, source.rationales)
    publish_rows(run.annotations, list[ClipAnnotation]())
    publish_rows(run.refusals, source.refusals)
    publish_rows(run.questions, source.questions)
    progress(len(source.questions), len(source.questions))
    return {"questions": len(source.questions), "refused": len(source.refusals)}


def read_source(data: TextData, *, seed: int) -> TextSource:
    """The problems of the configured data set, cut to `data.limit` of each split.

    Raises:
        SourceError: a file is missing or cannot be used at all.
        ConfigError: a task is unknown or excluded.
    """
    if isinstance(data, MathData):
        return TextSource(tuple(draw_toy_math(data.math, seed=seed, limit=data.limit)), (), ())
    if isinstance(data, GymData):
        from text_cot.datasets.gym import gym_source

        gym = data.gym
        return gym_source(gym.tasks, gym.unseen_tasks, train=gym.train, test=gym.test, seed=seed, limit=data.limit)
    if isinstance(data, HfData):
        from text_cot.datasets.hf import read_hf

        return read_hf(data.hf, seed=seed, limit=data.limit)
    from text_cot.datasets.files import read_text_files

    train, test = check_files(data)
    share = data.files.test_share
    return read_text_files(data.dataset, train=train, test=test, test_share=share, seed=seed, limit=data.limit)


def check_data(data: FilesData | HfData) -> None:
    """Look whether the files of a data set are there; no row is read.

    Raises:
        ConfigError: it needs files and none is named, or a split is not there.
        SourceError: a file is missing, or a folder is none of a data set.
    """
    if isinstance(data, FilesData):
        check_files(data)
    else:
        from text_cot.datasets.hf import open_splits

        open_splits(data.hf)


def check_files(data: FilesData) -> tuple[Path, Path | None]:
    """Paths of the training file and of the test file, if one is named; nothing is read.

    Raises:
        ConfigError: the data set needs files and none is named.
        SourceError: a file is missing.
    """
    if data.files.train is None:
        raise ConfigError("data.files.train is not set; give the file of training problems")
    train, test = Path(data.files.train), Path(data.files.test) if data.files.test else None
    for path in (train, test):
        if path is not None and not path.exists():
            raise SourceError(f"there is no file {path}; set data.root and data.files to the files of the data set")
    return train, test


def usable_source(data: TextData, *, seed: int, splits: Sequence[str]) -> TextSource:
    """As `read_source`, after a look at whether there is something to train on, and to ask in each evaluated split.

    Raises:
        SourceError: every row was refused, or none is in the train split.
        ConfigError: one of `splits`, those of the evaluation, has no questions.
        MissingPackageError: answers of these questions cannot be compared without a package that is not there.
    """
    source = read_source(data, seed=seed)
    counts = Counter(question.split for question in source.questions)
    if not counts[TRAIN]:
        why = refused_words(source.refusals) or "no row was found"
        raise SourceError(f"no usable question is left in split train ({why}); look at the files of the data set")
    check_packages(source.questions)
    refused = refused_words(source.refusals)
    for split in splits:
        if not counts[split]:
            raise ConfigError(
                f"evaluate.splits: no question is in split {split!r}; the questions have: {', '.join(sorted(counts))}"
                + (f"; {refused}" if refused else "")
            )
    return source
