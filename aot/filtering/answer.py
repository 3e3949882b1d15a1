"""Drops traces whose answer is wrong, is not what the rationale concludes, or hangs on the order of the options.

A lucky guess, or an instruction in a subtitle to take option C, follows the place of an option and not its text. A
procedure that picks one of m options at random survives c tries in another order with probability 1/m^c.
"""

import re

from aot.answers import NUMBER_WORDS, ParsedAnswer, compare_answers, find_answer, grade, parse_answer
from aot.filtering.subject import Subject
from aot.rationales.notation import SPAN
from aot.rationales.wording import DENIALS, phrase_key
from aot.records import Verdict

_INTEGER = re.compile(r"(?<![\d.\w\[])\d+(?![\d.\w\]])")


def answer_correct(subject: Subject) -> Verdict:
    """Keeps right answers; `answer_wrong` and `answer_unclear_*` are counted apart. Value: the IoU of a time span."""
    graded = grade(subject.trace.answer, subject.question)
    if graded.verdict == "right":
        return subject.verdict("answer_correct", value=graded.value)
    problem = "answer_wrong" if graded.verdict == "wrong" else f"answer_unclear_{graded.reason}"
    return subject.verdict("answer_correct", problem, value=graded.value, detail=subject.trace.answer[:200])


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


def agreement(subject: Subject) -> Verdict:
    """Keeps rationales whose answer slot, and whose Combine part, say what the trace answers."""
    answer = parse_answer(subject.trace.answer, subject.question)
    if answer.value is None:
        return subject.verdict("agreement", "no_trace_answer")
    stated = subject.rationale.answer if subject.rests_on_tools else find_answer(subject.trace.rationale).answer
    if not stated:
        return subject.verdict("agreement", "no_rationale_answer")
    if not _same(stated, answer, subject):
        return subject.verdict("agreement", "answer_differs", detail=f"{stated[:100]} | {subject.trace.answer[:100]}")
    if subject.rests_on_tools and not _combine_says(subject, answer.value):
        combine = subject.rationale.parts.get("Combine", "")
        return subject.verdict("agreement", "combine_differs", detail=combine[:200])
    return subject.verdict("agreement")


def _same(stated: str, answer: ParsedAnswer, subject: Subject) -> bool:
    if subject.rests_on_tools:
        return parse_answer(stated, subject.question).value == answer.value
    return compare_answers(stated, subject.trace.answer, subject.question).verdict == "right"


def _combine_says(subject: Subject, value: str) -> bool:
    combine = subject.rationale.parts.get("Combine", "")
    kind = subject.question.answer_type
    if kind == "span":
        spans = {(float(mark[1]), float(mark[2])) for mark in SPAN.finditer(combine)}
        stated = parse_answer(subject.trace.answer, subject.question).value
        return stated is not None and any(f"{start}s-{end}s" == stated for start, end in spans)
    words = f" {phrase_key(combine)} "
    if kind == "integer":
        named = {str(number) for word, number in NUMBER_WORDS.items() if f" {word} " in words}
        named |= {"1"} if " single " in words and not subject.is_notation else set()
        return value in named | {str(int(number)) for number in _INTEGER.findall(combine)}
    if kind == "yes_no":
        without_event = words.replace(f" {subject.event} ", " ").split() if subject.event else words.split()
        denials = {"no", "not"} if subject.is_notation else DENIALS
        says_no = bool(denials & set(without_event)) and "yes" not in without_event
        return says_no == (value == "no")
    return f" {phrase_key(value)} " in words
