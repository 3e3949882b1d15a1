"""Decisions that a person has to look at first: which ones, what was said of them, and those that begin to wait."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aot.answer_records import Answer
from aot.chat.messages import ImagePart
from aot.display import storable
from aot.review_records import PendingRow
from aot.serving import media
from aot.serving.decisions.decider import State
from aot.serving.decisions.questions import TypedQuestion
from aot.serving.review.queue import Outcome, ReviewQueue, question_of, request_id
from aot.serving.server.errors import ApiError
from aot.serving.server.served import Served


@dataclass(frozen=True)
class Asking:
    """Questions about one state, as a client asked them."""

    state: State
    questions: Mapping[int, TypedQuestion]
    """By place."""
    route: str
    shown: Any
    """All that the request shows, as JSON: with a question, it makes the id of its review."""
    text: str
    """Before each question."""
    clip: Any
    """Path and window, of either route; None without a clip."""
    images: Callable[[], Sequence[ImagePart]]
    """That were sent; read where a question begins to wait."""


@dataclass(frozen=True)
class Decided:
    """What came of questions, by place."""

    answers: Mapping[int, Answer]
    """Of the student, where it was asked: of questions under review too, and those answers are told to nobody."""
    reviewed: Mapping[int, Outcome]
    """Of questions under review, what is to be told instead."""
    times_s: tuple[float, ...]


def keys_of(queue: ReviewQueue | None, asking: Asking) -> dict[int, str]:
    """The ids of the questions whose answers a person has to look at, by place."""
    if queue is None:
        return {}
    covered = {i: one for i, one in asking.questions.items() if queue.covers(one.kind)}
    return {i: request_id(asking.route, asking.shown, one) for i, one in covered.items()}


def outcomes_of(queue: ReviewQueue | None, keys: Mapping[int, str]) -> dict[int, Outcome]:
    """What is to be told of questions that came before, by place."""
    if queue is None:
        return {}
    return {i: outcome for i, key in keys.items() if (outcome := queue.outcome(key)) is not None}


def let_wait(
    served: Served, asking: Asking, waiting: Mapping[int, tuple[str, Answer]], *, times_s: Sequence[float]
) -> dict[int, Outcome]:
    """Let questions wait, by place, with their ids and the student's answers.

    Raises:
        ApiError: a question cannot be asked, or cannot wait: then nobody is told the answer either.
    """
    if served.review is None or not waiting:
        return {}
    images, clip = _images(served, asking, times_s), asking.clip
    outcomes: dict[int, Outcome] = {}
    for i, (key, answer) in waiting.items():
        question = asking.questions[i]
        if answer.abstained == "failed":
            raise ApiError(400, storable(answer.detail), code="invalid_question", param="questions")
        text = "\n".join(filter(None, (asking.text, question.text)))
        row = PendingRow(
            id=key, time_s=0.0, route=asking.route, answer=storable(answer.answer), abstained=answer.abstained,
            question=question_of(text, choices=question.choices, kind=question.kind, video=clip),
            confidence=answer.confidence, model=answer.model, contract_digest=answer.contract_digest,
        )  # fmt: skip
        outcomes[i] = served.let_wait(row, images)
    return outcomes


def _images(served: Served, asking: Asking, times_s: Sequence[float]) -> Sequence[ImagePart]:
    """What the student was shown, for whoever reviews."""
    clip, rule = asking.clip, served.contract.frames if served.contract else None
    if clip is not None and rule and served.shelf is not None:
        return media.read_clip(served.find_clip(clip.path, start_s=clip.start_s, end_s=clip.end_s), rule, served.shelf)
    images = asking.images()
    if len(images) != len(times_s):
        return images
    return [one.model_copy(update={"time_s": at}) for one, at in zip(images, times_s, strict=True)]


def certain(question: TypedQuestion, answer: str) -> Answer:
    """A person's answer in the form of a decision: all probability lies on it."""
    probs = tuple(float(choice == answer) for choice in question.choices)
    return Answer(mode="decide", answer=answer, choices=question.choices, choice_probs=probs)
