"""Networks that MONAI lacks."""

from bundle.networks.unet3plus import UNet3Plus

__all__ = ["UNet3Plus"]
