"""One function for each kind of planted defect: a text chain in, defective lines out, None where it cannot apply.

An edit changes the text only, at a random place. It makes sure that the new text is really wrong, and does not
care whether any filter can see it. A target's lines are its steps; its answer line is kept apart.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from numpy.random import Generator

from aot.faults.plant import OPPOSITE, Edits, beginning, garbled, looping, other_option, pick, put, shuffled_letters
from aot.rationales.arithmetic import Amount, Equation, check_text, find_amounts, find_equations, read_amount
from aot.rationales.text_chain import ORDER
from aot.records import Question, Trace

FOREIGN = ("затем он берёт ещё", "次に彼は数を足して", "dann wird noch schnell gezählt", "luego se suma muy bien")
CONSTANTS = (2, 7, 12, 24, 60, 100)
"""Numbers that a chain may use though nobody gave them."""
NUMBER = re.compile(r"\d+(?::[0-5]\d)?(?:[.,]\d+)*")
TRIES = 30
"""Draws until an edit gives up."""


@dataclass(frozen=True)
class Target:
    """A verified chain that is about to be damaged."""

    trace: Trace
    question: Question
    lines: list[str]
    """The steps, one a line."""
    answer_line: str
    """The last line."""

    @cached_property
    def equations(self) -> list[Equation]:
        """Those of the steps that hold and give a single number."""
        equations = find_equations("\n".join(self.lines))
        return [one for one in equations if one.holds and one.result is not None and one.operands]

    @cached_property
    def is_plain(self) -> bool:
        """Whether results can be carried through the chain: every equation is understood, none stands in a note."""
        count = len(find_equations("\n".join(self.lines)))
        return 0 < count == len(self.equations) and "<<" not in self.trace.rationale

    @cached_property
    def pieces(self) -> list[str]:
        """The steps; of a single line of several equations, each equation."""
        if len(self.lines) == 1 and len(self.equations) > 1:
            return self.lines[0].rstrip(".").split(", ")
        return self.lines

    def joined(self, pieces: Sequence[str]) -> str:
        """A rationale of other pieces."""
        one_line = self.pieces is not self.lines
        return self.with_lines([", ".join(pieces) + "."] if one_line and pieces else pieces)

    def with_lines(self, lines: Sequence[str], answer_line: str = "") -> str:
        """A rationale of other lines."""
        return "\n".join([*lines, answer_line or self.answer_line])


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
    new_left = put(left, spot, shown(new))
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
    lines[number] = put(lines[number], spot, " > ".join(names))
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
    names = [name for name in names_in(question.text) if name != answer]
    return pick(names, rng) if names else None


def names_in(text: str) -> list[str]:
    """The names that a question compares, sorted.

    >>> names_in("Tom is taller than Ann. Who is taller?")
    ['Ann', 'Tom', 'Who']
    """
    return sorted(set(re.findall(r"\b[A-Z][a-z]+\b(?= is )|(?<=than )[A-Z][a-z]+\b", text)))


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


def target_of(trace: Trace, question: Question) -> Target | None:
    """The chain of a trace; None where it does not end in an answer line."""
    lines, answer_line = lines_of(trace)
    return Target(trace, question, lines, answer_line) if answer_line else None


def lines_of(trace: Trace) -> tuple[list[str], str]:
    """The steps of a chain, one a line, and its answer line; nothing where it does not end in one."""
    *lines, last = trace.rationale.strip("\n").split("\n")
    return (lines, last) if last.startswith("Answer:") else ([], "")


def rewritten(lines: Sequence[str], new_text: Callable[[Equation], str]) -> list[str]:
    """`lines` with each equation replaced by a new text; a number that repeats a note's result follows it."""
    equations = find_equations("\n".join(lines))
    new_lines = []
    for number, line in enumerate(lines):
        done, left = "", line
        for one in (one for one in equations if one.line == number):
            new = new_text(one)
            before, written, after = left.partition(one.text)
            if written and new != one.text:
                old_result, new_result = _result_text(one.text), _result_text(new)
                if after.startswith(f">>{old_result}"):
                    after = f">>{new_result}{after[len(old_result) + 2 :]}"
            done, left = (done + before + new, after) if written else (done, left)
        new_lines.append(done + left)
    return new_lines


def carried_on(target: Target, place: int, left: str, result: Amount) -> tuple[list[str], Amount] | None:
    """The lines with another equation at `place`, carried on through all that follows, and their last result.

    None where what follows cannot be computed, or would fall below zero.
    """
    old = target.equations[place].result
    made = carry(target.equations, start=place + 1, old=old, new=result) if old is not None else None
    if made is None:
        return None
    texts, last = made
    texts[place] = f"{left.rstrip()} = {shown(result)}"
    remaining = iter(texts)
    return rewritten(target.lines, lambda _: next(remaining)), last


def carry(equations: Sequence[Equation], *, start: int, old: Amount, new: Amount) -> tuple[list[str], Amount] | None:
    """The texts of all equations with `new` in the place of `old` from number `start` on, and their last result.

    Each one that uses `old` has another result, which is carried on in turn. None where one cannot be computed, would
    fall below zero, or where the last result does not hang on `old`.
    """
    texts = [one.text for one in equations]
    for at in range(start, len(texts)):
        one = equations[at]
        new_left = one.text.partition("=")[0]
        spot = next((spot for spot in NUMBER.finditer(new_left) if read_amount(spot[0]) == old), None)
        if spot is None:
            continue
        new_left = put(new_left, spot, shown(new))
        value = read_amount(new_left)
        if value is None or value.value < 0 or value.value.denominator != 1 or one.result is None:
            return None
        old, new = one.result, value
        texts[at] = f"{new_left.rstrip()} = {shown(value)}"
    return (texts, new) if equations and old == equations[-1].result else None


def shown(amount: Amount) -> str:
    """An amount as a chain writes it.

    >>> from fractions import Fraction
    >>> shown(Amount(Fraction(580), is_clock=True)), shown(Amount(Fraction(7)))
    ('9:40', '7')
    """
    value = amount.value
    if amount.is_clock:
        return f"{int(value) // 60 % 24}:{int(value) % 60:02d}"
    return str(value) if value.denominator == 1 else f"{float(value):.2f}"


def with_result(equation: Equation, result: Amount) -> str:
    """The text of `equation` with another right side."""
    left, _, right = equation.text.rpartition("=")
    return f"{left}={NUMBER.sub(lambda old: with_value(old[0], result), right, count=1)}"


def with_value(written: str, amount: Amount) -> str:
    """Another amount in the form of `written`."""
    digits = len(written.partition(".")[2]) if not amount.is_clock else 0
    return f"{float(amount.value):.{digits}f}" if digits else shown(amount)


def wrong_result(equation: Equation, rng: Generator) -> Amount | None:
    """A near result with which `equation` does not hold, as 17/3 = 5 and 17/3 = 6 both do; None if none is found."""
    tries = (shifted(equation.result, rng) for _ in range(TRIES))
    return next((one for one in tries if check_text(with_result(equation, one)).wrong), None)


def shifted(amount: Amount | None, rng: Generator) -> Amount:
    """A near but different amount, not below zero."""
    assert amount is not None
    step, most = (5, 11) if amount.is_clock else (1, 10)
    by = step * int(rng.integers(1, most + 1))
    is_up = amount.value < by or rng.random() < 0.5
    return Amount(amount.value + (by if is_up else -by), is_clock=amount.is_clock)


def _result_text(equation: str) -> str:
    number = NUMBER.search(equation.rpartition("=")[2])
    return number[0] if number else ""


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
