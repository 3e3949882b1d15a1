"""Drops traces whose answer changes when the same procedure sees the options in another order.

A lucky guess, or an instruction in a subtitle to take option C, follows the place of an option and not its text. A
procedure that picks one of m options at random survives c checks with probability 1/m^c.
"""

from aot.answers import parse_answer
from aot.filtering.subject import Subject
from aot.records import Verdict


def option_shuffle(subject: Subject) -> Verdict:
    """Keeps traces whose answer no other order of the options changed; not applicable where none was tried.

    Value: the probability that a random choice would have survived as many checks.
    """
    checks = subject.trace.shuffled_answers
    if not checks:
        return subject.not_applicable("option_shuffle")
    value = float(max(1, len(subject.question.choices))) ** -len(checks)
    answer = _choice(subject.trace.answer, subject)
    changed = [one for one in checks if _choice(one, subject) != answer]
    if not changed:
        return subject.verdict("option_shuffle", value=value)
    detail = f"{len(changed)} of {len(checks)} checks: {subject.trace.answer[:80]} | {changed[0][:80] or 'no answer'}"
    return subject.verdict("option_shuffle", "answer_changed", value=value, detail=detail)


def _choice(text: str, subject: Subject) -> str:
    """The text of the option, so that its letter, which moves, says nothing; a text that is no option is itself."""
    stripped = " ".join(text.split())
    if stripped in subject.question.choices:
        return stripped
    return parse_answer(text, subject.question).value or stripped
