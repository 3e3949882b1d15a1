"""The synthetic kitchen's world: what things look like and which recipes exist.

A step is an (action, ingredient) pair written `chop onion`. A recipe is a partial order of steps: a step may happen
once all steps it waits for have happened. Steps are shared between recipes on purpose, so that the last step alone
does not tell the next one. This module draws nothing and draws no random numbers.
"""

from collections.abc import Set
from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """How a thing is drawn."""

    shape: str
    rgb: tuple[int, int, int]


INGREDIENTS: dict[str, Look] = {
    "tomato": Look("circle", (220, 40, 30)),
    "carrot": Look("triangle", (255, 140, 30)),
    "onion": Look("circle", (150, 70, 160)),
    "egg": Look("ellipse", (250, 225, 90)),
    "potato": Look("ellipse", (150, 100, 50)),
    "cucumber": Look("bar", (40, 140, 60)),
    "cheese": Look("triangle", (245, 190, 0)),
    "mushroom": Look("half", (195, 165, 150)),
    "fish": Look("diamond", (80, 125, 190)),
    "dough": Look("circle", (245, 230, 200)),
    "pepper": Look("pentagon", (130, 205, 40)),
    "rice": Look("dots", (252, 252, 252)),
}

ACTIONS: dict[str, Look] = {
    "chop": Look("knife", (60, 62, 75)),
    "wash": Look("drops", (40, 130, 255)),
    "peel": Look("peeler", (255, 0, 160)),
    "fry": Look("pan", (25, 25, 25)),
    "boil": Look("pot", (130, 140, 150)),
    "mix": Look("spoon", (130, 70, 25)),
    "pour": Look("jug", (0, 170, 160)),
    "bake": Look("oven", (255, 105, 0)),
}


@dataclass(frozen=True)
class Recipe:
    """A partial order of steps."""

    name: str
    steps: tuple[str, ...]
    waits_for: tuple[tuple[int, ...], ...]
    """For each step, the indices of the steps that must come first."""

    def available(self, done: set[int]) -> list[int]:
        """Indices of the steps that may come next after the steps in `done`."""
        return [
            i for i, needed in enumerate(self.waits_for) if i not in done and all(index in done for index in needed)
        ]

    def may_follow(self, seen: Set[str]) -> set[str]:
        """The steps that may come next after the steps in `seen`; strangers among them do not count."""
        return {self.steps[i] for i in self.available({i for i, step in enumerate(self.steps) if step in seen})}


def _recipe(name: str, *lines: str) -> Recipe:
    """A recipe from lines such as `boil carrot < 1 3` (waits for steps 1 and 3, counted from 0)."""
    steps, waits = [], []
    for line in lines:
        step, _, needed = line.partition("<")
        steps.append(step.strip())
        waits.append(tuple(int(index) for index in needed.split()))
    return Recipe(name, tuple(steps), tuple(waits))


TRAIN_RECIPES: tuple[Recipe, ...] = (
    _recipe("omelette", "wash tomato", "chop tomato < 0", "mix egg", "pour egg < 1 2", "fry egg < 3", "chop cheese < 4"),
    _recipe("soup", "peel carrot", "chop carrot < 0", "chop onion", "fry onion < 2", "boil carrot < 1 3", "pour rice < 4"),
    _recipe(
        "salad", "wash cucumber", "peel cucumber < 0", "chop cucumber < 1", "wash tomato", "chop tomato < 3",
        "mix cucumber < 2 4",
    ),
    _recipe("pizza", "mix dough", "bake dough < 0", "chop tomato", "pour tomato < 1 2", "chop cheese < 3", "bake cheese < 4"),
    _recipe("stew", "peel potato", "chop potato < 0", "chop onion", "fry onion < 2", "boil potato < 1 3", "mix pepper < 4"),
    _recipe("risotto", "wash rice", "boil rice < 0", "chop mushroom", "fry mushroom < 2", "mix rice < 1 3", "pour cheese < 4"),
    _recipe("tacos", "chop onion", "mix onion < 0", "wash pepper", "chop pepper < 2", "fry pepper < 3", "pour onion < 1 4"),
    _recipe("fishpie", "peel potato", "boil potato < 0", "mix potato < 1", "fry fish", "pour fish < 3", "bake potato < 2 4"),
    _recipe("gratin", "peel potato", "chop potato < 0", "pour potato < 1", "wash mushroom", "pour cheese < 2 3", "bake cheese < 4"),
    _recipe("sushi", "wash rice", "boil rice < 0", "wash fish", "chop fish < 2", "peel cucumber", "pour rice < 1 3 4"),
    _recipe("ratatouille", "wash pepper", "chop pepper < 0", "chop tomato", "fry tomato < 2", "boil pepper < 1 3", "bake tomato < 4"),
    _recipe("noodles", "mix dough", "chop dough < 0", "boil dough < 1", "chop mushroom", "fry mushroom < 3", "mix mushroom < 2 4"),
)  # fmt: skip

OOD_RECIPES: tuple[Recipe, ...] = (
    _recipe("quiche", "mix dough", "pour dough < 0", "wash onion", "mix egg", "pour egg < 1 2 3", "bake egg < 4"),
    _recipe("curry", "chop carrot", "fry carrot < 0", "wash onion", "chop onion < 2", "boil onion < 1 3", "mix rice < 4"),
    _recipe("dumplings", "mix dough", "chop dough < 0", "wash fish", "boil fish < 2", "pour fish < 1 3", "fry dough < 4"),
    _recipe("fritters", "wash carrot", "peel carrot < 0", "mix egg", "mix carrot < 1 2", "pour carrot < 3", "fry carrot < 4"),
)  # fmt: skip
"""No arm is trained on clips or traces of them. The embedded base has read them as text, as any pretrained model would
have, and named frames of their steps in their order; it was never asked what comes next in a clip."""

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (*TRAIN_RECIPES, *OOD_RECIPES)}
STEP_LABELS: tuple[str, ...] = tuple(sorted({step for recipe in RECIPES.values() for step in recipe.steps}))


def may_follow(seen: Set[str]) -> set[str]:
    """Steps that may come next for someone who saw the steps `seen` and knows every recipe but not which one is cooked.

    All recipes that explain the most of what was seen count: after `chop onion` and `fry onion` it may be a soup or a stew.
    """
    shared = {recipe.name: len(seen & set(recipe.steps)) for recipe in RECIPES.values()}
    fitting = [recipe for recipe in RECIPES.values() if shared[recipe.name] == max(shared.values())]
    return {step for recipe in fitting for step in recipe.may_follow(seen)}
