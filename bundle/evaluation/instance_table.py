"""Glomeruli as objects, image by image and pooled over images."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pandas as pd

from bundle.classes import CLASS_NAMES
from bundle.evaluation.image_table import ImageTable
from bundle.evaluation.instances import MEASURES, PERCENTAGES, instance_scores
from bundle.evaluation.statistics import bootstrap_ratio, patients_of
from bundle.evaluation.tables import FOREGROUND, groups, summary_row

COUNTS = ("true_positives", "false_positives", "false_negatives", "iou_sum")
NAMES = (FOREGROUND, *CLASS_NAMES)


class InstanceQuality(ImageTable):
    """Ignite metric: `instance_scores` of each slide, with the counts behind them; see `ImageTable`.

    Images have "glomeruli" (found) and "annotation" (true), both `Annotation`s in the slide's level-0 pixels. The
    summary has, beside the means over images, F1, precision, recall and panoptic quality of all images pooled.
    """

    measures: ClassVar[tuple[str, ...]] = (*MEASURES, *PERCENTAGES)
    columns: ClassVar[tuple[str, ...]] = (
        *(f"{measure}_{name}" for measure in (*MEASURES, *COUNTS) for name in NAMES),
        *PERCENTAGES,
        "ignored",
    )

    def row(self, image: Mapping[str, Any]) -> dict[str, float]:
        """Measures and counts of the union and of each class."""
        scores = instance_scores(image["glomeruli"], image["annotation"])
        counts = {f"{c}_{name}": float(getattr(d, c)) for name, d in scores.detection.items() for c in COUNTS}
        return scores.row() | counts

    def summary(self, by: str) -> pd.DataFrame:
        """Means over images, then the pooled measures, per value of the descriptor `by` and over ALL."""
        return pd.concat([super().summary(by), pooled(self.frame(), by)])


def pooled(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """Measures of all glomeruli of a group together, as `bundle.evaluation.tables.summarise` gives means.

    All are ratios of sums over images: F1 = 2 TP / (2 TP + FP + FN), precision = TP / (TP + FP), recall =
    TP / (TP + FN), panoptic quality = 2 (sum of IoU) / (2 TP + FP + FN). Standard deviations are NaN.

    Args:
        frame: `InstanceQuality.frame()`.
        by: a descriptor column.
    """
    rows = []
    for group_name, group in groups(frame, by):
        for name in NAMES:
            tp, fp, fn, iou = (group[f"{count}_{name}"] for count in COUNTS)
            ratios = {
                "pooled_f1": (2 * tp, 2 * tp + fp + fn),
                "pooled_precision": (tp, tp + fp),
                "pooled_recall": (tp, tp + fn),
                "pooled_panoptic_quality": (2 * iou, 2 * tp + fp + fn),
            }
            for measure, (numerator, denominator) in ratios.items():
                interval = bootstrap_ratio(numerator, denominator, patients_of(group))
                rows.append(summary_row(by, group_name, measure, name, interval, float("nan")))
    return pd.DataFrame(rows)
