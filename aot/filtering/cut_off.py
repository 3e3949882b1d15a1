"""Drops rationales that stop before they are finished, whatever the teacher says about it."""

from aot.filtering.subject import Subject
from aot.records import Verdict

_SENTENCE_ENDS = (".", "!", "?", "]", ")", '"', "'")


def cut_off(subject: Subject) -> Verdict:
    """Keeps rationales that reach their answer and close what they open."""
    text = subject.trace.rationale.rstrip()
    problem = ""
    if subject.trace.status == "truncated":
        problem = "truncated_by_teacher"
    elif not text:
        problem = "no_rationale"
    elif text.count("[") != text.count("]") or text.count("(") != text.count(")"):
        problem = "open_bracket"
    elif subject.is_agent_trace and not subject.rationale.answer:
        problem = "stops_before_answer"
    elif not subject.is_agent_trace and not any(subject.chain.answers) and not text.endswith(_SENTENCE_ENDS):
        problem = "stops_mid_sentence"
    return subject.verdict("cut_off", problem, detail=text[-60:] if problem else "")
