import numpy as np
import pytest

from aot.evaluation.intervals import Bootstrap
from aot.evaluation.paired import compare, mcnemar_exact


@pytest.mark.parametrize(
    ("wins", "losses", "p"), [(0, 0, 1.0), (5, 5, 1.0), (9, 1, 0.021484375), (0, 6, 0.03125), (15, 5, 0.04138947)]
)
def test_mcnemar_is_the_two_sided_binomial(wins: int, losses: int, p: float) -> None:
    assert mcnemar_exact(wins=wins, losses=losses) == pytest.approx(p)


def test_mcnemar_stays_finite_for_thousands_of_pairs() -> None:
    assert 0 < mcnemar_exact(wins=2100, losses=1900) < 0.01


def test_comparison_counts_discordant_pairs_and_says_so() -> None:
    first = np.array([1, 1, 1, 1, 0, 0], dtype=bool)
    second = np.array([1, 0, 0, 0, 1, 0], dtype=bool)
    result = compare(first, second, np.arange(6), Bootstrap(500, 0))
    assert (result.wins, result.losses, result.difference.value) == (3, 1, pytest.approx(2 / 6))
    assert "4 discordant: 3 for, 1 against" in result.note


def test_identical_arms_get_an_interval_around_zero_and_no_evidence() -> None:
    same = np.array([1, 0] * 20, dtype=bool)
    result = compare(same, same, np.arange(40), Bootstrap(200, 0))
    assert result.p_mcnemar == result.p_clustered == 1.0
    assert result.difference.low < 0 < result.difference.high


def test_agreement_inside_clips_weakens_the_clustered_test_but_not_mcnemar() -> None:
    first, second = np.ones(40, dtype=bool), np.zeros(40, dtype=bool)
    few = compare(first, second, np.repeat(np.arange(4), 10), Bootstrap(2000, 0))
    assert few.p_mcnemar < 1e-9
    assert few.p_clustered == pytest.approx(2 / 16, abs=0.03)
