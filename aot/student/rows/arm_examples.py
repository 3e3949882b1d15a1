"""The examples of an arm: from its lessons, and from replies of its own that a judge has read.

The ids of those replies are the ones that the student picked; nothing is made again from text.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aot.answer_records import JudgedRollout
from aot.config import SpanWeights
from aot.errors import SourceError
from aot.files.run_folder import RunFolder, read_rows
from aot.records import Lesson, Question
from aot.student.model.loading import Student
from aot.student.rows.examples import Example, ExampleSet, TokenWeights, encode_row, make_examples
from aot.student.rows.frames import ChosenFrames, FrameSource, shown_frames
from aot.student.rows.lesson_files import JUDGED
from aot.student.rows.packing import EncodedRow, Likely
from aot.student.rows.talks import ALIKE, check_talk
from aot.student.rows.tokens import Renderer

LEAST_WEIGHT = 1e-4
"""Of a place that was judged."""


def load_examples(
    run: RunFolder,
    lessons: list[Lesson],
    *,
    student: Student,
    store: FrameSource | None,
    span_weights: SpanWeights = ALIKE,
    weights: TokenWeights | None = None,
    rollouts: Sequence[JudgedRollout] = (),
) -> ExampleSet:
    """Examples from the lessons of an arm, with weights of tokens, and from its judged replies; of the train split.

    Raises:
        SourceError: one is about an unknown question.
        CheckpointError: the tokenizer or template cannot carry a talk with tools that is among them.
    """
    questions = {q.id: q for q in training_questions(run)}
    talk = next((one for one in lessons if one.turns and one.question_id in questions), None)
    if talk:
        check_talk(student.renderer, questions[talk.question_id], talk)
    shared: dict[str, Any] = {
        "questions": questions, "renderer": student.renderer, "max_tokens": student.most_tokens, "store": store,
        "num_frames": student.config.num_frames,
    }  # fmt: skip
    data = make_examples(lessons, **shared, span_weights=span_weights, weights=weights)
    return with_rollouts(data, rollouts, **shared)


def training_questions(run: RunFolder) -> Iterator[Question]:
    """The questions of a run that may be learned from."""
    return (q for q in read_rows(run.questions, Question) if q.split == "train")


def judged_replies(folder: Path) -> list[JudgedRollout]:
    """The replies of the student in `folder` with what its judge thinks of them."""
    return list(read_rows(folder / JUDGED, JudgedRollout))


def with_rollouts(
    data: ExampleSet,
    rollouts: Iterable[JudgedRollout],
    *,
    questions: Mapping[str, Question],
    renderer: Renderer,
    max_tokens: int,
    store: FrameSource | None,
    num_frames: int,
) -> ExampleSet:
    """The examples of `data`, each with the replies to its question, and one for each other question with a reply.

    Args:
        data: of the lessons that are learned besides.
        rollouts: judged replies.
        questions: question id to question, of the train split.
        renderer: makes the prompt, without any evidence.
        max_tokens: rows longer than this are dropped and counted.
        store: where the frames lie; None where no reply was about any.
        num_frames: frames shown for each question, at most.

    Raises:
        SourceError: a reply is to a question that is not there, or shows frames that are not stored any more.
    """
    # Without frames each lesson is an example of its own, so a question may have several, and all of them stay.
    examples = list(data.examples)
    places = {example.question_id: place for place, example in enumerate(examples)}
    dropped = dict(data.dropped)
    for rollout in rollouts:
        question = questions.get(rollout.question_id)
        if question is None:
            raise SourceError(f"a reply is to {rollout.question_id!r}, which is no question of the train split")
        place = places.get(question.id, len(examples))
        if place < len(examples):
            example = examples[place]
        else:
            frames = shown_frames(store, question, shown=rollout.with_frames, num_frames=num_frames)
            example = Example(question.id, (), frames)
        row = judged_row(renderer, question, example.frames, rollout)
        if row.num_tokens > max_tokens:
            dropped["row_too_long"] = dropped.get("row_too_long", 0) + 1
            continue
        places[question.id] = place
        examples[place : place + 1] = [replace(example, rows=(*example.rows, row), explains=True)]
    return ExampleSet(tuple(examples), dict(sorted(dropped.items())))


def judged_row(
    renderer: Renderer, question: Question, frames: ChosenFrames | None, rollout: JudgedRollout
) -> EncodedRow:
    """The prompt that the student replied to, its reply, and the judge's tokens; learned as a rationale."""
    prompt = encode_row(renderer, question, frames, mode=rollout.mode).prompt_ids
    likely = tuple(map(Likely, rollout.likely, rollout.likely_logprobs))
    # A weight of 0 takes a place out of the count of tokens too, which is right only where nobody judged it.
    pairs = zip(rollout.weights, rollout.likely, strict=True)
    weights = tuple(max(weight, LEAST_WEIGHT) if ids else 0.0 for weight, ids in pairs)
    return EncodedRow(prompt, rollout.ids, weights=weights if min(weights) < 1 else (), judged=likely)
