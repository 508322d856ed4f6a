"""What training needs beyond MONAI and torch."""

from bundle.training.freeze import FreezeLayers
from bundle.training.losses import BCELovaszLoss, DiceCELovaszLoss, MaskedDiceCELoss, TverskyFocalLoss

__all__ = ["BCELovaszLoss", "DiceCELovaszLoss", "FreezeLayers", "MaskedDiceCELoss", "TverskyFocalLoss"]
