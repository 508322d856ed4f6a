"""95 % intervals of effect sizes in closed form, so that a table of thousands of pairs needs no resampling."""

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from scipy import optimize, stats

Z: Final = float(stats.norm.isf(0.025))
TINY: Final = 1e-12
BESIDE: Final = 1e-9


def correlation_interval(correlation: float, patients: int, covariates: int = 0) -> tuple[float, float]:
    """Of a (partial) rank correlation: Fisher's z with the variance of Bonett & Wright, Psychometrika 2000, 65:23.

    Args:
        correlation: Spearman's, -1 to 1.
        patients: in the sample; more than 3 + `covariates`.
        covariates: that were partialled out.
    """
    if abs(correlation) > 1 - TINY:
        return correlation, correlation
    half = Z * math.sqrt((1 + correlation**2 / 2) / (patients - 3 - covariates))
    centre = math.atanh(correlation)
    return math.tanh(centre - half), math.tanh(centre + half)


def auc_interval(auc: float, first: int, second: int) -> tuple[float, float]:
    """Of P(X > Y) + P(X = Y) / 2, from groups of `first` and `second`: method 5 of Newcombe, Stat Med 2006, 25:559.

    It inverts the score test with the variance of Hanley & McNeil, so that complete separation has an interval too.
    """

    def distance(value: float) -> float:
        mean = (first + second) / 2 - 1
        spread = 1 + mean * ((1 - value) / (2 - value) + value / (1 + value))
        return (auc - value) ** 2 - Z**2 * value * (1 - value) * spread / (first * second)

    # At 0 and 1 themselves the distance is 0 whatever the data: stay beside them.
    low = 0.0 if auc <= 0 else optimize.brentq(distance, 0.0, min(auc, 1 - BESIDE))
    high = 1.0 if auc >= 1 else optimize.brentq(distance, max(auc, BESIDE), 1.0)
    return float(low), float(high)


def explained_interval(f: float, df1: int, df2: int, explained: float) -> tuple[float, float]:
    """Of the share of variance explained (partial eta squared) from an F test, by its noncentrality (Steiger 2004).

    Args:
        f: the test's F.
        df1: its numerator's degrees of freedom.
        df2: its denominator's.
        explained: the estimate; where F is so small that the interval misses it, the interval is widened to it.
    """
    if not math.isfinite(f) or explained > 1 - TINY:
        return explained, explained

    def share(probability: float) -> float:
        ncp = _noncentrality(lambda value: float(stats.ncf.cdf(f, df1, df2, value)) - probability, f * df1)
        return ncp / (ncp + df1 + df2 + 1)

    return min(share(0.975), explained), max(share(0.025), explained)


def _noncentrality(excess: Callable[[float], float], start: float) -> float:
    """Where the falling function `excess` is 0; 0 where it is below 0 already there."""
    if excess(0.0) <= 0:
        return 0.0
    top = max(start, 1.0)
    while excess(top) > 0:
        top *= 2
    return float(optimize.brentq(excess, 0.0, top, xtol=1e-6))


def coefficient_interval(estimate: float, error: float, df: float = math.inf) -> tuple[float, float]:
    """Of a regression coefficient: Wald's, by Student's t with `df`."""
    half = float(stats.t.isf(0.025, df) if np.isfinite(df) else Z) * error
    return estimate - half, estimate + half
