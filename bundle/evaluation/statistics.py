"""How sure a mean is, and whether one model is better than another: patients are the independent sample, not images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bundle.errors import DatalistError
from bundle.evaluation.tables import ALL

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
    values: ArrayLike, patients: Sequence[str], *, level: float = 0.95, resamples: int = 9999, seed: int = 0
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
    clusters = _valid(np.column_stack([np.asarray(values, float)]), patients).groupby("patient")[0]
    sums, counts = clusters.sum().to_numpy(), clusters.count().to_numpy()
    images = int(counts.sum())
    mean = float(sums.sum() / images) if images else float("nan")
    if len(sums) < 2:
        return Interval(mean, float("nan"), float("nan"), images, len(sums))
    interval = stats.bootstrap(
        (sums, counts),
        _ratio_of_sums,
        paired=True,  # a patient's sum and number of images are drawn together
        vectorized=True,
        method="percentile",
        confidence_level=level,
        n_resamples=resamples,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(interval.low), float(interval.high), images, len(sums))


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


def intervals(
    frame: pd.DataFrame, by: str = "stain", *, prefix: str = "dice_", level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Patient-level bootstrap interval of each measure per value of `by`, and over ALL: joins `tables.summarise`.

    Args:
        frame: one row an image, `ClassDice.frame()` or alike; an image of unknown patient (empty) counts as one of a
            patient that has this slide only.
        by: a descriptor column, e.g. "stain".
        prefix: of the columns to be measured.
        level: confidence level.
        seed: of the random draws.

    Returns:
        One row a group, groups sorted and ALL last; columns MEASURE_low, MEASURE_high, MEASURE_patients.
    """
    columns = [column for column in frame if column.startswith(prefix)]
    groups = [(str(value), group) for value, group in frame.groupby(by, sort=True)] + [(ALL, frame)]
    rows = []
    for name, group in groups:
        row: dict[str, object] = {by: name}
        for column in columns:
            found = bootstrap_interval(group[column], _patients(group), level=level, seed=seed)
            row |= {f"{column}_low": found.low, f"{column}_high": found.high, f"{column}_patients": found.patients}
        rows.append(row)
    return pd.DataFrame(rows)


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
    patients = _patients(first)
    tests = [{"measure": m} | vars(paired_test(left[m], right[m], patients)) for m in measures]
    return pd.DataFrame(tests, columns=["measure", *PairedTest.__dataclass_fields__])


def _patients(frame: pd.DataFrame) -> list[str]:
    """The patient of each row; where it is not known the slide stands for it."""
    known = _text(frame["patient"])
    return known.where(known != "", "slide " + _text(frame["slide"])).tolist()


def _text(column: pd.Series) -> pd.Series:
    """The column as text; what is empty in a CSV file comes back as NaN."""
    return column.astype(object).fillna("").astype(str)
