"""Works the gold answers of gym tasks out again, apart from the package, to find wrong ones.

Each check takes one item of the package and returns what is wrong with its gold answer, or an empty text. Items are
trusted text of an installed package; still nothing here evaluates them as code.
"""

import calendar
import itertools
import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any

Item = Mapping[str, Any]
"""`question`, `answer` and `metadata`, as the package draws them."""

_TOKEN = re.compile(r"\s*(\d+(?:\.\d+)?|\*\*|[-+*/()]|[a-z])")
_CLOCK = re.compile(r"\b\d{2}:\d{2}(?::\d{2})?\b")
_DAY_FORMS = {
    r"\d{4}-\d{2}-\d{2}": "%Y-%m-%d",
    r"\d{2}/\d{2}/\d{4}": "%m/%d/%Y",
    r"[A-Z][a-z]{2} \d{2} \d{4}": "%b %d %Y",
    r"[A-Z][a-z]+ \d{2}, \d{4}": "%B %d, %Y",
    r"\d{2} [A-Z][a-z]+ \d{4}": "%d %B %Y",
}
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


def _knights(item: Item) -> str:
    """Exactly one assignment of roles may fit what everyone says."""
    statements = item["metadata"]["statements"]
    fitting = [
        roles
        for roles in itertools.product((True, False), repeat=len(statements))
        if all(role == _holds(said, roles) for role, said in zip(roles, statements, strict=True))
    ]
    if len(fitting) != 1:
        return f"{len(fitting)} assignments fit"
    terms = item["metadata"]["knight_knave_terms"]
    roles = [
        f"{name} is {terms['a_knight'] if role else terms['a_knave']}"
        for name, role in zip(item["metadata"]["names"], fitting[0], strict=True)
    ]
    return differs(item["answer"].rstrip("."), ", ".join(roles[:-1]) + f", and {roles[-1]}")


def _holds(said: Any, roles: tuple[bool, ...]) -> bool:  # noqa: ANN401 - nested lists of the package
    match said:
        case ["telling-truth", int(person)]:
            return roles[person]
        case ["lying", int(person)]:
            return not roles[person]
        case ["not", inner]:
            return not _holds(inner, roles)
        case ["and", *parts]:
            return all(_holds(part, roles) for part in parts)
        case ["or", *parts]:
            return any(_holds(part, roles) for part in parts)
        case ["->", first, then]:
            return not _holds(first, roles) or _holds(then, roles)
        case ["<=>", *parts]:
            return len({_holds(part, roles) for part in parts}) == 1
    raise ValueError(f"unknown statement {said!r}")


def _circuit(item: Item) -> str:
    inputs = {name: bool(value) for name, value in item["metadata"]["assignments"].items()}
    gates: dict[str, Callable[[list[bool]], bool]] = {
        "&": all, "↑": lambda bits: not all(bits), "⊕": lambda bits: sum(bits) % 2 == 1,
        "OR": any, "NOR": lambda bits: not any(bits), "XOR": lambda bits: sum(bits) % 2 == 1, "AND": all,
    }  # fmt: skip
    terms = []
    for term in item["metadata"]["term_strings"]:
        sign = next((sign for sign in "&↑⊕" if sign in term), "&")
        terms.append(gates[sign]([inputs[part.rstrip("'")] != part.endswith("'") for part in term.split(sign)]))
    return differs(item["answer"], str(int(gates[item["metadata"]["final_gate"]](terms))))


def _friends(item: Item) -> str:
    """Everyone's friends and the person asked about are one circle; gym_tasks says why no other relation is drawn."""
    friends = re.search(r"(\d+) female friends", item["question"])
    return differs(int(item["answer"]), int(friends[1]) + 1 if friends else None)


def _needle(item: Item) -> str:
    said = re.search(r"\nWho (.+)\? Reply", item["question"])
    story = item["question"].rpartition("\n")[0]
    who = re.findall(rf"(?:^|\. )([^.\s]+) {re.escape(said[1])}\.", story) if said else []
    return differs([item["answer"]], who)


def _calendar(item: Item) -> str:
    about = item["metadata"]
    days = {
        name: date.fromisoformat(about[name]) for name in ("start_date", "end_date", "target_date") if name in about
    }
    match about["task"]:
        case "weekday_of_date":
            truth = calendar.day_name[days["target_date"].weekday()]
        case "weekday_offset":
            truth = calendar.day_name[(days["start_date"].weekday() + about["offset_days"]) % 7]
        case "is_leap_year":
            year = about["year"]
            truth = "Yes" if year % 400 == 0 or (year % 4 == 0 and year % 100) else "No"
        case "recurring_event_day":
            weekday, nth = list(calendar.day_name).index(about["weekday"]), about["ordinal"]
            weeks = calendar.Calendar().monthdayscalendar(about["year"], about["month"])
            dates = [week[weekday] for week in weeks if week[weekday]]
            truth = str(dates[-1 if nth == "last" else ("first", "second", "third", "fourth").index(nth)])
        case "count_days":
            weekday_named = re.search(r"(?:How many |occurrences of |does )(\w+day)", item["question"])
            name = weekday_named and weekday_named[1]
            count = (days["end_date"] - days["start_date"]).days + 1
            span = (days["start_date"] + timedelta(days=i) for i in range(count))
            truth = str(sum(calendar.day_name[day.weekday()] == name for day in span))
        case other:
            return f"unknown sub-task {other}"
    return differs(item["answer"].removeprefix("Weekday.").title(), truth)


def _interval(item: Item) -> str:
    """The question alone is read; clock times lie within one day."""
    clocks = _CLOCK.findall(item["question"])
    if len(clocks) == 2:
        form = "%H:%M:%S" if clocks[0].count(":") == 2 else "%H:%M"
        start, end = (datetime.strptime(clock, form) for clock in clocks)
        seconds = int((end - start).total_seconds())
        truth = f"{seconds // 3600:02d}:{seconds % 3600 // 60:02d}"
        truth += f":{seconds % 60:02d}" if clocks[0].count(":") == 2 else ""
        return differs(item["answer"], truth) if seconds >= 0 else "ends before it starts"
    for pattern, form in _DAY_FORMS.items():
        days = re.findall(pattern, item["question"])
        if len(days) == 2:
            first, last = (datetime.strptime(day, form) for day in days)
            return differs(item["answer"], f"{(last - first).days} days")
    return "the question does not tell two times"


TRUTHS: dict[str, Callable[[Item], str]] = {
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
    "knights_knaves": _knights,
    "circuit_logic": _circuit,
    "calendar_arithmetic": _calendar,
    "time_intervals": _interval,
    "aiw": _friends,
    "needle_haystack": _needle,
}
"""Tasks whose gold answers are worked out again; the others are only put to their own scorer."""
