"""Turns the tool results of a trace into a rationale: identify, gather, combine, answer.

Each sentence is a phrase of aot/wording.py filled with what a step returned, and cites that step. Nothing is added
that no step returned; the gold answer is not known here. The same (seed, question) always gives the same words.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Protocol

from aot.facts import EVENT_KINDS, Finding, asked_event, asked_window, findings, relied_on
from aot.rationale import format_span, format_time
from aot.records import Question, Step
from aot.wording import PHRASES, in_sentence, template_words

__all__ = ["template_words", "verbalise"]


class _Say(Protocol):
    def __call__(self, name: str, /, **slots: str) -> str: ...


def verbalise(*, question: Question, steps: tuple[Step, ...], support: tuple[int, ...], answer: str, seed: int) -> str:
    """The four-part rationale for `answer`, written from the ok steps among `support`.

    A trace whose steps partly failed gives a shorter rationale; one without any ok step gives one without citations.
    """
    used = tuple(step for step in steps if step.index in support and step.status == "ok")
    event = asked_event(question, used or steps)
    gathered = relied_on(question, findings(used), event=event)
    say = _speaker(question, seed)
    asked = asked_window(question, used, gathered)
    window = format_span(asked.start_s, asked.end_s)
    gather, cited = _gather(say, used, gathered, event=event, window=window)
    combine_cites = [step.index for step in used if step.index not in cited] or [step.index for step in used[-1:]]
    lines = {
        "Identify": say(
            f"identify.{_form(question, event)}", event=in_sentence(event), end=format_time(asked.end_s), window=window
        ),
        "Gather": gather,
        "Combine": _combine(say, question, used, gathered, event=event, answer=answer, cites=combine_cites),
        "Answer": " ".join(answer.split()),
    }
    return "\n".join(f"{part}: {text}" for part, text in lines.items())


def _speaker(question: Question, seed: int) -> _Say:
    def say(name: str, /, **slots: str) -> str:
        phrasings = PHRASES[name]
        key = f"{seed}:{question.id}:{name.partition('.')[0]}".encode()
        draw = hashlib.blake2b(key, digest_size=4).digest()[0]
        return " ".join(phrasings[draw % len(phrasings)].format(**slots).split()).replace(" .", ".")

    return say


def _form(question: Question, event: str) -> str:
    """Which sentences fit: the question's kind, or `other` for unknown kinds and for an event that is not told."""
    if question.kind.startswith("next"):
        return "next"
    return question.kind if question.kind in EVENT_KINDS and event else "other"


def _gather(
    say: _Say, used: tuple[Step, ...], gathered: list[Finding], *, event: str, window: str
) -> tuple[str, set[int]]:
    """The Gather text and the steps it cites."""
    if not gathered:
        looked = used[:1]
        span = looked[0].span if looked else None
        seen = format_span(span.start_s, span.end_s) if span else window
        return say(
            "gather.none", event=in_sentence(event) or "step", window=seen, cite=_cite(s.index for s in looked)
        ), {step.index for step in looked}
    sentences = []
    for finding in gathered:
        slots = {"label": in_sentence(finding.label), "cite": _cite([finding.step])}
        if finding.is_moment:
            sentences.append(say("gather.moment", moment=format_time(finding.start_s), **slots))
        else:
            sentences.append(say("gather.span", span=format_span(finding.start_s, finding.end_s), **slots))
    return " ".join(sentences), {finding.step for finding in gathered}


def _combine(
    say: _Say,
    question: Question,
    used: tuple[Step, ...],
    gathered: list[Finding],
    *,
    event: str,
    answer: str,
    cites: list[int],
) -> str:
    slots = {"event": in_sentence(event), "answer": in_sentence(answer), "cite": _cite(cites)}
    form = _form(question, event)
    if form == "next":
        return _combine_next(say, used, gathered, slots)
    if form == "count":
        return say("combine.count_one" if answer.strip() == "1" else "combine.count", **slots)
    if form == "present":
        return say("combine.present" if answer.strip() == "yes" else "combine.absent", **slots)
    return say(f"combine.{form}", **slots)


def _combine_next(say: _Say, used: tuple[Step, ...], gathered: list[Finding], slots: Mapping[str, str]) -> str:
    proposal = next((step.result for step in reversed(used) if step.result and "candidates" in step.result), {})
    last = proposal.get("last") or (gathered[-1].label if gathered else "")
    task = proposal.get("task") or ""
    if not last:
        return say("combine.other", **slots)
    name = "combine.next" if task else "combine.next_without_task"
    return say(name, task=in_sentence(task), last=in_sentence(last), **slots)


def _cite(steps: Iterable[int]) -> str:
    return " ".join(f"[{index}]" for index in steps)
