"""What training needs beyond MONAI and torch."""

from bundle.training.freeze import FreezeLayers
from bundle.training.losses import BCELovaszLoss, MaskedDiceCELoss

__all__ = ["BCELovaszLoss", "FreezeLayers", "MaskedDiceCELoss"]
