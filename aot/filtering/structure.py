"""Drops attempts that failed or broke off, and rationales without their form: four parts, or the lines of a chain."""

import re

from aot.filtering.subject import Subject
from aot.rationales.notation import PARTS
from aot.records import Verdict

_HEADING = re.compile(r"#+ .*|\*\*[^*]+\*\*:?|[^\W\d][^:.\n]*:")
"""A line that is a heading and nothing else."""
_ITEM = re.compile(r"\s*(?:[-*\u2022\u2013]|\d+[.)])\s")
_SENTENCE_ENDS = (".", "!", "?", "]", ")", '"', "'")


def status(subject: Subject) -> Verdict:
    """Keeps traces whose status is ok; the reason names the boundary that a failed one crossed."""
    trace = subject.trace
    if trace.status == "ok":
        return subject.verdict("status")
    problem = f"failed_{trace.error.boundary}" if trace.error else trace.status
    return subject.verdict("status", problem, detail=trace.error.message if trace.error else "")


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
    elif subject.rests_on_tools:
        problem = "" if subject.rationale.answer else "stops_before_answer"
    elif not any(subject.chain.answers) and not text.endswith(_SENTENCE_ENDS):
        problem = "stops_mid_sentence"
    return subject.verdict("cut_off", problem, detail=text[-60:] if problem else "")


def length(subject: Subject) -> Verdict:
    """Keeps rationales of min_words to max_words. Value: the number of words.

    A text chain with an equation or an order may be as short as it likes: `12 + 7 = 19.` says all there is to say.
    """
    num_words = len(subject.tokens)
    problem = ""
    if num_words < subject.config.min_words and not subject.chain.is_formal:
        problem = "too_short"
    elif num_words > subject.config.max_words:
        problem = "too_long"
    return subject.verdict("length", problem, value=float(num_words))


def structure(subject: Subject) -> Verdict:
    """Keeps the form `Identify: .. Gather: .. Combine: .. Answer: ..`. Value: how many of the four parts are there.

    Of a text chain it keeps one step a line and one answer line behind them. Value: how many steps there are.
    """
    if not subject.rests_on_tools:
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
    elif [line.partition(":")[0].strip() for line in _lines(subject)] != list(PARTS):
        problem = "not_one_line_each"
    return subject.verdict("structure", problem, value=value, detail=detail)


def _lines(subject: Subject) -> list[str]:
    """The lines of a rationale; in prose a part may go on in a list."""
    lines = subject.trace.rationale.strip().split("\n")
    return lines if subject.is_notation else [line for line in lines if not _ITEM.match(line)]


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
