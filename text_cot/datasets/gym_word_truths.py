"""Works the gold answers of logic, calendar and relation tasks out again, apart from the package, to find wrong ones.

As gym_truths: one item in, what is wrong with its gold answer out.
"""

import calendar
import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
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
    told = [
        f"{name} is {terms['a_knight'] if role else terms['a_knave']}"
        for name, role in zip(item["metadata"]["names"], fitting[0], strict=True)
    ]
    return differs(item["answer"].rstrip("."), ", ".join(told[:-1]) + f", and {told[-1]}")


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
    found = re.search(r"(\d+) female friends", item["question"])
    names = re.findall(r"[A-Z][a-z]+", item["question"])
    if item["metadata"]["task_type"] == "siblings" and names.count(names[-1]) == 1:
        return "asks about somebody who is never mentioned"
    if item["metadata"]["task_type"] == "colleagues":
        own, _, other = [int(n) for n in re.findall(r"(\d+) (?:fe)?male", item["question"])][1:]
        return differs(int(item["answer"]), own + other - 1)
    if item["metadata"]["task_type"] == "friends" and found:
        return differs(int(item["answer"]), int(found[1]) + 1)
    sisters = re.search(r"(\d+) sisters", item["question"])
    return differs(int(item["answer"]), int(sisters[1]) + 1 if sisters else None)


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
            found = [week[weekday] for week in weeks if week[weekday]]
            truth = str(found[-1 if nth == "last" else ("first", "second", "third", "fourth").index(nth)])
        case "count_days":
            asked = re.search(r"(?:How many |occurrences of |does )(\w+day)", item["question"])
            truth = str(sum(calendar.day_name[day.weekday()] == (asked and asked[1]) for day in _days(days)))
        case "count_business_days":
            if days["end_date"].year != days["start_date"].year:
                return f"the end {days['end_date']} is told with another year"
            truth = str(sum(day.weekday() < 5 for day in _days(days)))
        case "weekday_of_date_from_first_date" if days["target_date"].month > 2:
            return "the year is not told, and may be a leap year"
        case "weekday_of_date_from_first_date":
            first = list(calendar.day_name).index(about["first_day"])
            truth = calendar.day_name[(first + days["target_date"].timetuple().tm_yday - 1) % 7]
        case other:
            return f"unknown sub-task {other}"
    return differs(item["answer"].removeprefix("Weekday.").title(), truth)


def _days(days: Mapping[str, date]) -> list[date]:
    count = (days["end_date"] - days["start_date"]).days + 1
    return [days["start_date"] + timedelta(days=i) for i in range(count)]


def _interval(item: Item) -> str:
    """The question alone is read; clock times lie within one day."""
    clocks = _CLOCK.findall(item["question"])
    if len(clocks) == 2:
        form = "%H:%M:%S" if clocks[0].count(":") == 2 else "%H:%M"
        start, end = (datetime.strptime(clock, form) for clock in clocks)
        seconds = int((end - start).total_seconds())
        told = f"{seconds // 3600:02d}:{seconds % 3600 // 60:02d}" + (
            f":{seconds % 60:02d}" if clocks[0].count(":") == 2 else ""
        )
        return differs(item["answer"], told) if seconds >= 0 else "ends before it starts"
    for pattern, form in _DAY_FORMS.items():
        found = re.findall(pattern, item["question"])
        if len(found) == 2:
            first, last = (datetime.strptime(day, form) for day in found)
            return differs(item["answer"], f"{(last - first).days} days")
    return "the question does not tell two times"


_REGIONS = tuple(itertools.product((False, True), repeat=3))


def _syllogism(item: Item) -> str:
    """Exhaustive model check: a world is any set of inhabited regions in which each of the three terms has members."""
    said = re.findall(r"(All|No|Some) (\w+) are (not )?(\w+)", item["question"])
    terms = sorted({term for _, subject, _, predicate in said for term in (subject, predicate)})
    *premises, conclusion = [(f"{q}{no.strip()}", terms.index(s), terms.index(p)) for q, s, no, p in said]
    valid = all(
        _true(conclusion, world)
        for size in range(1, 9)
        for world in itertools.combinations(_REGIONS, size)
        if all(any(region[term] for region in world) for term in range(len(terms)))
        and all(_true(premise, world) for premise in premises)
    )
    return differs(item["answer"], "Yes" if valid else "No")


def _true(statement: tuple[str, int, int], world: tuple[tuple[bool, ...], ...]) -> bool:
    form, subject, predicate = statement
    members = [region[predicate] for region in world if region[subject]]
    return {"All": all(members), "No": not any(members), "Some": any(members), "Somenot": not all(members)}[form]


def _family(item: Item) -> str:
    """The question alone is read; only the kind of relation is judged, not its gender."""
    parents: dict[str, set[str]] = defaultdict(set)
    spouse: dict[str, str] = {}
    for one, other, children in re.findall(
        r"(\w+) is married to (\w+)\.(?: They have (?:a child|children) called ([\w, ]+)\.)?", item["question"]
    ):
        spouse |= {one: other, other: one}
        for child in re.split(r", | and ", children) if children else ():
            parents[child] = {one, other}
    asked = re.search(r"\n(?:What is|How is|What relation is) (\w+) (?:related )?to (\w+)\?", item["question"])
    if not asked:
        return "the question names nobody"
    a, b = asked.groups()
    grand = {
        child: {old for parent in list(parents[child]) for old in list(parents[parent])} for child in list(parents)
    }
    relations = {
        "mother father": a in parents[b],
        "daughter son": b in parents[a],
        "wife husband": spouse.get(a) == b,
        "sister brother": parents[a] == parents[b] != set(),
        "grandmother grandfather": a in grand.get(b, set()),
        "mother-in-law father-in-law": b in spouse and a in parents[spouse[b]],
        "daughter-in-law son-in-law": a in spouse and b in parents[spouse[a]],
    }
    fitting = [names for names, holds in relations.items() if holds]
    right = any(item["answer"] in names.split() for names in fitting)
    return "" if right else f"gold {item['answer']}, in truth {' or '.join(fitting) or 'something else'}"


WORD_TRUTHS: dict[str, Callable[[Item], str]] = {
    "knights_knaves": _knights,
    "circuit_logic": _circuit,
    "calendar_arithmetic": _calendar,
    "time_intervals": _interval,
    "aiw": _friends,
    "needle_haystack": _needle,
    "syllogism": _syllogism,
    "family_relationships": _family,
}
