"""Networks that MONAI lacks. Importing them does not import transformers: SegGPT does so when its weights are read."""

from bundle.networks.cascade import Cascade
from bundle.networks.seggpt import SegGPT, read_seggpt
from bundle.networks.unet3plus import UNet3Plus

__all__ = ["Cascade", "SegGPT", "UNet3Plus", "read_seggpt"]
