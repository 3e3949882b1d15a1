"""Turns the tool results of a trace into a rationale: identify, gather, combine, answer.

Each sentence is a phrase of aot/rationales/wording.py filled with what a step returned, and cites that step. Nothing
is added that no step returned, and nothing is denied that a step found; the gold answer is not known here. The same
(seed, question) always gives the same words.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from aot.rationales.findings import (
    EVENT_KINDS,
    Finding,
    Quote,
    asked_event,
    asked_window,
    covers,
    denies,
    findings,
    is_affirmed,
    is_text,
    looked_for,
    names_phrase,
    quotes,
    relied_on,
    relied_on_quotes,
    sought,
    speaks_of,
)
from aot.rationales.notation import format_span, format_time
from aot.rationales.wording import NOTHING_GATHERED, PHRASES, QUOTE_PHRASES, in_sentence, quotable, template_words
from aot.records import Question, Step

__all__ = ["template_words", "verbalise"]
MAX_TIMES = 8
"""An answer that many stretches show is told with this many of them."""


class _Say(Protocol):
    def __call__(self, name: str, /, **slots: str) -> str: ...


@dataclass(frozen=True)
class _Evidence:
    """What a rationale has to tell."""

    used: tuple[Step, ...]
    """The ok steps that the answer rests on."""
    event: str
    gathered: list[Finding]
    quoted: list[Quote]
    found: list[Finding]
    """Of all steps, like `texts`: what any step found is not denied."""
    texts: list[Quote]

    def is_found(self, name: str) -> bool:
        """Whether some step saw `name`, or some text speaks of it."""
        seen = any(names_phrase(finding.label, name) for finding in self.found)
        return seen or any(speaks_of(quote, name) for quote in self.texts)


@dataclass(frozen=True)
class _Told:
    """One sentence of Gather."""

    at_s: float
    step: int
    text: str


def verbalise(*, question: Question, steps: tuple[Step, ...], support: tuple[int, ...], answer: str, seed: int) -> str:
    """The four-part rationale for `answer`, written from the ok steps among `support`.

    A trace whose steps partly failed gives a shorter rationale; one without any ok step gives one without citations.
    """
    used = tuple(step for step in steps if step.index in support and step.status == "ok")
    event = asked_event(question, used or steps)
    gathered = relied_on(question, findings(used), event=event)
    quoted = relied_on_quotes(question, quotes(used), event=event, answer=answer)
    evidence = _Evidence(used, event, gathered, quoted, findings(steps), quotes(steps))
    say = _speaker(question, seed)
    asked = asked_window(question, used, gathered)
    gather, cited = _gather(say, evidence)
    lines = {
        "Identify": say(
            f"identify.{_form(question, event)}",
            event=in_sentence(event),
            end=format_time(asked.end_s),
            window=format_span(asked.start_s, asked.end_s),
        ),
        "Gather": gather,
        "Combine": _combine(say, question, evidence, answer=answer, cited=cited),
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


def _gather(say: _Say, evidence: _Evidence) -> tuple[str, set[int]]:
    """The Gather text and the steps it cites."""
    told: list[_Told] = []
    for finding in evidence.gathered:
        slots = {"label": in_sentence(finding.label), "cite": _cite([finding.step])}
        if finding.is_moment:
            sentence = say("gather.moment", moment=format_time(finding.start_s), **slots)
        else:
            sentence = say("gather.span", span=format_span(finding.start_s, finding.end_s), **slots)
        told.append(_Told(finding.start_s, finding.step, sentence))
    for quote in evidence.quoted:
        told.append(_Told(quote.spans_s[0][0] if quote.spans_s else 0.0, quote.step, quote_sentence(quote)))
    if not evidence.gathered:
        told += _absences(say, evidence)
    text = " ".join(one.text for one in sorted(told, key=lambda one: one.at_s))
    return text or NOTHING_GATHERED, {one.step for one in told}


def quote_sentence(quote: Quote) -> str:
    """What was said, seen in words or answered, when, and by which step, as one sentence."""
    times = [format_span(a, b) if a != b else f"at {format_time(a)}" for a, b in quote.spans_s[:MAX_TIMES]]
    slots = {"text": quotable(quote.text), "question": quotable(quote.question), "cite": _cite([quote.step])}
    sentence = QUOTE_PHRASES[quote.how].format(times=" ".join(times), **slots)
    return sentence.replace('asked "" ', "").strip()


def _absences(say: _Say, evidence: _Evidence) -> list[_Told]:
    """What steps looked for and did not find, each in the stretch that it looked at, unless another step found it."""
    denied: dict[tuple[str, str], _Told] = {}
    for step in evidence.used:
        names = sought(step)
        name = evidence.event if evidence.event in names or not names else names[0]
        contradicted = evidence.is_found(name) if name else bool(evidence.quoted)
        if step.span is not None and not is_text(step) and not contradicted:
            event, window = in_sentence(name) or "step", format_span(step.span.start_s, step.span.end_s)
            sentence = say("gather.none", event=event, window=window, cite=_cite([step.index]))
            denied.setdefault((event, window), _Told(step.span.start_s, step.index, sentence))
    return list(denied.values())


def _combine(say: _Say, question: Question, evidence: _Evidence, *, answer: str, cited: set[int]) -> str:
    event, used = in_sentence(evidence.event), evidence.used
    form = _form(question, evidence.event)
    window = ""
    if form in ("count", "present"):
        looked = looked_for(evidence.event, used)
        found_anyway = is_affirmed(evidence.event, found=evidence.found, texts=evidence.texts)
        if denies(question, answer) and (found_anyway or not looked):
            form = "other"  # Its wording denies nothing.
        elif looked and answer.strip() != "yes" and not covers(looked, asked_window(question, used, evidence.gathered)):
            window = f" in {' and '.join(format_span(one.start_s, one.end_s) for one in looked)}"
    # Texts are weighed together, and a denial or a window rests on all steps; otherwise those not yet cited are cited.
    cites_all = bool(evidence.quoted or window) or denies(question, answer)
    open_steps = [step.index for step in used if cites_all or step.index not in cited]
    cite = _cite(open_steps or [step.index for step in used[-1:]])
    slots = {"event": event + window, "answer": in_sentence(answer), "cite": cite}
    if form == "next":
        return _combine_next(say, evidence, slots)
    if form == "count":
        return say("combine.count_one" if answer.strip() == "1" else "combine.count", **slots)
    if form == "present":
        return say("combine.present" if answer.strip() == "yes" else "combine.absent", **slots)
    return say(f"combine.{form}", **slots)


def _combine_next(say: _Say, evidence: _Evidence, slots: Mapping[str, str]) -> str:
    used, gathered = evidence.used, evidence.gathered
    proposal = next((step.result for step in reversed(used) if step.result and "candidates" in step.result), {})
    last = proposal.get("last") or (gathered[-1].label if gathered else "")
    task = proposal.get("task") or ""
    if not last:
        return say("combine.other", **slots)
    name = "combine.next" if task else "combine.next_without_task"
    return say(name, task=in_sentence(task), last=in_sentence(last), **slots)


def _cite(steps: Iterable[int]) -> str:
    return " ".join(f"[{index}]" for index in steps)
