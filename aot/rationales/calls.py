"""Tool calls as data: what arguments and results are made of, the calculator, and text chains that call it.

The calculator reads its expression as `arithmetic` reads one side of an equation: exactly, and nothing is run. Knows no
clip, no model and no planner, so that both doors may use it.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from aot.answers.exact import decimal_text
from aot.errors import ToolError
from aot.rationales.arithmetic import Amount, calculated, find_equations
from aot.rationales.text_chain import without_notes
from aot.records import Finding, Step, ToolCall, Trace

MAX_EXPRESSION, MAX_VALUE = 1000, 100
"""Characters of an expression, and of a value: a longer one helps nobody."""
ROUNDED_TO = 4
"""Digits behind the point of what a fraction is about."""
_DAY_MINUTES = 24 * 60
_NOTE = re.compile(r"<<([^<>\n]*)>>")
_EQUALS = re.compile(r"[=≈]")
_GAP = re.compile(r"\s*[$€£]?")


class ToolArguments(BaseModel):
    """Base of all arguments: frozen, unknown arguments refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def sought(self) -> tuple[str, ...]:
        """What the call is to find; a tool that is asked for nothing in particular leaves it empty."""
        return ()


class ToolPart(BaseModel):
    """Base of whatever stands inside a result."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ToolResult(ToolPart, ABC):
    """Base of all results: dumped as JSON into the trace, beside the findings that it says it holds."""

    @abstractmethod
    def findings(self, arguments: Any) -> tuple[Finding, ...]:  # noqa: ANN401 - of the tool's own class
        """All that a reader of the trace may rely on, in the tool's own order; empty when nothing was there.

        Nobody else looks into a result: what is not said here is evidence for nothing.
        """


CALCULATOR_NAME = "calculator"


class CalculatorArguments(ToolArguments):
    """What to work out."""

    expression: str = Field(
        min_length=1, description="Numbers or times of day with + - * / and parentheses, such as (12 + 7) / 2."
    )


class CalculatorResult(ToolResult):
    """What an expression comes to."""

    value: str
    """Exact: digits, a fraction such as 10/3 where its decimals have no end, or a time of day such as 10:15."""
    about: str = Field(default="", exclude_if=lambda about: not about)
    """A fraction with a few digits behind the point; empty where `value` has digits."""

    def findings(self, arguments: CalculatorArguments) -> tuple[Finding, ...]:
        """The value, as the answer to the expression."""
        return (Finding(kind="text", how="answered", text=self.value, question=arguments.expression),)


def calculate(arguments: CalculatorArguments) -> CalculatorResult:
    """The exact value of an expression, in time that grows with its length, which is bounded.

    >>> calculate(CalculatorArguments(expression="(12 + 7) / 2")).value
    '9.5'
    >>> calculate(CalculatorArguments(expression="10/3")), calculate(CalculatorArguments(expression="9:40 + 35")).value
    (CalculatorResult(value='10/3', about='3.3333'), '10:15')

    Raises:
        ToolError: it is too long or no arithmetic, divides by zero, or comes to something too large.
    """
    expression = arguments.expression.strip().removesuffix("=")
    if len(expression) > MAX_EXPRESSION:
        raise ToolError(f"an expression of {len(expression)} characters; at most {MAX_EXPRESSION} are worked out")
    if _EQUALS.search(expression):
        raise ToolError("an equation; give only what is to be worked out, such as 12 + 7")
    amount = calculated(expression)
    value = _shown(amount)
    if len(value) > MAX_VALUE:
        raise ToolError(f"the value has {len(value)} characters; at most {MAX_VALUE} are given")
    return CalculatorResult(value=value, about=_about(amount.value) if "/" in value else "")


def _shown(amount: Amount) -> str:
    if not amount.is_clock:
        return decimal_text(amount.value) or f"{amount.value.numerator}/{amount.value.denominator}"
    if amount.value.denominator > 1:
        raise ToolError("a time of day between two minutes; add whole minutes")
    minutes = int(amount.value)
    minutes = minutes if 0 <= minutes <= _DAY_MINUTES + 59 else minutes % _DAY_MINUTES  # 24:25, as amounts are read
    return f"{minutes // 60}:{minutes % 60:02d}"


def _about(value: Fraction) -> str:
    return decimal_text(Fraction(round(value * 10**ROUNDED_TO), 10**ROUNDED_TO))


def called_steps(lines: Sequence[str]) -> tuple[Step, ...]:
    r"""The steps of a chain whose equations the calculator works out; those that it does not confirm stay mere words.

    A step is what is said up to a result, the call and the result; the last one has the remaining words and no call.
    All that is said, joined, is the chain. Where a line has calculator notes, those say what is worked out and where,
    and leave the words; elsewhere the equations of its prose do.

    >>> steps = called_steps(["Half is 48/2 = <<48/2=24>>24 clips."])
    >>> [(step.text, step.call and step.call.arguments, step.result) for step in steps]
    [('Half is 48/2 = ', {'expression': '48/2'}, {'value': '24'}), ('24 clips.', None, None)]
    """
    steps: list[Step] = []
    said = ""
    for line in lines:
        words, begin = without_notes(line), 0
        for place, step in _calls(line, words):
            steps.append(step.model_copy(update={"index": len(steps) + 1, "text": said + words[begin:place]}))
            said, begin = "", place
        said += f"{words[begin:]}\n"
    if said.strip():
        steps.append(Step(index=len(steps) + 1, text=said.removesuffix("\n")))
    return tuple(steps)


def rests_on_tools(trace: Trace) -> bool:
    """Whether a rationale speaks of what tools returned.

    A chain of which they worked equations out does not, and is checked as any chain: it begins with all that the steps
    of its trace say, joined.
    """
    said = "".join(step.text for step in trace.steps)
    is_called = any(step.call is not None for step in trace.steps)
    return is_called and not (said and trace.rationale.startswith(said))


def _calls(line: str, words: str) -> Iterator[tuple[int, Step]]:
    """The calls of a line in order, each with the place in its `words` from which on its result stands."""
    spots = _noted(line) if _NOTE.search(line) else _written(words)
    for place, expression in spots:
        arguments = CalculatorArguments(expression=expression)
        try:
            result = calculate(arguments)
        except ToolError:
            continue
        yield place, Step(
            index=1, call=ToolCall(tool=CALCULATOR_NAME, arguments=arguments.model_dump()),
            result=result.model_dump(mode="json"), findings=result.findings(arguments),
        )  # fmt: skip


def _noted(line: str) -> Iterator[tuple[int, str]]:
    """Where notes stood, in the line without them, and what each works out; none that does not hold."""
    before = 0
    for note in _NOTE.finditer(line):
        checks = find_equations(note[1])
        if checks and all(one.holds for one in checks):
            yield note.start() - before, _EQUALS.split(note[1])[0].strip()
        before += len(note[0])


def _written(words: str) -> Iterator[tuple[int, str]]:
    """The same of the equations in words, each of which gives one number."""
    begin = 0
    for one in find_equations(words):
        start = words.find(one.text, begin)
        sign = _EQUALS.search(one.text)
        if start < 0 or sign is None or not one.holds or one.result is None:
            continue
        begin = start + sign.end()
        gap = _GAP.match(words, begin)
        yield gap.end() if gap else begin, one.text[: sign.start()].strip()
