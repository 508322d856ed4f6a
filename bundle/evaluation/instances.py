"""Glomeruli as objects: detection, panoptic quality, counts and the percentage of global sclerosis.

Works on outlines, so that touching glomeruli stay apart and no raster's resolution enters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from bundle.classes import CLASS_NAMES, GLOBAL, IGNORE_INDEX
from bundle.data.annotations import Annotation, Glomerulus
from bundle.evaluation.tables import FOREGROUND

MATCH_IOU = 0.5
"""A prediction finds a glomerulus when their IoU is above (not at) this."""

MOSTLY = 0.5
"""A prediction with more than this part of its area on unlabelled ground is not judged."""

MEASURES = (
    "f1",
    "precision",
    "recall",
    "segmentation_quality",
    "recognition_quality",
    "panoptic_quality",
    "count_error",
)
"""Of one class: properties of `Detection`."""

PERCENTAGES = ("predicted_global_percent", "true_global_percent", "global_percent_error")
"""Of a slide: properties of `InstanceScores`."""


@dataclass(frozen=True)
class Detection:
    """Counts of one class over one slide, or over many: add them up to pool.

    Attributes:
        true_positives: matched pairs.
        false_positives: predictions that match nothing.
        false_negatives: glomeruli that nothing matches.
        iou_sum: sum of the matched pairs' IoU.
    """

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    iou_sum: float = 0.0

    def __add__(self, other: "Detection") -> "Detection":
        return Detection(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
            self.iou_sum + other.iou_sum,
        )

    @property
    def predicted(self) -> int:
        """Number of judged predictions."""
        return self.true_positives + self.false_positives

    @property
    def true(self) -> int:
        """Number of annotated glomeruli."""
        return self.true_positives + self.false_negatives

    @property
    def precision(self) -> float:
        """TP / (TP + FP); NaN without predictions."""
        return _ratio(self.true_positives, self.predicted)

    @property
    def recall(self) -> float:
        """TP / (TP + FN); NaN without glomeruli."""
        return _ratio(self.true_positives, self.true)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); NaN without glomeruli and predictions, 0 where only one of them is there."""
        return _ratio(2 * self.true_positives, self.predicted + self.true)

    @property
    def recognition_quality(self) -> float:
        """RQ = TP / (TP + FP / 2 + FN / 2): the F1 under its name in panoptic quality."""
        return self.f1

    @property
    def segmentation_quality(self) -> float:
        """SQ: mean IoU of the matched pairs; NaN without pairs."""
        return _ratio(self.iou_sum, self.true_positives)

    @property
    def panoptic_quality(self) -> float:
        """PQ = sum of IoU / (TP + FP / 2 + FN / 2) = SQ RQ; NaN and 0 where F1 is."""
        return _ratio(2 * self.iou_sum, self.predicted + self.true)

    @property
    def count_error(self) -> int:
        """Predicted minus annotated number."""
        return self.predicted - self.true


@dataclass(frozen=True)
class InstanceScores:
    """Detection by name ("glomerulus": any class for any class; then each class), and predictions not judged."""

    detection: Mapping[str, Detection]
    ignored: int = 0

    def __add__(self, other: "InstanceScores") -> "InstanceScores":
        pooled = {name: counts + other.detection[name] for name, counts in self.detection.items()}
        return InstanceScores(pooled, self.ignored + other.ignored)

    @property
    def predicted_global_percent(self) -> float:
        """Globally sclerotic part of the judged predictions, percent; NaN without any."""
        return _ratio(100 * self.detection[GLOBAL.name].predicted, self.detection[FOREGROUND].predicted)

    @property
    def true_global_percent(self) -> float:
        """Globally sclerotic part of the annotated glomeruli, percent; NaN without any."""
        return _ratio(100 * self.detection[GLOBAL.name].true, self.detection[FOREGROUND].true)

    @property
    def global_percent_error(self) -> float:
        """Predicted minus annotated percentage of global sclerosis, percentage points; NaN where either is."""
        return self.predicted_global_percent - self.true_global_percent

    def row(self) -> dict[str, float]:
        """All measures for one row of a table: MEASURE_NAME, the percentages, `ignored`."""
        row = {f"{m}_{name}": float(getattr(d, m)) for name, d in self.detection.items() for m in MEASURES}
        return row | {name: getattr(self, name) for name in PERCENTAGES} | {"ignored": self.ignored}


def instance_scores(prediction: Annotation, truth: Annotation) -> InstanceScores:
    """Match predicted to annotated glomeruli of one slide and count.

    A pair matches when IoU = |P n T| / |P u T| > 0.5. Among outlines that do not overlap each other a glomerulus then
    has at most one match (Kirillov et al., Panoptic Segmentation, CVPR 2019, theorem 1); where outlines of one side
    do overlap, the one-to-one pairs of greatest summed IoU count. Touching glomeruli merged into one prediction of
    IoU above 0.5 with one of them are one true positive and one false negative each for the others; with none, one
    false positive and a false negative each. A class matches only itself: a glomerulus found but misnamed is a false
    negative of its class, a false positive of the other, and a true positive of "glomerulus".

    Not judged (neither true nor false positive) are predictions with more than half their area on unlabelled ground:
    objects of label 255, and, where `truth` is not complete, all outside of its background areas; annotated glomeruli
    are never unlabelled ground. A judged prediction's IoU counts its whole outline.

    Args:
        prediction: objects of label 1 to 3; those of other labels are left out.
        truth: annotation of the same slide, in the same pixels (level 0).
    """
    found, true = _judged(prediction, truth), _labelled(truth)
    iou = _iou(found, true)
    classes = {name: (index,) for index, name in enumerate(CLASS_NAMES, 1)}
    detection = {
        name: _detect(iou[np.ix_(_of(found, labels), _of(true, labels))])
        for name, labels in {FOREGROUND: tuple(classes[n][0] for n in CLASS_NAMES), **classes}.items()
    }
    return InstanceScores(detection, len(_labelled(prediction)) - len(found))


def matches(prediction: Annotation, truth: Annotation) -> tuple[list[Glomerulus], list[Glomerulus | None]]:
    """The judged predictions and, of each, the annotated glomerulus of any class that it finds, if any.

    By the rules of `instance_scores`.
    """
    found, true = _judged(prediction, truth), _labelled(truth)
    iou = _iou(found, true)
    partner: list[Glomerulus | None] = [None] * len(found)
    for i, j in zip(*linear_sum_assignment(np.where(iou > MATCH_IOU, iou, 0.0), maximize=True), strict=True):
        if iou[i, j] > MATCH_IOU:
            partner[i] = true[j]
    return found, partner


def _judged(prediction: Annotation, truth: Annotation) -> list[Glomerulus]:
    unlabelled = _Unlabelled(truth)
    return [g for g in _labelled(prediction) if not unlabelled.holds(g)]


def _labelled(annotation: Annotation) -> list[Glomerulus]:
    return [g for g in annotation.glomeruli if 1 <= g.label <= len(CLASS_NAMES)]


def _of(glomeruli: Sequence[Glomerulus], labels: Sequence[int]) -> NDArray[np.bool_]:
    return np.array([g.label in labels for g in glomeruli], bool)


def _iou(predicted: Sequence[Glomerulus], true: Sequence[Glomerulus]) -> NDArray[np.float64]:
    """IoU of every pair, shape (predicted, true)."""
    iou = np.zeros((len(predicted), len(true)))
    outlines, others = (np.array([g.polygon for g in side], object) for side in (predicted, true))
    i, j = shapely.STRtree(others).query(outlines, predicate="intersects")
    common = shapely.area(shapely.intersection(outlines[i], others[j]))
    i, j, common = i[common > 0], j[common > 0], common[common > 0]
    iou[i, j] = common / (shapely.area(outlines[i]) + shapely.area(others[j]) - common)
    return iou


def _detect(iou: NDArray[np.float64]) -> Detection:
    candidates = np.where(iou > MATCH_IOU, iou, 0.0)
    pairs = candidates[linear_sum_assignment(candidates, maximize=True)]
    matched = int(np.count_nonzero(pairs))
    return Detection(matched, iou.shape[0] - matched, iou.shape[1] - matched, float(pairs.sum()))


class _Unlabelled:
    """The ground of a slide about which its annotation says nothing, as `Annotation.rasterize` paints it."""

    def __init__(self, truth: Annotation) -> None:
        self._complete = truth.complete
        self._glomeruli, self._ignored, self._background = (
            shapely.STRtree([g.polygon for g in side])
            for side in (
                _labelled(truth),
                [g for g in truth.glomeruli if g.label == IGNORE_INDEX],
                truth.background,
            )
        )

    def holds(self, glomerulus: Glomerulus) -> bool:
        """Whether most of the object lies on it."""
        outline = glomerulus.polygon
        outside = outline.difference(_near(self._glomeruli, outline))
        ignored = _near(self._ignored, outline)
        if self._complete:
            unlabelled = outside.intersection(ignored)
        else:
            unlabelled = outside.difference(_near(self._background, outline).difference(ignored))
        return bool(unlabelled.area > MOSTLY * outline.area)


def _near(tree: shapely.STRtree, outline: shapely.Geometry) -> shapely.Geometry:
    """The union of the tree's outlines that meet `outline`."""
    return shapely.union_all(tree.geometries[tree.query(outline, predicate="intersects")])


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("nan")
