"""Drops text chains with an equation that does not hold."""

from aot.filtering.subject import Subject
from aot.rationales.arithmetic import check_equations
from aot.records import Verdict


def steps(subject: Subject) -> Verdict:
    """Keeps chains whose every readable equation holds. Value: the share of readable ones that do.

    An equation that cannot be read, such as one with a letter in it, drops nothing and is counted in the detail.
    """
    if subject.is_agent_trace or not subject.chain.equations:
        return subject.not_applicable("steps")
    check = check_equations(subject.chain.equations)
    notes = [f"{check.wrong} wrong, first {check.first_wrong.text[:150]}"] if check.first_wrong else []
    notes += [f"{check.unreadable} unreadable"] if check.unreadable else []
    share = check.right_share
    value = None if share is None else round(share, 4)
    return subject.verdict("steps", "wrong_step" if check.wrong else "", value=value, detail="; ".join(notes))
