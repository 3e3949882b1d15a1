"""Temperatures keep the order of answers; a threshold keeps its promise; what cannot be promised says what it takes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aot.evaluation.risk import (
    FIT_SHARE,
    Judged,
    Sample,
    binomial_tail,
    choose_threshold,
    fit_temperatures,
    measure,
    must_escalate,
    one_of_each_group,
    questions_needed,
    reply_confidence,
    split_groups,
    temperature_of,
    tempered,
    upper_bound,
)
from aot.served_records import CascadeThreshold


def simulated(seed: int, n: int) -> Sample:
    """Answers of a student whose confidence is the probability of being right."""
    rng = np.random.default_rng([seed, n])
    sure = rng.beta(6, 0.7, size=n)
    return Sample(sure, rng.random(n) >= sure)


def chosen(sample: Sample, *, target: float) -> CascadeThreshold:
    cut = int(FIT_SHARE * len(sample.lost))
    fit, test = (Sample(sample.confidence[part], sample.lost[part]) for part in (slice(cut), slice(cut, None)))
    return choose_threshold(fit, test, target=target, confidence=0.95, mode="decide", loss="wrong")


def choice(i: int, *, sharpness: float, rng: np.random.Generator, kind: str = "next") -> Judged:
    """A question whose stated log-probabilities are `sharpness` times too sharp."""
    true = rng.dirichlet([1, 1, 1])
    gold = int(rng.choice(3, p=true))
    logs = np.log(true) * sharpness
    logs -= np.logaddexp.reduce(logs)
    return Judged(
        kind=kind, group=str(i), logs=tuple(logs), gold=gold, right=int(np.argmax(logs)) == gold, question_id=str(i)
    )


@given(
    st.lists(st.floats(0, 1, allow_subnormal=False), min_size=2, max_size=8).filter(lambda p: sum(p) > 0),
    st.floats(0.05, 20),
)
@settings(max_examples=300, deadline=None)
def test_no_temperature_changes_the_likeliest_choice(weights: list[float], temperature: float) -> None:
    probs = [one / sum(weights) for one in weights]
    assert np.argmax(tempered(probs, temperature)) == np.argmax(probs)
    assert math.isclose(sum(tempered(probs, temperature)), 1, abs_tol=1e-9)


def test_a_student_that_is_too_sure_is_made_honest() -> None:
    rng = np.random.default_rng(0)
    items = [choice(i, sharpness=3, rng=rng) for i in range(1200)]
    fitted = fit_temperatures(items[:400], mode="decide")
    assert temperature_of("*", fitted) == pytest.approx(3, rel=0.15)
    shown = measure(items[400:], fitted, mode="decide")
    assert shown.ece_after < 0.06 < 0.15 < shown.ece_before and shown.brier_after < shown.brier_before
    assert sum(row.n for row in shown.bins_after) == shown.n == 800


def test_a_kind_with_few_questions_stays_near_the_general_temperature() -> None:
    rng = np.random.default_rng(1)
    many = [choice(i, sharpness=2, rng=rng) for i in range(400)]
    few = [choice(i, sharpness=9, rng=rng, kind="rare") for i in range(3)]
    fitted = fit_temperatures([*many, *few], mode="decide")
    general, rare = temperature_of("*", fitted), temperature_of("rare", fitted)
    assert abs(math.log(rare / general)) < 0.4
    assert temperature_of("never seen", fitted) == general


def test_written_replies_that_are_always_right_get_a_finite_temperature() -> None:
    items = [Judged(kind="sum", group=str(i), logs=(-1.0,), gold=None, right=True) for i in range(50)]
    fitted = fit_temperatures(items, mode="direct")
    assert 1 < temperature_of("sum", fitted) <= 20
    assert reply_confidence([-0.5, -0.5], temperature=2) == pytest.approx(math.exp(-0.5))


def test_the_binomial_bound_is_that_of_clopper_and_pearson() -> None:
    # Upper limits of one-sided 97.5%, as printed for 0/10, 1/10 and 5/20 in tables of the two-sided 95% interval.
    assert upper_bound(0, 10, confidence=0.975) == pytest.approx(0.3085, abs=5e-5)
    assert upper_bound(1, 10, confidence=0.975) == pytest.approx(0.4450, abs=5e-5)
    assert upper_bound(5, 20, confidence=0.975) == pytest.approx(0.4910, abs=5e-5)
    assert upper_bound(0, 0, confidence=0.95) == upper_bound(4, 4, confidence=0.95) == 1
    assert binomial_tail(30_000, 1_000_000, 0.03) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("target", [0.05, 0.1])
def test_the_promise_is_broken_in_no_more_than_one_of_twenty_calibrations(target: float) -> None:
    everything = simulated(0, 300_000)
    broken, kept = 0, 0
    for seed in range(1, 101):
        row = chosen(simulated(seed, 800), target=target)
        if row.threshold is not None:
            size, lost = everything.at(row.threshold)
            broken += lost / size > target
            kept += 1
    assert kept > 50
    assert broken <= 8  # of a binomial with n=100 and p=0.05, 8 or fewer come in 94 of 100 cases; the seeds are fixed


def test_a_threshold_says_what_it_rests_on() -> None:
    row = chosen(simulated(3, 2000), target=0.1)
    assert row.threshold is not None and row.errors / row.kept < row.upper <= 0.1
    assert row.n == 1500 and 0.5 < row.share_kept == row.kept / row.n < 1


def test_a_split_too_small_for_the_target_says_how_many_more_it_takes() -> None:
    never_wrong = Sample(np.linspace(0.5, 1, 40), np.zeros(40, dtype=bool))
    row = chosen(never_wrong, target=0.05)
    assert row.threshold is None and row.share_kept == 0
    assert row.missing == math.ceil((59 - row.kept) / (1 - FIT_SHARE))
    enough = Sample(np.linspace(0.5, 1, 40 + row.missing), np.zeros(40 + row.missing, dtype=bool))
    assert chosen(enough, target=0.05).threshold is not None


def test_more_questions_are_not_asked_for_where_they_would_not_help() -> None:
    hopeless = Sample(np.linspace(0.5, 1, 200), np.ones(200, dtype=bool))
    row = chosen(hopeless, target=0.05)
    assert (row.threshold, row.missing, row.base_risk) == (None, 0, 1.0)


def test_without_an_error_a_bound_takes_59_answers_for_one_in_twenty() -> None:
    assert questions_needed(target=0.05, confidence=0.95) == 59
    assert upper_bound(0, 59, confidence=0.95) <= 0.05 < upper_bound(0, 58, confidence=0.95)
    some = questions_needed(target=0.05, confidence=0.95, error_rate=0.02)
    assert some and upper_bound(math.ceil(0.02 * some), some, confidence=0.95) <= 0.05
    assert questions_needed(target=0.05, confidence=0.95, error_rate=0.05) is None


def test_the_least_share_to_escalate_is_that_of_a_perfect_choice() -> None:
    # 100 questions, 27 lost: escalate k lost ones, and (27 - k) / (100 - k) must be at most the target.
    least = next(k for k in range(100) if (27 - k) / (100 - k) <= 0.05)
    assert least - 1 < 100 * must_escalate(0.27, 0.05) <= least
    assert must_escalate(0.04, 0.05) == 0


def test_questions_without_an_answer_never_stay_and_count_in_the_base_risk() -> None:
    silent = Sample(np.full(300, -1.0), np.zeros(300, dtype=bool))
    sure = Sample(np.linspace(0.9, 1, 300), np.zeros(300, dtype=bool))
    mixed = Sample(
        np.concatenate([sure.confidence, silent.confidence])[np.argsort(np.arange(600) % 300, kind="stable")],
        np.zeros(600, dtype=bool),
    )
    row = chosen(mixed, target=0.05)
    assert row.threshold is not None and row.threshold > 0
    assert row.base_risk == pytest.approx(0.5) and row.share_kept <= 0.5


def test_questions_of_one_group_go_to_one_side_and_count_once() -> None:
    items = [Judged(kind="k", group=str(i // 5), logs=(-0.1,), gold=None, right=i % 5 > 0) for i in range(500)]
    fit, test = split_groups(items, seed=0)
    assert {one.group for one in fit}.isdisjoint(one.group for one in test)
    thin = one_of_each_group(test, seed=0)
    assert len(thin) == len({one.group for one in test}) == len(test) / 5
    # Not always the first of a group, which would be wrong here every time.
    assert 0.6 < np.mean([one.right for one in thin]) < 0.95


def test_copies_of_a_clip_prove_nothing() -> None:
    # One lucky clip, asked about 200 times: as 200 questions they would prove a risk below 2%.
    items = [Judged(kind="k", group="clip", logs=(-0.1,), gold=None, right=True) for _ in range(200)]
    thin = one_of_each_group(items, seed=0)
    sample = Sample(np.full(len(thin), 0.9), np.zeros(len(thin), dtype=bool))
    row = choose_threshold(sample, sample, target=0.02, confidence=0.95, mode="decide", loss="wrong")
    assert row.threshold is None and row.n == 1
