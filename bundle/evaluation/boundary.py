"""Boundary distance per class, in micrometres."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance
from numpy.typing import NDArray

from bundle.classes import CLASS_NAMES, IGNORE_INDEX
from bundle.evaluation.image_table import ImageTable
from bundle.evaluation.tables import FOREGROUND


def hd95_um(prediction: NDArray[np.uint8], truth: NDArray[np.uint8], *, mpp: float) -> dict[str, float]:
    """95th percentile Hausdorff distance of the union ("glomerulus") and of each class, by MONAI.

    The greater of the two directed 95th percentiles of the distance from a boundary pixel to the nearest boundary
    pixel of the other mask; a boundary pixel has one of its 4 neighbours outside of the mask or the image. Meant for
    crops of a glomerulus: on a whole slide one far false positive of 5 % of the boundary decides it.

    Args:
        prediction: class indices 0 to 3, shape (H, W).
        truth: class indices of the same shape; pixels of 255 belong to neither mask.
        mpp: micrometres per pixel.

    Returns:
        Micrometres by name; NaN where prediction or truth lacks the class: a distance to nothing is not defined, and
        what MONAI makes of it (infinity and a warning) would swallow every mean.
    """
    known = truth != IGNORE_INDEX
    masks = {FOREGROUND: (prediction > 0, truth > 0)}
    masks |= {name: (prediction == i, truth == i) for i, name in enumerate(CLASS_NAMES, 1)}
    return {name: _hd95(predicted & known, true & known, mpp) for name, (predicted, true) in masks.items()}


def _hd95(prediction: NDArray[np.bool_], truth: NDArray[np.bool_], mpp: float) -> float:
    if not (prediction.any() and truth.any()):
        return float("nan")
    predicted, true = (torch.as_tensor(mask)[None, None] for mask in (prediction, truth))
    with warnings.catch_warnings():  # MONAI 1.6 calls its own function by an argument that it has deprecated
        warnings.filterwarnings("ignore", ".*get_mask_edges:always_return_as_numpy", FutureWarning)
        # in pixels, scaled after: MONAI's distances are float32, and a whole number of pixels is exact there
        distance = compute_hausdorff_distance(predicted, true, include_background=True, percentile=95)
    return mpp * float(distance)


class BoundaryDistance(ImageTable):
    """Ignite metric: `hd95_um` of each image, micrometres; see `ImageTable`.

    Images have "pred" and "label", class indices (H, W); "downsample", as `bundle.transforms.RasterizeLabeld` leaves
    it; "image", the slide.
    """

    measures = ("hd95_um",)
    columns = tuple(f"hd95_um_{name}" for name in (FOREGROUND, *CLASS_NAMES))

    def row(self, image: Mapping[str, Any]) -> dict[str, float]:
        """Distance of the union and of each class."""
        mpp = image["downsample"] * image["image"].mpp
        found = hd95_um(np.asarray(image["pred"]), np.asarray(image["label"]), mpp=mpp)
        return {f"hd95_um_{name}": value for name, value in found.items()}
