"""A text chain that is about to be damaged, and how its equations are written anew, alone or carried on to the end.

It knows numbers and lines; which defect is planted is the business of the edits.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from numpy.random import Generator

from aot.rationales.arithmetic import Amount, Equation, check_text, find_equations, read_amount
from aot.records import Question, Trace

NUMBER = re.compile(r"\d+(?::[0-5]\d)?(?:[.,]\d+)*")
TRIES = 30
"""Draws until an edit gives up."""


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
        equations = find_equations("\n".join(self.lines))
        return [one for one in equations if one.holds and one.result is not None and one.operands]

    @cached_property
    def is_plain(self) -> bool:
        """Whether results can be carried through the chain: every equation is understood, none stands in a note."""
        equations = find_equations("\n".join(self.lines))
        return bool(equations) and len(equations) == len(self.equations) and "<<" not in self.trace.rationale

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


def target_of(trace: Trace, question: Question) -> Target | None:
    """The chain of a trace; None where it does not end in an answer line."""
    return Target(trace, question) if ends_in_answer(trace) else None


def ends_in_answer(trace: Trace) -> bool:
    """Whether the last line of the rationale is its answer line."""
    return trace.rationale.strip("\n").rpartition("\n")[2].startswith("Answer:")


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
    texts = [one.text for one in target.equations]
    texts[place] = f"{left.rstrip()} = {shown(result)}"
    old = target.equations[place].result
    for at in range(place + 1, len(texts)):
        one = target.equations[at]
        new_left = one.text.partition("=")[0]
        spot = next((spot for spot in NUMBER.finditer(new_left) if read_amount(spot[0]) == old), None)
        if spot is None:
            continue
        new_left = new_left[: spot.start()] + shown(result) + new_left[spot.end() :]
        value = read_amount(new_left)
        if value is None or value.value < 0 or value.value.denominator != 1:
            return None
        old, result = one.result, value
        texts[at] = f"{new_left.rstrip()} = {shown(value)}"
    if old != target.equations[-1].result:
        return None
    remaining = iter(texts)
    return rewritten(target.lines, lambda _: next(remaining)), result


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
