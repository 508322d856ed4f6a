"""The numbers of a slide: an exact interval for a percentage."""

from dataclasses import dataclass

from scipy.stats import binomtest

LEVEL = 0.95
"""Confidence of the interval."""


@dataclass(frozen=True)
class Percentage:
    """A percentage and its interval, 0 to 100."""

    value: float
    low: float
    high: float


def percentage(count: int, total: int) -> Percentage | None:
    """`count` of `total` with its exact 95 % interval (Clopper & Pearson, Biometrika 1934, 26:404); `None` of nothing.

    The interval is that of a random draw: it says how sure the percentage is for the number of glomeruli seen, nothing
    about mistakes of the network.
    """
    if total == 0:
        return None
    interval = binomtest(count, total).proportion_ci(LEVEL, method="exact")
    return Percentage(100 * count / total, 100 * float(interval.low), 100 * float(interval.high))
