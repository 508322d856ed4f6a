"""What training needs beyond MONAI and torch."""

from bundle.training.autocast import AutocastInferer
from bundle.training.averaging import AveragedWeights, UpdateAverage
from bundle.training.freeze import FreezeLayers
from bundle.training.losses import BCELovaszLoss, DiceCELovaszLoss, MaskedDiceCELoss, TverskyFocalLoss
from bundle.training.teaching import TaughtBatch, TaughtLoss

__all__ = [
    "AutocastInferer",
    "AveragedWeights",
    "BCELovaszLoss",
    "DiceCELovaszLoss",
    "FreezeLayers",
    "MaskedDiceCELoss",
    "TaughtBatch",
    "TaughtLoss",
    "TverskyFocalLoss",
    "UpdateAverage",
]
