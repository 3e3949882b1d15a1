"""Drops rationales that claim what no tool returned: every step, time, label and word is looked up in the trace.

A Gather sentence must restate a finding of a step that it cites (label and time together), or deny what that step
looked for and did not find. Identify and Combine sentences may name what was asked, what was answered, and what the
steps they cite returned; every other content word counts as invented.
"""

from collections.abc import Iterable

from aot.facts import Finding, names_phrase
from aot.filtering.subject import NOTATION_WORDS, Subject
from aot.rationale import MOMENT, Claim
from aot.records import Step, Verdict
from aot.wording import phrase_key

_DENIALS = frozenset({"no", "not"})


def evidence(subject: Subject) -> Verdict:
    """Keeps rationales whose every claim has evidence. Value: the share of claims that have."""
    if not subject.is_agent_trace:
        return subject.not_applicable("evidence")
    claims = subject.rationale.claims
    if not claims:
        return subject.verdict("evidence", "no_claims", value=0.0)
    problems = [(problem, claim.text) for claim in claims if (problem := _problem(claim, subject))]
    value = round(1 - len(problems) / len(claims), 4)
    first, detail = problems[0] if problems else ("", "")
    return subject.verdict("evidence", first, value=value, detail=detail[:200])


def _problem(claim: Claim, subject: Subject) -> str:
    steps = [subject.ok_steps[index] for index in claim.citations if index in subject.ok_steps]
    if len(steps) < len(claim.citations):
        return "cites_no_ok_step"
    if not steps and claim.part != "Identify":
        return "cites_nothing"
    mentions, words = _split(claim.text, subject.phrases)
    strange = [word for word in words if word not in NOTATION_WORDS and not word.isdecimal()]
    invented = [word for word in strange if not names_phrase(subject.question.text, word)]
    if invented:
        return "invented_word"
    if claim.part == "Identify":
        return _identify_problem(claim, mentions, subject)
    found = [finding for finding in subject.found if finding.step in claim.citations]
    if claim.part == "Combine":
        return _combine_problem(claim, mentions, words, steps, found, subject)
    if _DENIALS.intersection(words):
        return _denial_problem(claim, mentions, steps, found, subject)
    return _gather_problem(claim, mentions, found, subject)


def _identify_problem(claim: Claim, mentions: set[str], subject: Subject) -> str:
    if any(not names_phrase(subject.question.text, mention) for mention in mentions):
        return "label_not_asked"
    window = subject.window
    if not _moments_near(claim, [window.end_s], subject):
        return "time_not_asked"
    asked = [(window.start_s, window.end_s)]
    return "" if all(_near_any(span, asked, subject) for span in claim.spans_s) else "time_not_asked"


def _gather_problem(claim: Claim, mentions: set[str], found: list[Finding], subject: Subject) -> str:
    labelled = [finding for finding in found if finding.key in mentions]
    if not labelled or len({finding.key for finding in labelled}) < len(mentions):
        return "label_not_found"
    if not claim.spans_s and not claim.moments_s:
        return "no_time"
    if _restates(claim, labelled, subject):
        return ""
    return "label_not_at_this_time" if _restates(claim, found, subject) else "time_not_found"


def _restates(claim: Claim, found: list[Finding], subject: Subject) -> bool:
    """Whether each span of a claim is the span, and each moment the moment, of one of `found`."""
    spans = [(finding.start_s, finding.end_s) for finding in found]
    if not all(_near_any(span, spans, subject) for span in claim.spans_s):
        return False
    return not claim.moments_s or _moments_near(claim, [one.start_s for one in found if one.is_moment], subject)


def _denial_problem(claim: Claim, mentions: set[str], steps: list[Step], found: list[Finding], subject: Subject) -> str:
    if any(names_phrase(f.key, mention) for f in found for mention in mentions) or (found and not mentions):
        return "denies_a_finding"
    looked_for = {phrase_key(text) for step in steps for text in _top_strings(step)} | {subject.event}
    if mentions - looked_for:
        return "label_not_looked_for"
    windows = _windows(steps, subject)
    if not all(_near_any(span, windows, subject) for span in claim.spans_s):
        return "time_not_found"
    return "" if _moments_near(claim, [edge for window in windows for edge in window], subject) else "time_not_found"


def _combine_problem(
    claim: Claim, mentions: set[str], words: list[str], steps: list[Step], found: list[Finding], subject: Subject
) -> str:
    allowed = {phrase_key(subject.trace.answer), subject.event}
    allowed.update(phrase_key(text) for step in steps for text in _top_strings(step))
    allowed.update(finding.key for finding in found)
    if mentions - allowed:
        return "label_not_found"
    numbers = {str(value) for step in steps for value in (step.result or {}).values() if isinstance(value, int)}
    numbers |= {str(len(found)), phrase_key(subject.trace.answer)}
    if any(word.isdecimal() and word not in numbers for word in words):
        return "number_not_found"
    spans = [(finding.start_s, finding.end_s) for finding in found] + _windows(steps, subject)
    if not all(_near_any(span, spans, subject) for span in claim.spans_s):
        return "time_not_found"
    edges = [edge for span in spans for edge in span]
    return "" if _moments_near(claim, edges, subject) else "time_not_found"


def _split(text: str, phrases: list[str]) -> tuple[set[str], list[str]]:
    """The phrases that `text` mentions, longest first, and the words outside of them."""
    rest = f" {phrase_key(text)} "
    mentions: set[str] = set()
    for phrase in phrases:
        if phrase in rest:
            inside = f" {phrase} "
            while inside in rest:
                mentions.add(phrase)
                rest = rest.replace(inside, " | ")
    return mentions, [word for word in rest.split() if word != "|"]


def _top_strings(step: Step) -> list[str]:
    """What a step was asked for and returned as a whole: not its lists of options, history or findings."""
    arguments = step.call.arguments if step.call is not None else {}
    return [value for node in (arguments, step.result or {}) for value in node.values() if isinstance(value, str)]


def _windows(steps: list[Step], subject: Subject) -> list[tuple[float, float]]:
    windows = [(step.span.start_s, step.span.end_s) for step in steps if step.span is not None]
    return windows or [(subject.window.start_s, subject.window.end_s)]


def _near_any(span: tuple[float, float], spans: list[tuple[float, float]], subject: Subject) -> bool:
    tolerance_s = subject.config.time_tolerance_s
    return any(abs(span[0] - start) <= tolerance_s and abs(span[1] - end) <= tolerance_s for start, end in spans)


def _moments_near(claim: Claim, times_s: Iterable[float], subject: Subject) -> bool:
    """Whether each moment of a claim is one of `times_s` or belongs to a label, such as `boil for 10 s`."""
    tolerance_s = subject.config.time_tolerance_s
    far = [moment for moment in claim.moments_s if not any(abs(moment - time_s) <= tolerance_s for time_s in times_s)]
    return not far or set(far) <= _label_times(subject)


def _label_times(subject: Subject) -> set[float]:
    labels = [finding.label for finding in subject.found] + [subject.trace.answer, *subject.question.choices]
    return {float(found[1]) for label in labels for found in MOMENT.finditer(label)}
