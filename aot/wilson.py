"""Wilson's score interval for shares, in one place below everyone who counts."""

import math

Z95 = 1.959963984540054
"""Two-sided 95% quantile of the normal distribution."""


def wilson(*, hits: float, n: float) -> tuple[float, float]:
    """Wilson's 95% interval (1927) for `hits` out of `n`; `n` may be an effective, fractional sample size.

    >>> [round(x, 4) for x in wilson(hits=8, n=10)]
    [0.4902, 0.9433]
    """
    if n <= 0:
        return 0.0, 1.0
    p = hits / n
    scale = 1 + Z95**2 / n
    center = (p + Z95**2 / (2 * n)) / scale
    half = Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n)) / scale
    return max(0.0, center - half), min(1.0, center + half)
