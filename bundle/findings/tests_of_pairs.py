"""The test of one feature against one clinical variable over patients, by ranks: no shape of distribution is assumed.

Covariates are held constant by ranks too: feature, variable and covariates are ranked and the covariates regressed out
(partial Spearman correlation; for groups the analysis of covariance of ranks, Conover & Iman, Biometrics 1982, 38:715).
Cox regression and mixed models are in `bundle.findings.association_models`.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bundle.findings.association_intervals import auc_interval, correlation_interval, explained_interval

Floats = NDArray[np.float64]

MIN_RESIDUAL: Final = 1e-10
"""Of a variable's variance; less than this unexplained by the covariates is rounding."""

MIN_DF: Final = 3


class NotTestableError(Exception):
    """A pair has no test; the message says why. Never leaves the association: the pair is set apart with it."""


@dataclass(frozen=True)
class PairTest:
    """What a test says.

    Attributes:
        test: its name.
        measure: of the effect, e.g. "Spearman rho".
        effect: its size.
        low: lower bound of the 95 % interval.
        high: upper bound.
        p: two-sided.
        direction: 1 where the variable rises with the feature, -1 where it falls, 0 where there is no direction.
    """

    test: str
    measure: str
    effect: float
    low: float
    high: float
    p: float
    direction: int


def no_covariates(patients: int) -> Floats:
    """Covariates of shape (n, 0)."""
    return np.empty((patients, 0))


def rank_correlation(feature: Floats, variable: Floats, covariates: Floats) -> PairTest:
    """Spearman's correlation, partial where there are covariates; p by Student's t.

    Args:
        feature: shape (n,).
        variable: continuous, ordinal or 0 and 1, shape (n,).
        covariates: ranks or indicators, shape (n, k); k may be 0.

    Raises:
        NotTestableError: the covariates leave too few degrees of freedom, or determine one of the two.
    """
    x, held = residuals(stats.rankdata(feature), covariates, "the feature")
    y, _ = residuals(stats.rankdata(variable), covariates, "the variable")
    n = len(feature)
    df = n - 2 - held
    if df < MIN_DF:
        raise NotTestableError(f"{n} patients are too few for {held} covariates")
    rho = float(np.clip(x @ y / math.sqrt((x @ x) * (y @ y)), -1, 1))
    t = abs(rho) * math.sqrt(df / (1 - rho**2)) if abs(rho) < 1 else math.inf
    low, high = correlation_interval(rho, n, held)
    name = "partial rank correlation" if held else "Spearman rho"
    return PairTest("partial Spearman" if held else "Spearman", name, rho, low, high, _two_sided(t, df), _sign(rho))


def two_groups(feature: Floats, group: Floats, covariates: Floats) -> PairTest:
    """Mann-Whitney's test with the rank-biserial correlation, 2 AUC - 1; with covariates `rank_correlation`.

    Args:
        feature: shape (n,).
        group: 0 and 1, shape (n,).
        covariates: as for `rank_correlation`.

    Raises:
        NotTestableError: see `rank_correlation`.
    """
    if covariates.shape[1]:
        return rank_correlation(feature, group, covariates)
    first, second = feature[group == 1], feature[group == 0]
    result = stats.mannwhitneyu(first, second)
    auc = float(result.statistic) / (len(first) * len(second))
    low, high = (2 * bound - 1 for bound in auc_interval(auc, len(first), len(second)))
    effect = 2 * auc - 1
    return PairTest("Mann-Whitney", "rank-biserial", effect, low, high, float(result.pvalue), _sign(effect))


def several_groups(feature: Floats, group: Floats, covariates: Floats) -> PairTest:
    """Kruskal and Wallis' test with epsilon squared, H / (n - 1); with covariates the F test of covariance of ranks.

    Args:
        feature: shape (n,).
        group: codes of two or more groups, shape (n,).
        covariates: as for `rank_correlation`.

    Raises:
        NotTestableError: see `rank_correlation`.
    """
    codes = np.unique(group)
    df1, n = len(codes) - 1, len(feature)
    if covariates.shape[1]:
        return _rank_covariance(feature, indicators(group), covariates)
    result = stats.kruskal(*(feature[group == code] for code in codes))
    explained = float(result.statistic) / (n - 1)
    df2 = n - 1 - df1
    f = (explained / df1) / ((1 - explained) / df2) if explained < 1 else math.inf
    low, high = explained_interval(f, df1, df2, explained)
    return PairTest("Kruskal-Wallis", "epsilon squared", explained, low, high, float(result.pvalue), 0)


def _rank_covariance(feature: Floats, groups: Floats, covariates: Floats) -> PairTest:
    ranks = stats.rankdata(feature)
    without, held = residuals(ranks, covariates, "the feature")
    within, held_too = residuals(ranks, np.column_stack([covariates, groups]), "the feature")
    df1, df2 = held_too - held, len(feature) - 1 - held_too
    if df1 == 0:
        raise NotTestableError("the variable is determined by the covariates")
    if df2 < MIN_DF:
        raise NotTestableError(f"{len(feature)} patients are too few for {held_too} covariates and groups")
    explained = float(1 - (within @ within) / (without @ without))
    f = (explained / df1) / ((1 - explained) / df2)
    low, high = explained_interval(f, df1, df2, explained)
    p = float(stats.f.sf(f, df1, df2))
    return PairTest("rank covariance F", "partial eta squared", explained, low, high, p, 0)


def residuals(values: Floats, covariates: Floats, what: str) -> tuple[Floats, int]:
    """`values` less their mean and their regression on covariates of shape (n, k); and the covariates' rank.

    Raises:
        NotTestableError: nothing of `values` is left; names `what`.
    """
    centred = values - values.mean()
    if not covariates.shape[1]:
        return centred, 0
    design = covariates - covariates.mean(axis=0)
    solution, _, rank, _ = np.linalg.lstsq(design, centred)
    left = centred - design @ solution
    if left @ left <= MIN_RESIDUAL * (centred @ centred):
        raise NotTestableError(f"{what} is determined by the covariates")
    return left, int(rank)


def indicators(group: Floats) -> Floats:
    """0 and 1 for every group but the first, shape (n, groups - 1)."""
    return (group[:, None] == np.unique(group)[1:]).astype(float)


def _two_sided(t: float, df: float) -> float:
    return float(2 * stats.t.sf(t, df))


def _sign(value: float) -> int:
    return int(np.sign(value))
