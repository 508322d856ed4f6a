"""What training needs beyond MONAI and torch."""

from bundle.training.losses import BCELovaszLoss, MaskedDiceCELoss

__all__ = ["BCELovaszLoss", "MaskedDiceCELoss"]
