"""Drops text chains whose equations do not hold, or whose steps do not follow: numbers from nowhere, unused results.

A chain is strict where at least half of its lines with numbers are nothing but equations behind an optional `label:`,
or state one number, and none is algebra. Then every number comes from the question, an earlier result or a known
constant, every result and every number of the question is used, and the last result is the answer. Prose leaves much
unsaid, so prose has to come to the answer in some equation or its last line, and must not compute with what only a
later line gives; a step left out goes unseen.
"""

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

from aot.answers import NUMBER_WORDS
from aot.filtering.orders import order_problem
from aot.filtering.subject import Subject
from aot.rationales.arithmetic import Amount, Equation, check_equations, find_amounts, read_amount
from aot.records import Verdict

_WORD_VALUES = {
    "half": 2, "halves": 2, "halved": 2, "double": 2, "doubled": 2, "doubles": 2, "pair": 2, "pairs": 2, "both": 2,
    "couple": 2, "third": 3, "thirds": 3, "triple": 3, "tripled": 3, "quarter": 4, "quarters": 4, "fourth": 4,
    "fourths": 4, "fifth": 5, "fifths": 5, "sixth": 6, "sixths": 6, "eighth": 8, "tenth": 10, "tenths": 10,
    "dozen": 12, "dozens": 12, "hundred": 100, "thousand": 1000, "million": 1_000_000,
}  # fmt: skip
SMALL = 12
"""Prose may use a number up to this one without giving it."""
_WORD = re.compile(r"[a-z]+(?:-[a-z]+)?")
_DIGIT = re.compile(r"\d")
_UNKNOWN = re.compile(r"(?<![^\W\d_])(?:[b-hj-wyzB-HJ-WYZ]|[xX](?!\s?[\d$(.]))(?![^\W\d_])")
"""A letter by itself, which stands for a number."""


def results_stated(subject: Subject) -> Verdict:
    """Whether a chain states, in an equation or alone, every result that it was given."""
    given = [one for step in subject.ok_steps.values() if step.call for one in step.findings if one.how == "answered"]
    if not given:
        return subject.not_applicable("evidence")
    shown = {one.left for one in subject.chain.equations if one.holds} | {*find_amounts(subject.trace.rationale)}
    unstated = [one for one in given if read_amount(one.text) not in shown]
    value, detail = round(1 - len(unstated) / len(given), 4), unstated[0].text[:200] if unstated else ""
    return subject.verdict("evidence", "result_not_stated" if unstated else "", value=value, detail=detail)


def steps(subject: Subject) -> Verdict:
    """Keeps chains whose every readable equation holds. Value: the share of readable ones that do.

    An equation that cannot be read, such as one with a letter in it, drops nothing and is counted in the detail.
    """
    if not subject.chain.equations:
        return subject.not_applicable("steps")
    check = check_equations(subject.chain.equations)
    notes = [f"{check.wrong} wrong, first {check.first_wrong.text[:150]}"] if check.first_wrong else []
    notes += [f"{check.unreadable} unreadable"] if check.unreadable else []
    share = check.right_share
    value = None if share is None else round(share, 4)
    return subject.verdict("steps", "wrong_step" if check.wrong else "", value=value, detail="; ".join(notes))


def flow(subject: Subject) -> Verdict:
    """Keeps chains whose steps lead from the question to the answer. Value: the share of operands with an origin."""
    if not subject.chain.is_formal:
        return subject.not_applicable("flow")
    if not subject.chain.equations:
        problem, detail = order_problem(subject.chain, subject.question.text, subject.trace.answer)
        return subject.verdict("flow", problem, detail=detail)
    if not is_strict(subject):
        problem, detail = _prose_problem(subject)
        return subject.verdict("flow", problem, detail=detail)
    ledger = _Ledger(subject)
    problem, detail = ledger.problem()
    return subject.verdict("flow", problem, value=ledger.known_share, detail=detail)


def is_strict(subject: Subject) -> bool:
    """Whether the chain is written in equations more than in prose, or the config decides so."""
    if subject.config.strict_flow != "auto":
        return subject.config.strict_flow == "on"
    chain = subject.chain
    if any("=" in line and _UNKNOWN.search(line) for line in chain.lines):
        return False
    numbered = [(at, line) for at, line in enumerate(chain.lines) if _DIGIT.search(line)]
    formal = [at for at, line in numbered if _is_formal(line, chain.by_line.get(at, []))]
    return len(formal) * 2 >= len(numbered) and any(one.line in formal for one in chain.equations)


def _is_formal(line: str, equations: list[Equation]) -> bool:
    if not equations:
        return len(find_amounts(line)) < 2 and "=" not in line
    remaining = line.rpartition(": ")[2]
    for one in equations:
        before, separator, remaining = remaining.partition(one.text)
        if not separator or before.strip(" ,.;") or one.result is None or not one.operands or "%" in one.text:
            return False
    return not remaining.strip(" ,.;")


def _prose_problem(subject: Subject) -> tuple[str, str]:
    if not _reaches_answer(subject):
        return "result_is_not_answer", subject.trace.answer[:100]
    origins, chain = _origins(subject), subject.chain
    origin_or_made = {*origins.amounts, *map(Amount, origins.free)}
    later = Counter(one.result for one in chain.equations)
    for number, line in enumerate(chain.lines):
        equations = chain.by_line.get(number, [])
        later.subtract(one.result for one in equations)
        for one in equations:
            early = [amount for amount in one.operands if later[amount] > 0 and amount not in origin_or_made]
            if any(amount.is_clock or amount.value > SMALL for amount in early):
                return "used_before_made", one.text
            origin_or_made |= {one.result} if one.result is not None else set()
        origin_or_made.update(find_amounts(line))
    return "", ""


def _reaches_answer(subject: Subject) -> bool:
    answer = read_amount(subject.trace.answer)
    if answer is None:
        return True
    shown = [one.result for one in subject.chain.equations if one.result is not None]
    shown += find_amounts(subject.chain.lines[-1])
    return any(_same(one, answer) for one in shown)


def _same(a: Amount, b: Amount) -> bool:
    """Whether two amounts are the same, one of them perhaps in per cent or in cents, or rounded to a whole."""
    if a.is_clock != b.is_clock:
        return False
    return any(abs(a.value - scaled) < 1 for scaled in (b.value, b.value * 100, b.value / 100))


@dataclass
class _Origins:
    """What may be used without having been made."""

    amounts: Counter[Amount]
    """Numbers of the question, each to be used."""
    free: set[Fraction]
    """Constants, and what words of the question stand for."""


def _origins(subject: Subject) -> _Origins:
    words = _WORD.findall(subject.question.text.casefold())
    values = {**NUMBER_WORDS, **_WORD_VALUES}
    parts = {part for word in words for part in (word, *word.split("-"))}
    free = {Fraction(values[word.replace("-", " ")]) for word in parts if word.replace("-", " ") in values}
    free |= {Fraction(str(constant)) for constant in subject.config.flow_constants}
    given = Counter(find_amounts(subject.question.text))
    if "%" in subject.question.text or "percent" in words:
        parts_of_100 = {one.value for one in given} | {100 - one.value for one in given}
        free |= parts_of_100 | {value / 100 for value in parts_of_100} | {1 + value / 100 for value in parts_of_100}
    return _Origins(given, free)


class _Ledger:
    """Follows each number of a strict chain from where it is made to where it is used."""

    def __init__(self, subject: Subject) -> None:
        self._chain = subject.chain
        self._answer = read_amount(subject.trace.answer)
        self._origins = _origins(subject)
        self._later = Counter(one.result for one in self._chain.equations)
        """Results that the rest of the chain still makes."""
        self._unused: Counter[Amount] = Counter(self._origins.amounts)
        self._made: Counter[Amount] = Counter()
        """Results that no later equation has used."""
        self._known = set(self._origins.amounts)
        self._operands = self._strange = 0
        self._first_problem: tuple[str, str] | None = None

    @property
    def known_share(self) -> float:
        """The share of operands that have an origin."""
        return round(1 - self._strange / self._operands, 4) if self._operands else 1.0

    def problem(self) -> tuple[str, str]:
        """The first problem of the chain with its detail; two empty texts when there is none."""
        for number, line in enumerate(self._chain.lines):
            equations = self._chain.by_line.get(number, [])
            for equation in equations:
                self._enter(equation)
            self._enter_prose(line, equations)
        if self._first_problem:
            return self._first_problem
        last = self._chain.equations[-1]
        if self._answer is not None and last.result is not None and not _equal(last.result, self._answer):
            return "result_is_not_answer", last.text
        if last.result is not None:
            self._made[last.result] -= 1
        for problem, left in (("result_unused", self._made), ("number_unused", self._unused)):
            first = next((amount for amount, count in left.items() if count > 0), None)
            if first is not None:
                return problem, _shown(first)
        return "", ""

    def _enter(self, equation: Equation) -> None:
        for operand in equation.operands:
            self._operands += 1
            if self._made[operand] > 0:
                self._made[operand] -= 1
            elif self._unused[operand] > 0:
                self._unused[operand] -= 1
            elif not self._has_origin(operand):
                self._strange += 1
                self._note(operand, equation.text)
        self._later[equation.result] -= 1
        if equation.result is not None:
            self._made[equation.result] += 1
            self._known.add(equation.result)

    def _enter_prose(self, line: str, equations: list[Equation]) -> None:
        """Numbers that stand outside the equations of a line."""
        for equation in equations:
            line = line.replace(equation.text, " ", 1)
        for amount in find_amounts(line):
            if not self._has_origin(amount):
                self._note(amount, line.strip()[:100])

    def _note(self, amount: Amount, where: str) -> None:
        problem = "used_before_made" if self._later[amount] > 0 else "number_from_nowhere"
        self._first_problem = self._first_problem or (problem, f"{_shown(amount)} in {where}")

    def _has_origin(self, amount: Amount) -> bool:
        return amount in self._known or (not amount.is_clock and amount.value in self._origins.free)


def _equal(a: Amount, b: Amount) -> bool:
    return a.is_clock == b.is_clock and a.value in (b.value, b.value * 100, b.value / 100)


def _shown(amount: Amount) -> str:
    if amount.is_clock:
        return f"{int(amount.value) // 60}:{int(amount.value) % 60:02d}"
    return str(amount.value)
