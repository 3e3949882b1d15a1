"""Paired comparisons of two arms on the same questions.

Two views stand side by side: McNemar's exact test (1947; it takes questions as independent) and a sign-flip test over
whole clusters (it does not). The size of the difference comes with a bootstrap interval over clusters.
"""

import functools
from dataclasses import dataclass

import numpy as np

from aot.evaluation.intervals import Bootstrap, Interval


@dataclass(frozen=True)
class PairedResult:
    """Accuracy of one arm minus that of another on the same questions."""

    difference: Interval
    wins: int
    """Questions that only the first arm got right."""
    losses: int
    """Questions that only the second arm got right."""
    p_mcnemar: float
    p_clustered: float

    @property
    def note(self) -> str:
        """The tests in one line, as metric rows carry them."""
        discordant = self.wins + self.losses
        return (
            f"McNemar exact {format_p(self.p_mcnemar)} ({discordant} discordant: {self.wins} for, "
            f"{self.losses} against); sign-flip over clusters {format_p(self.p_clustered)}"
        )


def format_p(p: float) -> str:
    """A p value for people.

    >>> format_p(0.04217), format_p(1e-9)
    ('p=0.042', 'p below 0.0001')
    """
    return "p below 0.0001" if p < 0.0001 else f"p={p:.2g}"


def mcnemar_exact(*, wins: int, losses: int) -> float:
    """Two-sided exact p value of `wins` against `losses` under a fair coin.

    >>> mcnemar_exact(wins=9, losses=1)
    0.021484375
    """
    total, fewer = wins + losses, min(wins, losses)
    if total == 0:
        return 1.0
    # Whole numbers: a sum of floats would lose the tail that the test is about.
    ways, tail = 1, 0
    for k in range(fewer + 1):
        tail += ways
        ways = ways * (total - k) // (k + 1)
    return min(1.0, 2 * tail / (1 << total))


def sign_flip_p(differences: np.ndarray, cluster_ids: np.ndarray, bootstrap: Bootstrap) -> float:
    """Two-sided p value of a summed paired difference when each cluster's sign is a fair coin."""
    sums_G = np.bincount(cluster_ids, weights=differences)
    if not sums_G.any():
        return 1.0
    signs_BG = _signs_BG(len(sums_G), bootstrap.samples, bootstrap.seed)
    extreme = np.abs(signs_BG @ sums_G) >= abs(float(sums_G.sum())) - 1e-9
    # The sample itself is one of the sign patterns (Phipson and Smyth 2010), so p is never 0.
    return float((1 + extreme.sum()) / (1 + bootstrap.samples))


def compare(first: np.ndarray, second: np.ndarray, cluster_ids: np.ndarray, bootstrap: Bootstrap) -> PairedResult:
    """`first` minus `second`, two boolean arrays (n,) over the same questions in the same order."""
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    differences = first.astype(float) - second.astype(float)
    wins, losses = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    return PairedResult(
        difference=bootstrap.mean(differences, cluster_ids, bounds=(-1.0, 1.0)),
        wins=wins,
        losses=losses,
        p_mcnemar=mcnemar_exact(wins=wins, losses=losses),
        p_clustered=sign_flip_p(differences, cluster_ids, bootstrap),
    )


@functools.lru_cache(maxsize=8)
def _signs_BG(num_clusters: int, samples: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, num_clusters, samples, 7])
    signs = rng.integers(0, 2, size=(samples, num_clusters)) * 2.0 - 1.0
    signs.setflags(write=False)
    return signs
