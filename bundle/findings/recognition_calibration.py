"""Probabilities that mean what they say, and how good they are on patients that the classifier has not seen."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from bundle.findings.extras import extra
from bundle.findings.recognition_classifiers import Classifier, Labels, Vectors

MOST_FOLDS: Final = 5
_WEAK_PENALTY: Final = 1e4
_BINS: Final = 10


@dataclass(frozen=True)
class Platt:
    """probability = 1 / (1 + exp(-(slope * score + offset))), Platt 1999."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, scores: NDArray) -> NDArray[np.float64]:
        """Probabilities of `scores`."""
        return expit(self.slope * scores + self.offset)


@dataclass(frozen=True)
class OutOfFold:
    """What a classifier says of patients that it was not fitted to.

    Attributes:
        scores: (n,) log-odds.
        probabilities: (n,), calibrated on the other folds.
        calibration: on all folds, for a classifier that is fitted to all patients.
    """

    scores: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    calibration: Platt


def fit_platt(scores: NDArray, labels: Labels) -> Platt:
    """Platt's calibration with his smoothed targets, (n + 1) / (n + 2) for the class of n, by scikit-learn.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    linear_model = extra("sklearn.linear_model", "lesions")

    present = np.asarray(labels, bool)
    targets = np.where(present, (present.sum() + 1) / (present.sum() + 2), 1 / ((~present).sum() + 2))
    model = linear_model.LogisticRegression(C=_WEAK_PENALTY, max_iter=1000)
    ones = np.ones(len(scores), bool)
    model.fit(np.tile(scores, 2)[:, None], np.r_[ones, ~ones], sample_weight=np.r_[targets, 1 - targets])
    return Platt(float(model.coef_[0, 0]), float(model.intercept_[0]))


def out_of_fold(
    values: Vectors, labels: Labels, patients: ArrayLike, classifier: Classifier, seed: int = 0
) -> OutOfFold | None:
    """Cross-validated scores, no patient in two folds (scikit-learn's StratifiedGroupKFold).

    Returns:
        `None` where fewer than two patients have the lesion or fewer than two lack it, or where a fold leaves one
        answer only to learn from: nothing can be said then.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    present = np.asarray(labels, bool)
    folds = list(_folds(present, np.asarray(patients), seed))
    if len(folds) < 2:
        return None
    scores = np.full(len(present), np.nan)
    for inside, outside in folds:
        scores[outside] = classifier.fit(values[inside], present[inside]).scores(values[outside])
    probabilities = np.full(len(present), np.nan)
    for inside, outside in folds:
        probabilities[outside] = fit_platt(scores[inside], present[inside])(scores[outside])
    return OutOfFold(scores, probabilities, fit_platt(scores, present))


def _folds(present: Labels, patients: NDArray, seed: int) -> Iterator[tuple[NDArray, NDArray]]:
    """(inside, outside) indices of folds whose inside has both classes."""
    selection = extra("sklearn.model_selection", "lesions")
    count = min(MOST_FOLDS, len(set(patients[present])), len(set(patients[~present])))
    if count < 2:
        return
    split = selection.StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(patients, present, patients)
    folds = list(split)
    if all(0 < present[inside].sum() < len(inside) for inside, _ in folds):
        yield from folds


def calibration_error(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Expected calibration error over ten bins of equal width (Naeini et al. 2015); 0 is best."""
    probability, present = np.asarray(probabilities, float), np.asarray(labels, bool)
    bins = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    gaps = [abs(probability[bins == b].mean() - present[bins == b].mean()) * (bins == b).sum() for b in np.unique(bins)]
    return float(np.sum(gaps) / len(probability))


def auc_bootstrap_interval(
    scores: NDArray, labels: Labels, patients: ArrayLike, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of the AUC, patients drawn with replacement, each with all its glomeruli.

    NaN where fewer than 2 patients have, or lack, the lesion.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    metrics = extra("sklearn.metrics", "lesions")
    names = np.asarray(patients, str)
    present = np.asarray(labels, bool)
    if min(len(set(names[present])), len(set(names[~present]))) < 2:
        return float("nan"), float("nan")
    random = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        rows = draw_patients(names, random)
        if 0 < present[rows].sum() < len(rows):
            found.append(metrics.roc_auc_score(present[rows], scores[rows]))
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def draw_patients(patients: NDArray, random: np.random.Generator) -> NDArray[np.int64]:
    """Rows of as many patients as there are, drawn with replacement."""
    _, numbers, counts = np.unique(patients, return_inverse=True, return_counts=True)
    rows = np.split(np.argsort(numbers, kind="stable"), np.cumsum(counts)[:-1])
    return np.concatenate([rows[chosen] for chosen in random.integers(len(rows), size=len(rows))])
