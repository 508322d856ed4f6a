"""What training needs beyond MONAI and torch."""

from bundle.training.losses import MaskedDiceCELoss

__all__ = ["MaskedDiceCELoss"]
