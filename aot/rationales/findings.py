"""What the findings of a trace's steps come to: which label was seen when, and which text came how, by which step.

The verbaliser writes rationales from these sightings and quotes, and filters compare rationales with them. The tools
say themselves what they made out (records.Finding); this module knows no tool, and no field of any result.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from aot.answers import iou
from aot.rationales.wording import DENIALS, phrase_key, quotable, stems_of
from aot.records import FindingKind, Question, Span, Step, TimeSpan

MAX_GATHERED = 8
"""A rationale lists at most this many steps of a clip; counts and moments of one event are always listed in full."""
EVENT_KINDS = ("before", "after", "count", "when", "present")
"""Question kinds that name an event or object; the others ask about the whole window."""
SAME_EVENT_IOU = 0.5
SEEN: tuple[FindingKind, ...] = ("event", "object", "action")
"""Kinds of finding that somebody saw in the clip; the others are weighed, counted or told."""
_IS_THERE = re.compile(
    r"\b(?:is|are)\s+there\s+(?:an?\s+|any\s+|some\s+)?(.+?)(?=\s+(?:in|on|at)\b|[?.]|$)", re.IGNORECASE
)
MAX_QUOTES = 6
"""A rationale quotes at most this many texts; of those that count one event, twice as many."""
COVER_SLACK_S = 0.25
"""So much of a window may go unseen at its edges: times are rounded, and the last frame ends before the clip does."""
_ARTICLES = frozenset({"a", "an", "the", "of", "any", "some"})
_ORDERS = re.compile(
    r"<\||\|>|</?(?:data|system|tool|im_)|\[/?inst\b|<<sys"
    r"|\b(?:system|assistant|developer|user|human)(?: note| message| prompt)?\s*:"
    r"|[{\[]\s*[\"']?(?:name|role|tool|function|arguments)[\"']?\s*:|\bcall (?:the )?(?:tool|function)\b"
    r"|\b(?:ignore|disregard|forget)\b.{0,40}\b(?:instruction|rule|prompt|question|option|above)"
    r"|\b(?:correct|right) (?:option|answer)\b|\b(?:option|letter) (?-i:[A-Z])\b"
    r"|\b(?:answer|choose|pick|select|reply|respond)\W+(?:(?:with|only|is|the|option)\W+)*(?-i:[A-H])\b"
    r"|\b(?:answer|reply|respond)\W+(?:(?:with|only)\W+)*(?:yes|no|\d+|once|twice|\w+ times)\b",
    re.IGNORECASE,
)
"""Words to a model and not about a clip: marks of chats and calls, and orders to answer this or that."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One thing that one step saw at one time; start_s equals end_s for a moment."""

    step: int
    label: str
    key: str
    """The label as `phrase_key` gives it: what labels are compared by."""
    start_s: float
    end_s: float
    score: float

    @property
    def is_moment(self) -> bool:
        """Whether this is a single time and not a stretch."""
        return self.start_s == self.end_s


@dataclass(frozen=True, slots=True)
class Quote:
    """One text that one step returned: a cue, a caption, an answer; or the query of a search that found no cue."""

    step: int
    how: str
    """`said`, `seen`, `answered` or `not said`; see records.Finding."""
    text: str
    """As it was returned; a rationale has it as `quotable` writes it."""
    spans_s: tuple[Span, ...]
    """When; of an answer every stretch that shows it. Empty when nobody knows."""
    question: str = ""
    """What an answer was asked for."""

    @property
    def key(self) -> tuple[str, ...]:
        """What two quotes share that say the same."""
        return self.how, quotable(self.text).casefold(), quotable(self.question).casefold()


def sightings(steps: Iterable[Step]) -> list[Sighting]:
    """Everything that the steps of a trace saw, in time order within each step."""
    return [
        Sighting(step.index, label, phrase_key(label), start_s, end_s, score)
        for step in steps
        for start_s, end_s, label, score in sorted(
            (start_s, end_s, one.label, one.score)
            for one in step.findings
            if one.kind in SEEN
            for start_s, end_s in one.spans_s or _span_of(step)
        )
    ]


def quotes(steps: Iterable[Step]) -> list[Quote]:
    """Every text that the steps of a trace returned, and every query that no cue fits, in the order of the steps."""
    return [
        Quote(step.index, one.how, one.text, one.spans_s or _span_of(step), one.question)
        for step in steps
        for one in step.findings
        if one.how and one.how != "not heard"
    ]


def is_in_words(step: Step) -> bool:
    """Whether the result of a step is words of somebody: cues, a caption, an answer, also where there are none."""
    return any(one.kind == "text" for one in step.findings)


def labels_in(steps: Iterable[Step], *kinds: FindingKind) -> list[str]:
    """The labels of what the steps say, of these kinds or of all."""
    return [one.label for step in steps for one in step.findings if one.label and (not kinds or one.kind in kinds)]


def phrases_in(steps: Iterable[Step]) -> list[str]:
    """Every label and every text of what the steps say; none that was only searched for."""
    steps = list(steps)
    texts = [one.text for step in steps for one in step.findings if one.how in ("said", "seen", "answered")]
    return labels_in(steps) + texts


def first_listing(steps: Iterable[Step]) -> Step | None:
    """The first step that tells whatever happens in a stretch, asked for nothing in particular; None without any."""
    for step in steps:
        kinds = {one.kind for one in step.findings}
        if step.status == "ok" and step.span is not None and not step.sought and kinds <= {"event"}:
            return step
    return None


def gives_orders(quote: Quote) -> bool:
    """Whether a text speaks to a model: it may be quoted as little as followed."""
    return _ORDERS.search(quote.text) is not None


def asked_event(question: Question, steps: Iterable[Step]) -> str:
    """The event or object that a question of `EVENT_KINDS` asks about; empty for other kinds, or when it is not told.

    It is the longest phrase that tools were to find, else of what they gave, that the question's text contains; a
    `present` question may also name it in plain words (`Is there a knife in the clip?`). Words that a text was searched
    for come last: they may be any words of the question.
    """
    if question.kind not in EVENT_KINDS:
        return ""
    steps = list(steps)
    in_sight = [step for step in steps if not is_in_words(step)]
    sought = [name for step in in_sight for name in step.sought]
    searched = [words for step in steps if is_in_words(step) for words in step.sought]
    plain = _IS_THERE.search(question.text) if question.kind == "present" else None
    for phrases in (sought, labels_in(in_sight), [plain[1]] if plain else [], searched):
        inside = [phrase for phrase in phrases if names_phrase(question.text, phrase)]
        if inside:
            return max(inside, key=lambda phrase: (len(phrase), phrase))
    return ""


def relied_on(question: Question, seen: list[Sighting], *, event: str) -> list[Sighting]:
    """The sightings that a rationale has to list, in time order, an event that two steps saw only once.

    Moments of the asked event for count and when; the best sighting for present; otherwise, and when the event is not
    told, the steps of the clip, at most `MAX_GATHERED` of them: the last ones, or those around the asked event.
    """
    key = phrase_key(event)
    if key and question.kind == "present":
        of_event = [one for one in seen if names_phrase(one.label, event)]
        return sorted(of_event, key=lambda one: (-one.score, one.start_s))[:1]
    if key and question.kind in ("count", "when"):
        return without_repeats(one for one in seen if one.key == key)
    steps_of_clip = without_repeats(seen)
    if len(steps_of_clip) <= MAX_GATHERED or question.kind not in ("before", "after"):
        return steps_of_clip[-MAX_GATHERED:]
    at = next((i for i, f in enumerate(steps_of_clip) if f.key == key), 0)
    start = min(max(0, at - MAX_GATHERED // 2), len(steps_of_clip) - MAX_GATHERED)
    return steps_of_clip[start : start + MAX_GATHERED]


def relied_on_quotes(question: Question, texts: Iterable[Quote], *, event: str, answer: str) -> list[Quote]:
    """The texts that a rationale has to quote, in time order, each once and none that gives orders.

    Those that speak of the asked event for count, when and present, if any does; otherwise those that share most words
    with question and answer, at most `MAX_QUOTES`. For present one of each step will do.
    """
    fit = [one for one in texts if quotable(one.text) and not gives_orders(one)]
    if not fit:
        return []
    chosen = list({(*one.key, one.spans_s): one for one in reversed(fit)}.values())[::-1]
    about = [one for one in chosen if event and names(f"{one.text} {one.question}", event)]
    chosen = about if about and question.kind in ("count", "when", "present") else chosen
    if event and question.kind == "present":
        chosen.sort(key=lambda one: affirms(one, event) == (answer == "no"))
        chosen = list({one.step: one for one in reversed(chosen)}.values())
    wanted = frozenset(word for word in stems_of(f"{question.text} {answer}") if len(word) > 3)
    chosen.sort(key=lambda one: -len(wanted & stems_of(one.text)))
    most = 2 * MAX_QUOTES if question.kind == "count" and about else MAX_QUOTES
    return sorted(chosen[:most], key=lambda one: (one.spans_s[:1], one.step))


def names(text: str, phrase: str) -> bool:
    """Whether `text` has all words of `phrase`, in any inflection and order.

    >>> names("He grabs some glasses.", "a glass"), names("glassware", "glass")
    (True, False)
    """
    words = stems_of(phrase) - _ARTICLES
    return bool(words) and words <= stems_of(text)


def affirms(quote: Quote, event: str) -> bool:
    """Whether a text says that there is `event`, as far as words tell: it names or answers to it, denying nothing."""
    words = phrase_key(quote.text).split()
    if quote.how == "not said" or DENIALS.intersection(words):
        return False
    answers = quote.how == "answered" and names(quote.question, event) and words[:1] not in (["0"], ["zero"])
    return answers or names(quote.text, event)


def is_affirmed(event: str, *, seen: Iterable[Sighting], texts: Iterable[Quote]) -> bool:
    """Whether some step saw `event`, or some text says that it is there."""
    return any(names_phrase(one.label, event) for one in seen) or any(affirms(one, event) for one in texts)


def speaks_of(quote: Quote, event: str) -> bool:
    """Whether a text that somebody said or wrote names `event`, be it to deny it, or affirms it."""
    return quote.how != "not said" and (names(quote.text, event) or affirms(quote, event))


def looked_for(event: str, steps: Iterable[Step]) -> list[TimeSpan]:
    """The stretches in which ok steps looked for `event`, whether they found it or not: what a denial may rest on.

    A step that lists what there is looks for everything; a caption, which tells what it likes, for what it speaks of.
    """
    spans: list[TimeSpan] = []
    for step in steps:
        if step.status != "ok" or step.span is None:
            continue
        if is_in_words(step):
            fits = any(names(f"{quote.text} {quote.question}", event) for quote in quotes([step]))
        else:
            fits = not step.sought or any(names(event, one) for one in step.sought)
        spans += [step.span] if fits and step.span not in spans else []
    return spans


def denies(question: Question, answer: str) -> bool:
    """Whether an answer says that what was asked about is not there."""
    return answer.strip().casefold().rstrip(".") == {"present": "no", "count": "0"}.get(question.kind)


def covers(spans: Iterable[TimeSpan], window: TimeSpan) -> bool:
    """Whether `spans` together leave nothing of `window` unseen."""
    seen_s = window.start_s
    for span in sorted(spans, key=lambda one: one.start_s):
        if span.start_s <= seen_s + COVER_SLACK_S:
            seen_s = max(seen_s, span.end_s)
    return seen_s >= window.end_s - COVER_SLACK_S


def without_repeats(seen: Iterable[Sighting]) -> list[Sighting]:
    """`seen` in time order; of sightings that show the same event (one label, large overlap) the first stays."""
    kept: list[Sighting] = []
    for one in seen:
        if not any(one.key == other.key and _is_same_time(one, other) for other in kept):
            kept.append(one)
    return sorted(kept, key=lambda one: (one.start_s, one.end_s))


def asked_window(question: Question, steps: Iterable[Step], seen: Iterable[Sighting]) -> TimeSpan:
    """What the question may look at: its own window, ended by the last thing that was looked at if it has no end."""
    start_s = question.media.start_s if question.media else 0.0
    end_s = question.media.end_s if question.media else None
    if end_s is None:
        ends_s = [step.span.end_s for step in steps if step.span is not None and step.status == "ok"]
        end_s = max([start_s, *ends_s, *(one.end_s for one in seen)])
    return TimeSpan(start_s=start_s, end_s=end_s)


def _is_same_time(a: Sighting, b: Sighting) -> bool:
    return (a.start_s, a.end_s) == (b.start_s, b.end_s) or iou(a.start_s, a.end_s, b.start_s, b.end_s) >= SAME_EVENT_IOU


def _span_of(step: Step) -> tuple[Span, ...]:
    return ((step.span.start_s, step.span.end_s),) if step.span else ()


def strings_of(node: object) -> list[str]:
    """All non-empty strings inside a JSON value."""
    if isinstance(node, str):
        return [node] if node else []
    parts = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
    return [text for part in parts for text in strings_of(part)]


def names_phrase(text: str, phrase: str) -> bool:
    """Whether `text` contains all of `phrase` as whole words.

    >>> names_phrase("Is there a green pepper?", "pepper"), names_phrase("peppermint", "pepper")
    (True, False)
    """
    key = phrase_key(phrase)
    return bool(key) and f" {key} " in f" {phrase_key(text)} "
