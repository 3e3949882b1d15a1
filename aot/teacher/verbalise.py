"""Turns the tool results of a trace into a rationale: identify, gather, combine, answer.

Each sentence is a phrase of aot/rationales/wording.py filled with what a step returned, and cites that step. Nothing
is added that no step returned, and nothing is denied that a step found; the gold answer is not known here. The same
(seed, question) always gives the same words.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from aot.rationales.cards import COMPARED, about_card, cards_in, cards_of, compare
from aot.rationales.findings import (
    EVENT_KINDS,
    Quote,
    Sighting,
    asked_event,
    asked_window,
    covers,
    denies,
    is_affirmed,
    is_in_words,
    labels_in,
    looked_for,
    names_phrase,
    quotes,
    relied_on,
    relied_on_quotes,
    sightings,
    speaks_of,
)
from aot.rationales.notation import format_span, format_time
from aot.rationales.wording import BOOK_PHRASES, NOTHING_GATHERED, PHRASES, QUOTE_PHRASES, in_sentence, quotable
from aot.records import Question, Step, TimeSpan

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
    gathered: list[Sighting]
    quoted: list[Quote]
    seen: list[Sighting]
    """Of all steps, like `texts`: what any step saw is not denied."""
    texts: list[Quote]
    window: TimeSpan
    """What the question is about."""

    def has(self, name: str) -> bool:
        """Whether some step saw `name`, or some text speaks of it."""
        in_sight = any(names_phrase(one.label, name) for one in self.seen)
        return in_sight or any(speaks_of(quote, name) for quote in self.texts)


@dataclass(frozen=True)
class _Sentence:
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
    gathered = relied_on(question, sightings(used), event=event)
    window = asked_window(question, used, gathered)
    quoted = relied_on_quotes(question, quotes(used), event=event, answer=answer)
    evidence = _Evidence(used, event, gathered, quoted, sightings(steps), quotes(steps), window)
    say = _speaker(question, seed)
    gather, cited = _gather(say, evidence)
    lines = {
        "Identify": say(
            f"identify.{_form(question, event)}",
            event=in_sentence(event),
            end=format_time(window.end_s),
            window=format_span(window.start_s, window.end_s),
        ),
        "Gather": gather,
        "Combine": _combine(say, question, evidence, answer=answer, cited=cited),
        "Answer": " ".join(answer.split()),
    }
    return "\n".join(f"{part}: {text}" for part, text in lines.items())


def _speaker(question: Question, seed: int) -> _Say:
    def say(name: str, /, **slots: str) -> str:
        phrasings = PHRASES.get(name) or BOOK_PHRASES[name]
        key = f"{seed}:{question.id}:{name.partition('.')[0]}".encode()
        place = hashlib.blake2b(key, digest_size=4).digest()[0]
        return " ".join(phrasings[place % len(phrasings)].format(**slots).split()).replace(" .", ".")

    return say


def _form(question: Question, event: str) -> str:
    """Which sentences fit: the question's kind, or `other` for unknown kinds and for an event that is not told."""
    if question.kind.startswith("next"):
        return "next"
    if kind := about_card(question):
        return f"book_{kind}" if kind in COMPARED else "other"
    return question.kind if question.kind in EVENT_KINDS and event else "other"


def _gather(say: _Say, evidence: _Evidence) -> tuple[str, set[int]]:
    """The Gather text and the steps it cites."""
    sentences: list[_Sentence] = []
    for one in evidence.gathered:
        slots = {"label": in_sentence(one.label), "cite": _cite([one.step])}
        if one.is_moment:
            text = say("gather.moment", moment=format_time(one.start_s), **slots)
        else:
            text = say("gather.span", span=format_span(one.start_s, one.end_s), **slots)
        sentences.append(_Sentence(one.start_s, one.step, text))
    for quote in evidence.quoted:
        sentences.append(_Sentence(quote.spans_s[0][0] if quote.spans_s else 0.0, quote.step, quote_sentence(quote)))
    if not evidence.gathered:
        sentences += _absences(say, evidence)
    gather = " ".join(one.text for one in sorted(sentences, key=lambda one: one.at_s))
    return gather or NOTHING_GATHERED, {one.step for one in sentences}


def quote_sentence(quote: Quote) -> str:
    """What was said, seen in words or answered, when, and by which step, as one sentence."""
    times = [format_span(a, b) if a != b else f"at {format_time(a)}" for a, b in quote.spans_s[:MAX_TIMES]]
    slots = {"text": quotable(quote.text), "question": quotable(quote.question), "cite": _cite([quote.step])}
    sentence = QUOTE_PHRASES[quote.how].format(times=" ".join(times), **slots)
    return sentence.replace('asked "" ', "").strip()


def _absences(say: _Say, evidence: _Evidence) -> list[_Sentence]:
    """What steps looked for and did not find, each in the stretch that it looked at, unless another step found it."""
    denied: dict[tuple[str, str], _Sentence] = {}
    for step in evidence.used:
        name = evidence.event if evidence.event in step.sought or not step.sought else step.sought[0]
        contradicted = evidence.has(name) if name else bool(evidence.quoted)
        if step.span is not None and not is_in_words(step) and not contradicted:
            event, window = in_sentence(name) or "step", format_span(step.span.start_s, step.span.end_s)
            sentence = say("gather.none", event=event, window=window, cite=_cite([step.index]))
            denied.setdefault((event, window), _Sentence(step.span.start_s, step.index, sentence))
    return list(denied.values())


def _combine(say: _Say, question: Question, evidence: _Evidence, *, answer: str, cited: set[int]) -> str:
    event, used = in_sentence(evidence.event), evidence.used
    form = _form(question, evidence.event)
    window = ""
    if form in ("count", "present"):
        searched = looked_for(evidence.event, used)
        is_there = is_affirmed(evidence.event, seen=evidence.seen, texts=evidence.texts)
        if denies(question, answer) and (is_there or not searched):
            form = "other"  # Its wording denies nothing.
        elif searched and answer.strip() != "yes" and not covers(searched, evidence.window):
            window = f" in {' and '.join(format_span(one.start_s, one.end_s) for one in searched)}"
    # Texts are weighed together, and a denial or a window rests on all steps; otherwise those not yet cited are cited.
    cites_all = bool(evidence.quoted or window) or denies(question, answer)
    open_steps = [step.index for step in used if cites_all or step.index not in cited]
    cite = _cite(open_steps or [step.index for step in used[-1:]])
    slots = {"event": event + window, "answer": in_sentence(answer), "cite": cite}
    if form == "next":
        return _combine_next(say, evidence, slots)
    if form.startswith("book_"):
        return _combine_by_card(say, question, evidence, slots)
    if form == "count":
        return say("combine.count_one" if answer.strip() == "1" else "combine.count", **slots)
    if form == "present":
        return say("combine.present" if answer.strip() == "yes" else "combine.absent", **slots)
    return say(f"combine.{form}", **slots)


def _combine_next(say: _Say, evidence: _Evidence, slots: Mapping[str, str]) -> str:
    proposal = [step for step in evidence.used if labels_in([step], "after")][-1:]
    last = next(iter(labels_in(proposal, "after") or [one.label for one in evidence.gathered[-1:]]), "")
    on_card = [card.name for card in cards_in(proposal) if slots["answer"] in map(in_sentence, card.labels)]
    task = next(iter([*on_card, *labels_in(proposal, "task")]), "")
    if not last:
        return say("combine.other", **slots)
    name = "combine.next" if task else "combine.next_without_task"
    return say(name, task=in_sentence(task), last=in_sentence(last), **slots)


def _combine_by_card(say: _Say, question: Question, evidence: _Evidence, slots: Mapping[str, str]) -> str:
    """What the card says; of several cards the first that says it."""
    kind = about_card(question)
    seen = [one.label for one in sorted(sightings(evidence.used), key=lambda one: (one.start_s, one.end_s))]
    for card in cards_of(question, evidence.used):
        said = compare(kind, card, seen)
        if said and in_sentence(said.answer) == slots["answer"]:
            cite = _cite([card.step]) if card.step else slots["cite"]
            return say(f"combine.book_{kind}", **{**slots, "other": in_sentence(said.other), "cite": cite})
    return say("combine.other", **slots)


def _cite(steps: Iterable[int]) -> str:
    return " ".join(f"[{index}]" for index in steps)
