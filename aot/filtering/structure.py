"""Drops rationales that do not have the four parts in order, each once and on its own line."""

from aot.filtering.subject import Subject
from aot.rationale import PARTS
from aot.records import Verdict


def structure(subject: Subject) -> Verdict:
    """Keeps the form `Identify: .. Gather: .. Combine: .. Answer: ..`. Value: how many of the four parts are there."""
    if not subject.is_agent_trace:
        return subject.not_applicable("structure")
    rationale = subject.rationale
    value = float(len(rationale.parts))
    missing = [part for part in PARTS if part not in rationale.parts]
    problem, detail = "", ""
    if missing:
        problem, detail = "part_missing", ", ".join(missing)
    elif len(rationale.headings) > len(PARTS):
        problem, detail = "part_repeated", ", ".join(rationale.headings)[:200]
    elif rationale.headings != PARTS:
        problem, detail = "parts_out_of_order", ", ".join(rationale.headings)
    elif empty := [part for part in PARTS if not rationale.parts[part]]:
        problem, detail = "part_empty", ", ".join(empty)
    elif [line.partition(":")[0].strip() for line in subject.trace.rationale.strip().split("\n")] != list(PARTS):
        problem = "not_one_line_each"
    return subject.verdict("structure", problem, value=value, detail=detail)
