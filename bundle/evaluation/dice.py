"""Dice per class, over slides or crops; a class that the annotation lacks is NaN, never 0."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai.metrics import DiceHelper
from numpy.typing import NDArray

from bundle.classes import CLASS_NAMES, IGNORE_INDEX, NUM_CLASSES
from bundle.evaluation.image_table import ImageTable
from bundle.evaluation.tables import FOREGROUND


def class_dice(prediction: NDArray[np.uint8], truth: NDArray[np.uint8]) -> dict[str, float]:
    """Dice = 2 |P n T| / (|P| + |T|) of the union ("glomerulus") and of each class, by MONAI's `DiceHelper`.

    Args:
        prediction: class indices 0 to 3, shape (H, W).
        truth: class indices of the same shape; pixels of 255 are left out.

    Returns:
        Dice by name; NaN where `truth` lacks the class, whatever was predicted.
    """
    predicted, true = (torch.as_tensor(np.ascontiguousarray(a))[None, None] for a in (prediction, truth))
    union = _dice(predicted > 0, torch.where(true == IGNORE_INDEX, true, (true > 0).to(true.dtype)), 2)
    return dict(zip((FOREGROUND, *CLASS_NAMES), union + _dice(predicted, true, NUM_CLASSES), strict=True))


def _dice(prediction: torch.Tensor, truth: torch.Tensor, channels: int) -> list[float]:
    helper = DiceHelper(
        include_background=False, num_classes=channels, reduction="none", ignore_index=IGNORE_INDEX, get_not_nans=False
    )
    return helper(prediction.to(truth.dtype), truth)[0].tolist()


class ClassDice(ImageTable):
    """Ignite metric: `class_dice` of each image, and false-positive pixels by class; see `ImageTable`.

    Images have "pred" and "label", class indices (H, W), label 255 unlabelled.
    """

    measures = ("dice",)
    columns = (
        *(f"dice_{name}" for name in (FOREGROUND, *CLASS_NAMES)),
        *(f"false_positive_px_{name}" for name in CLASS_NAMES),
    )

    def row(self, image: Mapping[str, Any]) -> dict[str, float]:
        """Dice of the union and of each class, and the pixels of each class on labelled background."""
        prediction, truth = np.asarray(image["pred"]), np.asarray(image["label"])
        extra = prediction[(truth != IGNORE_INDEX) & (truth == 0)]
        dice = {f"dice_{name}": value for name, value in class_dice(prediction, truth).items()}
        return dice | {f"false_positive_px_{name}": int((extra == i).sum()) for i, name in enumerate(CLASS_NAMES, 1)}
