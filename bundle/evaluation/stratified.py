"""Class-stratified Dice: how well glomeruli of each annotated class are outlined by a network that names no class.

The one-channel head of the study (glomerulus or not) has no Dice of a class; this asks instead how well the annotated
glomeruli of a class are covered.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bundle.classes import CLASS_NAMES, IGNORE_INDEX
from bundle.evaluation.image_table import ImageTable
from bundle.evaluation.tables import FOREGROUND


@dataclass(frozen=True)
class StratifiedDice:
    """Pixels of each annotated glomerulus i of an image and of the prediction in its cell; arrays of shape (n,).

    Attributes:
        number: the glomerulus's number in the instance image, ascending.
        label: its class, 1 to 3.
        common_px: |P_i n T_i|.
        predicted_px: |P_i|.
        true_px: |T_i|, above 0.
        stray_px: predicted pixels in no cell: false positives that no class's Dice sees.
    """

    number: NDArray[np.int64]
    label: NDArray[np.uint8]
    common_px: NDArray[np.int64]
    predicted_px: NDArray[np.int64]
    true_px: NDArray[np.int64]
    stray_px: int

    def by_glomerulus(self) -> NDArray[np.float64]:
        """Dice_i = 2 |P_i n T_i| / (|P_i| + |T_i|) of each glomerulus, shape (n,)."""
        return 2 * self.common_px / (self.predicted_px + self.true_px)

    def by_class(self) -> dict[str, float]:
        """Dice_c of "glomerulus" (all classes pooled) and of each class; NaN where the image has none of it."""
        members = {FOREGROUND: self.label > 0} | {n: self.label == i for i, n in enumerate(CLASS_NAMES, 1)}
        return {name: self._pooled(of) for name, of in members.items()}

    def only(self, number: int) -> "StratifiedDice":
        """The same of glomerulus `number` alone, of none where it has no pixels."""
        of = self.number == number
        counts = (self.number[of], self.label[of], self.common_px[of], self.predicted_px[of], self.true_px[of])
        return StratifiedDice(*counts, self.stray_px)

    def _pooled(self, of: NDArray[np.bool_]) -> float:
        if not of.any():
            return float("nan")
        return float(2 * self.common_px[of].sum() / (self.predicted_px[of] + self.true_px[of]).sum())


def stratified_dice(
    prediction: NDArray, truth: NDArray[np.uint8], instances: NDArray[np.integer], *, mpp: float, margin_um: float
) -> StratifiedDice:
    """The prediction, whatever it calls its glomeruli, shared out among the annotated glomeruli.

    Let T_i be the pixels of annotated glomerulus i, and its cell V_i the pixels whose nearest annotated pixel
    (Euclidean, between pixel centres) is one of T_i and no farther than `margin_um`: T_i itself, and the part of its
    Voronoi cell within the margin. With P the predicted pixels and P_i = P n V_i,

        Dice_c = 2 sum_{i in c} |P_i n T_i| / sum_{i in c} (|P_i| + |T_i|).

    Edge cases:
        - A class without annotated pixels in the image is NaN, whatever was predicted; a class missed is 0.
        - Unlabelled pixels (255) belong to no P_i; their distance to a glomerulus is measured across them.
        - A pixel as near to two glomeruli belongs to one of them, to which is left to the distance transform.
        - A prediction that spans touching glomeruli is cut along their border: each gets its own part.
        - A prediction farther than the margin from all is in no Dice: see `stray_px`. The larger the margin, the more
          false positives a class's Dice takes in; with `inf` all of them, and Dice of "glomerulus" is the plain Dice.
        - An object hidden under later ones has no pixels and is left out.

    Args:
        prediction: shape (H, W), non-zero (or True) where a glomerulus is predicted.
        truth: `Annotation.rasterize` of the window, same shape.
        instances: `Annotation.rasterize_instances` of the window, same shape.
        mpp: micrometres per pixel of the three.
        margin_um: width of the neighbourhood around a glomerulus, micrometres, 0 or more.

    Raises:
        ValueError: shapes differ, or `instances` and `truth` are of different annotations.
    """
    if not prediction.shape == truth.shape == instances.shape:
        raise ValueError(f"shapes differ: {prediction.shape}, {truth.shape}, {instances.shape}")
    annotated = instances > 0
    if not np.array_equal(annotated, (truth > 0) & (truth != IGNORE_INDEX)):
        raise ValueError("instances and truth disagree on where the glomeruli are: rasterize both from one annotation")
    number, first, true_px = np.unique(instances[annotated], return_index=True, return_counts=True)
    predicted = (prediction > 0) & (truth != IGNORE_INDEX)
    cells = _cells(instances, margin_um / mpp)
    counted = predicted & (cells > 0)
    return StratifiedDice(
        number=number.astype(np.int64),
        label=truth[annotated][first],
        common_px=_count(instances[predicted & annotated], number),
        predicted_px=_count(cells[counted], number),
        true_px=true_px.astype(np.int64),
        stray_px=int(np.count_nonzero(predicted & ~counted)),
    )


def _cells(instances: NDArray[np.integer], margin_px: float) -> NDArray[np.integer]:
    """The number of the glomerulus in whose cell each pixel lies, 0 for none."""
    if not instances.any():  # the distance to nothing is undefined in scipy
        return instances
    distance, (rows, columns) = ndimage.distance_transform_edt(instances == 0, return_indices=True)
    return np.where(distance <= margin_px, instances[rows, columns], 0)


def _count(values: NDArray[np.integer], number: NDArray[np.integer]) -> NDArray[np.int64]:
    """How often each of the ascending `number` occurs; all values are among them."""
    return np.bincount(np.searchsorted(number, values), minlength=len(number)).astype(np.int64)


class ClassStratifiedDice(ImageTable):
    """Ignite metric: `stratified_dice` of each image, and its stray pixels; see `ImageTable`.

    Images have "pred" and "label", class indices (H, W); "annotation" and "downsample", as
    `bundle.transforms.RasterizeLabeld` leaves them; "image", the slide. Of the image of one glomerulus, which has its
    number in the annotation as "glomerulus", that one alone is measured, its neighbours are not.

    Args:
        margin_um: width of the neighbourhood around a glomerulus in which false positives count, micrometres.
    """

    measures = ("stratified_dice",)
    columns = (*(f"stratified_dice_{name}" for name in (FOREGROUND, *CLASS_NAMES)), "stray_px")

    def __init__(self, margin_um: float = 50.0) -> None:
        self.margin_um = margin_um
        super().__init__()

    def row(self, image: Mapping[str, Any]) -> dict[str, float]:
        """Class-stratified Dice of the union and of each class."""
        truth = np.asarray(image["label"])
        downsample = image["downsample"]
        instances = image["annotation"].rasterize_instances(0, 0, truth.shape[1], truth.shape[0], downsample)
        mpp = downsample * image["image"].mpp
        found = stratified_dice(np.asarray(image["pred"]), truth, instances, mpp=mpp, margin_um=self.margin_um)
        if image.get("glomerulus"):
            found = found.only(image["glomerulus"])
        dice = {f"stratified_dice_{name}": value for name, value in found.by_class().items()}
        return dice | {"stray_px": found.stray_px}
