"""Families of problems: what they ask has one answer, and their chains lead to it."""

import re

import pytest
from numpy.random import default_rng

from text_cot.datasets.toy_math import SCOPE, draw_problem, sized
from text_cot.families import FAMILIES

NUMERIC = ("sum", "story", "comparison")
_EQUATION = re.compile(r"(\d+) ([+-]) (\d+) = (\d+)")


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("granularity", ["coarse", "fine"])
@pytest.mark.parametrize("phrasing", [0, 1])
def test_a_chain_ends_with_the_answer(name: str, granularity: str, phrasing: int) -> None:
    for seed in range(30):
        problem = draw_problem(default_rng(seed), name, steps=1 + seed % 4)
        last = problem.family.solve(problem.state, granularity, phrasing)[-1]
        answer = problem.family.answer(problem.state)
        assert answer in re.findall(r"[\w:]+", last)


@pytest.mark.parametrize("name", [*NUMERIC, "unknown"])
def test_every_equation_of_a_chain_holds_and_takes_up_the_result_before(name: str) -> None:
    for seed in range(30):
        problem = draw_problem(default_rng(seed), name, steps=4, scope=sized(SCOPE, 3) if seed % 2 else SCOPE)
        found = _EQUATION.findall(" ".join(problem.family.solve(problem.state, "fine", seed % 2)))
        assert len(found) == 4
        for a, sign, b, result in found:
            assert int(result) == (int(a) + int(b) if sign == "+" else int(a) - int(b))
        assert [step[3] for step in found[:-1]] == [step[0] for step in found[1:]]


@pytest.mark.parametrize("name", [*NUMERIC, "unknown"])
def test_totals_stay_within_the_scope(name: str) -> None:
    for seed in range(50):
        state = draw_problem(default_rng(seed), name, steps=4).state
        assert all(0 <= total <= SCOPE.most for total in state.totals())


def test_an_unknown_number_fits_its_question() -> None:
    problem = draw_problem(default_rng(3), "unknown", steps=3)
    total = int(problem.family.answer(problem.state))
    for word, amount in re.findall(r"(plus|minus) (\d+)", problem.text):
        total += int(amount) if word == "plus" else -int(amount)
    assert f"is {total}. What" in problem.text


def test_relations_give_the_whole_order_away() -> None:
    for seed in range(30):
        state = draw_problem(default_rng(seed), "order", steps=4).state
        pairs = {(relation.above, relation.below) for relation in state.relations}
        assert pairs == set(zip(state.ranking, state.ranking[1:], strict=False))


def test_a_clock_never_passes_midnight() -> None:
    for seed in range(50):
        state = draw_problem(default_rng(seed), "clock", steps=6).state
        assert max(state.totals()) < 24 * 60


def test_reordered_relations_stand_apart() -> None:
    family = FAMILIES["order"]
    for seed in range(20):
        rng = default_rng(seed)
        state = family.reorder(family.make(rng, 3, SCOPE), rng)
        first, second = state.relations[:2]
        assert not {first.above, first.below} & {second.above, second.below}
