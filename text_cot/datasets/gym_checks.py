"""Proves the gold answers of reasoning-gym tasks before anything is trained on them.

`python -m text_cot.datasets.gym_checks [items] [seed]` prints the audit of all tasks of gym_tasks. An item
passes when it has a gold answer, the task's own scorer gives that answer full marks, and, where we can, the answer
comes out when worked out again. Model text is never scored here.
"""

import importlib
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aot.errors import MissingPackageError
from text_cot.datasets.gym_tasks import EXCLUDED, TASKS
from text_cot.datasets.gym_truths import NUMBER_TRUTHS, Item
from text_cot.datasets.gym_word_truths import WORD_TRUTHS

TRUTHS: dict[str, Callable[[Item], str]] = {**NUMBER_TRUTHS, **WORD_TRUTHS}
"""Tasks whose gold answers are worked out again; the others are only put to their own scorer."""


@dataclass(frozen=True)
class GoldAudit:
    """How many gold answers of a task are wrong."""

    task: str
    n: int
    wrong: int
    reason: str
    """The commonest reason, with an example; empty if none is wrong."""
    recomputed: bool
    """Whether the answers were worked out again."""


def audit_task(name: str, n: int, seed: int, *, settings: Mapping[str, Any] | None = None) -> GoldAudit:
    """The audit of `n` freshly drawn items of a task, with its settings in TASKS unless others are given.

    Raises:
        MissingPackageError: reasoning-gym is not installed.
    """
    if settings is None:
        settings = TASKS[name].settings if name in TASKS else {}
    drawn = open_task(name, size=n, seed=seed, settings=settings)
    return audit_items(name, [(item, item_problem(name, drawn, item)) for item in (drawn[i] for i in range(n))])


def audit_items(name: str, checked: list[tuple[Item, str]]) -> GoldAudit:
    """The audit of items with what is wrong with each; an empty text means nothing."""
    problems = [(item, problem) for item, problem in checked if problem]
    reason = ""
    if problems:
        common = Counter(problem for _, problem in problems).most_common(1)[0][0]
        example = next(item for item, problem in problems if problem == common)
        reason = f"{common}, as in {' '.join(example['question'].split())[-120:]!r}"
    return GoldAudit(name, len(checked), len(problems), reason, name in TRUTHS)


def item_problem(name: str, drawn: Any, item: Item) -> str:  # noqa: ANN401 - a class of the package
    """What is wrong with the gold answer of an item; empty if nothing is.

    Args:
        name: the task.
        drawn: the package's data set that drew the item, for its scorer.
        item: the item.
    """
    if item["answer"] is None:
        return "there is no gold answer"
    marks = drawn.score_answer(item["answer"], item)
    if marks != 1.0:
        return f"the task's own scorer gives its gold answer {marks:g}"
    try:
        return TRUTHS[name](item) if name in TRUTHS else ""
    except (ValueError, KeyError, IndexError, TypeError, ArithmeticError) as error:  # the package words it another way
        return f"it cannot be worked out again ({type(error).__name__})"


def open_task(name: str, *, size: int, seed: int, settings: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """The package's data set of a task: item i depends on (seed, i) only.

    Raises:
        MissingPackageError: reasoning-gym is not installed.
    """
    try:
        package = importlib.import_module("reasoning_gym")
    except ModuleNotFoundError:
        raise MissingPackageError(
            "the package reasoning_gym is not installed; pip install 'aot-distill[text]', and see `aot doctor` for more"
        ) from None
    return package.create_dataset(name, size=size, seed=seed, **settings)


def main(n: int = 1000, seed: int = 1) -> None:
    """Print the audit of every task that is used or excluded, as rows of a Markdown table."""
    rows = ["| task | category | answers | items | wrong | how checked |", "| --- | --- | --- | --- | --- | --- |"]
    for name in (*TASKS, *EXCLUDED):
        settings: Mapping[str, Any] = {} if name in EXCLUDED else TASKS[name].settings
        found = audit_task(name, n, seed, settings=settings)
        kind = f"{TASKS[name].category} | {TASKS[name].answer_type}" if name not in EXCLUDED else "excluded | -"
        how = "worked out again" if found.recomputed else "own scorer"
        rows.append(f"| {name} | {kind} | {found.n} | {found.wrong} | {how}{found.reason and ': ' + found.reason} |")
    sys.stdout.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
