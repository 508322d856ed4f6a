"""Dice per class, over slides or crops; a class that the annotation lacks is NaN, never 0."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from ignite.metrics import Metric
from monai.metrics import DiceHelper
from numpy.typing import NDArray

from bundle.classes import CLASS_NAMES, IGNORE_INDEX, NUM_CLASSES

FOREGROUND = "glomerulus"
"""Name of the union of all classes."""

DESCRIPTORS = ("slide", "crop", "patient", "stain")
"""What a row of the table says of its image."""


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


class ClassDice(Metric):
    """Ignite metric: one row of Dice an image, `rows`; its value is the mean Dice of the union over images.

    `engine.state.metrics` also gets NAME_CLASS for each class: the mean over the images whose annotation has the
    class, NaN where none has. The table `frame()` serves `bundle.handlers.DiceTables`.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        super().__init__()

    def reset(self) -> None:
        """Forget the images seen."""
        self.rows = []

    def iteration_completed(self, engine: Any) -> None:
        """Add the image of this iteration; what the datalist says of it is in the batch, not in the output."""
        self.update({**engine.state.batch, **engine.state.output})

    def update(self, output: Mapping[str, Any]) -> None:
        """Add one image: "pred" and "label", class indices (H, W), and `DESCRIPTORS` where known."""
        prediction, truth = np.asarray(output["pred"]), np.asarray(output["label"])
        extra = prediction[(truth != IGNORE_INDEX) & (truth == 0)]
        row = {key: output.get(key, "") for key in DESCRIPTORS}
        row |= {f"dice_{name}": value for name, value in class_dice(prediction, truth).items()}
        row |= {f"false_positive_px_{name}": int((extra == i).sum()) for i, name in enumerate(CLASS_NAMES, 1)}
        self.rows.append(row)

    def compute(self) -> float:
        """Mean Dice of the union over the images that have glomeruli."""
        return float(self.frame()[f"dice_{FOREGROUND}"].mean())

    def completed(self, engine: Any, name: str) -> None:
        """Put the value and the classes' means into `engine.state.metrics`."""
        super().completed(engine, name)
        frame = self.frame()
        for label in CLASS_NAMES:
            engine.state.metrics[f"{name}_{label}"] = float(frame[f"dice_{label}"].mean())

    def frame(self) -> pd.DataFrame:
        """One row an image: descriptors, Dice of the union and of each class, false-positive pixels by class."""
        columns = [*DESCRIPTORS, *(f"dice_{n}" for n in (FOREGROUND, *CLASS_NAMES))]
        return pd.DataFrame(self.rows, columns=[*columns, *(f"false_positive_px_{n}" for n in CLASS_NAMES)])
