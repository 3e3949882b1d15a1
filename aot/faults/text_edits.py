"""One function for each kind of planted defect: a text chain in, defective lines out, None where it cannot apply.

An edit changes the text only, at a random place. It makes sure that the new text is really wrong, and does not
care whether any filter can see it. A target's lines are its steps; its answer line is kept apart.
"""

import json
import re
from collections.abc import Callable, Sequence
from fractions import Fraction

from numpy.random import Generator

from aot.faults.plant import Edits
from aot.faults.shared_edits import OPPOSITE, beginning, garbled, looping, other_option, pick, shuffled_letters
from aot.faults.text_target import (
    NUMBER,
    TRIES,
    Target,
    carried_on,
    rewritten,
    shifted,
    shown,
    target_of,
    with_result,
    with_value,
    wrong_result,
)
from aot.rationales.arithmetic import Amount, find_amounts, find_equations, read_amount
from aot.rationales.text_chain import ORDER
from aot.records import Question

Edit = Callable[[Target, Generator], str | None]
FOREIGN = ("затем он берёт ещё", "次に彼は数を足して", "dann wird noch schnell gezählt", "luego se suma muy bien")
CONSTANTS = (2, 7, 12, 24, 60, 100)
"""Numbers that a chain may use though nobody gave them."""


def slip(target: Target, rng: Generator) -> str | None:
    """One result is miscalculated; later steps and the answer keep the right numbers."""
    if not target.equations:
        return None
    at = pick(target.equations, rng)
    result = wrong_result(at, rng)
    if result is None:
        return None
    return target.with_lines(rewritten(target.lines, lambda one: with_result(one, result) if one == at else one.text))


def slip_carried(target: Target, rng: Generator) -> str | None:
    """One result is miscalculated and carried through the chain to a wrong answer line."""
    if not target.is_plain:
        return None
    place = int(rng.integers(len(target.equations)))
    result = wrong_result(target.equations[place], rng)
    if result is None:
        return None
    carried = carried_on(target, place, target.equations[place].text.partition("=")[0], result)
    if carried is None or carried[1] == target.equations[-1].result:
        return None
    return target.with_lines(carried[0], f"Answer: {shown(carried[1])}")


def wrong_number(target: Target, rng: Generator) -> str | None:
    """One given number is another one that nobody gave; everything computed with it holds, the answer line is kept."""
    if not target.is_plain:
        return None
    given = find_amounts(target.question.text)
    place = int(rng.integers(len(target.equations)))
    old = target.equations[place]
    left = old.text.partition("=")[0]
    spots = [spot for spot in NUMBER.finditer(left) if read_amount(spot[0]) in given]
    if not spots:
        return None
    spot = pick(spots, rng)
    taken = {*given, *find_amounts(target.trace.rationale), *map(Amount, map(Fraction, CONSTANTS))}
    new = next((one for _ in range(TRIES) if (one := shifted(read_amount(spot[0]), rng)) not in taken), None)
    if new is None:
        return None
    new_left = left[: spot.start()] + shown(new) + left[spot.end() :]
    result = read_amount(new_left)
    carried = carried_on(target, place, new_left, result) if result is not None and result.value >= 0 else None
    return target.with_lines(carried[0]) if carried else None


def wrong_order(target: Target, rng: Generator) -> str | None:
    """Two neighbours of an order stand the wrong way round."""
    places = [(number, spot) for number, line in enumerate(target.lines) for spot in ORDER.finditer(line)]
    if not places:
        return None
    number, spot = pick(places, rng)
    names = spot[0].split(" > ")
    at = int(rng.integers(len(names) - 1))
    names[at : at + 2] = names[at + 1], names[at]
    lines = list(target.lines)
    lines[number] = lines[number][: spot.start()] + " > ".join(names) + lines[number][spot.end() :]
    return target.with_lines(lines)


def dropped_step(target: Target, rng: Generator) -> str | None:
    """One step that the answer needs is left out: an equation whose result is used, or an order."""
    needed = [at for at, piece in enumerate(target.pieces) if _is_needed(target, at, piece)]
    if not needed:
        return None
    gone = pick(needed, rng)
    return target.joined([piece for at, piece in enumerate(target.pieces) if at != gone])


def shuffled_steps(target: Target, rng: Generator) -> str | None:
    """The steps in another order, in which one uses what is not yet there or the last is not the answer's."""
    for _ in range(TRIES if len(target.pieces) > 1 else 0):
        pieces = [target.pieces[int(at)] for at in rng.permutation(len(target.pieces))]
        if _is_out_of_order(target, pieces):
            return target.joined(pieces)
    return None


def contradiction(target: Target, rng: Generator) -> str | None:
    """The answer line gives another answer than the steps and the trace."""
    other = other_answer(target.question, target.trace.answer, rng)
    return target.with_lines(target.lines, f"Answer: {other}") if other else None


def repetition_loop(target: Target, rng: Generator) -> str | None:
    """A step, or the last words of one, again and again."""
    if not target.lines:
        return None
    lines = list(target.lines)
    at, copies = int(rng.integers(len(lines))), int(rng.integers(3, 10))
    how = int(rng.integers(3))
    if how == 0:
        lines[at:at] = [lines[at]] * copies
    else:
        lines[at] = " ".join([lines[at]] * (copies + 1)) if how == 1 else looping(lines[at], copies, rng)
    return target.with_lines(lines)


def cut_off(target: Target, rng: Generator) -> str | None:
    """The beginning of the text, up to the middle of a sentence; the status goes on saying ok."""
    cut = beginning(target.trace.rationale, rng) or ""
    said = cut.rpartition("Answer:")[2].strip() if "Answer:" in cut else ""
    same = bool(said) and (read_amount(said) or said) == (read_amount(target.trace.answer) or target.trace.answer)
    return cut if cut and not same else None


def garbled_language(target: Target, rng: Generator) -> str | None:
    """Some words of a step in another language, with shuffled letters, or in a broken encoding."""
    places = [at for at, line in enumerate(target.lines) if len(line.split()) > 2]
    if not places:
        return None
    lines = list(target.lines)
    number = pick(places, rng)
    lines[number] = garbled(lines[number].split(), rng, foreign=FOREIGN, shuffle=_shuffled_word, min_letters=4)
    return target.with_lines(lines)


def wrong_format(target: Target, rng: Generator) -> str | None:
    """The answer line lost, renamed, doubled, moved or run into the steps; empty lines; or another notation."""
    lines, answer = target.lines, target.trace.answer
    if not lines:
        return None
    forms = (
        "\n".join(lines),
        target.with_lines(lines, f"Result: {answer}"),
        target.with_lines(lines, f"**Answer**: {answer}"),
        target.with_lines(lines, f"So it is {answer}."),
        target.with_lines([*lines, target.answer_line]),
        "\n".join([target.answer_line, *lines]),
        " ".join([*lines, target.answer_line]),
        "\n\n".join([*lines, target.answer_line]),
        json.dumps({"steps": lines, "answer": answer}),
    )
    return pick(forms, rng)


def other_answer(question: Question, answer: str, rng: Generator) -> str | None:
    """Another answer of the same kind; None where no other one is at hand."""
    if question.choices:
        return other_option(question.choices, answer, rng)
    amount = read_amount(answer)
    if amount is not None and NUMBER.search(answer):
        return NUMBER.sub(lambda old: with_value(old[0], shifted(read_amount(old[0]), rng)), answer, count=1)
    if question.answer_type == "yes_no":
        return OPPOSITE.get(answer.casefold())
    names = sorted(set(re.findall(r"\b[A-Z][a-z]+\b(?= is )|(?<=than )[A-Z][a-z]+\b", question.text)) - {answer})
    return pick(names, rng) if names else None


def _shuffled_word(word: str, rng: Generator) -> str:
    return shuffled_letters(word, rng) if word.isalpha() else word  # shuffled digits would be another defect


def _is_needed(target: Target, at: int, piece: str) -> bool:
    if ORDER.search(piece):
        return True
    results = {one.result for one in find_equations(piece)} - {None}
    later = [one for other in target.pieces[at + 1 :] for one in find_equations(other)]
    used = {operand for one in later for operand in one.operands}
    return bool(results) and (bool(results & used) or not later)


def _is_out_of_order(target: Target, pieces: Sequence[str]) -> bool:
    """Whether an equation uses a result, or an order a name, that a later piece brings, or the last one is another."""
    results = {one.result for one in target.equations}
    usable = {*find_amounts(target.question.text), *map(Amount, map(Fraction, CONSTANTS))}
    names: set[str] = set()
    last: Amount | None = None
    for piece in pieces:
        for one in find_equations(piece):
            if any(operand in results and operand not in usable for operand in one.operands):
                return True
            last = one.result
            usable |= {one.result} if one.result is not None else set()
        orders = [order.split(" > ") for order in ORDER.findall(piece)]
        names.update(orders[0] if len(orders) > 1 else ())
        if (len(orders) > 1 and set(orders[-1]) - names) or (not names and re.search(r" is (?:first|last)", piece)):
            return True
    return bool(target.equations) and last != target.equations[-1].result


TEXT_EDITS = Edits(
    kinds={
        "slip": slip,
        "slip_carried": slip_carried,
        "wrong_number": wrong_number,
        "wrong_order": wrong_order,
        "dropped_step": dropped_step,
        "shuffled_steps": shuffled_steps,
        "contradiction": contradiction,
        "repetition_loop": repetition_loop,
        "cut_off": cut_off,
        "garbled_language": garbled_language,
        "wrong_format": wrong_format,
    },
    target=target_of,
    name=lambda trace: f"{trace.question_id}:{trace.sample_index}",
)
"""What a messy teacher of text does to chains that end in an answer line."""
