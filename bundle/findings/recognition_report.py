"""How well lesions are recognised: a row a lesion, agreement of grades, and the report of a run."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bundle.findings.embedding import Embeddings
from bundle.findings.extras import extra
from bundle.findings.recognition_calibration import OutOfFold, auc_bootstrap_interval, calibration_error
from bundle.findings.recognition_labels import Lesion
from bundle.findings.shots_report import shots_markdown


def lesion_row(lesion: Lesion, found: OutOfFold | None, patients: NDArray[np.str_]) -> dict[str, Any]:
    """Scores on patients of other folds; NaN where they could not be had.

    Args:
        lesion: of n glomeruli.
        found: of the known ones.
        patients: (n,).

    Returns:
        lesion, glomeruli, present, patients, auc with low and high (95 %, patients), average_precision, brier, and
        calibration_error (expected, ten bins).

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    metrics = extra("sklearn.metrics", "lesions")
    present, names = lesion.present[lesion.known], patients[lesion.known]
    row = {
        "lesion": lesion.name,
        "glomeruli": int(lesion.known.sum()),
        "present": int(present.sum()),
        "patients": len(set(names)),
    }
    measures = ("auc", "low", "high", "average_precision", "brier", "calibration_error")
    if found is None:
        return row | dict.fromkeys(measures, float("nan"))
    low, high = auc_bootstrap_interval(found.probabilities, present, names)
    values = (
        metrics.roc_auc_score(present, found.probabilities),
        low,
        high,
        metrics.average_precision_score(present, found.probabilities),
        metrics.brier_score_loss(present, found.probabilities),
        calibration_error(found.probabilities, present),
    )
    return row | dict(zip(measures, map(float, values), strict=True))


def grade_rows(lesions: Sequence[Lesion], found: Sequence[OutOfFold | None]) -> pd.DataFrame:
    """Agreement of predicted with annotated grades, quadratic weighted kappa (Cohen 1968), a row a graded lesion.

    The predicted grade is the number of questions "NAME>=k" whose probability is 0.5 or more.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    metrics = extra("sklearn.metrics", "lesions")
    rows = []
    graded = [(lesion, f) for lesion, f in zip(lesions, found, strict=True) if ">=" in lesion.name]
    for name, group in groupby(graded, key=lambda pair: pair[0].name.rpartition(">=")[0]):
        questions = list(group)
        if any(answer is None for _, answer in questions):
            continue
        known = questions[0][0].known
        annotated = np.sum([lesion.present[known] for lesion, _ in questions], axis=0)
        predicted = np.sum([answer.probabilities >= 0.5 for _, answer in questions if answer is not None], axis=0)
        kappa = metrics.cohen_kappa_score(annotated, predicted, weights="quadratic")
        rows.append({"lesion": name, "glomeruli": int(known.sum()), "kappa": float(kappa)})
    return pd.DataFrame(rows, columns=["lesion", "glomeruli", "kappa"])


def report(
    embeddings: Embeddings, scores: pd.DataFrame, grades: pd.DataFrame, curves: pd.DataFrame, classifier: str
) -> str:
    """Markdown of a run."""
    count, size = embeddings.values.shape
    parts = [
        "# Lesions",
        f"{count} glomeruli of {embeddings.table['patient'].nunique()} patients; {size} features of "
        f"{embeddings.encoder['encoder']}; {classifier}, cross-validated, no patient in two folds. Intervals: 95 %, "
        "bootstrap over patients.",
        scores.to_markdown(index=False, floatfmt=".3f"),
    ]
    if len(grades):
        parts += ["## Grades", grades.to_markdown(index=False, floatfmt=".3f")]
    if len(curves):
        parts += [
            "## N-shot curves",
            "AUC, mean over draws [95 % interval over draws and test patients]; shots are of each class.",
            shots_markdown(curves).strip(),
        ]
    return "\n\n".join(parts) + "\n"
