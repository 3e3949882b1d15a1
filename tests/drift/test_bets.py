"""Bets on labelled answers: expected to gain nothing while all is well, and soon rich when it is not."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from aot.drift.bets import TOLERANCE, lost_after, lost_wealth, mean_after, predicted_value
from aot.drift.records import LostState, MeanState
from aot.serving.cascade.watch import log_wealth

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import sim_drift


def test_money_on_canaries_is_expected_to_stay_what_it_is() -> None:
    state = LostState()
    for name, wrong in (("a", True), ("b", False), ("a", True), ("c", True), ("a", False)):
        before = math.exp(lost_wealth(state))
        for canary in "abc":
            after = [math.exp(lost_wealth(lost_after(state, canary, is_wrong=one))) for one in (True, False)]
            mean = TOLERANCE * after[0] + (1 - TOLERANCE) * after[1]
            # Gamblers on every ask who begin later count only then: so the sum may rise by their share, below 1/2.
            assert mean <= before + 0.5 + 1e-9 if state.bets.n % 25 == 0 else mean == pytest.approx(before)
        state = lost_after(state, name, is_wrong=wrong)


def test_a_canary_that_stays_wrong_is_found_however_long_it_was_quiet() -> None:
    state = LostState()
    for i in range(3000):
        state = lost_after(state, f"c{i % 60}", is_wrong=False)
    quiet = lost_wealth(state)
    for _ in range(2):
        state = lost_after(state, "c5", is_wrong=True)
    assert quiet < 0.1 and lost_wealth(state) > math.log(200)
    assert [one.wrong for one in state.suspicions] == [2]


def test_a_canary_that_flickers_makes_nobody_rich() -> None:
    state = LostState()
    for i in range(2000):
        state = lost_after(state, f"c{i % 60}", is_wrong=i % 500 == 0)
    assert lost_wealth(state) < math.log(20) and not state.suspicions


def test_a_mean_at_its_promise_makes_nobody_rich_and_a_lower_one_does() -> None:
    rng = np.random.default_rng(0)
    kept, broken = MeanState(), MeanState()
    for _ in range(800):
        kept = mean_after(kept, float(rng.random() < 0.9), promised=0.9)
        broken = mean_after(broken, float(rng.random() < 0.8), promised=0.9)
    assert log_wealth(kept.bets.runs) < 3 and log_wealth(broken.bets.runs) > 6


def test_confidences_without_labels_stand_for_accuracy_until_a_label_corrects_them() -> None:
    assert predicted_value(right=True, confidence=None, mean_confidence=0.8) == 1
    assert predicted_value(right=False, confidence=0.9, mean_confidence=0.8) == pytest.approx(-0.1)


def test_the_simulation_bets_as_the_watch_does() -> None:
    rng = np.random.default_rng(3)
    many, states = sim_drift.ManyLost(3), [LostState() for _ in range(3)]
    for i in range(900):
        wrong = rng.random(3) < (0.02 if i < 800 else 0.5)
        made = many.step(wrong, i % 7)
        states = [lost_after(one, str(i % 7), is_wrong=bool(w)) for one, w in zip(states, wrong, strict=True)]
        if wrong.any():
            assert made == pytest.approx([lost_wealth(one) for one in states], rel=1e-9)
    means, ways = [MeanState() for _ in range(3)], sim_drift.ManyBets(3, len(sim_drift.FRACTIONS))
    for _ in range(700):
        value = (rng.random(3) < 0.8).astype(float)
        gains = np.log1p(np.array(sim_drift.FRACTIONS)[None] / 0.15 * (0.85 - value[:, None]))
        made = ways.step(gains)
        means = [mean_after(one, v, promised=0.85) for one, v in zip(means, value, strict=True)]
    assert made == pytest.approx([log_wealth(one.bets.runs) for one in means], rel=1e-9)


def test_items_that_are_skipped_together_are_as_those_one_by_one() -> None:
    gains, one, many = np.array([-0.1, -0.02]), sim_drift.ManyBets(2, 2), sim_drift.ManyBets(2, 2)
    for count in (1, 3, 24, 25, 26, 7, 60, 0, 500):
        for _ in range(count):
            one.go(np.stack([gains, gains]))
        many.skip(gains, count)
        assert many.number == one.number and many.wealth() == pytest.approx(one.wealth())
