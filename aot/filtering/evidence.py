"""Drops rationales that claim what no tool returned: every step, time, label and word is looked up in the trace.

A Gather sentence must restate a finding of a step that it cites (label and time together), quote a text that the step
returned (word for word, at its time), or deny what that step looked for and did not find. Identify and Combine
sentences may name what was asked, what was answered, and what the steps they cite returned; every other content word
counts as invented. Connecting English claims nothing. What a caption or a subtitle says is evidence for its words in
sentences that cite it, and against whoever denies it.
"""

import re
from collections.abc import Iterable
from itertools import dropwhile, islice, pairwise, takewhile

from aot.filtering.flow import results_stated
from aot.filtering.prose import (
    COUNTS,
    INSTRUCTION_WORDS,
    WORD_OR_MARK,
    as_notation,
    clauses,
    denied_options,
    heard,
    is_connecting,
    joined_as_said,
    places,
    prose_order_problem,
)
from aot.filtering.subject import NOTATION_WORDS, Subject
from aot.rationales.cards import about_card
from aot.rationales.findings import (
    Quote,
    Sighting,
    affirms,
    covers,
    denies,
    gives_orders,
    is_affirmed,
    is_in_words,
    looked_for,
    names,
    names_phrase,
    phrases_in,
)
from aot.rationales.notation import CITATION, MOMENT, SPAN, Claim, Quoted
from aot.rationales.wording import DENIALS, phrase_key, quotable, stem, stems_of
from aot.records import Step, Verdict

_DENIALS = frozenset({"no", "not"})
_CLAUSE_MARK = re.compile(r"[,;:()]")
_NO_COUNTS = DENIALS | {"one", "second", "third"}
"""Number words that stand for more than a number."""
_PART_OF = frozenset({"first", "last", "other", "more", "next"})
"""Words with a number that is part of a larger one: `the first two`."""
_PREPOSITIONS = frozenset({"on", "in", "at", "from", "to", "of", "by", "with"})
_SEARCHES = frozenset(
    map(stem, ["search", "look", "check", "scan", "seek", "examine", "inspect", "try", "ask", "query"])
)


def evidence(subject: Subject) -> Verdict:
    """Keeps rationales whose every claim has evidence. Value: the share of claims that have.

    Of a chain whose equations a tool worked out, it keeps those that state each result; value: the share of these.
    """
    if not subject.rests_on_tools:
        return results_stated(subject)
    claims = subject.rationale.claims
    if not claims:
        return subject.verdict("evidence", "no_claims", value=0.0)
    problems = [(_named(problem, claim), claim.text) for claim in claims if (problem := _problem(claim, subject))]
    value = round(1 - len(problems) / len(claims), 4)
    first, detail = problems[0] if problems else ("", "")
    return subject.verdict("evidence", first, value=value, detail=detail[:200])


def unproven_claims(subject: Subject) -> list[tuple[str, str]]:
    """Problem and words of each claim that cites steps which do not bear it out; what cites none is not looked at."""
    claims = [claim for claim in subject.rationale.claims if claim.citations]
    return [(problem, claim.text) for claim in claims if (problem := _problem(claim, subject))]


def _named(problem: str, claim: Claim) -> str:
    """`problem`, but `cites_nothing` of a sentence that rests on what its neighbour cites."""
    return problem if claim.part == "Identify" or CITATION.search(claim.sentence) else "cites_nothing"


def _problem(claim: Claim, subject: Subject) -> str:
    steps = [subject.ok_steps[index] for index in claim.citations if index in subject.ok_steps]
    if len(steps) < len(claim.citations):
        return "cites_no_ok_step"
    if not steps and claim.part != "Identify":
        return "cites_nothing"
    if claim.quotes:
        if problem := _quotes_problem(claim, subject):
            return problem
        claim = claim.without_quotes()
        if _is_bare(claim):
            return ""
    mentions, words = _split(claim.text, subject.phrases)
    strange = [word for word in words if word not in subject.notation_words and not word.isdecimal()]
    in_words = all(is_in_words(step) for step in steps)
    is_prose = any(is_connecting(word) or word in COUNTS for word in strange) or not subject.is_notation
    unasked = [word for word in strange if not names_phrase(subject.question.text, word)]
    if unasked and (not is_prose or _is_invented(unasked, claim, steps, subject)):
        return "invented_word"
    seen = [one for one in subject.seen if one.step in claim.citations]
    if claim.part == "Identify":
        return _identify_problem(claim, mentions, subject)
    if claim.part == "Combine":
        if problem := _conclusion_problem(claim, words, steps, subject) or subject.misread_card(steps, mentions):
            return problem
        if not subject.is_notation and DENIALS.intersection(words) and subject.question.kind != "present":
            denied = denied_options(claim, (subject.trace.answer, *subject.question.choices))
            if phrase_key(subject.trace.answer) in denied:
                return "denies_answer"
            words = [word for word in words if not denied or word not in DENIALS]
    if in_words:
        return _text_problem(claim, mentions, words, steps, subject)
    if is_prose:
        return _prose_problem(claim, mentions, words, steps, seen, subject)
    return _notation_problem(claim, mentions, words, steps, seen, subject)


def _quotes_problem(claim: Claim, subject: Subject) -> str:
    """Whether each quote is a text of a cited step: the whole of it at its time, or a part of it amid prose."""
    if claim.part == "Identify":
        asks = quotable(" ".join([subject.question.text, *subject.question.choices])).casefold()
        is_asked = all(one.text.casefold() in asks and one.question.casefold() in asks for one in claim.quotes)
        return "" if is_asked else "quote_not_found"
    stands_alone = _is_bare(claim.without_quotes())
    for quoted in claim.quotes:
        fits = _is_whole if stands_alone else _is_part
        returned = [one for one in _cited_quotes(claim, subject) if fits(quoted, one)]
        if not returned:
            return "quote_not_found"
        if all(gives_orders(one) for one in returned):
            return "follows_instruction"
        if stands_alone and not any(_is_timed(claim, one, subject) for one in returned):
            return "time_not_found" if claim.spans_s or claim.moments_s else "no_time"
    return ""


def _is_bare(claim: Claim) -> bool:  # such as `0.5s-3.2s`, `at 2.0s`
    return set(claim.text.split()) <= {"at"}


def _is_whole(quoted: Quoted, quote: Quote) -> bool:
    written = (quote.how, quotable(quote.text), quotable(quote.question))
    return written == (quoted.how, quoted.text, quoted.question)


def _is_part(quoted: Quoted, quote: Quote) -> bool:
    """Whether prose quotes some words of a text as they stand there, and leaves out no denial."""
    said, whole = (_bare_words(text) for text in (quoted.text, quote.text))
    places = range(len(whole) - len(said) + 1)
    stands_there = bool(said) and any(whole[at : at + len(said)] == said for at in places)
    asks = not quoted.question or _bare_words(quoted.question) == _bare_words(quote.question)
    same_way = (quoted.how == "not said") == (quote.how == "not said")
    return stands_there and asks and same_way and not DENIALS.intersection(set(whole) - set(said))


def _bare_words(text: str) -> list[str]:
    return [bare for word in quotable(text).casefold().split() if (bare := word.strip(".,;!?'"))]


def _is_timed(claim: Claim, quote: Quote, subject: Subject) -> bool:
    """Whether the times of a claim are those of a text: its stretches as they are, or moments inside of one."""
    tolerance_s = subject.config.time_tolerance_s
    if not quote.spans_s or not (claim.spans_s or claim.moments_s):
        return not (claim.spans_s or claim.moments_s) and (not quote.spans_s or claim.part != "Gather")
    inside = [any(a - tolerance_s <= at <= b + tolerance_s for a, b in quote.spans_s) for at in claim.moments_s]
    return all(inside) and all(_near_any(span, list(quote.spans_s), subject) for span in claim.spans_s)


def _conclusion_problem(claim: Claim, words: list[str], steps: list[Step], subject: Subject) -> str:
    """Whether an answer denies what something affirms, or what nobody looked for everywhere, or affirms what is denied.

    A text that was searched in vain bears nothing but a denial.
    """
    event, answer = subject.event, subject.trace.answer
    is_denied = denies(subject.question, answer)
    if all(is_in_words(step) for step in steps) and not heard(steps) and not (is_denied or DENIALS.intersection(words)):
        return "nothing_said"
    if not event or not (is_denied or subject.question.kind == "present"):
        return ""
    is_there = is_affirmed(event, seen=subject.seen, texts=subject.quotes)
    everywhere = looked_for(event, subject.ok_steps.values())
    if not is_denied:
        in_vain = looked_for(event, [one for one in subject.ok_steps.values() if is_in_words(one) or one.sought])
        return "nothing_found" if in_vain and not is_there else ""
    if is_there:
        return "denies_a_finding"
    if not everywhere and any(step.span is not None for step in steps):
        return "label_not_looked_for"
    return "" if claim.spans_s or not everywhere or covers(everywhere, subject.window) else "window_not_searched"


def _is_invented(words: list[str], claim: Claim, steps: list[Step], subject: Subject) -> bool:
    """Whether one of `words` is neither connecting English nor known from the question or the cited steps."""
    sayable = stems_of(" ".join([subject.question.text, heard(steps), *_cited_phrases(claim, steps, subject)]))
    return any(not is_connecting(word) and word not in COUNTS and stem(word) not in sayable for word in words)


def _cited_phrases(claim: Claim, steps: list[Step], subject: Subject) -> list[str]:
    """The phrases of the cited steps without free text; outside of Gather what was answered or offered, too."""
    texts = phrases_in(step for step in steps if not is_in_words(step))
    if claim.part != "Gather":
        texts += [subject.trace.answer, subject.event, *subject.question.choices]
    if claim.part == "Identify":
        texts += subject.labels
    return texts


def _recombines(claim: Claim, mentions: set[str], steps: list[Step], subject: Subject) -> bool:
    """Whether loose words of labels stand together that no label has together, such as `peel` and `tomato`.

    What Gather says of labels is all that it says of things: no word of another label may stand beside them.
    """
    labels = [stems_of(text) for text in (*_cited_phrases(claim, steps, subject), *subject.labels)]
    all_stems = frozenset().union(*labels)
    mentioned = stems_of(" ".join(mentions))
    clauses_ = (_outside(clause, subject.phrases) for clause in _CLAUSE_MARK.split(claim.text))
    for stretch in "|".join(clauses_).split("|"):
        loose = [stem(w) for w in stretch.split() if w not in NOTATION_WORDS and not is_connecting(w)]
        loose = [word for word in loose if word in all_stems]
        if any(a != b and not any({a, b} <= label for label in labels) for a, b in pairwise(loose)):
            return True
        if claim.part == "Gather" and mentions and not mentioned.issuperset(loose):
            return True
    return False


def _notation_problem(
    claim: Claim, mentions: set[str], words: list[str], steps: list[Step], seen: list[Sighting], subject: Subject
) -> str:
    is_compared = subject.is_notation and about_card(subject.question)  # by `misread_card`
    if not is_compared and (problem := _order_problem(claim, mentions, steps, subject)):
        return problem
    if claim.part == "Combine":
        return _combine_problem(claim, mentions, words, steps, seen, subject)
    if _DENIALS.intersection(words):
        return _denial_problem(claim, mentions, steps, seen, subject)
    if not subject.is_notation and (problem := _pairs_problem(claim, subject)):
        return problem
    return _gather_problem(claim, mentions, seen, subject)


def _prose_problem(
    claim: Claim, mentions: set[str], words: list[str], steps: list[Step], seen: list[Sighting], subject: Subject
) -> str:
    """The problem of a sentence in a chat model's words: as in the notation, and its counts, order and denials too."""
    kinds = len({one.key for one in seen})
    listed = {len(mentions), len(mentions - {subject.event}), len(claim.spans_s), len(subject.question.choices)} | (
        {kinds} if kinds > 1 else set()
    )
    if _PART_OF.intersection(words):
        listed |= set(range(len(seen)))
    listed |= {sum(one.key == key for one in seen) for key in mentions}
    numbers = _numbers(steps, seen, subject) | {str(number) for number in listed if number > 1}
    unsaid = [w for w in words if w in COUNTS and w not in _NO_COUNTS and COUNTS[w] not in numbers]
    unsaid += [w for w in words if w.isdecimal() and w not in numbers]
    if unsaid:
        return "number_not_found"
    if DENIALS.intersection(words):
        return _denial_problem(claim, mentions, steps, seen, subject)
    if problem := _order_problem(claim, mentions, steps, subject):
        return problem
    if (
        claim.part == "Gather"
        and subject.event in mentions
        and not seen
        and not _SEARCHES.intersection(map(stem, words))
    ):
        return "nothing_found"
    if claim.part == "Combine" or not seen or not (mentions or claim.spans_s or claim.moments_s):
        return _combine_problem(claim, mentions, words, steps, seen, subject)
    if not claim.spans_s and not claim.moments_s and mentions and mentions <= {one.key for one in seen}:
        return ""
    return _pairs_problem(claim, subject) or _gather_problem(claim, mentions, seen, subject)


def _order_problem(claim: Claim, mentions: set[str], steps: list[Step], subject: Subject) -> str:
    """Whether words of labels are put together that no label has together, or labels in an order that they had not."""
    if _recombines(claim, mentions, steps, subject):
        return "label_not_found"
    predicted = phrase_key(subject.trace.answer) if subject.question.kind.startswith("next") else ""
    return prose_order_problem(claim, subject.seen, predicted=predicted)


def _text_problem(claim: Claim, mentions: set[str], words: list[str], steps: list[Step], subject: Subject) -> str:
    """The problem of a sentence that rests on captions, answers or subtitles alone."""
    said = heard(steps)
    stems, key = stems_of(said), f" {phrase_key(said)} "
    if is_denial := bool(DENIALS.intersection(words)):
        denied = [one for one in _cited_quotes(claim, subject) if one.how == "not said" or _is_denial(one)]
        stems |= stems_of(" ".join(f"{one.text} {one.question}" for one in denied))
    if INSTRUCTION_WORDS.intersection(words) and INSTRUCTION_WORDS.intersection(key.split()):
        return "follows_instruction"
    concluded = {phrase_key(subject.trace.answer), subject.event} if claim.part == "Combine" else set()
    offered = {phrase_key(choice) for choice in subject.question.choices}
    if claim.part == "Combine" and offered <= mentions:  # who names all options claims none of them
        concluded |= offered
    absent = [m for m in mentions if not {stem(word) for word in m.split() if not is_connecting(word)} <= stems]
    if set(absent) - concluded:
        return "not_said"
    is_terse = (
        all(word in NOTATION_WORDS or word.isdecimal() for word in words) and mentions <= concluded
    )  # Nothing is joined but question and answer.
    if not is_terse and not joined_as_said(claim.text, said):
        return "not_said"
    counted = [word for word in words if word in COUNTS and word not in _NO_COUNTS]
    said_numbers = {COUNTS.get(word, word) for word in key.split()} | {
        str(len(claim.citations)),
        str(len(subject.question.choices)),
    }
    if any(stem(word) not in stems and COUNTS[word] not in said_numbers for word in counted):
        return "number_not_found"
    if is_denial and not any(
        _denies(one, mentions | _denied_word(claim.text)) for one in _cited_quotes(claim, subject)
    ):
        return "denies_a_finding"
    spans = [*_windows(steps, subject), *_text_spans(claim, subject)]
    times = [edge for span in spans for edge in span]
    if not all(_near_any(span, [(a, b) for a in times for b in times], subject) for span in claim.spans_s):
        return "time_not_found"
    return "" if _moments_near(claim, times, subject) else "time_not_found"


def _text_spans(claim: Claim, subject: Subject) -> list[tuple[float, float]]:
    """When the texts of the cited steps were said or seen, and the stretches of time that they speak of."""
    texts = _cited_quotes(claim, subject)
    spoken = [mark for quote in texts for mark in SPAN.finditer(as_notation(quote.text, ()))]
    return [span for quote in texts for span in quote.spans_s] + [(float(mark[1]), float(mark[2])) for mark in spoken]


def _cited_quotes(claim: Claim, subject: Subject) -> list[Quote]:
    return [quote for quote in subject.quotes if quote.step in claim.citations]


def _is_denial(quote: Quote) -> bool:
    return quote.how == "not said" or bool(DENIALS.intersection(phrase_key(quote.text).split()))


def _denies(quote: Quote, mentions: set[str]) -> bool:
    """Whether a text has a denial, or is a search in vain, and speaks of all of `mentions`."""
    if not _is_denial(quote):
        return False
    answer, _, more = quote.text.partition(",")
    if quote.how == "answered" and answer.casefold() == "no" and not DENIALS.intersection(phrase_key(more).split()):
        return all(names(quote.question, mention) for mention in mentions)
    return all(names(f"{quote.text} {quote.question}", mention) for mention in mentions)


def _denied_word(text: str) -> set[str]:
    """The first content word of the clause behind a denial, such as `milk` of `there is no milk`; or none."""
    behind = dropwhile(lambda word: word not in DENIALS, WORD_OR_MARK.findall(text.casefold()))
    clause = takewhile(lambda word: word.isalnum() and word not in _PREPOSITIONS, behind)
    return set(islice((word for word in clause if not is_connecting(word) and word not in NOTATION_WORDS), 1))


def _pairs_problem(claim: Claim, subject: Subject) -> str:
    """Whether each clause gives each label its own stretch of time, and cites the step that found it."""
    for text, cited in clauses(claim.sentence, claim.citations):
        seen = [one for one in subject.seen if one.step in cited]
        labels = [label for _, label in places(text, {one.key for one in subject.seen})]
        if any(label not in {one.key for one in seen} for label in labels):
            return "label_not_found"
        spans = [(float(mark[1]), float(mark[2])) for mark in SPAN.finditer(text)]
        if len(labels) != len(spans):
            continue
        for label, span in zip(labels, spans, strict=True):
            if not _near_any(span, [(one.start_s, one.end_s) for one in seen if one.key == label], subject):
                return "label_not_at_this_time"
    return ""


def _identify_problem(claim: Claim, mentions: set[str], subject: Subject) -> str:
    offered = set() if subject.is_notation else {phrase_key(choice) for choice in subject.question.choices}
    if any(
        not names_phrase(subject.question.text, mention)
        for mention in (mentions if offered - mentions else mentions - offered)
    ):
        return "label_not_asked"
    window = subject.window
    if not _moments_near(claim, [window.end_s], subject):
        return "time_not_asked"
    spans = [(window.start_s, window.end_s)]
    return "" if all(_near_any(span, spans, subject) for span in claim.spans_s) else "time_not_asked"


def _gather_problem(claim: Claim, mentions: set[str], seen: list[Sighting], subject: Subject) -> str:
    labelled = [one for one in seen if one.key in mentions]
    if not labelled or len({one.key for one in labelled}) < len(mentions):
        return "label_not_found"
    if not claim.spans_s and not claim.moments_s:
        return "no_time"
    if _restates(claim, labelled, subject):
        return ""
    return "label_not_at_this_time" if _restates(claim, seen, subject) else "time_not_found"


def _restates(claim: Claim, seen: list[Sighting], subject: Subject) -> bool:
    """Whether each span of a claim is the span, and each moment the moment, of one of `seen`."""
    spans = [(one.start_s, one.end_s) for one in seen]
    if not all(_near_any(span, spans, subject) for span in claim.spans_s):
        return False
    edges = [one.start_s for one in seen if one.is_moment]
    if not subject.is_notation:  # prose tells when a stretch begins or ends
        edges = [edge for one in seen for edge in (one.start_s, one.end_s)]
    return not claim.moments_s or _moments_near(claim, edges, subject)


def _denial_problem(claim: Claim, mentions: set[str], steps: list[Step], seen: list[Sighting], subject: Subject) -> str:
    if any(names_phrase(one.key, mention) for one in seen for mention in mentions) or (seen and not mentions):
        return "denies_a_finding"
    windows = _windows(steps, subject)
    stretches = claim.spans_s or windows
    said = [q for q in subject.quotes if any(_overlap(span, one) for span in q.spans_s for one in stretches)]
    if any(affirms(quote, mention) for quote in said for mention in mentions):
        return "denies_a_finding"
    if mentions - _sought_or_said(steps) - ({subject.event} if looked_for(subject.event, steps) else set()):
        return "label_not_looked_for"
    if not all(_near_any(span, windows, subject) for span in claim.spans_s):
        return "time_not_found"
    return "" if _moments_near(claim, [edge for window in windows for edge in window], subject) else "time_not_found"


def _combine_problem(
    claim: Claim, mentions: set[str], words: list[str], steps: list[Step], seen: list[Sighting], subject: Subject
) -> str:
    if mentions - {phrase_key(subject.trace.answer), subject.event} - _sought_or_said(steps):
        return "label_not_found"
    numbers = _numbers(steps, seen, subject)
    if any(word.isdecimal() and word not in numbers for word in words):
        return "number_not_found"
    spans = [(one.start_s, one.end_s) for one in seen] + _windows(steps, subject)
    spans += _text_spans(claim, subject)
    if not all(_near_any(span, spans, subject) for span in claim.spans_s):
        return "time_not_found"
    edges = [edge for span in spans for edge in span]
    return "" if _moments_near(claim, edges, subject) else "time_not_found"


def _numbers(steps: list[Step], seen: list[Sighting], subject: Subject) -> set[str]:
    counts = {str(one.count) for step in steps for one in step.findings if one.count is not None}
    return counts | {str(len(seen)), phrase_key(subject.trace.answer)}


def _split(text: str, phrases: list[str]) -> tuple[set[str], list[str]]:
    """The phrases that `text` mentions, longest first, and the words outside of them."""
    mentions: set[str] = set()
    outside = _outside(text, phrases, mentions)
    return mentions, [word for word in outside.split() if word != "|"]


def _outside(text: str, phrases: list[str], mentions: set[str] | None = None) -> str:
    """`text` with `|` for each of `phrases`, which are noted in `mentions`."""
    outside = f" {phrase_key(text)} "
    for phrase in phrases:
        if phrase in outside:
            inside = f" {phrase} "
            while inside in outside:
                if mentions is not None:
                    mentions.add(phrase)
                outside = outside.replace(inside, " | ")
    return outside


def _sought_or_said(steps: list[Step]) -> set[str]:
    """Keys of all that steps were asked for and gave, but for options, which nobody saw."""
    given = [text for step in steps for one in step.findings if one.kind != "option" for text in (one.label, one.text)]
    given += [value for step in steps if step.call for value in step.call.arguments.values() if isinstance(value, str)]
    return {phrase_key(text) for text in (*given, *(name for step in steps for name in step.sought))}


def _windows(steps: list[Step], subject: Subject) -> list[tuple[float, float]]:
    windows = [(step.span.start_s, step.span.end_s) for step in steps if step.span is not None]
    return windows or [(subject.window.start_s, subject.window.end_s)]


def _overlap(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]


def _near_any(span: tuple[float, float], spans: list[tuple[float, float]], subject: Subject) -> bool:
    tolerance_s = subject.config.time_tolerance_s
    return any(abs(span[0] - start) <= tolerance_s and abs(span[1] - end) <= tolerance_s for start, end in spans)


def _moments_near(claim: Claim, times_s: Iterable[float], subject: Subject) -> bool:
    """Whether each moment of a claim is one of `times_s` or belongs to a label, such as `boil for 10 s`."""
    tolerance_s = subject.config.time_tolerance_s
    far = [moment for moment in claim.moments_s if not any(abs(moment - time_s) <= tolerance_s for time_s in times_s)]
    return not far or set(far) <= _label_times(subject)


def _label_times(subject: Subject) -> set[float]:
    labels = [one.label for one in subject.seen] + [subject.trace.answer, *subject.question.choices]
    return {float(mark[1]) for label in labels for mark in MOMENT.finditer(label)}
