"""Works the gold answers of arithmetic and algebra tasks out again, apart from the package, to find wrong ones.

Each check takes one item of the package and returns what is wrong with its gold answer, or an empty text. Items are
trusted text of an installed package; still nothing here evaluates them as code.
"""

import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

Item = Mapping[str, Any]
"""`question`, `answer` and `metadata`, as the package draws them."""

_TOKEN = re.compile(r"\s*(\d+(?:\.\d+)?|\*\*|[-+*/()]|[a-z])")
LEGS = {
    0: "snake, sea slug, jellyfish, flatworm, leech",
    2: "chicken, bird, human, duck",
    4: "dog, cat, cow, horse, lion, elephant, giraffe, tiger, deer, sheep",
    5: "starfish",
    6: "insect, ant, butterfly, beetle, bee, wasp, grasshopper, cricket, cockroach, praying mantis, firefly",
    8: "spider, scorpion",
    10: "crab, lobster, shrimp",
    14: "woodlouse",
}


def value_of(text: str, *, letter: Fraction = Fraction(0)) -> Fraction:
    """The exact value of an expression with + - * / ** and brackets, in which any single letter stands for `letter`.

    >>> value_of("2 * (3 - 5) / 3"), value_of("-x**2 + 1", letter=Fraction(3))
    (Fraction(-4, 3), Fraction(-8, 1))
    """
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != re.sub(r"\s", "", text):
        raise ValueError(f"not an expression: {text[:60]!r}")
    tokens.append("")
    value = _sum(tokens, letter)
    if tokens != [""]:
        raise ValueError(f"not an expression: {text[:60]!r}")
    return value


def _sum(tokens: list[str], letter: Fraction) -> Fraction:
    value = _product(tokens, letter)
    while tokens[0] in ("+", "-"):
        sign = 1 if tokens.pop(0) == "+" else -1
        value += sign * _product(tokens, letter)
    return value


def _product(tokens: list[str], letter: Fraction) -> Fraction:
    value = _signed(tokens, letter)
    while tokens[0] in ("*", "/"):
        value = value * _signed(tokens, letter) if tokens.pop(0) == "*" else value / _signed(tokens, letter)
    return value


def _signed(tokens: list[str], letter: Fraction) -> Fraction:
    if tokens[0] in ("+", "-"):
        sign = 1 if tokens.pop(0) == "+" else -1
        return sign * _signed(tokens, letter)
    first = tokens.pop(0)
    if first == "(":
        value = _sum(tokens, letter)
        tokens.pop(0)
    else:
        value = letter if first.isalpha() else Fraction(first)
    if tokens[0] == "**":
        tokens.pop(0)
        value **= int(tokens.pop(0))
    return value


def differs(gold: object, truth: object) -> str:
    """What to tell of a gold answer that is not the truth; empty if it is."""
    return "" if gold == truth else f"gold {gold}, in truth {truth}"


def _expression(item: Item) -> str:
    expression = item["metadata"]["expression"]
    if expression not in item["question"]:
        return "the question does not hold the expression"
    return differs(Fraction(item["answer"]), value_of(expression))


def _divisors(item: Item) -> str:
    numbers = [int(number) for number in re.findall(r"\d+", item["question"])]
    truth = math.gcd(*numbers) if "Divisor" in item["question"] else math.lcm(*numbers)
    return differs(int(item["answer"]), truth)


def _fraction(item: Item) -> str:
    top, bottom = re.findall(r"\d+", item["question"])[:2]
    lowest = Fraction(int(top), int(bottom))
    return differs(item["answer"], f"{lowest.numerator}/{lowest.denominator}")


def _gsm_symbolic(item: Item) -> str:
    """The chain must end in the gold answer."""
    stated = re.findall(r"####\s*([-\d.,]+)", item["metadata"]["answer_cot"])
    if not stated:
        return "the chain states no answer"
    return differs(Fraction(item["answer"]), Fraction(stated[-1].replace(",", "").rstrip(".")))


def _equation(item: Item) -> str:
    left, _, right = item["question"].partition(": ")[2].partition("=")
    solution = Fraction(item["answer"])
    return differs(value_of(left, letter=solution), value_of(right, letter=solution))


def _polynomials(item: Item) -> str:
    """Two polynomials of degree below 5 that agree at 6 points are the same."""
    product = item["metadata"]["polynomial_expr"]
    for point in map(Fraction, range(-2, 4)):
        if value_of(product, letter=point) != value_of(item["answer"], letter=point):
            return f"gold and product differ at {point}"
    return ""


def _complex(item: Item) -> str:
    (a, b), (c, d) = [_parts(number) for number in re.findall(r"\(([^()]+)\)", item["question"])]
    size = c * c + d * d
    truths = {
        "Add": (a + c, b + d),
        "Subtract": (a - c, b - d),
        "Multiply": (a * c - b * d, a * d + b * c),
        "Divide": ((a * c + b * d) / size, (b * c - a * d) / size) if size else (),
    }
    return differs(_parts(item["answer"]), truths[item["question"].split()[0]])


def _parts(number: str) -> tuple[Fraction, Fraction]:
    """Real and imaginary part of a complex number such as `-3.0 - 4.0i`, `4.00` or `2.0i`."""
    parts = re.findall(r"([+-]?[\d.]+)(i?)", number.replace(" ", ""))
    real, imaginary = [sum((Fraction(n) for n, mark in parts if mark == one), Fraction(0)) for one in ("", "i")]
    return real, imaginary


def _legs(item: Item) -> str:
    legs = {animal: count for count, animals in LEGS.items() for animal in animals.split(", ")}
    named = re.findall(r"(\d+) ([a-z ]+?)(?=,|\?)", item["question"])
    truth = sum(int(n) * legs[name if name in legs else name.removesuffix("s")] for n, name in named)
    return differs(int(item["answer"]), truth)


NUMBER_TRUTHS: dict[str, Callable[[Item], str]] = {
    "chain_sum": _expression,
    "decimal_chain_sum": _expression,
    "basic_arithmetic": _expression,
    "products": _expression,
    "gcd": _divisors,
    "lcm": _divisors,
    "fraction_simplification": _fraction,
    "gsm_symbolic": _gsm_symbolic,
    "simple_equations": _equation,
    "complex_arithmetic": _complex,
    "polynomial_multiplication": _polynomials,
    "leg_counting": _legs,
}
