"""Does the drawn truth support what a rationale says it gathered?

A claim is one sentence of the Gather part with one cited span or moment. `label span` is supported if an annotated
segment of that label has an intersection over union of at least 0.5 with the span, or covers at least half of it.
`object moment` is supported if the object is annotated within half a second of it. A denial (`no label in span`) is
supported if the label is annotated nowhere there. A claim that names nothing known to the annotations is unsupported. A
quote claims what was said or answered, which no annotation tells: it is no claim here.
"""

import re
from collections.abc import Sequence

from aot.answers import iou
from aot.rationales.notation import Claim, parse_rationale
from aot.rationales.wording import phrase_key
from aot.records import ClipAnnotation

MIN_IOU = 0.5
MIN_COVER = 0.5
MOMENT_TOLERANCE_S = 0.5
_ABSENT = re.compile(r"\b(no|not)\b", re.IGNORECASE)


def known_labels(annotations: Sequence[ClipAnnotation]) -> tuple[str, ...]:
    """Every step and object that the annotations name, longest first, as `phrase_key` spells them."""
    labels = {phrase_key(s.label) for a in annotations for s in a.segments}
    labels |= {phrase_key(b.label) for a in annotations for b in a.boxes}
    return tuple(sorted(labels, key=lambda label: (-len(label), label)))


def claim_supports(text: str, annotation: ClipAnnotation, *, labels: Sequence[str]) -> list[bool]:
    """Whether `annotation` supports each gathered claim of the rationale `text`; empty if nothing is claimed."""
    support: list[bool] = []
    if "Gather" not in text:
        return support
    for claim in parse_rationale(text).claims:
        if claim.part != "Gather" or claim.quotes:
            continue
        label = _label_of(claim, labels)
        # "No onion from 2 to 4 s" is right where the truth shows none: a denial turns what counts as support around.
        absent = bool(_ABSENT.search(claim.text))
        for start_s, end_s in claim.spans_s:
            seen = bool(label) and (_touches if absent else _shows)(annotation, label, start_s, end_s)
            support.append(bool(label) and seen != absent)
        for moment_s in claim.moments_s:
            support.append(bool(label) and _shows_at(annotation, label, moment_s) != absent)
    return support


def _label_of(claim: Claim, labels: Sequence[str]) -> str:
    text = f" {phrase_key(claim.text)} "
    return next((label for label in labels if label and f" {label} " in text), "")


def _shows(annotation: ClipAnnotation, label: str, start_s: float, end_s: float) -> bool:
    # Half covered is enough too: a tool that saw a part of a long step says nothing wrong, though the overlap is small.
    length_s = max(end_s - start_s, 1e-6)
    for segment in annotation.segments:
        if phrase_key(segment.label) != label:
            continue
        covered_s = min(end_s, segment.end_s) - max(start_s, segment.start_s)
        if iou(start_s, end_s, segment.start_s, segment.end_s) >= MIN_IOU or covered_s / length_s >= MIN_COVER:
            return True
    return any(phrase_key(box.label) == label and start_s <= box.time_s <= end_s for box in annotation.boxes)


def _shows_at(annotation: ClipAnnotation, label: str, moment_s: float) -> bool:
    return _touches(annotation, label, moment_s - MOMENT_TOLERANCE_S, moment_s + MOMENT_TOLERANCE_S)


def _touches(annotation: ClipAnnotation, label: str, start_s: float, end_s: float) -> bool:
    inside = any(
        phrase_key(s.label) == label and min(end_s, s.end_s) - max(start_s, s.start_s) > 0 for s in annotation.segments
    )
    return inside or any(phrase_key(b.label) == label and start_s <= b.time_s <= end_s for b in annotation.boxes)
