"""Families whose problems keep a running total: sums, stories, unknown numbers, clock times, and comparisons.

They share one state, a start and moves up or down, and differ in what they ask and how they word a step.
"""

from collections.abc import Callable
from itertools import accumulate

from numpy.random import Generator

from aot.records import Record
from text_cot.families.base import Family, Granularity, Scope, State, pick, pick_some

GAINS = ("buys", "finds", "gets", "wins")
LOSSES = ("loses", "sells", "gives away", "drops")
LEGS = ("walk", "bus ride", "train ride", "visit", "break", "meal")
MINUTES = tuple(range(5, 60, 5))
FIRST_HOUR, LAST_HOUR = 6, 18


class Move(Record):
    """One change of the total."""

    amount: int
    """Signed."""
    word: str = ""
    """The verb of a story, the leg of a trip, or the person of a comparison."""


class TotalState(State):
    """A start and the moves that follow; a clock time is counted in minutes from midnight."""

    start: int
    moves: tuple[Move, ...]
    names: tuple[str, ...] = ()
    thing: str = ""
    start_last: bool = False
    """Whether the start is told after the moves."""

    def totals(self) -> list[int]:
        """The start and the total after each move."""
        return list(accumulate((move.amount for move in self.moves), initial=self.start))


def clock(minutes: int) -> str:
    """A time of day as a clock shows it.

    >>> clock(580)
    '9:40'
    """
    return f"{minutes // 60}:{minutes % 60:02d}"


def _making(
    family: str, category: str, details: Callable[..., dict[str, object]], word: Callable[..., str] | None = None
) -> Callable[[Generator, int, Scope], TotalState]:
    def make(rng: Generator, steps: int, scope: Scope) -> TotalState:
        about = details(rng, scope, steps)
        signs = [bool(rng.random() < 0.5) for _ in range(steps)]
        start, amounts = _numbers(rng, signs, scope)
        moves = [
            Move(amount=amount, word=word(rng, amount > 0, i, about) if word else "")
            for i, amount in enumerate(amounts)
        ]
        return TotalState.model_validate(
            {"family": family, "category": category, "steps": steps, "start": start, "moves": tuple(moves), **about}
        )

    return make


def _numbers(rng: Generator, signs: list[bool], scope: Scope) -> tuple[int, list[int]]:
    """A start and signed amounts whose totals stay between 0 and `scope.most`; drawn again until they do."""
    while True:
        start = total = int(rng.integers(scope.low, scope.high + 1))
        amounts: list[int] = []
        for up in signs:
            room = scope.most - total if up else total
            if room < scope.low:
                break
            amount = int(rng.integers(scope.low, min(scope.high, room) + 1))
            amounts.append(amount if up else -amount)
            total += amounts[-1]
        if len(amounts) == len(signs):
            return start, amounts


def _renumber(state: TotalState, rng: Generator, scope: Scope) -> TotalState:
    start, amounts = _numbers(rng, [move.amount > 0 for move in state.moves], scope)
    return _with_numbers(state, start, amounts)


def _with_numbers(state: TotalState, start: int, amounts: list[int]) -> TotalState:
    moves = tuple(move.model_copy(update={"amount": amount}) for move, amount in zip(state.moves, amounts, strict=True))
    return state.model_copy(update={"start": start, "moves": moves})


def _clock_numbers(rng: Generator, steps: int) -> tuple[int, list[int]]:
    start = 60 * int(rng.integers(FIRST_HOUR, LAST_HOUR + 1)) + 5 * int(rng.integers(12))
    return start, [int(rng.choice(MINUTES)) for _ in range(steps)]


def _make_clock(rng: Generator, steps: int, scope: Scope) -> TotalState:
    start, amounts = _clock_numbers(rng, steps)
    legs = [LEGS[int(i)] for i in rng.integers(len(LEGS), size=steps)]
    moves = tuple(Move(amount=amount, word=leg) for amount, leg in zip(amounts, legs, strict=True))
    return TotalState(family="clock", category="temporal", steps=steps, start=start, moves=moves)


def _renumber_clock(state: TotalState, rng: Generator, scope: Scope) -> TotalState:
    return _with_numbers(state, *_clock_numbers(rng, state.steps))


def _signed(amount: int) -> str:
    return f" {_op(amount)} {abs(amount)}"


def _op(amount: int) -> str:
    return "+" if amount > 0 else "-"


def _spoken(move: Move) -> str:
    return f"{'plus' if move.amount > 0 else 'minus'} {abs(move.amount)}"


def _joined(first: str, changes: list[str], state: TotalState, *, last: str, question: str) -> str:
    clauses = [*changes, last] if state.start_last else [first, *changes]
    if state.extra:
        clauses.insert(1, state.extra)
    return " ".join([*clauses, question])


def _ask_story(state: TotalState) -> str:
    name, thing = state.names[0], state.thing
    changes = [f"{name} {move.word} {abs(move.amount)} {thing}." for move in state.moves]
    first, last = f"{name} has {state.start} {thing}.", f"At first {name} has {state.start} {thing}."
    return _joined(first, changes, state, last=last, question=f"How many {thing} does {name} have at the end?")


def _ask_clock(state: TotalState) -> str:
    changes = [f"A {move.word} takes {move.amount} minutes." for move in state.moves]
    first = f"A trip starts at {clock(state.start)}."
    return _joined(
        first, changes, state, last=f"The trip starts at {clock(state.start)}.", question="When does it end?"
    )


def _ask_comparison(state: TotalState) -> str:
    names, thing = state.names, state.thing
    clauses = [f"{names[0]} has {state.start} {thing}."]
    for before, move in zip(names, state.moves, strict=False):
        more = "more" if move.amount > 0 else "less"
        clauses.append(f"{move.word} has {abs(move.amount)} {more} than {before}.")
    return " ".join([*clauses, f"How many {thing} does {names[-1]} have?"])


Wording = dict[str, tuple[str, str]]
"""`start` and `up`, `down`: a fine step in each phrasing; `equation` is what all of them share."""
_SUM: Wording = {
    "start": ("We start with {start}.", "At first {start}."),
    "up": ("Then plus {n}: {equation}.", "Add {n}: {equation}."),
    "down": ("Then minus {n}: {equation}.", "Take away {n}: {equation}."),
}
_STORY: Wording = {
    "start": ("{name} has {start}.", "At first {start}."),
    "up": ("{name} {word} {n}: {equation}.", "Add {n}: {equation}."),
    "down": ("{name} {word} {n}: {equation}.", "Take away {n}: {equation}."),
}
_UNKNOWN: Wording = {
    "start": ("We end with {start}.", "At the end {start}."),
    "up": ("Undo minus {n}: {equation}.", "Add {n}: {equation}."),
    "down": ("Undo plus {n}: {equation}.", "Take away {n}: {equation}."),
}
_CLOCK: Wording = {
    "start": ("We start at {start}.", "At first {start}."),
    "up": ("The {word} takes {n} minutes: {equation}.", "Add {n} minutes: {equation}."),
    "down": ("", ""),
}
_COMPARISON: Wording = {
    "start": ("{name} has {start}.", "At first {start}."),
    "up": ("{word} has {n} more: {equation}.", "Add {n}: {equation}."),
    "down": ("{word} has {n} less: {equation}.", "Take away {n}: {equation}."),
}
COARSE_JOINTS = (".\n", ", ")
"""A coarse chain is its equations and nothing else: one to a line, or all in one line."""


def _solving(wording: Wording) -> Callable[[TotalState, Granularity, int], tuple[str, ...]]:
    return lambda state, granularity, phrasing: _chain(state, wording, granularity, phrasing)


def _solve_unknown(state: TotalState, granularity: Granularity, phrasing: int) -> tuple[str, ...]:
    """Backwards from the end: the moves in reverse, with their signs turned."""
    moves = tuple(move.model_copy(update={"amount": -move.amount}) for move in reversed(state.moves))
    back = state.model_copy(update={"start": state.totals()[-1], "moves": moves})
    return _chain(back, _UNKNOWN, granularity, phrasing)


def _chain(state: TotalState, wording: Wording, granularity: Granularity, phrasing: int) -> tuple[str, ...]:
    is_clock = state.family == "clock"
    totals = state.totals()
    shown = [clock(total) for total in totals] if is_clock else [str(total) for total in totals]
    equations = [
        f"{before} {_op(move.amount)} {abs(move.amount)}{' minutes' if is_clock else ''} = {after}"
        for before, after, move in zip(shown, shown[1:], state.moves, strict=False)
    ]
    if granularity == "coarse":
        return tuple((COARSE_JOINTS[phrasing].join(equations) + ".").split("\n"))
    name = state.names[0] if state.names else ""
    lines = [wording["start"][phrasing].format(start=shown[0], name=name)]
    for move, equation in zip(state.moves, equations, strict=True):
        words = wording["up" if move.amount > 0 else "down"][phrasing]
        lines.append(words.format(n=abs(move.amount), equation=equation, name=name, word=move.word))
    return tuple(lines)


def _names_and_thing(rng: Generator, scope: Scope, count: int) -> dict[str, object]:
    names = (pick(rng, scope.names),) if count == 1 else tuple(pick_some(rng, scope.names, count))
    return {"names": names, "thing": pick(rng, scope.things)}


def _start_last(state: TotalState, rng: Generator) -> TotalState:
    return state.model_copy(update={"start_last": True})


TOTALS = (
    Family(  # `What is 12 + 7 - 5?`
        name="sum", answer_type="integer", max_steps=4, state_type=TotalState,
        make=_making("sum", "arithmetic", lambda rng, scope, steps: {}),
        ask=lambda s: f"What is {s.start}{''.join(_signed(m.amount) for m in s.moves)}?",
        solve=_solving(_SUM), answer=lambda s: str(s.totals()[-1]), renumber=_renumber,
    ),
    Family(  # `Ann has 12 apples. Ann buys 7 apples. How many apples does Ann have?`
        name="story", answer_type="integer", max_steps=4, state_type=TotalState,
        make=_making("story", "arithmetic", lambda rng, scope, steps: _names_and_thing(rng, scope, 1),
                     word=lambda rng, up, i, s: pick(rng, GAINS if up else LOSSES)),
        ask=_ask_story, solve=_solving(_STORY), answer=lambda s: str(s.totals()[-1]), renumber=_renumber,
        reorder=_start_last,
    ),
    Family(  # `A number plus 5 minus 3 is 10. What is the number?`; solved backwards
        name="unknown", answer_type="integer", max_steps=3, state_type=TotalState,
        make=_making("unknown", "algebra", lambda rng, scope, steps: {}),
        ask=lambda s: f"A number {' '.join(map(_spoken, s.moves))} is {s.totals()[-1]}. What is the number?",
        solve=_solve_unknown, answer=lambda s: str(s.start), renumber=_renumber,
    ),
    Family(  # `A trip starts at 9:40. The walk takes 35 minutes. When does the trip end?`
        name="clock", answer_type="clock", max_steps=4, state_type=TotalState,
        make=_make_clock, ask=_ask_clock, solve=_solving(_CLOCK), answer=lambda s: clock(s.totals()[-1]),
        renumber=_renumber_clock, reorder=_start_last,
    ),
    Family(  # `Ann has 12 apples. Bob has 7 more than Ann. How many apples does Bob have?`
        name="comparison", answer_type="integer", max_steps=3, state_type=TotalState,
        make=_making("comparison", "arithmetic", lambda rng, scope, steps: _names_and_thing(rng, scope, steps + 1),
                     word=lambda rng, up, i, s: s["names"][i + 1]),
        ask=_ask_comparison, solve=_solving(_COMPARISON), answer=lambda s: str(s.totals()[-1]), renumber=_renumber,
    ),
)  # fmt: skip
