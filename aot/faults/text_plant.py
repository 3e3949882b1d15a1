"""Plants defects in verified text chains, and makes the damaged chains of the study of structure against content.

Each planted defect is real: the rationale then contradicts itself, leaves out what it needs, or has lost its form. The
trace's answer and status stay as they were; its steps are those of the new text, so that nothing gives the defect away.
What was planted is stored where no filter looks.
"""

import re
from collections.abc import Sequence

from numpy.random import PCG64, Generator

from aot import seeds as draws
from aot.faults import text_edits as edits
from aot.faults.text_target import Target
from aot.rationales.arithmetic import check_text
from aot.records import PlantedFault, Question, Step, Trace

FAULTS: dict[str, edits.Edit] = {
    "slip": edits.slip,
    "slip_carried": edits.slip_carried,
    "wrong_number": edits.wrong_number,
    "wrong_order": edits.wrong_order,
    "dropped_step": edits.dropped_step,
    "shuffled_steps": edits.shuffled_steps,
    "contradiction": edits.contradiction,
    "repetition_loop": edits.repetition_loop,
    "cut_off": edits.cut_off,
    "garbled_language": edits.garbled_language,
    "wrong_format": edits.wrong_format,
}
"""Kind of defect to the edit that makes it; an edit returns None where it does not apply."""
DELETED_SHARE = 0.5
_NUMBER = re.compile(r"\d+(?::[0-5]\d)?")
_NAMES = re.compile(r"\b[^\W\d]\w*+(?= >)|(?<=> )[^\W\d]\w*+")
_TRIES = 50


def plant(trace: Trace, question: Question, *, rate: float, seed: int) -> tuple[Trace, PlantedFault | None]:
    """The trace with one defect in its chain with probability `rate`, and which one; or the trace unchanged.

    The draw depends on the seed, the question and the sample index only. Call it for verified traces; one without a
    rationale that ends in an answer line is returned unchanged.
    """
    draw = _draw(seed, f"{question.id}:{trace.sample_index}:fault")
    if draw.random() >= rate or trace.status != "ok" or not _ends_in_answer(trace):
        return trace, None
    target = Target(trace, question)
    for place in draw.permutation(len(FAULTS)):
        kind = tuple(FAULTS)[int(place)]
        rationale = FAULTS[kind](target, draw)
        if rationale is not None and rationale != trace.rationale:
            fault = PlantedFault(question_id=trace.question_id, sample_index=trace.sample_index, fault=kind)
            return with_rationale(trace, rationale), fault
    return trace, None


def wrong_content(trace: Trace, seed: int) -> Trace | None:
    """The chain with its structure and length, but each number, or name of an order, replaced by another one.

    Equal numbers become equal numbers with as many digits, so that steps still refer to each other; no equation holds,
    and the answer line is wrong; the trace's answer stays right. None where there is nothing to replace.
    """
    draw = _draw(seed, f"{trace.question_id}:{trace.sample_index}:wrong_content")
    if not _ends_in_answer(trace):
        return None
    for _ in range(_TRIES):
        replaced = _other_numbers(trace.rationale, draw)
        if replaced == trace.rationale:
            replaced = _other_names(trace.rationale, draw)
        check = check_text(replaced)
        answer = replaced.rpartition("Answer:")[2].strip()
        if replaced != trace.rationale and check.wrong == check.equations - check.unreadable and answer != trace.answer:
            return with_rationale(trace, replaced)
    return None


def shuffled(trace: Trace, seed: int) -> Trace | None:
    """The chain with its steps in another order and the right answer line; None where it has fewer than two steps."""
    draw = _draw(seed, f"{trace.question_id}:{trace.sample_index}:shuffled")
    pieces = _pieces(trace)
    if len(set(pieces)) < 2:
        return None
    order = list(range(len(pieces)))
    while [pieces[at] for at in order] == pieces:
        order = [int(at) for at in draw.permutation(len(pieces))]
    return _with_pieces(trace, [pieces[at] for at in order])


def deleted(trace: Trace, seed: int) -> Trace | None:
    """The chain without DELETED_SHARE of its steps, at least one of them, and with the right answer line.

    None where it has fewer than two steps: one always stays.
    """
    draw = _draw(seed, f"{trace.question_id}:{trace.sample_index}:deleted")
    pieces = _pieces(trace)
    if len(pieces) < 2:
        return None
    count = max(1, int(len(pieces) * DELETED_SHARE))
    gone = {int(at) for at in draw.permutation(len(pieces))[:count]}
    return _with_pieces(trace, [piece for at, piece in enumerate(pieces) if at not in gone])


def with_rationale(trace: Trace, rationale: str) -> Trace:
    """The trace with another rationale, and with the steps that it then has."""
    lines = [line for line in rationale.split("\n") if line.strip() and not line.startswith("Answer:")]
    steps = tuple(Step(index=index, text=line) for index, line in enumerate(lines, start=1))
    support = tuple(step.index for step in steps) if trace.support else ()
    return trace.model_copy(update={"rationale": rationale, "steps": steps, "support": support})


def _draw(seed: int, name: str) -> Generator:
    return Generator(PCG64(draws.draw(seed, name)))


def _ends_in_answer(trace: Trace) -> bool:
    return trace.rationale.strip("\n").rpartition("\n")[2].startswith("Answer:")


def _pieces(trace: Trace) -> list[str]:
    """The steps of a chain; of a single line of several equations, each equation."""
    lines = trace.rationale.strip("\n").split("\n")[:-1] if _ends_in_answer(trace) else []
    return lines[0].rstrip(".").split(", ") if len(lines) == 1 else lines


def _with_pieces(trace: Trace, pieces: Sequence[str]) -> Trace:
    *lines, answer_line = trace.rationale.strip("\n").split("\n")
    new = [", ".join(pieces) + "."] if len(lines) == 1 else list(pieces)
    return with_rationale(trace, "\n".join([*new, answer_line]))


def _other_numbers(text: str, draw: Generator) -> str:
    """`text` with each number replaced by another one of as many digits; equal ones by equal ones."""
    known: dict[str, str] = {}

    def other(found: re.Match[str]) -> str:
        if found[0] not in known:
            known[found[0]] = _other_number(found[0], {*known, *known.values()}, draw)
        return known[found[0]]

    return _NUMBER.sub(other, text)


def _other_number(old: str, taken: set[str], draw: Generator) -> str:
    new = old
    for _ in range(_TRIES):
        hour, sign, _ = old.partition(":")
        low = 10 ** (min(len(hour), 15) - 1) if len(hour) > 1 else 0
        value = int(draw.integers(low, 24 if sign and len(hour) > 1 else 10 ** min(len(hour), 15)))
        new = f"{value}:{5 * int(draw.integers(12)):02d}" if sign else str(value)
        if new != old and new not in taken:
            break
    return new


def _other_names(text: str, draw: Generator) -> str:
    """`text` with the names of its orders passed round, so that nobody keeps a place."""
    names = sorted(set(_NAMES.findall(text)))
    if len(names) < 2:
        return text
    by = int(draw.integers(1, len(names)))
    passed = {name: names[(at + by) % len(names)] for at, name in enumerate(names)}
    pattern = "|".join(rf"\b{re.escape(name)}\b" for name in names)
    return re.sub(pattern, lambda found: passed[found[0]], text)
