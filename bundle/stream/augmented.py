"""What is put around a network at inference: the mean over a tile's symmetries, a temperature; logits in and out."""

import torch
from torch import nn

from bundle.errors import ConfigError
from bundle.stream.prediction import class_probabilities
from bundle.symmetries import SYMMETRIES, seen, undone


class DihedralMean(nn.Module):
    """Test-time augmentation: the mean of a network's probabilities over the eight symmetries of a square tile.

    Tissue has no up, down, left or right, so a network should see the same in all of them; it does so only nearly. The
    result turns and flips exactly with the tile (Cohen and Welling, "Group Equivariant Convolutional Networks", ICML
    2016, section 4), at eight times the cost.

    Args:
        network: maps (B, 3, h, w) to logits (B, C, h, w); where h and w differ it also gets (B, 3, w, h).
        enabled: without it the network's own logits are passed on.
    """

    def __init__(self, network: nn.Module, enabled: bool = True) -> None:
        super().__init__()
        self.network = network
        self.enabled = enabled

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Logits of tiles (B, 3, h, w): where enabled, logarithms of the mean probabilities, whose softmax they are.

        A network of one channel then gives two, background and glomerulus.
        """
        if not self.enabled:
            return self.network(tiles)
        views = [
            undone(class_probabilities(self.network(seen(tiles, *symmetry).contiguous()).float()), *symmetry)
            for symmetry in SYMMETRIES
        ]
        mean = torch.stack(views).mean(0)
        return mean.clamp_min(torch.finfo(mean.dtype).tiny).log()


class TemperatureScaled(nn.Module):
    """A network whose logits are divided by a temperature: above 1 it is less sure, and no more or less right.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2. A pixel's most probable class stays
    what it is; whether the classes of glomeruli together reach half can change.

    Args:
        network: maps (B, 3, h, w) to logits.
        temperature: above 0; 1 changes nothing. configs/calibrate.yaml finds it.

    Raises:
        ConfigError: `temperature` is not above 0.
    """

    def __init__(self, network: nn.Module, temperature: float = 1.0) -> None:
        super().__init__()
        if not 0 < temperature < float("inf"):
            raise ConfigError(f"temperature: must be a number above 0, not {temperature}; 1 changes nothing")
        self.network = network
        self.temperature = temperature

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Logits of tiles (B, 3, h, w)."""
        logits = self.network(tiles)
        return logits if self.temperature == 1 else logits / self.temperature
