"""Tool `look_up_recipe`: the recipe cards that fit steps or words best, from a book that somebody else opened."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Self

from pydantic import Field, model_validator

from aot.errors import ToolError
from aot.rationales.wording import phrase_key
from aot.records import Finding
from aot.teacher.tools.base import Tool, ToolArguments, ToolContext, ToolPart, ToolResult
from aot.teacher.tools.book import RecipeBook

NAME = "look_up_recipe"
MAX_CARDS = 2
MAX_WANTED = 64
"""Steps of one search."""
MARK = " *{}"
"""Behind each step of a card that was looked for, with its place in the search, from 1."""
_MARK = re.compile(r" \*\d+$")


class LookUpRecipeArguments(ToolArguments):
    """What is known of the dish: steps that were seen, or words."""

    steps: tuple[str, ...] = Field(default=(), max_length=MAX_WANTED, description="Steps that were seen, in order.")
    words: str = Field(default="", max_length=1000, description="Words to look for instead, such as a dish.")

    @model_validator(mode="after")
    def _looks_for_something(self) -> Self:
        if not self.steps and not self.words.strip():
            raise ValueError("give steps, a list of what was seen, or words")
        return self


class FoundRecipe(ToolPart):
    """One card."""

    name: str
    text: str
    """Its steps in order, with commas between them; those that were looked for carry their place in the search."""
    score: float
    """Share of what was looked for that it has, in tenths; rare steps count more."""


class LookUpRecipeResult(ToolResult):
    """The best cards, the best first; empty when no card has anything of what was looked for."""

    cards: tuple[FoundRecipe, ...]

    def findings(self, arguments: LookUpRecipeArguments) -> tuple[Finding, ...]:
        """Each card with its steps; before them the last step that was looked for, after which the next one comes."""
        listed: list[Finding] = []
        for card in self.cards:
            listed.append(Finding(kind="task", label=card.name, score=card.score))
            listed += [Finding(kind="listed", label=_MARK.sub("", step)) for step in card.text.split(", ")]
        last = [Finding(kind="after", label=arguments.steps[-1])] if arguments.steps and listed else []
        return (*listed, *last)


def look_up_recipe(arguments: LookUpRecipeArguments, context: ToolContext, *, book: RecipeBook) -> LookUpRecipeResult:
    """The best cards of those that lie beside the question; a step that is given again counts once.

    Raises:
        ToolError: the book is empty.
    """
    shelf = book.beside(context.question_id)
    if not shelf.cards:
        raise ToolError("the recipe book is empty; answer without it, or fill the folder of data.book")
    steps = tuple({phrase_key(step): step for step in arguments.steps}.values())
    best = shelf.search(steps=steps, words=arguments.words, most=MAX_CARDS)
    places = {phrase_key(step): place for place, step in enumerate(steps, start=1)}
    return LookUpRecipeResult(
        cards=tuple(
            FoundRecipe(
                name=one.card.name,
                text=", ".join(_shown(step, places) for step in one.card.steps),
                score=round(one.score, 1),
            )
            for one in best
        )
    )


def _shown(step: str, places: Mapping[str, int]) -> str:
    plain = " ".join(step.replace(",", " ").replace("*", " ").split())
    place = places.get(phrase_key(step))
    return f"{plain}{MARK.format(place)}" if place else plain


def recipe_tool(book: RecipeBook) -> Tool[LookUpRecipeArguments, LookUpRecipeResult]:
    """The tool over the cards of a book."""
    return Tool(
        name=NAME,
        version="2",
        description="Look recipe cards up by the steps that were seen, or by words; gives the text of the best ones.",
        Arguments=LookUpRecipeArguments,
        Result=LookUpRecipeResult,
        run=partial(look_up_recipe, book=book),
        source="book",
    )
