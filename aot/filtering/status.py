"""Drops attempts that the teacher itself reports as failed or truncated."""

from aot.filtering.subject import Subject
from aot.records import Verdict


def status(subject: Subject) -> Verdict:
    """Keeps traces whose status is ok; the reason names the boundary that a failed one crossed."""
    trace = subject.trace
    if trace.status == "ok":
        return subject.verdict("status")
    problem = f"failed_{trace.error.boundary}" if trace.error else trace.status
    return subject.verdict("status", problem, detail=trace.error.message if trace.error else "")
