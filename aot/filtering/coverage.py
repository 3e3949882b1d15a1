"""Drops rationales that leave out a step, an event or a text which the answer rests on."""

from aot.filtering.subject import Subject
from aot.rationales.findings import Quote, Sighting, labels_in, names_phrase
from aot.rationales.notation import Claim, Quoted
from aot.rationales.wording import phrase_key, quotable
from aot.records import Verdict


def coverage(subject: Subject) -> Verdict:
    """Keeps rationales that cite every support step, gather every event relied on, and name what was asked.

    Texts relied on are quoted each, too, unless the rationale is prose, which may tell them in words of its own.
    Value: the share of those events and texts that are gathered.
    """
    if not subject.rests_on_tools:
        return subject.not_applicable("coverage")
    gather = [claim for claim in subject.rationale.claims if claim.part == "Gather"]
    relied_on = subject.relied_on
    missing = [one for one in relied_on if not any(_restates(claim, one, subject) for claim in gather)]
    texts = [] if not subject.is_notation else subject.relied_on_quotes
    unquoted = [quote for quote in texts if not any(_quotes(claim, quote) for claim in gather)]
    total = len(relied_on) + len(texts)
    value = round(1 - (len(missing) + len(unquoted)) / total, 4) if total else 1.0
    cited = {index for claim in subject.rationale.claims for index in claim.citations}
    uncited = [index for index in subject.trace.support if index in subject.ok_steps and index not in cited]
    problem, detail = "", ""
    if not subject.trace.support:
        problem = "no_support"
    elif missing:
        problem, detail = "event_not_gathered", f"{missing[0].label} {missing[0].start_s:.1f}s"
    elif unquoted:
        problem, detail = "text_not_quoted", quotable(unquoted[0].text)
    elif uncited:
        problem, detail = "step_not_cited", ", ".join(f"[{index}]" for index in uncited)
    elif not gather:
        problem = "nothing_gathered"
    elif unnamed := _unnamed(subject):
        problem, detail = "asked_not_named", unnamed
    return subject.verdict("coverage", problem, value=value, detail=detail)


def _quotes(claim: Claim, quote: Quote) -> bool:
    as_written = Quoted(quote.how, quotable(quote.text), quotable(quote.question))
    return as_written in claim.quotes and quote.step in claim.citations


def _restates(claim: Claim, seen: Sighting, subject: Subject) -> bool:
    claim = claim.without_quotes()
    if f" {seen.key} " not in f" {phrase_key(claim.text)} ":
        return False
    if subject.event and subject.question.kind == "present":
        return True  # any sighting answers; the evidence filter checks its time
    tolerance_s = subject.config.time_tolerance_s
    times = [*claim.spans_s, *((moment, moment) for moment in claim.moments_s)]
    return any(
        abs(start - seen.start_s) <= tolerance_s and abs(end - seen.end_s) <= tolerance_s for start, end in times
    )


def _unnamed(subject: Subject) -> str:
    """The part that does not name what it must: the asked event, or in Combine the step that the next one follows."""
    parts = subject.rationale.parts
    if subject.event:
        return next(
            (part for part in ("Identify", "Combine") if not names_phrase(parts.get(part, ""), subject.event)), ""
        )
    last = _last_step(subject) if subject.question.kind.startswith("next") else ""
    return "Combine" if last and not names_phrase(parts.get("Combine", ""), last) else ""


def _last_step(subject: Subject) -> str:
    used = [subject.ok_steps[index] for index in subject.trace.support if index in subject.ok_steps]
    keys = [phrase_key(label) for label in labels_in(used, "after")] or [one.key for one in subject.relied_on]
    return keys[-1] if keys else ""
