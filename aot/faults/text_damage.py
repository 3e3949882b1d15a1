"""Damaged chains for the study of structure against content (arXiv 2502.07374): verified ones, spoilt in one way only.

The answer of the trace stays right, so that an arm learns from the same questions and answers as its control.
"""

import re
from collections.abc import Sequence

from numpy.random import Generator

from aot.faults.plant import rng_of, with_rationale
from aot.faults.text_target import ends_in_answer
from aot.rationales.arithmetic import check_text
from aot.records import Trace

DELETED_SHARE = 0.5
_NUMBER = re.compile(r"\d+(?::[0-5]\d)?")
_NAMES = re.compile(r"\b[^\W\d]\w*+(?= >)|(?<=> )[^\W\d]\w*+")
_TRIES = 50


def wrong_content(trace: Trace, seed: int) -> Trace | None:
    """The chain with its structure and length, but each number, or name of an order, replaced by another one.

    Equal numbers become equal numbers with as many digits, so that steps still refer to each other; no equation holds,
    and the answer line is wrong; the trace's answer stays right. None where there is nothing to replace.
    """
    rng = rng_of(seed, f"{trace.question_id}:{trace.sample_index}:wrong_content")
    if not ends_in_answer(trace):
        return None
    for _ in range(_TRIES):
        replaced = _other_numbers(trace.rationale, rng)
        if replaced == trace.rationale:
            replaced = _other_names(trace.rationale, rng)
        check = check_text(replaced)
        answer = replaced.rpartition("Answer:")[2].strip()
        if replaced != trace.rationale and check.wrong == check.equations - check.unreadable and answer != trace.answer:
            return with_rationale(trace, replaced)
    return None


def shuffled(trace: Trace, seed: int) -> Trace | None:
    """The chain with its steps in another order and the right answer line; None where it has fewer than two steps."""
    rng = rng_of(seed, f"{trace.question_id}:{trace.sample_index}:shuffled")
    pieces = _pieces(trace)
    if len(set(pieces)) < 2:
        return None
    order = list(range(len(pieces)))
    while [pieces[at] for at in order] == pieces:
        order = [int(at) for at in rng.permutation(len(pieces))]
    return _with_pieces(trace, [pieces[at] for at in order])


def deleted(trace: Trace, seed: int) -> Trace | None:
    """The chain without DELETED_SHARE of its steps, at least one of them, and with the right answer line.

    None where it has fewer than two steps: one always stays.
    """
    rng = rng_of(seed, f"{trace.question_id}:{trace.sample_index}:deleted")
    pieces = _pieces(trace)
    if len(pieces) < 2:
        return None
    count = max(1, int(len(pieces) * DELETED_SHARE))
    gone = {int(at) for at in rng.permutation(len(pieces))[:count]}
    return _with_pieces(trace, [piece for at, piece in enumerate(pieces) if at not in gone])


def _pieces(trace: Trace) -> list[str]:
    """The steps of a chain; of a single line of several equations, each equation."""
    lines = trace.rationale.strip("\n").split("\n")[:-1] if ends_in_answer(trace) else []
    return lines[0].rstrip(".").split(", ") if len(lines) == 1 else lines


def _with_pieces(trace: Trace, pieces: Sequence[str]) -> Trace:
    *lines, answer_line = trace.rationale.strip("\n").split("\n")
    new = [", ".join(pieces) + "."] if len(lines) == 1 else list(pieces)
    return with_rationale(trace, "\n".join([*new, answer_line]))


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
    passed = {name: names[(at + by) % len(names)] for at, name in enumerate(names)}
    pattern = "|".join(rf"\b{re.escape(name)}\b" for name in names)
    return re.sub(pattern, lambda name: passed[name[0]], text)
