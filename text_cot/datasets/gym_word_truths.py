"""Works the gold answers of logic, calendar and relation tasks out again, apart from the package, to find wrong ones.

As gym_truths: one item in, what is wrong with its gold answer out.
"""

import calendar
import itertools
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

from text_cot.datasets.gym_truths import Item, differs

_CLOCK = re.compile(r"\b\d{2}:\d{2}(?::\d{2})?\b")
_DAY_FORMS = {
    r"\d{4}-\d{2}-\d{2}": "%Y-%m-%d",
    r"\d{2}/\d{2}/\d{4}": "%m/%d/%Y",
    r"[A-Z][a-z]{2} \d{2} \d{4}": "%b %d %Y",
    r"[A-Z][a-z]+ \d{2}, \d{4}": "%B %d, %Y",
    r"\d{2} [A-Z][a-z]+ \d{4}": "%d %B %Y",
}


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


WORD_TRUTHS: dict[str, Callable[[Item], str]] = {
    "knights_knaves": _knights,
    "circuit_logic": _circuit,
    "calendar_arithmetic": _calendar,
    "time_intervals": _interval,
    "aiw": _friends,
    "needle_haystack": _needle,
}
