"""Drops rationales without their form: the four parts of a video rationale, or the lines of a text chain."""

import re

from aot.filtering.subject import Subject
from aot.rationales.notation import PARTS
from aot.records import Verdict

_HEADING = re.compile(r"#+ .*|\*\*[^*]+\*\*:?|[^\W\d][^:.\n]*:")
"""A line that is a heading and nothing else."""


def structure(subject: Subject) -> Verdict:
    """Keeps the form `Identify: .. Gather: .. Combine: .. Answer: ..`. Value: how many of the four parts are there.

    Of a text chain it keeps one step a line and one answer line behind them. Value: how many steps there are.
    """
    if not subject.is_agent_trace:
        return _text_structure(subject)
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


def _text_structure(subject: Subject) -> Verdict:
    chain = subject.chain
    lines = subject.trace.rationale.strip("\n").split("\n")
    headings = [line.strip() for line in lines if _HEADING.fullmatch(line.strip())]
    problem, detail = "", ""
    if not chain.answers:
        problem = "no_answer_line"
    elif subject.trace.rationale.count("Answer:") > 1:
        problem = "answer_repeated"
    elif not chain.answers[0]:
        problem = "answer_empty"
    elif not lines[-1].lstrip().startswith("Answer:"):
        problem, detail = "answer_not_last", lines[-1][:100]
    elif not chain.lines:
        problem = "no_step"
    elif not all(line.strip() for line in lines):
        problem = "empty_line"
    elif len(set(headings)) < len(headings):
        problem, detail = "heading_repeated", max(headings, key=headings.count)[:100]
    return subject.verdict("structure", problem, value=float(len(chain.lines)), detail=detail)
