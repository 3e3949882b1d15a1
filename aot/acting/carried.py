"""A student's tools outside its run: which of them can go with it, what goes along, and the bench that they make there.

A tool can go if it needs its arguments alone, or recipe cards. Nothing here knows how a student is exported or asked.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from aot.config import ClipTeacher
from aot.display import counted
from aot.errors import CheckpointError, ConfigError
from aot.files.run_folder import RunFolder, read_rows
from aot.records import JsonDict
from aot.run_records import FileEntry, RecipeCard
from aot.served_records import PlanBudget, ServedTool, StudentContract, ToolNeed
from aot.teacher.bench import Bench, Budget
from aot.teacher.tools.base import AnyTool
from aot.teacher.tools.book import RecipeBook, read_cards
from aot.teacher.tools.calculator import CALCULATORS
from aot.teacher.tools.look_up_recipe import recipe_tool

log = logging.getLogger(__name__)
TEXT_BUDGET = Budget(max_calls=16, time_limit_s=60.0, max_turns=17)
"""Of a student of text: more calls than the longest chains have steps."""
BOOK = RunFolder(Path()).book.name
"""Of the file with the cards, in an export as in a run."""
_EMPTY = RecipeBook(())
_NEEDS: dict[str, ToolNeed] = {**dict.fromkeys(CALCULATORS, ""), recipe_tool(_EMPTY).name: "recipe_book"}
"""The tools that can go along, with what else they need."""


def plan_budget(teacher: object) -> PlanBudget:
    """What one plan of a student may cost, by the section `teacher` of its run; of text always the same."""
    budget = TEXT_BUDGET
    if isinstance(teacher, ClipTeacher):
        budget = Budget(teacher.max_calls, teacher.time_limit_s, teacher.max_turns)
    return PlanBudget(max_calls=budget.max_calls, max_turns=budget.max_turns, time_limit_s=budget.time_limit_s)


def carried_tools(offered: Iterable[JsonDict]) -> tuple[ServedTool, ...]:
    """Tools as a contract names them.

    Args:
        offered: as the student was told of them, in OpenAI's form.

    Raises:
        ConfigError: one needs what stays with the run.
    """
    here, made = _tools(_EMPTY), list[ServedTool]()
    for definition in offered:
        name = str(definition["function"]["name"])
        if name not in _NEEDS:
            raise ConfigError(
                f"the student calls {name}, which looks at stored frames or needs the models or annotations of its "
                f"run, and cannot go with it; those that can are {', '.join(_NEEDS)}: train an arm with "
                "train.arms.tools of these only, or ask this one by aot evaluate"
            )
        made.append(ServedTool(name=name, version=here[name].version, definition=definition, needs=_NEEDS[name]))
    return tuple(made)


def carried_cards(cards: Iterable[RecipeCard]) -> tuple[RecipeCard, ...]:
    """The cards that lie beside every question; one that lies beside single ones is about those, and stays."""
    return tuple(card for card in cards if not card.questions)


def bench_of(contract: StudentContract, book: RecipeBook | None) -> Bench | None:
    """What the calls of an exported student are carried out with; None of one that calls no tools.

    Raises:
        CheckpointError: a tool is unknown here or another one by now, or the cards that it needs are not there.
    """
    if not contract.tools or contract.plan is None:
        return None
    if book is None and any(tool.needs == "recipe_book" for tool in contract.tools):
        raise CheckpointError(f"{contract.name} looks recipes up, and no {BOOK} lies in its export; export it again")
    here = _tools(book or _EMPTY)
    for tool in contract.tools:
        version = here[tool.name].version if tool.name in here else "none"
        if version != tool.version:
            raise CheckpointError(
                f"{contract.name} calls version {tool.version} of {tool.name}, and this aot-distill has {version}; "
                "export it again with this one, or install the one that exported it"
            )
    budget = Budget(contract.plan.max_calls, contract.plan.time_limit_s, contract.plan.max_turns)
    offered = {tool.name: here[tool.name] for tool in contract.tools}
    return Bench(tools=offered, budget=budget, config_digest=contract.config_digest)


def hands_of(
    contract: StudentContract, folder: Path, *, book: str | Path | RecipeBook | None
) -> tuple[StudentContract, Bench | None]:
    """The contract of the student in an exported folder, and what its calls are carried out with.

    Args:
        contract: of that folder, whose files were compared with it.
        folder: of the export.
        book: recipe cards, or a user's folder of them, in place of those that lie in the export; None takes these.

    Raises:
        CheckpointError, ConfigError, SourceError: as for `bench_of`, `with_book` and `read_book`.
    """
    if book is None:
        there = folder / BOOK
        return contract, bench_of(contract, RecipeBook(tuple(read_rows(there, RecipeCard))) if there.exists() else None)
    other = book if isinstance(book, RecipeBook) else read_book(Path(book))
    changed = with_book(contract, other)
    return changed, bench_of(changed, other)


def read_book(folder: Path) -> RecipeBook:
    """The cards of a user's folder, as `data.book` reads them; cards that cannot be used are told and left out.

    Raises:
        ConfigError: no card of it can be used.
        SourceError: there is no such folder, or no file of a card in it.
    """
    read = read_cards(folder)
    reasons = ", ".join(f"{reason} {count}" for reason, count in Counter(row.reason for row in read.refused).items())
    first = (
        f"; first {read.refused[0].item}: {read.refused[0].reason} ({read.refused[0].detail})" if read.refused else ""
    )
    if not read.cards:
        raise ConfigError(f"{folder} holds no recipe card that can be used ({reasons}{first}); see docs/tools.md")
    if reasons:
        log.warning("%s: %s used, and some were not or not whole: %s%s", folder, _counted(read.cards), reasons, first)
    return RecipeBook(read.cards)


def with_book(contract: StudentContract, book: RecipeBook) -> StudentContract:
    """The contract of the same student with another book, by whose digest its answers can be told from others.

    Raises:
        ConfigError: the student looks nothing up.
    """
    if not any(tool.needs == "recipe_book" for tool in contract.tools):
        tools = ", ".join(tool.name for tool in contract.tools) or "no tool"
        raise ConfigError(f"{contract.name} has no use for a book: it calls {tools}; leave the book out")
    text = "".join(f"{card.model_dump_json()}\n" for card in book.cards).encode()
    entry = FileEntry(name=BOOK, size=len(text), sha256=hashlib.sha256(text).hexdigest())
    files = tuple(entry if one.name == BOOK else one for one in contract.files)
    return contract.model_copy(update={"files": files})


def tools_told(tools: Sequence[ServedTool], cards: Sequence[RecipeCard]) -> str:
    """A sentence for the limits of a student that calls tools."""
    names = " and ".join(tool.name for tool in tools)
    sentence = f"It answers by calling {names}, and nothing says how sure it is of such an answer."
    if any(tool.needs == "recipe_book" for tool in tools):
        sentence += f" Its book has {_counted(cards)}; another one can be given to it."
    return sentence


def _tools(book: RecipeBook) -> dict[str, AnyTool]:
    looked_up = recipe_tool(book)
    return {**CALCULATORS, looked_up.name: looked_up}


def _counted(cards: Sequence[RecipeCard]) -> str:
    return counted(len(cards), "card")
