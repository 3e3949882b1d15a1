"""Damages verified rationales of clips as whole, for the study of structure against content (arXiv 2502.07374).

What is evidence are the sentences of Gather and Combine. Each damage keeps the notation and the trace's answer; what it
changes depends on (seed, question, sample) only. The edits that plant single defects are another matter (video_edits).
"""

import re
from collections.abc import Sequence
from itertools import islice

from numpy.random import Generator

from aot.faults.plant import rng_of
from aot.faults.text_damage import DELETED_SHARE
from aot.rationales.findings import labels_in
from aot.rationales.notation import PARTS, parse_rationale, sentences_of
from aot.rationales.wording import in_sentence
from aot.records import Trace

EVIDENCE = ("Gather", "Combine")
_SECONDS = re.compile(r"(?<![\d.])\d+(?:\.\d+)?(?=\s?s\b)")
_OPPOSITE = {"yes": "no", "no": "yes"}
_TRIES = 50


def shuffled(trace: Trace, seed: int) -> Trace | None:
    """The rationale with its evidence in another order; None where it has fewer than two different sentences."""
    sentences = _evidence(trace)
    if len(set(sentences)) < 2:
        return None
    rng, order = _rng(trace, seed, "shuffled"), list(range(len(sentences)))
    while [sentences[at] for at in order] == sentences:
        order = [int(at) for at in rng.permutation(len(sentences))]
    return _with_evidence(trace, [sentences[at] for at in order])


def deleted(trace: Trace, seed: int) -> Trace | None:
    """The rationale without DELETED_SHARE of its evidence, at least one sentence; None where it has fewer than two."""
    sentences = _evidence(trace)
    if len(sentences) < 2:
        return None
    rng, count = _rng(trace, seed, "deleted"), max(1, int(len(sentences) * DELETED_SHARE))
    gone = {int(at) for at in rng.permutation(len(sentences))[:count]}
    return _with_evidence(trace, ["" if at in gone else sentence for at, sentence in enumerate(sentences)])


def wrong_content(trace: Trace, seed: int) -> Trace | None:
    """The rationale with its form, but other labels, other times and another answer; the trace's answer stays right.

    Equal labels and times become equal ones, and times keep their order, so that sentences still refer to each other.
    None where nothing in it, or nothing in its answer, can be replaced.
    """
    rng = _rng(trace, seed, "wrong_content")
    head, sign, answer = trace.rationale.rpartition("Answer:")
    if not sign:
        return None
    for _ in range(_TRIES):
        labels, times = _other_labels(trace, rng), _other_times(trace.rationale, rng)
        new_head = _replaced(head, {**labels, **times})
        new_answer = _OPPOSITE.get(answer.strip().casefold()) or _other_count(answer.strip(), rng)
        new_answer = new_answer or _replaced(answer.strip(), {**labels, **times})
        if new_head != head and new_answer not in (answer.strip(), trace.answer):
            return trace.model_copy(update={"rationale": f"{new_head}{sign} {new_answer}"})
    return None


def _rng(trace: Trace, seed: int, name: str) -> Generator:
    return rng_of(seed, f"{trace.question_id}:{trace.sample_index}:{name}")


def _evidence(trace: Trace) -> list[str]:
    parts = parse_rationale(trace.rationale).parts
    return [sentence for part in EVIDENCE for sentence in sentences_of(parts.get(part, ""))]


def _with_evidence(trace: Trace, sentences: Sequence[str]) -> Trace:
    """The trace with these sentences in the places of its evidence; a part that is left with none goes."""
    parts, left = dict(parse_rationale(trace.rationale).parts), iter(sentences)
    for part in EVIDENCE:
        places = len(sentences_of(parts.get(part, "")))
        parts[part] = " ".join(filter(None, islice(left, places)))
    lines = [f"{part}: {parts[part]}" for part in PARTS if parts.get(part)]
    return trace.model_copy(update={"rationale": "\n".join(lines)})


def _other_labels(trace: Trace, rng: Generator) -> dict[str, str]:
    """Each label of the rationale to another one that some step returned."""
    given = {in_sentence(label) for label in labels_in(trace.steps)} | {trace.answer}
    labels = sorted(text for text in given if re.search(r"[^\W\d]", text) and not _SECONDS.search(text))
    used = [text for text in labels if re.search(_whole(text), trace.rationale) and text not in _OPPOSITE]
    others = {text: [other for other in labels if other != text and other not in _OPPOSITE] for text in used}
    return {text: choices[int(rng.integers(len(choices)))] for text, choices in others.items() if choices}


def _other_times(text: str, rng: Generator) -> dict[str, str]:
    """Each time of `text` to another one, all in their old order."""
    times = sorted({match[0] for match in _SECONDS.finditer(text)}, key=float)
    latest_s = 1.5 * float(times[-1]) + 1.0 if times else 0.0
    drawn = sorted(float(value) for value in rng.uniform(0.0, latest_s, size=len(times)))
    return {old: f"{new:.1f}" for old, new in zip(times, drawn, strict=True)}


def _other_count(answer: str, rng: Generator) -> str:
    return str(int(answer) + int(rng.integers(1, 4))) if answer.isdecimal() else ""


def _replaced(text: str, changes: dict[str, str]) -> str:
    """`text` with every key of `changes` replaced at once, longer ones first; times only where seconds follow."""
    patterns = [
        rf"(?<![\d.]){re.escape(old)}(?=\s?s\b)" if old[0].isdigit() else _whole(old)
        for old in sorted(changes, key=len, reverse=True)
    ]
    return re.sub("|".join(patterns), lambda match: changes[match[0]], text) if patterns else text


def _whole(label: str) -> str:
    return rf"(?<!\w){re.escape(label)}(?!\w)"
