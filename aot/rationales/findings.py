"""What the tool results of a trace say, in one flat form: which label was found when, and which text, by which step.

The verbaliser writes rationales from these findings and filters compare rationales with them. This module reads the
JSON of any tool by its field names (label, event, object, start_s, end_s, time_s, score; cues, text, answer) and knows
no tool.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from aot.answers import iou
from aot.rationales.wording import DENIALS, phrase_key, quotable, stems_of
from aot.records import JsonDict, Question, Step, TimeSpan

MAX_GATHERED = 8
"""A rationale lists at most this many steps of a clip; counts and moments of one event are always listed in full."""
EVENT_KINDS = ("before", "after", "count", "when", "present")
"""Question kinds that name an event or object; the others ask about the whole window."""
SAME_EVENT_IOU = 0.5
Spans = tuple[tuple[float, float], ...]
_IS_THERE = re.compile(
    r"\b(?:is|are)\s+there\s+(?:an?\s+|any\s+|some\s+)?(.+?)(?=\s+(?:in|on|at)\b|[?.]|$)", re.IGNORECASE
)
_NAMES = ("label", "event", "object")
_TEXTS = ("text", "answer", "cues")
"""Fields by which a result is known to be words of somebody, and not labels."""
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
class Finding:
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
    how: Literal["said", "seen", "answered", "not said"]
    text: str
    """As it was returned; a rationale has it as `quotable` writes it."""
    spans_s: Spans
    """When; of an answer every stretch that shows it. Empty when nobody knows."""
    question: str = ""
    """What an answer was asked for."""

    @property
    def key(self) -> tuple[str, ...]:
        """What two quotes share that say the same."""
        return self.how, quotable(self.text).casefold(), quotable(self.question).casefold()


def findings(steps: Iterable[Step]) -> list[Finding]:
    """Everything that the ok steps of a trace saw, in time order within each step."""
    found: list[Finding] = []
    for step in steps:
        if step.status != "ok" or not step.result:
            continue
        own: list[Finding] = []
        _walk(step.result, "", step.index, own)
        label = step.result.get("label")
        if not own and isinstance(label, str) and step.span is not None:
            own.append(Finding(step.index, label, phrase_key(label), step.span.start_s, step.span.end_s, 1.0))
        found.extend(sorted(own, key=lambda finding: (finding.start_s, finding.end_s, finding.label)))
    return found


def quotes(steps: Iterable[Step]) -> list[Quote]:
    """Every text that the ok steps of a trace returned, and every query that no cue fits, in the order of the steps."""
    found: list[Quote] = []
    for step in steps:
        if step.status != "ok" or not step.result:
            continue
        spans_s = ((step.span.start_s, step.span.end_s),) if step.span else ()
        found += _texts(step.result, "seen", spans_s, step)
        query = step.call.arguments.get("query") if step.call else None
        unheard = step.result.get("cues_past_window") or step.result.get("unreadable_cues")
        if step.result.get("cues") == [] and not unheard and isinstance(query, str) and spans_s:
            found.append(Quote(step.index, "not said", query, spans_s))
    return found


def is_text(step: Step) -> bool:
    """Whether the result of a step is words of somebody: cues, a caption, an answer, also where there are none."""
    result = step.result or {}
    return any(name in result for name in _TEXTS) and not any(name in result for name in _NAMES)


def gives_orders(quote: Quote) -> bool:
    """Whether a text speaks to a model: it may be quoted as little as followed."""
    return _ORDERS.search(quote.text) is not None


def asked_event(question: Question, steps: Iterable[Step]) -> str:
    """The event or object that a question of `EVENT_KINDS` asks about; empty for other kinds, or when it is not told.

    It is the longest phrase of the tools' arguments, else of their results, that the question's text contains; a
    `present` question may also name it in plain words (`Is there a knife in the clip?`). Words that a text was searched
    for come last: they may be any words of the question.
    """
    if question.kind not in EVENT_KINDS:
        return ""
    asked: list[str] = []
    seen: list[str] = []
    searched: list[str] = []
    for step in steps:
        if step.call is not None:
            (searched if is_text(step) else asked).extend(strings_of(_without_questions(step.call.arguments)))
        if step.status == "ok" and step.result and not is_text(step):
            seen.extend(strings_of(step.result))
    plain = _IS_THERE.search(question.text) if question.kind == "present" else None
    for phrases in (asked, seen, [plain[1]] if plain else [], searched):
        inside = [phrase for phrase in phrases if names_phrase(question.text, phrase)]
        if inside:
            return max(inside, key=lambda phrase: (len(phrase), phrase))
    return ""


def relied_on(question: Question, found: list[Finding], *, event: str) -> list[Finding]:
    """The findings that a rationale has to list, in time order, an event that two steps saw only once.

    Moments of the asked event for count and when; the best sighting for present; otherwise, and when the event is not
    told, the steps of the clip, at most `MAX_GATHERED` of them: the last ones, or those around the asked event.
    """
    asked = phrase_key(event)
    if asked and question.kind == "present":
        sightings = [finding for finding in found if names_phrase(finding.label, event)]
        return sorted(sightings, key=lambda finding: (-finding.score, finding.start_s))[:1]
    if asked and question.kind in ("count", "when"):
        return without_repeats(finding for finding in found if finding.key == asked)
    steps_of_clip = without_repeats(found)
    if len(steps_of_clip) <= MAX_GATHERED or question.kind not in ("before", "after"):
        return steps_of_clip[-MAX_GATHERED:]
    at = next((i for i, f in enumerate(steps_of_clip) if f.key == asked), 0)
    start = min(max(0, at - MAX_GATHERED // 2), len(steps_of_clip) - MAX_GATHERED)
    return steps_of_clip[start : start + MAX_GATHERED]


def relied_on_quotes(question: Question, found: Iterable[Quote], *, event: str, answer: str) -> list[Quote]:
    """The texts that a rationale has to quote, in time order, each once and none that gives orders.

    Those that speak of the asked event for count, when and present, if any does; otherwise those that share most words
    with question and answer, at most `MAX_QUOTES`. For present one of each step will do.
    """
    found = list(found)
    if not found:
        return []
    chosen = list({(*one.key, one.spans_s): one for one in reversed(found) if _is_told(one)}.values())[::-1]
    about = [one for one in chosen if event and names(f"{one.text} {one.question}", event)]
    chosen = about if about and question.kind in ("count", "when", "present") else chosen
    if event and question.kind == "present":
        chosen.sort(key=lambda one: affirms(one, event) == (answer == "no"))
        chosen = list({one.step: one for one in reversed(chosen)}.values())
    wanted = frozenset(word for word in stems_of(f"{question.text} {answer}") if len(word) > 3)
    chosen.sort(key=lambda one: -len(wanted & stems_of(one.text)))
    most = 2 * MAX_QUOTES if question.kind == "count" and about else MAX_QUOTES
    return sorted(chosen[:most], key=lambda one: (one.spans_s[:1], one.step))


def _is_told(quote: Quote) -> bool:
    return bool(quotable(quote.text)) and not gives_orders(quote)


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


def is_affirmed(event: str, *, found: Iterable[Finding], texts: Iterable[Quote]) -> bool:
    """Whether some step saw `event`, or some text says that it is there."""
    return any(names_phrase(one.label, event) for one in found) or any(affirms(one, event) for one in texts)


def speaks_of(quote: Quote, event: str) -> bool:
    """Whether a text that somebody said or wrote names `event`, be it to deny it, or affirms it."""
    return quote.how != "not said" and (names(quote.text, event) or affirms(quote, event))


def sought(step: Step) -> list[str]:
    """The events or objects that a step was asked to find; empty where it lists whatever there is."""
    arguments = step.call.arguments if step.call else {}
    named = [
        node[name]
        for node in (arguments, step.result or {})
        for name in ("event", "object", "events")
        if node.get(name)
    ]
    return [one for value in named for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]


def looked_for(event: str, steps: Iterable[Step]) -> list[TimeSpan]:
    """The stretches in which ok steps looked for `event`, whether they found it or not: what a denial may rest on.

    A step that lists what there is looks for everything; a caption, which tells what it likes, for what it speaks of.
    """
    spans: list[TimeSpan] = []
    for step in steps:
        if step.status != "ok" or step.span is None or not step.result:
            continue
        if is_text(step):
            looked = any(names(f"{quote.text} {quote.question}", event) for quote in quotes([step]))
        else:
            looked = not sought(step) or any(names(event, one) for one in sought(step))
        spans += [step.span] if looked and step.span not in spans else []
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


def without_repeats(found: Iterable[Finding]) -> list[Finding]:
    """`found` in time order; of findings that show the same event (one label, large overlap) the first stays."""
    kept: list[Finding] = []
    for finding in found:
        if not any(same_event(finding, other) for other in kept):
            kept.append(finding)
    return sorted(kept, key=lambda finding: (finding.start_s, finding.end_s))


def asked_window(question: Question, steps: Iterable[Step], found: Iterable[Finding]) -> TimeSpan:
    """What the question may look at: its own window, ended by the last thing that was looked at if it has no end."""
    start_s = question.media.start_s if question.media else 0.0
    end_s = question.media.end_s if question.media else None
    if end_s is None:
        seen = [step.span.end_s for step in steps if step.span is not None and step.status == "ok"]
        end_s = max([start_s, *seen, *(finding.end_s for finding in found)])
    return TimeSpan(start_s=start_s, end_s=end_s)


def same_event(a: Finding, b: Finding) -> bool:
    """Whether two findings have one label and mostly the same time."""
    if a.key != b.key:
        return False
    return (a.start_s, a.end_s) == (b.start_s, b.end_s) or iou(a.start_s, a.end_s, b.start_s, b.end_s) >= SAME_EVENT_IOU


def _walk(node: JsonDict, label: str, step: int, found: list[Finding]) -> None:
    """Collect what `node` and everything inside it saw; a list of events inherits the name that stands above it."""
    own = next((node[name] for name in _NAMES if isinstance(node.get(name), str)), label)
    span = _span_of(node)
    if own and span is not None:
        score = node.get("score")
        sure = float(score) if isinstance(score, (int, float)) else 1.0
        found.append(Finding(step, own, phrase_key(own), *span, sure))
        return
    for _, item in _dicts_in(node):
        _walk(item, own, step, found)


def _texts(node: JsonDict, how: Literal["said", "seen"], spans_s: Spans, step: Step) -> Iterator[Quote]:
    """The texts of `node` and everything inside it; what has no time of its own has that of what stands above it."""
    own = _span_of(node)
    spans_s = (own,) if own else spans_s
    answer = node.get("answer")
    if isinstance(answer, (str, int, float)):
        told = ("yes" if answer else "no") if isinstance(answer, bool) else str(answer)
        asked = node.get("question", step.call.arguments.get("question") if step.call else None)
        moments = tuple(span for _, item in _dicts_in(node) if (span := _span_of(item)))
        yield Quote(step.index, "answered", told, moments or spans_s, asked if isinstance(asked, str) else "")
        return
    if isinstance(node.get("text"), str):
        yield Quote(step.index, how, node["text"], spans_s)
    for name, item in _dicts_in(node):
        yield from _texts(item, "said" if name == "cues" else how, spans_s, step)


def _span_of(node: JsonDict) -> tuple[float, float] | None:
    start_s, end_s = node.get("start_s", node.get("time_s")), node.get("end_s", node.get("time_s"))
    if isinstance(start_s, (int, float)) and isinstance(end_s, (int, float)):
        return float(start_s), float(end_s)
    return None


def _dicts_in(node: JsonDict) -> Iterator[tuple[str, JsonDict]]:
    """The objects right inside `node` or inside one of its lists, with the name under which they stand."""
    for name, value in node.items():
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, dict):
                yield name, item


def _without_questions(arguments: JsonDict) -> JsonDict:
    """Arguments without whole questions, which name no event."""
    return {name: value for name, value in arguments.items() if name != "question"}


def strings_of(node: object) -> list[str]:
    """All non-empty strings inside a JSON value, in no particular order."""
    texts: list[str] = []
    waiting: list[object] = [[node]]
    while waiting:
        container = waiting.pop()
        for one in container.values() if isinstance(container, dict) else container:  # type: ignore[attr-defined]
            if isinstance(one, str):
                if one:
                    texts.append(one)
            elif isinstance(one, (dict, list, tuple)):
                waiting.append(one)
    return texts


def names_phrase(text: str, phrase: str) -> bool:
    """Whether `text` contains all of `phrase` as whole words.

    >>> names_phrase("Is there a green pepper?", "pepper"), names_phrase("peppermint", "pepper")
    (True, False)
    """
    key = phrase_key(phrase)
    return bool(key) and f" {key} " in f" {phrase_key(text)} "
