"""Tool `calculator`: works an expression out exactly; it sees no clip and runs nothing (aot.rationales.calls)."""

from aot.rationales.calls import CALCULATOR_NAME, CalculatorArguments, CalculatorResult, calculate
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
