"""Questions under review where a program asks a student itself: what a person said is told, and nothing else.

The queue, its ids and its words are those of the server. Without a folder the student is not even asked, since nobody
would ever look. This module knows no student; who asks says what a question shows.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aot.answer_records import Answer
from aot.chat.messages import ImagePart
from aot.display import storable
from aot.errors import AotError, ConfigError
from aot.review_records import AskedQuestion, PendingRow, ReviewOut
from aot.served_records import StudentContract
from aot.serving.review.disclosing import abstention_of
from aot.serving.review.queue import Outcome, ReviewQueue, request_id

log = logging.getLogger(__name__)
ROUTE = "python"
_FAILED = "the answer needs review by a person and cannot wait for it now; ask again later"


@dataclass(frozen=True)
class Held:
    """A question whose answer a person has to look at."""

    question: AskedQuestion
    key_parts: tuple[Any, ...]
    """All that it asks; the same question has the same id."""
    blank: Answer
    """Without an answer: mode, choices, model and contract."""
    pictures: Callable[[], Sequence[ImagePart]] = tuple
    """What the student is shown; read where the question begins to wait."""


def open_review(folder: Path, contract: StudentContract) -> ReviewQueue:
    """Where answers of a student wait.

    Raises:
        ConfigError: no kind of its questions is under review.
        AotError: the folder cannot be read or written.
    """
    if not contract.review:
        raise ConfigError(
            f"a folder for review was named ({folder}), and no kind of question of {contract.name} needs it; leave it "
            "out, or export a run with serving.review=required"
        )
    return ReviewQueue(folder, kinds=contract.review, learned=contract.kinds)


def why_held(contract: StudentContract) -> str:
    """Why answers are held back where nobody named a folder, and what to do, in a sentence."""
    kinds = "any kind" if "*" in contract.review else f"kind {', '.join(contract.review)}"
    return (
        f"answers of {contract.name} to questions of {kinds} need review by a person, and no folder was named in which "
        "they wait; name one (load_student(..., review=FOLDER), aot predict --review FOLDER), and let a person look "
        "with `aot review FOLDER`"
    )


def not_looked_at(contract: StudentContract, blank: Answer) -> Answer:
    """What is told where no folder was named."""
    review = ReviewOut(state="pending", id="")
    return blank.model_copy(
        update={"abstained": abstention_of(Outcome(review)), "detail": why_held(contract), "review": review}
    )


def after_review(
    held: Mapping[int, Held | Answer],
    count: int,
    *,
    queue: ReviewQueue | None,
    say: Callable[[Sequence[int]], Sequence[Answer]],
) -> list[Answer]:
    """The answers to so many questions in their order, of those that are held what a person said.

    Args:
        held: questions under review, by place, or the answers that stand without asking the student.
        count: of all questions.
        queue: where they wait; None only where no question has to.
        say: what the student says to the questions at these places.
    """
    answers = {i: one for i, one in held.items() if isinstance(one, Answer)}
    waiting = {i: one for i, one in held.items() if isinstance(one, Held)}
    keys = {i: request_id(ROUTE, *one.key_parts) for i, one in waiting.items()}
    for i, one in waiting.items():
        if queue is not None and (outcome := queue.outcome(keys[i])) is not None:
            answers[i] = answer_of(one.blank, outcome)
    unasked = [i for i in range(count) if i not in answers]
    said = dict(zip(unasked, say(unasked), strict=True)) if unasked else {}
    for i, answer in said.items():
        must_wait = i in waiting and answer.abstained != "failed"  # one that failed holds no word of the student
        answers[i] = _begun(queue, keys[i], waiting[i], answer) if must_wait else answer
    return [answers[i] for i in range(count)]


def answer_of(blank: Answer, outcome: Outcome) -> Answer:
    """What a program is told of a question under review."""
    return blank.model_copy(
        update={"answer": outcome.answer, "abstained": abstention_of(outcome), "detail": outcome.review.sentence,
                "review": outcome.review}
    )  # fmt: skip


def _begun(queue: ReviewQueue | None, key: str, one: Held, said: Answer) -> Answer:
    """What is told of an answer that begins to wait; that there is none, where it cannot wait."""
    row = PendingRow(
        id=key, time_s=0.0, route=ROUTE, question=one.question, answer=storable(said.answer), abstained=said.abstained,
        confidence=said.confidence, rationale="" if said.choices else storable(said.rationale or said.raw_text),
        model=said.model, contract_digest=said.contract_digest,
    )  # fmt: skip
    try:
        if queue is None:
            raise AotError("there is no folder")
        return answer_of(one.blank, queue.add(row, one.pictures()))
    except (AotError, OSError) as error:
        log.error("an answer cannot wait for review: %s", error)
        return one.blank.model_copy(update={"abstained": "failed", "detail": _FAILED})
