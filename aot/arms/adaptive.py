"""Teaches a student to choose how much to think about a question, from its own success on questions it has not seen.

The training questions are cut into folds. For each fold a student learns every way (at once, short steps, full steps)
from the other folds and then answers questions of the fold in each way. With `train.adaptive.labels: own` the arm
itself learns every way from the questions without a label, answers the others, and goes on from there.

A question's label is the way that took the fewest tokens among those that were right; a question that no way answers
says nothing about which is enough, and gets none. The final student learns the labels and the replies. Answering at
once is taught only where the base already answers right: what it cannot do in one go is noise to learn. After arXiv
2404.09170, where a soft prompt selects the order; here the choice is a line of the reply, and its probability is in
every prediction.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Literal

from aot.answers import is_right
from aot.arms.asking import open_student, timeless_answers
from aot.arms.jobs import Job, num_folds
from aot.arms.lessons import Material, Samples, thought_lesson
from aot.config import AdaptiveConfig, ArmConfig, RunConfig
from aot.errors import SourceError
from aot.files.run_folder import ANSWERS, BASE_ANSWERS, LABELS, RunFolder, publish_rows, read_rows
from aot.files.seals import publish_once
from aot.records import THOUGHT_MODES, Lesson, Prediction, Question, Record, ThoughtMode
from aot.seeds import hashed

log = logging.getLogger(__name__)
CHOICE_COPIES = 2
"""Lessons in choosing are few beside the others, so each is learned so often."""


class ThoughtLabel(Record):
    """Which way suits a question, and what that rests on."""

    question_id: str
    label: ThoughtMode | Literal[""]
    """Empty where no way was right."""
    ways: tuple[ThoughtMode, ...]
    """What was tried."""
    right: tuple[bool, ...]
    """Whether each way gave the right answer."""
    tokens: tuple[int, ...]
    """How many tokens each way took."""


def fold_lessons(run: RunFolder, settings: AdaptiveConfig, job: Job, material: Material, *, seed: int) -> list[Lesson]:
    """What the student of a fold learns: every way from the questions of the other folds, or from those without label.

    Raises:
        SourceError: there are fewer questions than folds.
    """
    if settings.labels == "own":
        unseen = {question.id for question in unseen_questions(settings, material, fold=job.number, seed=seed)}
    else:
        fold_of = folds(material.samples, count=num_folds(settings), seed=seed)
        unseen = {question_id for question_id in material.samples if fold_of[question_id] == job.number}
    seen = {question_id: chains for question_id, chains in material.samples.items() if question_id not in unseen}
    if not seen:
        raise SourceError(
            f"all {len(unseen)} questions with a kept chain get a label, so that none is left to learn every way from; "
            "lower train.adaptive.labelled, or take more questions"
        )
    return every_way(material.questions, seen, solved_at_once(run, job.arm, material))


def own_lessons(run: RunFolder, config: RunConfig, job: Job, material: Material) -> list[Lesson]:
    """A lesson in choosing for each labelled question, and one with a given way for every other; publishes the labels.

    Raises:
        SourceError: there are fewer questions than folds.
    """
    arm, samples, questions = job.arm, material.samples, material.questions
    settings = config.train.adaptive
    easy = solved_at_once(run, arm, material)
    labels: list[ThoughtLabel] = []
    for fold in range(job.number):
        ways = all_ways(samples)
        unseen = unseen_questions(settings, material, fold=fold, seed=config.seed)
        folder = run.arm(f"{arm.name}/fold{fold}")
        answers = [list(read_rows(folder / ANSWERS.format(way), Prediction)) for way in ways]
        labels += [label_of(question, ways, given) for question, *given in zip(unseen, *answers, strict=True)]
    publish_rows(run.arm(arm.name) / LABELS, labels)
    most = settings.most
    chosen = {row.question_id: _choice_of(row, settings, easy) for row in labels if row.label}
    if not chosen:
        log.warning("%s: no question was answered right in any way, so nothing about choosing is taught", arm.name)
    counts = Counter(chosen.values())
    choices = [thought_lesson(questions[i], samples[i], label, chosen=True) for i, label in chosen.items()]
    others = [i for i in samples if i not in chosen]
    if settings.labels == "own":
        given = [thought_lesson(questions[i], samples[i], _one_of(samples[i], most), chosen=False) for i in others]
        return CHOICE_COPIES * choices + given
    return CHOICE_COPIES * choices + [
        _given_way(questions[i], samples[i], easy, counts, seed=config.seed) for i in others
    ]


def _choice_of(row: ThoughtLabel, settings: AdaptiveConfig, easy: set[str]) -> ThoughtMode:
    """What an arm learns to choose where a label says something: no longer way than it may, and no lucky guess."""
    label: ThoughtMode = row.label or settings.most
    if settings.labels == "own" and label == "direct" and row.question_id not in easy:
        label = "short"
    return settings.most if label == "full" else label


def _one_of(chains: Samples, way: ThoughtMode) -> ThoughtMode:
    """`way` where a chain of it was kept, else the other one."""
    return way if way in chains else next(iter(chains))


def unseen_questions(settings: AdaptiveConfig, material: Material, *, fold: int, seed: int) -> list[Question]:
    """The questions of a fold that are to get a label: they can be taught in every way."""
    fold_of = folds(material.samples, count=num_folds(settings), seed=seed)
    num_ways = len(all_ways(material.samples)) - 1
    in_every_way = (i for i, chains in material.samples.items() if len(chains) == num_ways)
    ids = labelled_ids(in_every_way, most=settings.labelled, seed=seed)
    return [material.questions[question_id] for question_id in ids if fold_of[question_id] == fold]


def folds(ids: Iterable[str], *, count: int, seed: int) -> dict[str, int]:
    """Question id to its fold; all folds are equally large, and depend on the seed and the questions only.

    Raises:
        SourceError: there are fewer questions than folds.
    """
    order = sorted(ids, key=lambda question_id: hashed(seed, question_id, "fold"))
    if len(order) < count:
        raise SourceError(f"an adaptive arm needs at least {count} questions with a kept chain, got {len(order)}")
    return {question_id: position % count for position, question_id in enumerate(order)}


def labelled_ids(ids: Iterable[str], *, most: int, seed: int) -> list[str]:
    """The questions that are to get a label: a random part of `ids`, in their order."""
    ids = list(ids)
    order = sorted(ids, key=lambda question_id: hashed(seed, question_id, "label"))
    chosen = set(order[:most])
    return [question_id for question_id in ids if question_id in chosen]


def all_ways(samples: dict[str, Samples]) -> list[ThoughtMode]:
    """The ways that can be taught in this run: at once, and those of which any chain was kept."""
    return [mode for mode in THOUGHT_MODES if mode == "direct" or any(mode in chains for chains in samples.values())]


def every_way(questions: Mapping[str, Question], samples: dict[str, Samples], easy: set[str]) -> list[Lesson]:
    """Each question in every way it can be taught, with the way given; at once only the `easy` ones."""
    return [
        thought_lesson(questions[question_id], chains, way, chosen=False)
        for question_id, chains in samples.items()
        for way in ways_of(question_id, chains, easy)
    ]


def ways_of(question_id: str, chains: Samples, easy: set[str]) -> list[ThoughtMode]:
    """How one question can be taught."""
    return [*(["direct"] if question_id in easy else []), *chains]  # type: ignore[list-item]


def ask_base(run: RunFolder, config: RunConfig, arm: ArmConfig, material: Material) -> None:
    """Publish what the untrained base answers directly to the questions that the arm can learn from."""
    questions = [material.questions[question_id] for question_id in material.samples]

    def rows() -> Iterable[Prediction]:
        student, pixels = open_student(run, config.student, None, questions, cache_mb=config.train.frame_cache_mb)
        size = config.evaluate.batch_size
        return timeless_answers(student, questions, pixels=pixels, arm="base", mode="direct", batch_size=size)

    publish_once(run.arm(arm.name) / BASE_ANSWERS, rows)


def solved_at_once(run: RunFolder, arm: ArmConfig, material: Material) -> set[str]:
    """Ids of the training questions that the untrained base answers right when asked directly."""
    answers = read_rows(run.arm(arm.name) / BASE_ANSWERS, Prediction)
    return {row.question_id for row in answers if is_right(row.answer, material.questions[row.question_id])}


def answer_fold(run: RunFolder, config: RunConfig, job: Job, material: Material) -> None:
    """Publish what the student of a fold answers to the questions that it has not seen, in each way."""
    questions = unseen_questions(config.train.adaptive, material, fold=job.number, seed=config.seed)
    folder = run.arm(job.student.name)
    paths = {way: folder / ANSWERS.format(way) for way in all_ways(material.samples)}
    if all(path.exists() for path in paths.values()):
        return
    student, pixels = open_student(run, config.student, folder, questions, cache_mb=config.train.frame_cache_mb)
    for way, path in paths.items():
        rows = partial(
            timeless_answers, student, questions, pixels=pixels, arm=job.student.name, mode="adaptive", thought=way,
            batch_size=config.evaluate.batch_size,
        )  # fmt: skip
        publish_once(path, rows)


def label_of(question: Question, ways: list[ThoughtMode], answers: list[Prediction]) -> ThoughtLabel:
    """The way with the fewest tokens among those that were right."""
    right = tuple(is_right(answer.answer, question) for answer in answers)
    tokens = tuple(answer.completion_tokens for answer in answers)
    ranked = sorted((count, i) for i, count in enumerate(tokens) if right[i])
    label: ThoughtMode | Literal[""] = ways[ranked[0][1]] if ranked else ""
    return ThoughtLabel(question_id=question.id, label=label, ways=tuple(ways), right=right, tokens=tokens)


def _given_way(
    question: Question, chains: Samples, easy: set[str], counts: Counter[ThoughtMode], *, seed: int
) -> Lesson:
    """A reply in a given way: the chain of the way that labels name most often; half the easy questions at once."""
    if question.id in easy and hashed(seed, question.id, "way") % 2 == 0:
        return thought_lesson(question, chains, "direct", chosen=False)
    return thought_lesson(question, chains, max(chains, key=lambda way: counts[way]), chosen=False)
