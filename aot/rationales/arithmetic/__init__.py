"""Finds the equations of a text and checks each one exactly: `48/2 = 24`, `10:20 + 50 minutes = 11:10`, GSM8K notes.

It knows no question and no answer, and nothing of algebra: a letter that stands for a number, a power or LaTeX beyond
plain fractions makes an equation unreadable, never wrong. Nothing is evaluated by Python, nothing raises on any text,
and the time is linear in its length.
"""

from aot.rationales.arithmetic.equations import (
    Equation,
    StepCheck,
    calculated,
    check_equations,
    check_text,
    find_amounts,
    find_equations,
    read_amount,
)
from aot.rationales.arithmetic.tokens import Amount

__all__ = [
    "Amount",
    "Equation",
    "StepCheck",
    "calculated",
    "check_equations",
    "check_text",
    "find_amounts",
    "find_equations",
    "read_amount",
]
