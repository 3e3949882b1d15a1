"""Drops rationales that conclude something else than the trace answers."""

import re

from aot.answers import NUMBER_WORDS, ParsedAnswer, compare_answers, find_answer, parse_answer
from aot.filtering.subject import Subject
from aot.rationales.notation import SPAN
from aot.rationales.wording import phrase_key
from aot.records import Verdict

_INTEGER = re.compile(r"(?<![\d.\w\[])\d+(?![\d.\w\]])")


def agreement(subject: Subject) -> Verdict:
    """Keeps rationales whose answer slot, and whose Combine part, say what the trace answers."""
    answer = parse_answer(subject.trace.answer, subject.question)
    if answer.value is None:
        return subject.verdict("agreement", "no_trace_answer")
    stated = subject.rationale.answer if subject.is_agent_trace else find_answer(subject.trace.rationale).answer
    if not stated:
        return subject.verdict("agreement", "no_rationale_answer")
    if not _same(stated, answer, subject):
        return subject.verdict("agreement", "answer_differs", detail=f"{stated[:100]} | {subject.trace.answer[:100]}")
    if subject.is_agent_trace and not _combine_says(subject, answer.value):
        combine = subject.rationale.parts.get("Combine", "")
        return subject.verdict("agreement", "combine_differs", detail=combine[:200])
    return subject.verdict("agreement")


def _same(stated: str, answer: ParsedAnswer, subject: Subject) -> bool:
    if subject.is_agent_trace:
        return parse_answer(stated, subject.question).value == answer.value
    return compare_answers(stated, subject.trace.answer, subject.question).verdict == "right"


def _combine_says(subject: Subject, value: str) -> bool:
    combine = subject.rationale.parts.get("Combine", "")
    kind = subject.question.answer_type
    if kind == "span":
        spans = {(float(found[1]), float(found[2])) for found in SPAN.finditer(combine)}
        stated = parse_answer(subject.trace.answer, subject.question).value
        return stated is not None and any(f"{start}s-{end}s" == stated for start, end in spans)
    words = f" {phrase_key(combine)} "
    if kind == "integer":
        named = {str(number) for word, number in NUMBER_WORDS.items() if f" {word} " in words}
        return value in named | {str(int(number)) for number in _INTEGER.findall(combine)}
    if kind == "yes_no":
        without_event = words.replace(f" {subject.event} ", " ").split() if subject.event else words.split()
        says_no = bool({"no", "not"} & set(without_event)) and "yes" not in without_event
        return says_no == (value == "no")
    return f" {phrase_key(value)} " in words
