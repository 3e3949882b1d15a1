"""Teaches a student to choose how much to think about a question, from its own success on questions it has not seen.

The training questions are cut into folds. For each fold a student learns every way (at once, short steps, full steps)
from the other folds and then answers questions of the fold in each way. A question's label is the way that took the
fewest tokens among those that were right; a question that no way answers says nothing about which is enough, and gets
none. The final student learns the labels and the replies. Answering at once is taught only where the base already
answers right: what it cannot do in one go is noise to learn. After arXiv 2404.09170, where a soft prompt selects the
order; here the choice is a line of the reply, and its probability is in every prediction.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

from aot.answers import is_right
from aot.arms.budget import fold_steps
from aot.arms.lessons import Samples, thought_lesson
from aot.arms.text_train import StepCounter
from aot.config import ArmConfig, RunConfig
from aot.errors import SourceError
from aot.files.run_folder import RunFolder, publish_rows, read_rows
from aot.files.seals import publish_once
from aot.records import THOUGHT_MODES, Lesson, Prediction, Question, Record, ThoughtMode
from aot.seeds import draw
from aot.student.answer.predict import predict
from aot.student.model.loading import load_student

log = logging.getLogger(__name__)
LABELS = "labels.jsonl"
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


def adaptive_lessons(
    run: RunFolder,
    config: RunConfig,
    arm: ArmConfig,
    questions: dict[str, Question],
    samples: dict[str, Samples],
    counter: StepCounter,
) -> list[Lesson]:
    """A lesson in choosing for each labelled question, and one with a given way for every other.

    Raises:
        SourceError: there are fewer questions than folds.
    """
    questions = {question_id: question for question_id, question in questions.items() if question_id in samples}
    fold_of = folds(samples, config)
    ways = all_ways(samples)
    easy = solved_at_once(run, config, arm, list(questions.values()))
    asked = labelled_ids((i for i, own in samples.items() if len(own) == len(ways) - 1), config)
    labels: list[ThoughtLabel] = []
    for fold in range(config.train.adaptive.folds):
        helper = arm.model_copy(update={"name": f"{arm.name}/fold{fold}", "max_steps": fold_steps(arm, config)})
        seen = {question_id: own for question_id, own in samples.items() if fold_of[question_id] != fold}
        counter.train(run, config, helper, lambda seen=seen: every_way(questions, seen, easy))  # type: ignore[misc]
        unseen = [questions[question_id] for question_id in asked if fold_of[question_id] == fold]
        labels += fold_labels(run, config, helper, unseen, ways)
    publish_rows(run.arm(arm.name) / LABELS, labels)
    chosen = {row.question_id: row.label for row in labels if row.label}
    if not chosen:
        log.warning("%s: no question was answered right in any way, so nothing about choosing is taught", arm.name)
    counts = Counter(chosen.values())
    choosing = [thought_lesson(questions[i], samples[i], label, chosen=True) for i, label in chosen.items()]
    others = [i for i in samples if i not in chosen]
    return CHOICE_COPIES * choosing + [_given_way(questions[i], samples[i], easy, counts, config) for i in others]


def folds(ids: Iterable[str], config: RunConfig) -> dict[str, int]:
    """Question id to its fold; all folds are equally large, and depend on the seed and the questions only.

    Raises:
        SourceError: there are fewer questions than folds.
    """
    order = sorted(ids, key=lambda question_id: draw(config.seed, question_id, "fold"))
    count = config.train.adaptive.folds
    if len(order) < count:
        raise SourceError(f"an adaptive arm needs at least {count} questions with a kept chain, got {len(order)}")
    return {question_id: position % count for position, question_id in enumerate(order)}


def labelled_ids(ids: Iterable[str], config: RunConfig) -> list[str]:
    """The questions that are to get a label: a random part of `ids`, in their order."""
    ids = list(ids)
    order = sorted(ids, key=lambda question_id: draw(config.seed, question_id, "label"))
    chosen = set(order[: config.train.adaptive.labelled])
    return [question_id for question_id in ids if question_id in chosen]


def all_ways(samples: dict[str, Samples]) -> list[ThoughtMode]:
    """The ways that can be taught in this run: at once, and those of which any chain was kept."""
    return [mode for mode in THOUGHT_MODES if mode == "direct" or any(mode in own for own in samples.values())]


def every_way(questions: Mapping[str, Question], samples: dict[str, Samples], easy: set[str]) -> list[Lesson]:
    """Each question in every way it can be taught, with the way given; at once only the `easy` ones."""
    return [
        thought_lesson(questions[question_id], own, way, chosen=False)
        for question_id, own in samples.items()
        for way in ways_of(question_id, own, easy)
    ]


def ways_of(question_id: str, own: Samples, easy: set[str]) -> list[ThoughtMode]:
    """How one question can be taught."""
    return [*(["direct"] if question_id in easy else []), *own]  # type: ignore[list-item]


def solved_at_once(run: RunFolder, config: RunConfig, arm: ArmConfig, questions: list[Question]) -> set[str]:
    """Ids of the training questions that the untrained base answers right when asked directly."""
    path = run.arm(arm.name) / "base-direct.jsonl"

    def rows() -> Iterable[Prediction]:
        base = load_student(config.student.base, config=config.student)
        size = config.evaluate.batch_size
        return map(timeless, predict(base, questions, arm="base", mode="direct", batch_size=size))

    publish_once(run, "train", path, rows)
    answers = zip(questions, read_rows(path, Prediction), strict=True)
    return {question.id for question, answer in answers if is_right(answer.answer, question)}


def fold_labels(
    run: RunFolder, config: RunConfig, helper: ArmConfig, questions: list[Question], ways: list[ThoughtMode]
) -> list[ThoughtLabel]:
    """Labels of questions that the helper has not seen; its answers are published in its folder."""
    paths = {way: run.arm(helper.name) / f"answers-{way}.jsonl" for way in ways}
    if missing := [way for way in ways if not paths[way].exists()]:
        student = load_student(config.student.base, adapter=run.arm(helper.name), config=config.student)
        for way in missing:
            size = config.evaluate.batch_size
            rows = predict(student, questions, arm=helper.name, mode="adaptive", thought=way, batch_size=size)
            publish_once(run, "train", paths[way], lambda rows=rows: map(timeless, rows))  # type: ignore[misc]
    answers = [list(read_rows(paths[way], Prediction)) for way in ways]
    return [label_of(question, ways, given) for question, *given in zip(questions, *answers, strict=True)]


def label_of(question: Question, ways: list[ThoughtMode], answers: list[Prediction]) -> ThoughtLabel:
    """The way with the fewest tokens among those that were right."""
    right = tuple(is_right(answer.answer, question) for answer in answers)
    tokens = tuple(answer.completion_tokens for answer in answers)
    ranked = sorted((count, i) for i, count in enumerate(tokens) if right[i])
    label: ThoughtMode | Literal[""] = ways[ranked[0][1]] if ranked else ""
    return ThoughtLabel(question_id=question.id, label=label, ways=tuple(ways), right=right, tokens=tokens)


def timeless(row: Prediction) -> Prediction:
    """A prediction without its wall time, so that reruns are byte-identical."""
    return row.model_copy(update={"latency_s": 0.0})


def _given_way(
    question: Question, own: Samples, easy: set[str], counts: Counter[ThoughtMode], config: RunConfig
) -> Lesson:
    """A reply in a given way: the chain of the way that labels name most often; half the easy questions at once."""
    if question.id in easy and draw(config.seed, question.id, "way") % 2 == 0:
        return thought_lesson(question, own, "direct", chosen=False)
    return thought_lesson(question, own, max(own, key=lambda way: counts[way]), chosen=False)
