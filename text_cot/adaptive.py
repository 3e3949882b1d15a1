"""Teaches a student to choose how much to think about a question, from its own success on questions it has not seen.

The training questions are cut into folds. For each fold a student learns all three ways (at once, short steps, full
steps) from the other folds and then answers the fold's questions in each way. A question's label is the way that took
the fewest tokens among those that were right, or full steps where none was. The final student learns the labels and
the replies. After arXiv 2404.09170, where a soft prompt selects the order; here the choice is a line of the reply, and
its probability is in every prediction.
"""

from collections.abc import Iterable

from aot.answers import grade
from aot.config import ArmConfig, RunConfig
from aot.records import THOUGHT_MODES, Lesson, Prediction, Question, Record, ThoughtMode
from aot.runs import RunFolder, publish_rows, read_rows
from aot.student.loading import load_student
from aot.student.predict import predict
from text_cot.budget import fold_steps
from text_cot.lessons import Samples, draw, thought_lesson, thoughts_of, train_questions
from text_cot.training import StepCounter

LABELS = "labels.jsonl"


class ThoughtLabel(Record):
    """Which way suits a question, and what that rests on."""

    question_id: str
    label: ThoughtMode
    right: tuple[bool, ...]
    """Whether each of THOUGHT_MODES gave the right answer."""
    tokens: tuple[int, ...]
    """How many tokens each of them took."""


def adaptive_lessons(
    run: RunFolder, config: RunConfig, arm: ArmConfig, samples: dict[str, Samples], counter: StepCounter
) -> list[Lesson]:
    """A lesson in choosing for each labelled question, and one with a given way for every question."""
    questions = {q.id: q for q in train_questions(run) if q.id in samples}
    fold_of = {
        question_id: draw(config.seed, question_id, "fold") % config.train.adaptive.folds for question_id in samples
    }
    asked = labelled_ids(samples, config)
    labels: list[ThoughtLabel] = []
    for fold in range(config.train.adaptive.folds):
        helper = arm.model_copy(update={"name": f"{arm.name}/fold{fold}", "max_steps": fold_steps(arm, config)})
        seen = {question_id: own for question_id, own in samples.items() if fold_of[question_id] != fold}
        counter.train(run, config, helper, lambda seen=seen: all_ways(seen))  # type: ignore[misc]
        unseen = [questions[question_id] for question_id in asked if fold_of[question_id] == fold]
        labels += fold_labels(run, config, helper, unseen)
    publish_rows(run.arm(arm.name) / LABELS, labels)
    choosing = [thought_lesson(samples[row.question_id], row.label, chosen=True) for row in labels]
    return choosing + [_given_way(question_id, own, config) for question_id, own in samples.items()]


def labelled_ids(ids: Iterable[str], config: RunConfig) -> list[str]:
    """The questions that get a label: a random part of `ids`, in their order."""
    ids = list(ids)
    order = sorted(ids, key=lambda question_id: draw(config.seed, question_id, "label"))
    chosen = set(order[: config.train.adaptive.labelled])
    return [question_id for question_id in ids if question_id in chosen]


def all_ways(samples: dict[str, Samples]) -> list[Lesson]:
    """Each question in every way it can be taught, with the way given."""
    return [thought_lesson(own, thought, chosen=False) for own in samples.values() for thought in thoughts_of(own)]


def fold_labels(run: RunFolder, config: RunConfig, helper: ArmConfig, questions: list[Question]) -> list[ThoughtLabel]:
    """Labels of questions that the helper has not seen; its answers are published in its folder."""
    paths = {thought: run.arm(helper.name) / f"answers-{thought}.jsonl" for thought in THOUGHT_MODES}
    if missing := [thought for thought in THOUGHT_MODES if not paths[thought].exists()]:
        student = load_student(config.student.base, adapter=run.arm(helper.name), config=config.student)
        for thought in missing:
            rows = predict(
                student, questions, pixels=None, arm=helper.name, mode="adaptive", thought=thought,
                batch_size=config.evaluate.batch_size,
            )  # fmt: skip
            publish_rows(paths[thought], rows)
    ways = [list(read_rows(paths[thought], Prediction)) for thought in THOUGHT_MODES]
    return [label_of(question, given) for question, *given in zip(questions, *ways, strict=True)]


def label_of(question: Question, answers: list[Prediction]) -> ThoughtLabel:
    """The way with the fewest tokens among those that were right; full steps where none was."""
    right = tuple(grade(answer.answer, question).verdict == "right" for answer in answers)
    tokens = tuple(answer.completion_tokens for answer in answers)
    ranked = sorted((count, i) for i, count in enumerate(tokens) if right[i])
    label = THOUGHT_MODES[ranked[0][1]] if ranked else "full"
    return ThoughtLabel(question_id=question.id, label=label, right=right, tokens=tokens)


def _given_way(question_id: str, own: Samples, config: RunConfig) -> Lesson:
    ways = thoughts_of(own)
    return thought_lesson(own, ways[draw(config.seed, question_id, "way") % len(ways)], chosen=False)
