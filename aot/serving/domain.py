"""What cannot be asked, and what lies outside of what a student learned: one rule for all ways of asking.

Choices that it cannot read, or cannot tell apart, are answered by nobody: the answer abstains as `out_of_domain`. A
kind of question that the contract does not name is answered, but no confidence is claimed; whoever acts on a
confidence, a stream or a cascade, takes that for `out_of_domain` too.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aot.display import storable
from aot.errors import OutOfDomainError, SourceError
from aot.files.jsonl import MAX_QUESTION_CHARS
from aot.served_records import StudentContract

if TYPE_CHECKING:
    from aot.student.model.loading import Student

MOST_CHOICES = 1_000
_SHOWN = 60


def check_choices(student: "Student", choices: Sequence[str], *, ids: Sequence[tuple[int, ...]] | None = None) -> None:
    """Refuse choices that have the same tokens for a student, or words that it does not know.

    Args:
        student: who is asked.
        choices: what it may say.
        ids: their tokens, where somebody has them already.

    Raises:
        OutOfDomainError: there is such a choice; the message names it.
    """
    places: dict[tuple[int, ...], str] = {}
    tokens = map(student.renderer.completion_ids, choices) if ids is None else ids
    for said, said_ids in zip(choices, tokens, strict=True):
        if student.renderer.has_unknown(said_ids):
            raise OutOfDomainError(
                f"{said[:_SHOWN]!r} has words that this student does not know; word the choice otherwise"
            )
        if said_ids in places:
            raise OutOfDomainError(
                f"{said[:_SHOWN]!r} and {places[said_ids][:_SHOWN]!r} are the same to this student; give one"
            )
        places[said_ids] = said


def label_problem(contract: StudentContract, choices: Sequence[str]) -> str:
    """Why choices lie outside of what a student learned to say, in a sentence; empty where they do not.

    A student of an open set of labels, of which the contract lists none, may be given any.
    """
    strange = next((one for one in choices if contract.labels and one not in contract.labels), None)
    if strange is None:
        return ""
    return (
        f"{contract.name} never learned to say {strange[:_SHOWN]!r}, which is none of its {len(contract.labels)} labels"
    )


def kind_problem(contract: StudentContract, kind: str) -> str:
    """Why no confidence can be claimed for a kind of question, in a sentence; empty where the contract names it.

    An empty kind, or `*`, stands for questions of any kind.
    """
    fitted = contract.calibration.temperatures if contract.calibration else ()
    if kind in ("", "*", *contract.kinds, *(one.kind for one in fitted)):
        return ""
    return (
        f"{contract.name} was trained on questions of kind {', '.join(contract.kinds)}, not {kind[:_SHOWN]!r}: "
        "how sure it is of these is not calibrated"
    )


def text_of(value: Any, what: str) -> str:  # noqa: ANN401 - whatever came
    """The text itself, after it was checked.

    Raises:
        SourceError: it is none, is empty or too long, or holds half a character; the message calls it `what`.
    """
    if not isinstance(value, str):
        raise SourceError(f"the {what} must be text, got {type(value).__name__}")
    if not value.strip():
        raise SourceError(f"the {what} is empty")
    if len(value) > MAX_QUESTION_CHARS:
        raise SourceError(f"the {what} has {len(value):,} characters, at most {MAX_QUESTION_CHARS:,} are fine")
    if value != storable(value):
        raise SourceError(f"the {what} holds half a character (a lone surrogate), which no model reads; mend its text")
    return value


def choices_of(choices: Any) -> tuple[str, ...]:  # noqa: ANN401 - whatever came
    """The choices after they were checked; none are fine.

    Raises:
        SourceError: they are no list of different texts, or too many.
    """
    if choices is None:
        return ()
    if not isinstance(choices, list | tuple):
        raise SourceError(f"choices must be a list of texts, got {type(choices).__name__}")
    if not len(choices):
        return ()
    if len(choices) > MOST_CHOICES:
        raise SourceError(f"{len(choices):,} choices were given, at most {MOST_CHOICES:,} are fine")
    listed = tuple(text_of(one, f"choice {i}") for i, one in enumerate(choices))
    if len(listed) < 2:
        raise SourceError("one choice was given; give at least two, or none for an open question")
    if twice := [one for i, one in enumerate(listed) if one in listed[:i]]:
        raise SourceError(f"the choice {twice[0][:80]!r} stands twice; give different ones")
    return listed


def seconds_of(value: Any, what: str) -> float | None:  # noqa: ANN401 - whatever came
    """Seconds after they were checked; None stays None.

    Raises:
        SourceError: they are none; the message calls them `what`.
    """
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise SourceError(f"{what} must be seconds, finite and not negative, got {str(value)[:40]}")
    return number
