"""What lies outside of what a student learned: one rule for `ask`, written or decided, for chat, decisions and streams.

Choices that it cannot read, or cannot tell apart, are answered by nobody: the answer abstains as `out_of_domain`. A
kind of question that the contract does not name is answered, but no confidence is claimed; whoever acts on a
confidence, a stream or a cascade, takes that for `out_of_domain` too.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aot.errors import OutOfDomainError
from aot.served_records import StudentContract

if TYPE_CHECKING:
    from aot.student.model.loading import Student

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
