"""95% intervals that respect clusters: questions about one clip are not independent draws.

Proportions get a Wilson interval on the effective sample size (Korn and Graubard 1998, as compared by Franco et al.
2019): n is divided by the design effect of the clustered variance (Miller 2024, arXiv 2411.00640, section 2.2) and
corrected for few clusters with Student's t. Means and ratios get a percentile bootstrap over whole clusters. Neither
ever has zero width: where every value is the same, the Wilson bound for "no deviation seen in G clusters" is used.

Legend: n items, G clusters, B bootstrap samples, K columns.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np

from aot.records import Interval
from aot.wilson import Z95, wilson

_T95_SMALL = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764, 5: 2.5706, 6: 2.4469, 7: 2.3646, 8: 2.3060, 9: 2.2622}


def student_t95(degrees: int) -> float:
    """Two-sided 95% quantile of Student's t; exact table below 10 degrees, Cornish-Fisher above (error < 0.0005).

    >>> round(student_t95(30), 3)
    2.042
    """
    if degrees < 1:
        return math.inf
    if degrees in _T95_SMALL:
        return _T95_SMALL[degrees]
    z, v = Z95, degrees
    # Abramowitz and Stegun 26.7.5, to the third order: below 10 degrees it would be wrong, hence the table.
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    return z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v * v) + third


def design_effect(hits: np.ndarray, cluster_ids: np.ndarray) -> float:
    """Clustered variance of the mean of 0/1 `hits` over its binomial variance, at least 1.

    Where every hit is the same, the variance says nothing and the worst case is taken: one item's worth of
    information for each cluster.
    """
    n, num_clusters = len(hits), _count(cluster_ids)
    p = float(np.mean(hits))
    if p in (0.0, 1.0):
        return n / num_clusters
    # One cluster says nothing about the spread between clusters: all of it is one piece of information.
    if num_clusters < 2:
        return float(n)
    residual_G = np.bincount(cluster_ids, weights=hits - p, minlength=num_clusters)
    # Residuals are summed within a cluster before they are squared: answers that err together do not average out.
    clustered = num_clusters / (num_clusters - 1) * float(np.sum(residual_G**2)) / n**2
    # Below 1 the clusters look more alike than chance would have them: noise, and no licence for a narrower interval.
    return min(float(n), max(1.0, clustered / (p * (1 - p) / n)))


def proportion(hits: np.ndarray, cluster_ids: np.ndarray) -> Interval:
    """Share of true `hits` (n,) with a clustered Wilson interval; `cluster_ids` (n,) count from 0 without gaps.

    Raises:
        ValueError: there are no items.
    """
    hits = np.asarray(hits, dtype=float)
    if len(hits) == 0:
        raise ValueError("a proportion needs at least one item, got none")
    num_clusters = _count(cluster_ids)
    # The clustered variance is itself estimated, from few clusters badly; shrinking n by (z/t)^2 widens Wilson's
    # interval as Student's t widens a normal one (Korn and Graubard 1998).
    few_clusters = (Z95 / student_t95(num_clusters - 1)) ** 2
    effective_n = len(hits) / design_effect(hits, cluster_ids) * few_clusters
    p = float(np.mean(hits))
    low, high = wilson(hits=p * effective_n, n=effective_n)
    return _around(p, low, high, len(hits), num_clusters)


def weighted_proportion(hits: np.ndarray, weights: np.ndarray, cluster_ids: np.ndarray) -> Interval:
    """Weighted share of true `hits` (n,) with a clustered Wilson interval; every weight (n,) is positive.

    The effective sample size is that of a survey (Korn and Graubard 1998): binomial over clustered variance of the
    weighted mean, at most (sum of weights)^2 / (sum of their squares), Kish 1965, where every hit is the same.
    """
    hits, num_clusters = np.asarray(hits, dtype=float), _count(cluster_ids)
    shares = weights / weights.sum()
    p, items = float(shares @ hits), 1 / float(shares @ shares)
    # With all hits alike the clustered variance is 0 and would claim an endless sample: then clusters are counted.
    if num_clusters > 1 and hits.any() and not hits.all():
        residual_G = np.bincount(cluster_ids, weights=shares * (hits - p), minlength=num_clusters)
        variance = num_clusters / (num_clusters - 1) * float(np.sum(residual_G**2))
        effective_n = min(items, p * (1 - p) / variance) if variance > 0 else items
    else:
        effective_n = min(items, float(num_clusters))
    effective_n *= (Z95 / student_t95(num_clusters - 1)) ** 2
    low, high = wilson(hits=p * effective_n, n=effective_n)
    return _around(p, low, high, len(hits), num_clusters)


def difference_of_shares(first: Interval, second: Interval) -> Interval:
    """`first` minus `second`, two shares of different questions, with Newcombe's interval.

    R. G. Newcombe, Interval estimation for the difference between independent proportions, Statistics in Medicine 17,
    1998, method 10: the distances of the two intervals' ends are added in squares. The n is that of `first`.

    >>> one = Interval(value=0.8, low=0.69183, high=0.87695, n=70, num_clusters=70)
    >>> gap = difference_of_shares(one, Interval(value=0.6, low=0.49045, high=0.70038, n=80, num_clusters=80))
    >>> round(gap.value, 4), round(gap.low, 4), round(gap.high, 4)
    (0.2, 0.0524, 0.3339)
    """
    value = first.value - second.value
    low = value - math.hypot(first.value - first.low, second.high - second.value)
    high = value + math.hypot(first.high - first.value, second.value - second.low)
    return first.model_copy(update={"value": value, "low": low, "high": high})


def ratio_of_shares(first: Interval, second: Interval) -> Interval | None:
    """`first` over `second` with an interval made of both intervals, None where `second` may be 0.

    A. Donner and G. Y. Zou, Closed-form confidence intervals for functions of the normal mean and standard deviation,
    Statistical Methods in Medical Research 21, 2012 (MOVER); with symmetric limits it is Fieller's. It takes the two as
    independent: on the same questions the interval is rather too wide. The n is that of `first`.

    >>> one = Interval(value=0.4, low=0.3, high=0.5, n=100, num_clusters=100)
    >>> share = ratio_of_shares(one, Interval(value=0.8, low=0.7, high=0.9, n=100, num_clusters=100))
    >>> share and [round(x, 3) for x in (share.value, share.low, share.high)]
    [0.5, 0.367, 0.649]
    """
    # Where the divisor may be 0 the true set of ratios is unbounded (Fieller 1954): no interval is honest then.
    if second.low <= 0:
        return None
    a, b = first.value, second.value
    product = a * b
    below, under = first.low * (2 * a - first.low), second.high * (2 * b - second.high)
    above, over = first.high * (2 * a - first.high), second.low * (2 * b - second.low)
    low = below / (product + math.sqrt(max(0.0, product**2 - below * under))) if below > 0 else 0.0
    high = (product + math.sqrt(max(0.0, product**2 - above * over))) / over
    return first.model_copy(update={"value": a / b, "low": low, "high": high})


@functools.lru_cache(maxsize=8)
def cluster_weights_BG(num_clusters: int, samples: int, seed: int) -> np.ndarray:
    """How often each cluster was drawn in each bootstrap sample, (B, G); the same for the same arguments."""
    # Seeded by the number of clusters alone: cells of equal size share their draws, so that paired rows move together.
    rng = np.random.default_rng([seed, num_clusters, samples])
    weights = rng.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), size=samples).astype(float)
    weights.setflags(write=False)
    return weights


@dataclass(frozen=True)
class Bootstrap:
    """How bootstrap intervals are drawn."""

    samples: int
    seed: int

    def sums_BK(self, columns_nK: np.ndarray, cluster_ids: np.ndarray) -> np.ndarray:
        """Sum of each column over each resample of whole clusters, (B, K)."""
        num_clusters = _count(cluster_ids)
        columns = np.asarray(columns_nK, dtype=float).reshape(len(cluster_ids), -1)
        sums_GK = np.stack([np.bincount(cluster_ids, weights=c, minlength=num_clusters) for c in columns.T], axis=1)
        return cluster_weights_BG(num_clusters, self.samples, self.seed) @ sums_GK

    def mean(self, values: np.ndarray, cluster_ids: np.ndarray, *, bounds: tuple[float, float]) -> Interval:
        """Mean of `values` (n,), each within `bounds`, with a percentile interval over clusters.

        Raises:
            ValueError: there are no items.
        """
        values = np.asarray(values, dtype=float)
        if len(values) == 0:
            raise ValueError("a mean needs at least one item, got none")
        sums = self.sums_BK(np.stack([values, np.ones_like(values)], axis=1), cluster_ids)
        return interval_of(float(np.mean(values)), sums[:, 0] / sums[:, 1], cluster_ids=cluster_ids, bounds=bounds)


def interval_of(value: float, draws_B: np.ndarray, *, cluster_ids: np.ndarray, bounds: tuple[float, float]) -> Interval:
    """Percentile interval of bootstrap `draws_B` around `value`, never of zero width and never without `value`."""
    low, high = (float(q) for q in np.quantile(draws_B, (0.025, 0.975)))
    num_clusters = _count(cluster_ids)
    if high - low < 1e-9:
        # All values alike: resampling shows no spread, but clusters unlike these may just not be in the sample.
        # Wilson's upper bound for 0 of G says how large a share of such clusters may go unseen.
        unseen = Z95**2 / (num_clusters + Z95**2)
        low, high = value - unseen * (value - bounds[0]), value + unseen * (bounds[1] - value)
    return _around(value, low, high, len(cluster_ids), num_clusters)


def cluster_ids(groups: list[str]) -> np.ndarray:
    """Each group name as a number from 0, in sorted order of the names."""
    order = {name: index for index, name in enumerate(sorted(set(groups)))}
    return np.array([order[name] for name in groups], dtype=np.int64)


def _around(value: float, low: float, high: float, n: int, num_clusters: int) -> Interval:
    """An interval that holds its own value, whatever rounding or a skewed bootstrap says."""
    return Interval(value=value, low=min(low, value), high=max(high, value), n=n, num_clusters=num_clusters)


def _count(ids: np.ndarray) -> int:
    return int(ids.max()) + 1 if len(ids) else 0
