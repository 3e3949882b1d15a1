"""Damaged chains for the study of structure against content (arXiv 2502.07374): verified ones, spoilt in one way only.

The answer of the trace stays right, so that an arm learns from the same questions and answers as its control. What is
moved or left out are the steps of a text chain, or the sentences of evidence where a chain rests on tools. What happens
depends on (seed, question, sample) only. The edits that plant single defects are another matter.
"""

import re
from collections.abc import Callable, Sequence
from itertools import islice

from numpy.random import Generator

from aot.faults.plant import OPPOSITE, pick, rng_of, with_rationale
from aot.faults.text_edits import lines_of
from aot.rationales.arithmetic import check_text
from aot.rationales.calls import rests_on_tools
from aot.rationales.findings import labels_in
from aot.rationales.notation import EVIDENCE, PARTS, parse_rationale, sentences_of
from aot.rationales.wording import in_sentence
from aot.records import Trace

DELETED_SHARE = 0.5
_NUMBER = re.compile(r"\d+(?::[0-5]\d)?")
_NAMES = re.compile(r"\b[^\W\d]\w*+(?= >)|(?<=> )[^\W\d]\w*+")
_SECONDS = re.compile(r"(?<![\d.])\d+(?:\.\d+)?(?=\s?s\b)")
_TRIES = 50


def wrong_content(trace: Trace, seed: int) -> Trace | None:
    """The chain with its structure, but other content and another answer; the trace's answer stays right.

    In text each number becomes another one of as many digits, or the names of an order change places, and no equation
    holds. Of what tools returned, labels and times become other ones; times keep their order. Equal ones become equal
    ones, so that steps still refer to each other. None where nothing in it, or nothing in its answer, can be replaced.
    """
    rng = _rng(trace, seed, "wrong_content")
    replace = _other_evidence if rests_on_tools(trace) else _other_chain
    replaced = (replace(trace, rng) for _ in range(_TRIES))
    return next((with_rationale(trace, rationale) for rationale in replaced if rationale), None)


def shuffled(trace: Trace, seed: int) -> Trace | None:
    """The chain with its pieces in another order and the right answer line; None without two different pieces."""
    rng, pieces = _rng(trace, seed, "shuffled"), _pieces(trace)
    if len(set(pieces)) < 2:
        return None
    order = list(range(len(pieces)))
    while [pieces[at] for at in order] == pieces:
        order = [int(at) for at in rng.permutation(len(pieces))]
    return _with_pieces(trace, [pieces[at] for at in order])


def deleted(trace: Trace, seed: int) -> Trace | None:
    """The chain without DELETED_SHARE of its pieces, at least one of them, and with the right answer line.

    None where it has fewer than two pieces: one always stays.
    """
    rng, pieces = _rng(trace, seed, "deleted"), _pieces(trace)
    if len(pieces) < 2:
        return None
    count = max(1, int(len(pieces) * DELETED_SHARE))
    gone = {int(at) for at in rng.permutation(len(pieces))[:count]}
    return _with_pieces(trace, [None if at in gone else piece for at, piece in enumerate(pieces)])


DAMAGES: dict[str, Callable[[Trace, int], Trace | None]] = {
    "wrong_content": wrong_content,
    "shuffled": shuffled,
    "deleted": deleted,
}
"""Name in a config to the damage."""


def _rng(trace: Trace, seed: int, name: str) -> Generator:
    return rng_of(seed, f"{trace.question_id}:{trace.sample_index}:{name}")


def _pieces(trace: Trace) -> list[str]:
    """The sentences of evidence, or the steps; of a single line of several equations, each equation."""
    if rests_on_tools(trace):
        parts = parse_rationale(trace.rationale).parts
        return [sentence for part in EVIDENCE for sentence in sentences_of(parts.get(part, ""))]
    lines, _ = lines_of(trace)
    return lines[0].rstrip(".").split(", ") if len(lines) == 1 else lines


def _with_pieces(trace: Trace, pieces: Sequence[str | None]) -> Trace:
    """The chain with other pieces in the places of its own; a part of evidence that is left with none goes."""
    if not rests_on_tools(trace):
        lines, answer_line = lines_of(trace)
        new = [piece for piece in pieces if piece is not None]
        new = [", ".join(new) + "."] if len(lines) == 1 else new
        return with_rationale(trace, "\n".join([*new, answer_line]))
    parts, left = dict(parse_rationale(trace.rationale).parts), iter(pieces)
    for part in EVIDENCE:
        places = len(sentences_of(parts.get(part, "")))
        parts[part] = " ".join(filter(None, islice(left, places)))
    return with_rationale(trace, "\n".join(f"{part}: {parts[part]}" for part in PARTS if parts.get(part)))


def _other_chain(trace: Trace, rng: Generator) -> str | None:
    """A text chain in which nothing is right any more; None where that did not come about."""
    if not lines_of(trace)[1]:
        return None
    replaced = _other_numbers(trace.rationale, rng)
    if replaced == trace.rationale:
        replaced = _other_names(trace.rationale, rng)
    check, answer = check_text(replaced), replaced.rpartition("Answer:")[2].strip()
    is_all_wrong = check.wrong == check.equations - check.unreadable and answer != trace.answer
    return replaced if replaced != trace.rationale and is_all_wrong else None


def _other_numbers(text: str, rng: Generator) -> str:
    """`text` with each number replaced by another one of as many digits; equal ones by equal ones."""
    replaced: dict[str, str] = {}

    def other(number: re.Match[str]) -> str:
        if number[0] not in replaced:
            replaced[number[0]] = _other_number(number[0], {*replaced, *replaced.values()}, rng)
        return replaced[number[0]]

    return _NUMBER.sub(other, text)


def _other_number(old: str, taken: set[str], rng: Generator) -> str:
    new = old
    for _ in range(_TRIES):
        hour, sign, _ = old.partition(":")
        low = 10 ** (min(len(hour), 15) - 1) if len(hour) > 1 else 0
        value = int(rng.integers(low, 24 if sign and len(hour) > 1 else 10 ** min(len(hour), 15)))
        new = f"{value}:{5 * int(rng.integers(12)):02d}" if sign else str(value)
        if new != old and new not in taken:
            break
    return new


def _other_names(text: str, rng: Generator) -> str:
    """`text` with the names of its orders passed round, so that nobody keeps a place."""
    names = sorted(set(_NAMES.findall(text)))
    if len(names) < 2:
        return text
    by = int(rng.integers(1, len(names)))
    return _replaced(text, {name: names[(at + by) % len(names)] for at, name in enumerate(names)})


def _other_evidence(trace: Trace, rng: Generator) -> str | None:
    """A rationale of other labels, times and another answer; None where something of it stayed as it was."""
    head, sign, answer = trace.rationale.rpartition("Answer:")
    if not sign:
        return None
    answer = answer.strip()
    changes = {**_other_labels(trace, rng), **_other_times(trace.rationale, rng)}
    new_head, new_answer = _replaced(head, changes), OPPOSITE.get(answer.casefold())
    if not new_answer:
        new_answer = str(int(answer) + int(rng.integers(1, 4))) if answer.isdecimal() else _replaced(answer, changes)
    return f"{new_head}{sign} {new_answer}" if new_head != head and new_answer not in (answer, trace.answer) else None


def _other_labels(trace: Trace, rng: Generator) -> dict[str, str]:
    """Each label of the rationale to another one that some step returned."""
    given = {in_sentence(label) for label in labels_in(trace.steps)} | {trace.answer}
    labels = sorted(text for text in given if re.search(r"[^\W\d]", text) and not _SECONDS.search(text))
    used = [text for text in labels if re.search(_whole(text), trace.rationale) and text not in OPPOSITE]
    others = {text: [other for other in labels if other != text and other not in OPPOSITE] for text in used}
    return {text: pick(choices, rng) for text, choices in others.items() if choices}


def _other_times(text: str, rng: Generator) -> dict[str, str]:
    """Each time of `text` to another one, all in their old order."""
    times = sorted({match[0] for match in _SECONDS.finditer(text)}, key=float)
    latest_s = 1.5 * float(times[-1]) + 1.0 if times else 0.0
    drawn = sorted(float(value) for value in rng.uniform(0.0, latest_s, size=len(times)))
    return {old: f"{new:.1f}" for old, new in zip(times, drawn, strict=True)}


def _replaced(text: str, changes: dict[str, str]) -> str:
    """`text` with every key of `changes` replaced at once, longer ones first; times only where seconds follow."""
    patterns = [
        rf"(?<![\d.]){re.escape(old)}(?=\s?s\b)" if old[0].isdigit() else _whole(old)
        for old in sorted(changes, key=len, reverse=True)
    ]
    return re.sub("|".join(patterns), lambda match: changes[match[0]], text) if patterns else text


def _whole(label: str) -> str:
    return rf"(?<!\w){re.escape(label)}(?!\w)"
