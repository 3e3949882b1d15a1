"""Tools `calculator` and `named_calculator`: work an expression out exactly; they see no clip and run nothing."""

from aot.rationales.calls import CALCULATOR_NAME, CalculatorArguments, CalculatorResult, calculate
from aot.rationales.named import (
    NAMED_CALCULATOR_NAME,
    NamedArguments,
    NamedResult,
    calculate_named,
    left_over,
    values_of,
)
from aot.teacher.tools.base import Tool, ToolContext


def _run(arguments: CalculatorArguments, context: ToolContext) -> CalculatorResult:
    return calculate(arguments)


CALCULATOR = Tool(
    name=CALCULATOR_NAME,
    version="1",
    description="Work out an expression exactly: numbers or times of day with + - * / and parentheses.",
    Arguments=CalculatorArguments,
    Result=CalculatorResult,
    run=_run,
    source="arithmetic",
)


def _run_named(arguments: NamedArguments, context: ToolContext) -> NamedResult:
    values = values_of(context.question_text, context.steps)
    before = (
        str(step.call.arguments["expression"])
        for step in context.steps
        if step.call and step.call.tool == NAMED_CALCULATOR_NAME and step.status == "ok"
    )
    left = left_over(context.question_text, [*before, arguments.expression])
    return calculate_named(arguments, values=values, name=f"[{context.index}]", left=left)


NAMED_CALCULATOR = Tool(
    name=NAMED_CALCULATOR_NAME,
    version="2",
    description="Work an expression out exactly, with names for the numbers of the question and for earlier results.",
    Arguments=NamedArguments,
    Result=NamedResult,
    run=_run_named,
    source="arithmetic",
)
CALCULATORS = {tool.name: tool for tool in (CALCULATOR, NAMED_CALCULATOR)}
"""By name."""
