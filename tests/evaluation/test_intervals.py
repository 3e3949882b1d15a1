import math

import numpy as np
import pytest

from aot.evaluation.intervals import (
    Bootstrap,
    cluster_ids,
    design_effect,
    proportion,
    ratio_of_shares,
    student_t95,
    weighted_proportion,
)
from aot.records import Interval
from aot.wilson import wilson


def interval(value: float, low: float, high: float) -> Interval:
    return Interval(value=value, low=low, high=high, n=90, num_clusters=90)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 10, 0.0, 0.27753), (8, 10, 0.49016, 0.94332), (10, 10, 0.72247, 1.0), (81, 263, 0.25528, 0.36622)],
)
def test_wilson_gives_the_published_values(hits: int, n: int, low: float, high: float) -> None:
    assert wilson(hits=hits, n=n) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(("degrees", "quantile"), [(1, 12.706), (9, 2.262), (10, 2.228), (30, 2.042), (120, 1.980)])
def test_student_quantiles_match_the_tables(degrees: int, quantile: float) -> None:
    assert student_t95(degrees) == pytest.approx(quantile, abs=1e-3)


def test_design_effect_is_the_cluster_size_when_clusters_agree_with_themselves() -> None:
    hits = np.repeat([0.0, 1.0] * 10, 4)
    ids = np.repeat(np.arange(20), 4)
    # Clustered variance: 20/19 * 20 * (4 * 0.5)^2 / 80^2; binomial: 0.25 / 80; their ratio is 4 * 20/19.
    assert design_effect(hits, ids) == pytest.approx(4 * 20 / 19)


def test_clustered_interval_is_wider_than_that_of_independent_items() -> None:
    hits = np.repeat([0.0, 1.0] * 10, 4)
    together, apart = proportion(hits, np.repeat(np.arange(20), 4)), proportion(hits, np.arange(80))
    assert (together.n, together.num_clusters, apart.num_clusters) == (80, 20, 80)
    assert together.high - together.low > 1.9 * (apart.high - apart.low)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_or_nothing_never_has_zero_width_and_counts_clusters_only(value: float) -> None:
    few = proportion(np.full(40, value), np.repeat(np.arange(4), 10))
    many = proportion(np.full(40, value), np.arange(40))
    assert few.high - few.low > many.high - many.low > 0.05
    assert few.low <= value <= few.high


def test_equal_weights_change_nothing_and_unequal_ones_widen_the_interval() -> None:
    hits, ids = np.random.default_rng(2).random(200) < 0.3, np.repeat(np.arange(50), 4)
    plain, equal = proportion(hits, ids), weighted_proportion(hits, np.full(200, 0.7), ids)
    assert (equal.value, equal.low, equal.high) == pytest.approx((plain.value, plain.low, plain.high))
    heavy = weighted_proportion(np.ones(200), np.where(np.arange(200) < 4, 50.0, 1.0), np.arange(200))
    assert heavy.high == 1.0 and heavy.low < weighted_proportion(np.ones(200), np.ones(200), np.arange(200)).low


def test_one_cluster_says_almost_nothing() -> None:
    one = proportion(np.array([1.0, 1.0, 0.0]), np.zeros(3, dtype=int))
    assert (one.low, one.high) == (0.0, 1.0)


def test_bootstrap_mean_agrees_with_the_clustered_standard_error() -> None:
    rng = np.random.default_rng(1)
    values = rng.random(400)
    interval = Bootstrap(4000, 0).mean(values, np.arange(400), bounds=(0, 1))
    half = 1.96 * values.std(ddof=1) / math.sqrt(400)
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.06)


def test_bootstrap_of_equal_values_falls_back_to_the_wilson_bound() -> None:
    interval = Bootstrap(200, 0).mean(np.ones(30), np.arange(30), bounds=(0, 1))
    assert (interval.low, interval.high) == (pytest.approx(wilson(hits=30, n=30)[0]), 1.0)


def test_same_seed_gives_the_same_interval_and_another_seed_does_not() -> None:
    values, ids = np.random.default_rng(0).random(50), np.arange(50)
    draws = [Bootstrap(300, seed).mean(values, ids, bounds=(0, 1)) for seed in (3, 3, 4)]
    assert draws[0] == draws[1] != draws[2]


def test_ratio_of_symmetric_intervals_is_fiellers() -> None:
    a, b, half_a, half_b = 0.4, 0.8, 0.1, 0.1
    found = ratio_of_shares(interval(a, a - half_a, a + half_a), interval(b, b - half_b, b + half_b))
    # Fieller 1954: the ratios r with (a - r b)^2 = half_a^2 + r^2 half_b^2.
    roots = np.roots([b**2 - half_b**2, -2 * a * b, a**2 - half_a**2])
    assert found and (found.low, found.high) == pytest.approx(sorted(roots))
    assert ratio_of_shares(interval(a, 0.3, 0.5), interval(0.1, 0.0, 0.3)) is None


def test_no_items_is_an_error_and_not_a_number() -> None:
    with pytest.raises(ValueError, match="at least one"):
        proportion(np.array([]), np.array([], dtype=int))


def test_clusters_are_numbered_by_sorted_name() -> None:
    assert cluster_ids(["b", "a", "b"]).tolist() == [1, 0, 1]
