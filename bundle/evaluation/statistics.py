"""How sure a mean is, and whether one model is better than another: patients are the independent sample, not images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bundle.errors import DatalistError

MIN_PATIENTS = 6
"""With fewer differences the two-sided Wilcoxon test cannot reach p < 0.05 (5 give 2 / 2**5 at best)."""

IMAGE_KEYS = ["slide", "crop"]
"""What tells images of a table apart."""


@dataclass(frozen=True)
class Interval:
    """A mean over `images` of `patients`, and its bootstrap interval."""

    mean: float
    low: float
    high: float
    images: int
    patients: int


@dataclass(frozen=True)
class PairedTest:
    """Wilcoxon signed-rank test of first against second model over `patients`.

    Attributes:
        median_difference: median over patients of (mean of first minus mean of second); NaN without patients.
        p: two-sided; NaN where fewer than `MIN_PATIENTS` patients differ between the models.
    """

    median_difference: float
    p: float
    images: int
    patients: int


def bootstrap_interval(
    values: ArrayLike, patients: Sequence[str], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Mean over images and its percentile interval from a cluster bootstrap (Davison & Hinkley 1997, 3.8).

    Patients are drawn with replacement, each with all its images, by `scipy.stats.bootstrap`.

    Args:
        values: one value an image, shape (n,); NaN (absent class) does not count.
        patients: the patient of each image, shape (n,).
        level: confidence level.
        resamples: number of bootstrap samples.
        seed: of the random draws; the same seed gives the same interval.

    Returns:
        The mean is NaN without values; the interval is NaN with fewer than 2 patients.
    """
    values = np.asarray(values, float)
    return bootstrap_ratio(values, np.ones_like(values), patients, level=level, resamples=resamples, seed=seed)


def bootstrap_ratio(
    numerator: ArrayLike,
    denominator: ArrayLike,
    patients: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """`bootstrap_interval` of a pooled ratio: sum of the numerators over sum of the denominators of all images.

    Images with NaN in either, or a denominator of 0, do not count; they leave the ratio as it is.
    """
    pairs = np.column_stack([np.asarray(numerator, float), np.asarray(denominator, float)])
    pairs[pairs[:, 1] == 0] = np.nan
    valid = _valid(pairs, patients)
    sums = valid.groupby("patient")[[0, 1]].sum().to_numpy().T
    images = len(valid)
    mean = float(sums[0].sum() / sums[1].sum()) if images else float("nan")
    if sums.shape[1] < 2:
        return Interval(mean, float("nan"), float("nan"), images, sums.shape[1])
    interval = stats.bootstrap(
        tuple(sums),
        _ratio_of_sums,
        paired=True,  # a patient's sums are drawn together
        vectorized=True,
        method="percentile",
        confidence_level=level,
        n_resamples=resamples,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(interval.low), float(interval.high), images, sums.shape[1])


def _ratio_of_sums(sums: NDArray, counts: NDArray, axis: int = -1) -> NDArray:
    return sums.sum(axis=axis) / counts.sum(axis=axis)


def paired_test(first: ArrayLike, second: ArrayLike, patients: Sequence[str]) -> PairedTest:
    """Compare two models over the same images by the means of each patient.

    Args:
        first: one value an image, shape (n,).
        second: the other model's values of the same images; an image with NaN in either does not count.
        patients: the patient of each image, shape (n,).
    """
    pairs = _valid(np.column_stack([np.asarray(first, float), np.asarray(second, float)]), patients)
    means = pairs.groupby("patient").mean()
    difference = (means[0] - means[1]).to_numpy()
    # Wilcoxon leaves out patients without a difference; done here, as scipy then knows the exact distribution
    differing = difference[difference != 0]
    median = float(np.median(difference)) if len(difference) else float("nan")
    p = float(stats.wilcoxon(differing).pvalue) if len(differing) >= MIN_PATIENTS else float("nan")
    return PairedTest(median, p, len(pairs), len(difference))


def _valid(values: NDArray[np.float64], patients: Sequence[str]) -> pd.DataFrame:
    """Rows without NaN, columns 0, 1, ... and "patient"."""
    if len(values) != len(patients):
        raise ValueError(f"{len(values)} values of {len(patients)} patients")
    return pd.DataFrame(values).assign(patient=np.asarray(patients, str)).dropna()


def paired_tests(first: pd.DataFrame, second: pd.DataFrame, *, prefix: str = "dice_") -> pd.DataFrame:
    """`paired_test` of every measure that both models' tables have.

    Args:
        first: one row an image, `ClassDice.frame()` or alike.
        second: the other model's table of the same images, in any order.
        prefix: of the columns to be compared.

    Returns:
        One row a measure: measure, median_difference, p, images, patients.

    Raises:
        DatalistError: the tables are not of the same images.
    """
    left, right = (frame.set_index([_text(frame[key]) for key in IMAGE_KEYS]) for frame in (first, second))
    if left.index.has_duplicates or not left.index.sort_values().equals(right.index.sort_values()):
        raise DatalistError("the two tables are not of the same images: evaluate both models on the same datalist")
    right = right.loc[left.index]
    measures = [column for column in left if column.startswith(prefix) and column in right]
    patients = patients_of(first)
    tests = [{"measure": m} | vars(paired_test(left[m], right[m], patients)) for m in measures]
    return pd.DataFrame(tests, columns=["measure", *PairedTest.__dataclass_fields__])


def patients_of(frame: pd.DataFrame) -> list[str]:
    """The patient of each row of a table of images; where it is not known the slide stands for it."""
    known = _text(frame["patient"])
    return known.where(known != "", "slide " + _text(frame["slide"])).tolist()


def _text(column: pd.Series) -> pd.Series:
    """The column as text; what is empty in a CSV file comes back as NaN."""
    return column.astype(object).fillna("").astype(str)
