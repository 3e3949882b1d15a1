"""One function for each kind of planted defect: a text chain in, defective lines out, None where it cannot apply.

An edit changes the text only, at a place drawn at random. It makes sure that the new text is really wrong, and does not
care whether any filter can see it. A target's lines are its steps; its answer line is kept apart.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TypeVar

from numpy.random import Generator

from aot.arithmetic import Amount, Equation, check_text, find_amounts, find_equations, read_amount
from aot.records import Question, Trace

Item = TypeVar("Item")
Edit = Callable[["Target", Generator], str | None]

FOREIGN = ("затем он берёт ещё", "次に彼は数を足して", "dann wird noch schnell gezählt", "luego se suma muy bien")
_BROKEN = ("\ufffd\ufffd", "Ã¼Ã©", "\x00\x01", "â€œ")
_NUMBER = re.compile(r"\d+(?::[0-5]\d)?(?:[.,]\d+)*")
_ORDER = re.compile(r"\b[^\W\d]\w*+(?: > [^\W\d]\w*+)+")
_TRIES = 30
CONSTANTS = (2, 7, 12, 24, 60, 100)
"""Numbers that a chain may use though nobody gave them."""


@dataclass(frozen=True)
class Target:
    """A verified chain that is about to be damaged."""

    trace: Trace
    question: Question

    @cached_property
    def lines(self) -> list[str]:
        """The steps, one a line."""
        return self.trace.rationale.strip("\n").split("\n")[:-1]

    @cached_property
    def answer_line(self) -> str:
        """The last line."""
        return self.trace.rationale.strip("\n").rpartition("\n")[2]

    @cached_property
    def equations(self) -> list[Equation]:
        """Those of the steps that hold and give a single number."""
        found = find_equations("\n".join(self.lines))
        return [one for one in found if one.holds and one.result is not None and one.operands]

    @cached_property
    def is_plain(self) -> bool:
        """Whether results can be carried through the chain: every equation is understood, none stands in a note."""
        found = find_equations("\n".join(self.lines))
        return bool(found) and len(found) == len(self.equations) and "<<" not in self.trace.rationale

    @cached_property
    def pieces(self) -> list[str]:
        """The steps; of a single line of several equations, each equation."""
        if len(self.lines) == 1 and len(self.equations) > 1:
            return self.lines[0].rstrip(".").split(", ")
        return self.lines

    def joined(self, pieces: Sequence[str]) -> str:
        """A rationale of other pieces."""
        one_line = self.pieces is not self.lines
        lines = [", ".join(pieces) + "."] if one_line and pieces else list(pieces)
        return "\n".join([*lines, self.answer_line])

    def with_lines(self, lines: Sequence[str], answer_line: str = "") -> str:
        """A rationale of other lines."""
        return "\n".join([*lines, answer_line or self.answer_line])


def slip(target: Target, draw: Generator) -> str | None:
    """One result is miscalculated; later steps and the answer keep the right numbers."""
    if not target.equations:
        return None
    at = _pick(target.equations, draw)
    result = _wrong_result(at, draw)
    if result is None:
        return None
    return target.with_lines(rewritten(target.lines, lambda one: _with_result(one, result) if one == at else one.text))


def slip_carried(target: Target, draw: Generator) -> str | None:
    """One result is miscalculated and carried through the chain to a wrong answer line."""
    if not target.is_plain:
        return None
    place = int(draw.integers(len(target.equations)))
    result = _wrong_result(target.equations[place], draw)
    if result is None:
        return None
    carried = carried_on(target, place, target.equations[place].text.partition("=")[0], result)
    if carried is None or carried[1] == target.equations[-1].result:
        return None
    return target.with_lines(carried[0], f"Answer: {shown(carried[1])}")


def wrong_number(target: Target, draw: Generator) -> str | None:
    """One given number is another one that nobody gave; everything computed with it holds, the answer line is kept."""
    if not target.is_plain:
        return None
    given = find_amounts(target.question.text)
    place = int(draw.integers(len(target.equations)))
    old = target.equations[place]
    left = old.text.partition("=")[0]
    spots = [spot for spot in _NUMBER.finditer(left) if read_amount(spot[0]) in given]
    if not spots:
        return None
    spot = _pick(spots, draw)
    taken = {*given, *find_amounts(target.trace.rationale), *map(Amount, map(Fraction, CONSTANTS))}
    new = next((one for _ in range(_TRIES) if (one := _shifted(read_amount(spot[0]), draw)) not in taken), None)
    if new is None:
        return None
    new_left = left[: spot.start()] + shown(new) + left[spot.end() :]
    result = read_amount(new_left)
    carried = carried_on(target, place, new_left, result) if result is not None and result.value >= 0 else None
    return target.with_lines(carried[0]) if carried else None


def wrong_order(target: Target, draw: Generator) -> str | None:
    """Two neighbours of an order stand the wrong way round."""
    places = [(number, spot) for number, line in enumerate(target.lines) for spot in _ORDER.finditer(line)]
    if not places:
        return None
    number, spot = _pick(places, draw)
    names = spot[0].split(" > ")
    at = int(draw.integers(len(names) - 1))
    names[at : at + 2] = names[at + 1], names[at]
    lines = list(target.lines)
    lines[number] = lines[number][: spot.start()] + " > ".join(names) + lines[number][spot.end() :]
    return target.with_lines(lines)


def dropped_step(target: Target, draw: Generator) -> str | None:
    """One step that the answer needs is left out: an equation whose result is used, or an order."""
    needed = [at for at, piece in enumerate(target.pieces) if _is_needed(target, at, piece)]
    if not needed:
        return None
    gone = _pick(needed, draw)
    return target.joined([piece for at, piece in enumerate(target.pieces) if at != gone])


def shuffled_steps(target: Target, draw: Generator) -> str | None:
    """The steps in another order, in which one uses what is not yet there or the last is not the answer's."""
    for _ in range(_TRIES if len(target.pieces) > 1 else 0):
        pieces = [target.pieces[int(at)] for at in draw.permutation(len(target.pieces))]
        if _is_out_of_order(target, pieces):
            return target.joined(pieces)
    return None


def contradiction(target: Target, draw: Generator) -> str | None:
    """The answer line gives another answer than the steps and the trace."""
    other = other_answer(target.question, target.trace.answer, draw)
    return target.with_lines(target.lines, f"Answer: {other}") if other else None


def repetition_loop(target: Target, draw: Generator) -> str | None:
    """A step, or the last words of one, again and again."""
    if not target.lines:
        return None
    lines = list(target.lines)
    at, copies = int(draw.integers(len(lines))), int(draw.integers(3, 10))
    how = int(draw.integers(3))
    if how == 0:
        lines[at:at] = [lines[at]] * copies
    elif how == 1:
        lines[at] = " ".join([lines[at]] * (copies + 1))
    else:
        words = lines[at].rstrip(".").split()
        tail = words[-int(draw.integers(1, min(4, len(words)) + 1)) :]
        lines[at] = " ".join(words + tail * copies) + "."
    return target.with_lines(lines)


def cut_off(target: Target, draw: Generator) -> str | None:
    """The beginning of the text, up to the middle of a sentence; the status goes on saying ok."""
    text = target.trace.rationale.rstrip()
    places = [at for at in range(len(text) * 3 // 10, len(text)) if not text[:at].rstrip().endswith((".", "!", "?"))]
    cut = text[: _pick(places, draw)].rstrip() if places else ""
    said = cut.rpartition("Answer:")[2].strip() if "Answer:" in cut else ""
    same = bool(said) and (read_amount(said) or said) == (read_amount(target.trace.answer) or target.trace.answer)
    return cut if cut and not same else None


def garbled_language(target: Target, draw: Generator) -> str | None:
    """Some words of a step in another language, with shuffled letters, or in a broken encoding."""
    places = [at for at, line in enumerate(target.lines) if len(line.split()) > 2]
    if not places:
        return None
    number = _pick(places, draw)
    words = target.lines[number].split()
    count = int(draw.integers(2, min(6, len(words)) + 1))
    at = int(draw.integers(0, len(words) - count + 1))
    old, how = words[at : at + count], int(draw.integers(3))
    if how == 0:
        garbled = _pick(FOREIGN, draw).split()
    elif how == 1:
        garbled = [_shuffled_letters(word, draw) for word in old]
        if sum(len(word) > 3 and word != was for word, was in zip(garbled, old, strict=True)) < 2:
            garbled = [word + "xq" for word in old]
    else:
        garbled = [word[:1] + _pick(_BROKEN, draw) + word[2:] for word in old]
    lines = list(target.lines)
    lines[number] = " ".join([*words[:at], *garbled, *words[at + count :]])
    return target.with_lines(lines)


def wrong_format(target: Target, draw: Generator) -> str | None:
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
    return _pick(forms, draw)


def rewritten(lines: Sequence[str], new_text: Callable[[Equation], str]) -> list[str]:
    """`lines` with each equation replaced by a new text; a number that repeats a note's result follows it."""
    equations = find_equations("\n".join(lines))
    new_lines = []
    for number, line in enumerate(lines):
        done, rest = "", line
        for one in (one for one in equations if one.line == number):
            new = new_text(one)
            before, found, after = rest.partition(one.text)
            if found and new != one.text:
                old_result, new_result = _result_text(one.text), _result_text(new)
                if after.startswith(f">>{old_result}"):
                    after = f">>{new_result}{after[len(old_result) + 2 :]}"
            done, rest = (done + before + new, after) if found else (done, rest)
        new_lines.append(done + rest)
    return new_lines


def carried_on(target: Target, place: int, left: str, result: Amount) -> tuple[list[str], Amount] | None:
    """The lines with another equation at `place`, carried on through all that follows, and their last result.

    None where what follows cannot be computed, or would fall below zero.
    """
    texts = [one.text for one in target.equations]
    texts[place] = f"{left.rstrip()} = {shown(result)}"
    old = target.equations[place].result
    for at in range(place + 1, len(texts)):
        one = target.equations[at]
        own_left = one.text.partition("=")[0]
        spot = next((spot for spot in _NUMBER.finditer(own_left) if read_amount(spot[0]) == old), None)
        if spot is None:
            continue
        own_left = own_left[: spot.start()] + shown(result) + own_left[spot.end() :]
        value = read_amount(own_left)
        if value is None or value.value < 0 or value.value.denominator != 1:
            return None
        old, result = one.result, value
        texts[at] = f"{own_left.rstrip()} = {shown(value)}"
    if old != target.equations[-1].result:
        return None
    rest = iter(texts)
    return rewritten(target.lines, lambda _: next(rest)), result


def other_answer(question: Question, answer: str, draw: Generator) -> str | None:
    """Another answer of the same kind; None where no other one is at hand."""
    if question.choices:
        return _pick([choice for choice in question.choices if choice != answer], draw)
    amount = read_amount(answer)
    if amount is not None and _NUMBER.search(answer):
        return _NUMBER.sub(lambda found: _with_value(found[0], _shifted(read_amount(found[0]), draw)), answer, count=1)
    if question.answer_type == "yes_no":
        return {"yes": "no", "no": "yes"}.get(answer.casefold())
    names = sorted(set(re.findall(r"\b[A-Z][a-z]+\b(?= is )|(?<=than )[A-Z][a-z]+\b", question.text)) - {answer})
    return _pick(names, draw) if names else None


def shown(amount: Amount) -> str:
    """An amount as a chain writes it.

    >>> shown(Amount(Fraction(580), is_clock=True)), shown(Amount(Fraction(7)))
    ('9:40', '7')
    """
    value = amount.value
    if amount.is_clock:
        return f"{int(value) // 60 % 24}:{int(value) % 60:02d}"
    return str(value) if value.denominator == 1 else f"{float(value):.2f}"


def _shuffled_letters(word: str, draw: Generator) -> str:
    return "".join(draw.permutation(list(word))) if word.isalpha() else word


def _with_result(equation: Equation, result: Amount) -> str:
    """The text of `equation` with another right side."""
    left, _, right = equation.text.rpartition("=")
    return f"{left}={_NUMBER.sub(lambda found: _with_value(found[0], result), right, count=1)}"


def _wrong_result(equation: Equation, draw: Generator) -> Amount | None:
    """A near result with which `equation` does not hold, as 17/3 = 5 and 17/3 = 6 both do; None if none is found."""
    tries = (_shifted(equation.result, draw) for _ in range(_TRIES))
    return next((one for one in tries if check_text(_with_result(equation, one)).wrong), None)


def _with_value(written: str, amount: Amount) -> str:
    """Another amount in the form of `written`."""
    digits = len(written.partition(".")[2]) if not amount.is_clock else 0
    return f"{float(amount.value):.{digits}f}" if digits else shown(amount)


def _result_text(equation: str) -> str:
    found = _NUMBER.search(equation.rpartition("=")[2])
    return found[0] if found else ""


def _shifted(amount: Amount | None, draw: Generator) -> Amount:
    """A near but different amount, not below zero."""
    assert amount is not None
    step, most = (5, 11) if amount.is_clock else (1, 10)
    by = step * int(draw.integers(1, most + 1))
    is_up = amount.value < by or draw.random() < 0.5
    return Amount(amount.value + (by if is_up else -by), is_clock=amount.is_clock)


def _is_needed(target: Target, at: int, piece: str) -> bool:
    if _ORDER.search(piece):
        return True
    results = {one.result for one in find_equations(piece)} - {None}
    later = [one for other in target.pieces[at + 1 :] for one in find_equations(other)]
    used = {operand for one in later for operand in one.operands}
    return bool(results) and (bool(results & used) or not later)


def _is_out_of_order(target: Target, pieces: Sequence[str]) -> bool:
    """Whether an equation uses a result, or an order a name, that a later piece brings, or the last one is another."""
    results = {one.result for one in target.equations}
    known = {*find_amounts(target.question.text), *map(Amount, map(Fraction, CONSTANTS))}
    names: set[str] = set()
    last: Amount | None = None
    for piece in pieces:
        for one in find_equations(piece):
            if any(operand in results and operand not in known for operand in one.operands):
                return True
            last = one.result
            known |= {one.result} if one.result is not None else set()
        orders = [order.split(" > ") for order in _ORDER.findall(piece)]
        names.update(orders[0] if len(orders) > 1 else ())
        if (len(orders) > 1 and set(orders[-1]) - names) or (not names and re.search(r" is (?:first|last)", piece)):
            return True
    return bool(target.equations) and last != target.equations[-1].result


def _pick(items: Sequence[Item], draw: Generator) -> Item:
    return items[int(draw.integers(len(items)))]
