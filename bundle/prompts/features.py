"""What a prompt looks like, as a vector: mean-pooled features of a network's encoder, or plain colour and texture.

Only pixels that are known count (label other than 255), so that the white around a crop is no feature of it.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2lab
from torch import nn

from bundle.classes import IGNORE_INDEX
from bundle.errors import ConfigError
from bundle.prompts.cutting import PromptTile

TEXTURE_SIGMAS_PX: Final = (1.0, 2.0, 4.0)
"""Scales of the texture, model pixels: nuclei to capillary loops at 4 um per pixel."""


class TileFeatures(Protocol):
    """A tile to its features."""

    def __call__(self, image: NDArray[np.uint8], known: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Shape (D,), of RGB (3, S, S) and of which pixels (S, S) are known."""


def tile_features(tiles: Iterable[PromptTile], features: TileFeatures) -> NDArray[np.float64]:
    """The features of every tile, shape (tiles, D)."""
    return np.stack([features(tile.image, tile.label != IGNORE_INDEX) for tile in tiles])


class ColourTexture:
    """Features without a network, shape (9,).

    Mean and standard deviation of CIE L*, a*, b* (6), and the standard deviation of the Laplacian of Gaussian of L* at
    `TEXTURE_SIGMAS_PX` (3).
    """

    def __call__(self, image: NDArray[np.uint8], known: NDArray[np.bool_]) -> NDArray[np.float64]:
        """See `TileFeatures`."""
        lab = rgb2lab(image.transpose(1, 2, 0))
        colours = lab[known]
        # Padding has no texture, and its border no edge.
        light = np.where(known, lab[..., 0], colours[:, 0].mean())
        texture = [ndimage.gaussian_laplace(light, sigma)[known].std() for sigma in TEXTURE_SIGMAS_PX]
        return np.concatenate([colours.mean(0), colours.std(0), texture])


class EncoderFeatures:
    """Features of a network, shape (channels,): the mean over the known pixels of what a layer gives.

    Args:
        network: put into evaluation mode.
        layer: name of the layer, as `network.named_modules` has it, that gives (1, channels, h, w).
        preprocessing: of RGB (3, S, S), uint8, to the network's input.
        device: where the network runs.

    Raises:
        ConfigError: the network has no such layer, or it gives something else.
    """

    def __init__(
        self,
        network: nn.Module,
        layer: str,
        preprocessing: Callable[[Any], Any],
        device: torch.device | str = "cpu",
    ) -> None:
        modules = dict(network.named_modules())
        if layer not in modules:
            names = ", ".join(name for name, _ in network.named_children())
            raise ConfigError(f"layer: {type(network).__name__} has no layer {layer!r}; it has {names}")
        self.network = network.to(device).eval()
        self.layer = layer
        self.module = modules[layer]
        self.preprocessing = preprocessing
        self.device = device

    def __call__(self, image: NDArray[np.uint8], known: NDArray[np.bool_]) -> NDArray[np.float64]:
        """See `TileFeatures`."""
        tile = torch.as_tensor(np.asarray(self.preprocessing(image)), dtype=torch.float32, device=self.device)
        given = self._run(tile[None])
        weight = torch.as_tensor(known[None, None], dtype=torch.float32, device=self.device)
        weight = nn.functional.adaptive_avg_pool2d(weight, (given.shape[2], given.shape[3]))
        pooled = (given * weight).sum((0, 2, 3)) / weight.sum()
        return pooled.double().cpu().numpy()

    @torch.inference_mode()
    def _run(self, tile: torch.Tensor) -> torch.Tensor:
        outputs: list[Any] = []
        hook = self.module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
        try:
            self.network(tile)
        finally:
            hook.remove()
        if not outputs or not isinstance(outputs[0], torch.Tensor) or outputs[0].ndim != tile.ndim:
            raise ConfigError(f"layer: {self.layer!r} gives no feature map (1, channels, h, w); choose another --layer")
        return outputs[0]
