"""Problems about who stands where on a scale, such as who of several people is the tallest.

Solved by putting one relation after the other into a single order, written `Cid > Ann > Bob`.
"""

from numpy.random import Generator

from aot.records import Record
from text_cot.families.base import Family, Granularity, Scope, State, pick, pick_some

SCALES = {
    "tall": ("taller", "shorter", "tallest", "shortest"),
    "old": ("older", "younger", "oldest", "youngest"),
    "fast": ("faster", "slower", "fastest", "slowest"),
    "strong": ("stronger", "weaker", "strongest", "weakest"),
}
"""Scale to (more, less, most, least)."""


class Relation(Record):
    """Who is above whom, and whether that is told as `more` or as `less`."""

    above: str
    below: str
    told_as_more: bool


class OrderState(State):
    """A ranking from top to bottom and the relations that give it away."""

    ranking: tuple[str, ...]
    relations: tuple[Relation, ...]
    """Between neighbours; in distribution each one extends the order told so far at one of its ends."""
    scale: str
    asks_most: bool


def _make(rng: Generator, steps: int, scope: Scope) -> OrderState:
    ranking = pick_some(rng, scope.names, steps + 1)
    first = int(rng.integers(steps))
    places, low, high = [first], first, first
    while len(places) < steps:  # grow the stretch of neighbours that are related at one of its ends
        down = high + 1 < steps and (low == 0 or rng.random() < 0.5)
        low, high = (low, high + 1) if down else (low - 1, high)
        places.append(high if down else low)
    relations = tuple(
        Relation(above=ranking[i], below=ranking[i + 1], told_as_more=bool(rng.random() < 0.5)) for i in places
    )
    return OrderState(
        family="order", category="logic", steps=steps, ranking=tuple(ranking), relations=relations,
        scale=pick(rng, tuple(SCALES)), asks_most=bool(rng.random() < 0.5),
    )  # fmt: skip


def _ask(state: OrderState) -> str:
    more, less, most, least = SCALES[state.scale]
    clauses = [
        f"{r.above} is {more} than {r.below}." if r.told_as_more else f"{r.below} is {less} than {r.above}."
        for r in state.relations
    ]
    if state.extra:
        clauses.insert(1, state.extra)
    return " ".join([*clauses, f"Who is the {most if state.asks_most else least}?"])


def _shuffled(state: OrderState, rng: Generator) -> OrderState:
    """Told so that some relation shares no name with those before it; fewer than three relations stay as they are."""
    relations = state.relations
    while len(relations) > 2 and not _stands_apart(relations):
        relations = tuple(state.relations[int(i)] for i in rng.permutation(len(relations)))
    return state.model_copy(update={"relations": relations})


def _stands_apart(relations: tuple[Relation, ...]) -> bool:
    names = {relations[0].above, relations[0].below}
    for relation in relations[1:]:
        pair = {relation.above, relation.below}
        if not names & pair:
            return True
        names |= pair
    return False


def _solve(state: OrderState, granularity: Granularity, phrasing: int) -> tuple[str, ...]:
    order = " > ".join(state.ranking)
    end = ("first", "last")[0 if state.asks_most else 1]
    answer = state.ranking[0 if state.asks_most else -1]
    if granularity == "coarse":
        return (f"{order}.",) if phrasing == 0 else (f"{order}, {answer} is {end}.",)
    lines, placed = [], set()
    for relation in state.relations:
        placed |= {relation.above, relation.below}
        so_far = " > ".join(name for name in state.ranking if name in placed)
        pair = f"{relation.above} > {relation.below}"
        lines.append(f"{pair}: {so_far}." if phrasing == 0 else f"Put {pair} in: {so_far}.")
    return (*lines, f"{answer} is {end}.")


ORDERS = Family(  # `Ann is taller than Bob. Who is the tallest?`
    name="order", answer_type="text", max_steps=4, state_type=OrderState, make=_make, ask=_ask, solve=_solve,
    answer=lambda s: s.ranking[0 if s.asks_most else -1], reorder=_shuffled,
)  # fmt: skip
