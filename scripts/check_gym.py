"""Counts the wrong gold answers of reasoning-gym tasks, those in use and those that are refused by name.

    python scripts/check_gym.py [ITEMS] [SEED]      # 1000 items of each task with seed 1

Prints a Markdown table. An item passes when it has a gold answer, the task's own scorer gives that answer full marks,
and, where we can, the answer comes out when worked out again. Expected with version 0.1.25 of the package: none wrong
in the tasks in use (docs/text_data.md).
"""

import itertools
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from text_cot.datasets.gym import TRUTHS, commonest, item_problem, open_task
from text_cot.datasets.gym_tasks import EXCLUDED, TASKS
from text_cot.datasets.gym_truths import Item, differs


def wrong_golds(name: str, n: int, seed: int, *, settings: Mapping[str, Any] | None = None) -> tuple[int, str]:
    """How many of `n` freshly drawn items have a wrong gold answer, and the commonest reason with an example.

    The settings are those of TASKS unless others are given.
    """
    if settings is None:
        settings = TASKS[name].settings if name in TASKS else {}
    task = open_task(name, size=n, seed=seed, settings=settings)
    truth = EXCLUDED_TRUTHS.get(name, lambda item: "")
    items = [task[index] for index in range(n)]
    problems = [(item, item_problem(name, task, item) or truth(item)) for item in items]
    wrong = [(item, problem) for item, problem in problems if problem]
    return len(wrong), commonest(wrong)


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
    pair = re.search(r"\n(?:What is|How is|What relation is) (\w+) (?:related )?to (\w+)\?", item["question"])
    if not pair:
        return "the question names nobody"
    a, b = pair.groups()
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


EXCLUDED_TRUTHS: dict[str, Callable[[Item], str]] = {"syllogism": _syllogism, "family_relationships": _family}


def main(n: int = 1000, seed: int = 1) -> None:
    """Print the audit of every task that is used or excluded, as rows of a Markdown table."""
    print("| task | category | answers | items | wrong | how checked |\n| --- | --- | --- | --- | --- | --- |")
    for name in (*TASKS, *EXCLUDED):
        count, reason = wrong_golds(name, n, seed)
        kind = f"{TASKS[name].category} | {TASKS[name].answer_type}" if name not in EXCLUDED else "excluded | -"
        how = "worked out again" if name in TRUTHS or name in EXCLUDED_TRUTHS else "own scorer"
        print(f"| {name} | {kind} | {n} | {count} | {how}{reason and ': ' + reason} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
