"""What a client is told of an answer under review: by whom it is, why there is none, and where it comes from."""

from aot.answer_records import AbstainReason
from aot.display import one_line
from aot.served_records import StudentContract
from aot.serving.disclosure import Origin, origin_of, text_of
from aot.serving.review.queue import Outcome


def abstention_of(outcome: Outcome) -> AbstainReason:
    """Why there is no answer; empty where there is one."""
    if not outcome.is_settled:
        return "pending_review"
    return "" if outcome.answer else "rejected_by_person"


def origin_of_person(contract: StudentContract | None, outcome: Outcome) -> Origin:
    """Where an answer under review comes from: of a person who corrected, or of the model with a person's approval."""
    origin, state = origin_of(contract), outcome.review.state
    if state == "pending":
        return origin
    written = {"watermark": outcome.watermark} if outcome.watermark else {}
    return origin.model_copy(update={"ai_generated": state != "corrected", "reviewed": state, **written})


def disclosure_of(model: str, origin: Origin, sentence: str) -> str:
    """The same for people, in one line."""
    return one_line(
        sentence if origin.reviewed in ("corrected", "rejected") else f"{text_of(model, origin)} {sentence}"
    )
