"""What the tool results of a trace say, in one flat form: which label was found when, by which step.

The verbaliser writes rationales from these findings and filters compare rationales with them. This module reads the
JSON of any tool by its field names (label, event, object, start_s, end_s, time_s, score) and knows no tool.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from aot.answers import iou
from aot.records import JsonDict, Question, Step, TimeSpan
from aot.wording import phrase_key

MAX_GATHERED = 8
"""A rationale lists at most this many steps of a clip; counts and moments of one event are always listed in full."""
EVENT_KINDS = ("before", "after", "count", "when", "present")
"""Question kinds that name an event or object; the others ask about the whole window."""
SAME_EVENT_IOU = 0.5
_IS_THERE = re.compile(
    r"\b(?:is|are)\s+there\s+(?:an?\s+|any\s+|some\s+)?(.+?)(?=\s+(?:in|on|at)\b|[?.]|$)", re.IGNORECASE
)
_NAMES = ("label", "event", "object")


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


def asked_event(question: Question, steps: Iterable[Step]) -> str:
    """The event or object that a question of `EVENT_KINDS` asks about; empty for other kinds, or when it is not told.

    It is the longest phrase of the tools' arguments, else of their results, that the question's text contains; a
    `present` question may also name it in plain words (`Is there a knife in the clip?`).
    """
    if question.kind not in EVENT_KINDS:
        return ""
    asked: list[str] = []
    seen: list[str] = []
    for step in steps:
        if step.call is not None:
            asked.extend(strings_of(step.call.arguments))
        if step.status == "ok" and step.result:
            seen.extend(strings_of(step.result))
    for phrases in (asked, seen):
        inside = [phrase for phrase in phrases if names_phrase(question.text, phrase)]
        if inside:
            return max(inside, key=lambda phrase: (len(phrase), phrase))
    plain = _IS_THERE.search(question.text) if question.kind == "present" else None
    return plain[1] if plain else ""


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
    start_s = node.get("start_s", node.get("time_s"))
    end_s = node.get("end_s", node.get("time_s"))
    if own and isinstance(start_s, (int, float)) and isinstance(end_s, (int, float)):
        score = node.get("score")
        sure = float(score) if isinstance(score, (int, float)) else 1.0
        found.append(Finding(step, own, phrase_key(own), float(start_s), float(end_s), sure))
        return
    for value in node.values():
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, dict):
                _walk(item, own, step, found)


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
