"""How far each glomerulus of a slide is from those of the cohort, and by which of its measurements.

Every feature becomes a robust z (less the cohort's median, over 1.4826 times its median absolute deviation); the
distance is Mahalanobis' with the minimum covariance determinant (Rousseeuw & Van Driessen, Technometrics 1999, 41:212),
which the cohort's own odd glomeruli do not widen.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from bundle.errors import FindingsError
from bundle.findings.extras import extra

MAD_TO_SD: Final = 1.4826
"""For normal values."""

MIN_KNOWN: Final = 0.5
"""Share of the cohort in which a feature must be known."""

ROWS_PER_FEATURE: Final = 5
"""Fewer are too few for the minimum covariance determinant; the covariance is then shrunk (Ledoit & Wolf 2004)."""

MIN_ROWS: Final = 10


@dataclass(frozen=True)
class Typicality:
    """What the distances say.

    Attributes:
        distance: of each of the slide's glomeruli, indexed by entity_id, the nearest first.
        percentile: share of the cohort's glomeruli that are nearer, 0 to 100 %, same index.
        z: robust z of each (rows, same index) and feature; NaN where it was not measured.
        left_out: features without part in the distance, and why.
        robust: by the minimum covariance determinant; else by the shrunk covariance.
    """

    distance: pd.Series
    percentile: pd.Series
    z: pd.DataFrame
    left_out: Mapping[str, str]
    robust: bool

    def drivers(self, entity: str, most: int) -> list[tuple[str, float]]:
        """The features of one glomerulus that are farthest from the cohort's median, with their z."""
        z = self.z.loc[entity].dropna()
        order = z.abs().sort_values(ascending=False, kind="stable").index[:most]
        return [(str(name), float(z[name])) for name in order]


def typicality(
    reference: pd.DataFrame, rows: pd.DataFrame, *, redundant: float = 0.95, max_reference: int = 20_000, seed: int = 0
) -> Typicality:
    """Compare a slide's glomeruli with the cohort's.

    A value that is missing counts as the cohort's median.

    Args:
        reference: the cohort's features, a row a glomerulus.
        rows: the slide's, same columns, indexed by entity_id.
        redundant: a feature whose rank correlation with an earlier one is beyond this is left out: size would count
            as often as it is measured.
        max_reference: the cohort is drawn at random down to this.
        seed: of that draw and of the estimate.

    Raises:
        FindingsError: the cohort has too few glomeruli, or no feature varies.
        ConfigError: scikit-learn is not installed.
    """
    if len(reference) > max_reference:
        reference = reference.sample(max_reference, random_state=seed)
    if len(reference) < MIN_ROWS:
        raise FindingsError(
            f"the cohort has {len(reference)} glomeruli to compare with; at least {MIN_ROWS} are needed"
        )
    kept, left_out = _choose(reference, redundant)
    if not kept:
        raise FindingsError("no feature of the cohort varies: there is nothing to compare by")
    median = reference[kept].median()
    spread = MAD_TO_SD * (reference[kept] - median).abs().median()
    of_cohort, of_slide = ((frame[kept] - median) / spread for frame in (reference, rows))
    robust = len(reference) >= ROWS_PER_FEATURE * len(kept)
    covariance, robust = _covariance(of_cohort.fillna(0.0).to_numpy(float), robust, seed)
    far, common = (np.sqrt(covariance.mahalanobis(z.fillna(0.0).to_numpy(float))) for z in (of_slide, of_cohort))
    distance = pd.Series(far, index=rows.index).sort_values(kind="stable")
    nearer = np.searchsorted(np.sort(common), distance.to_numpy(float)) / len(common)
    percentile = pd.Series(100 * nearer, index=distance.index)
    return Typicality(distance, percentile, of_slide.loc[distance.index], left_out, robust)


def _choose(reference: pd.DataFrame, redundant: float) -> tuple[list[str], dict[str, str]]:
    """The features that count, and those that do not with the reason."""
    left_out: dict[str, str] = {}
    kept: list[str] = []
    ranks: dict[str, NDArray[np.float64]] = {}
    for name in map(str, reference.columns):
        values = reference[name]
        if values.notna().mean() < MIN_KNOWN:
            left_out[name] = "not measured in most of the cohort"
            continue
        if (values - values.median()).abs().median() <= 1e-9 * values.abs().max():
            left_out[name] = "the same in most of the cohort"
            continue
        ranks[name] = stats.rankdata(values.fillna(values.median()))
        same = next((other for other in kept if abs(np.corrcoef(ranks[name], ranks[other])[0, 1]) > redundant), None)
        if same is None:
            kept.append(name)
        else:
            left_out[name] = f"says what {same} says"
    return kept, left_out


def _covariance(values: NDArray[np.float64], robust: bool, seed: int) -> tuple[Any, bool]:
    """The fitted covariance, and whether it is the robust one."""
    covariance = extra("sklearn.covariance", "findings pages")
    if robust:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fitted = covariance.MinCovDet(random_state=seed).fit(values)
        if not caught:  # it warns where half of the cohort lies in a plane
            return fitted, True
    return covariance.LedoitWolf().fit(values), False


def ordered(z: pd.DataFrame) -> list[str]:
    """Features by the size of the slide's median z, the largest first."""
    medians = z.median().abs()
    return [str(name) for name in medians.sort_values(ascending=False, kind="stable").index]
