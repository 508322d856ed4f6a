"""Crops of glomeruli to vectors: our own network's encoder, and colour and texture as the baseline.

An encoder is frozen and called with batches; how crops are read and where vectors are kept is `embedding`'s business.
Vision transformers from local weights are in `encoders_vit`.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from bundle.errors import ConfigError
from bundle.hashing import file_sha256
from bundle.prompts.features import ColourTexture
from bundle.weights import load_weights

Images = NDArray[np.uint8]
"""(B, S, S, 3), RGB."""
Masks = NDArray[np.bool_]
"""(B, S, S): which pixels are of the glomerulus; where none is, all count."""


class Encoder(Protocol):
    """Images of glomeruli to vectors."""

    def __call__(self, images: Images, masks: Masks) -> NDArray[np.float32]:
        """Shape (B, D)."""

    def describe(self) -> dict[str, Any]:
        """What makes two encoders give different vectors, as JSON knows it."""


class ColourTextureEncoder:
    """`bundle.prompts.features.ColourTexture` of the glomerulus, 9 numbers: the baseline of any learned encoder.

    Args:
        input_px: side to which crops are resized, so that texture has one scale.
    """

    def __init__(self, input_px: int = 64) -> None:
        self.input_px = input_px
        self.features = ColourTexture()

    def __call__(self, images: Images, masks: Masks) -> NDArray[np.float32]:
        """See `Encoder`."""
        known = shrunk_masks(masks, self.input_px) >= 0.5
        pixels = (resized(images, self.input_px) + 0.5).clamp(0, 255).byte().numpy()
        rows = [self.features(image, mask if mask.any() else ~mask) for image, mask in zip(pixels, known, strict=True)]
        return np.stack(rows).astype(np.float32)

    def describe(self) -> dict[str, Any]:
        """See `Encoder`."""
        return {"encoder": "colour_texture", "input_px": self.input_px}


class NetworkEncoder:
    """Feature maps of a segmentation network, pooled over the glomerulus: mean and, if wanted, standard deviation.

    Args:
        network: the network, put into evaluation mode.
        weights: its weights (plain state dict or training state); `None` leaves them as they are.
        layers: names as `network.named_modules` has them; each gives a map (B, channels, h, w). All are concatenated.
        input_px: side to which crops are resized. With a store of crops of S px at m µm/px, the network sees them at
            its own resolution of M µm/px with S * m / M.
        preprocessing: of RGB 0..255, (B, 3, H, W), to the network's input.
        deviations: whether the standard deviation over the glomerulus follows the mean.
        device: where the network runs.

    Raises:
        ConfigError: the network has no such layer.
        WeightsError: the weights are of another network.
    """

    def __init__(
        self,
        network: nn.Module,
        weights: Path | str | None,
        layers: Sequence[str],
        input_px: int,
        preprocessing: Callable[[Any], Any],
        deviations: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        self.modules = named_layers(network, layers)
        if weights is not None:
            load_weights(network, weights)
        self.network = network.to(device).eval()
        self.input_px = input_px
        self.preprocessing = preprocessing
        self.deviations = deviations
        self.device = device
        self.facts = {
            "encoder": type(network).__name__,
            "weights_sha256": None if weights is None else file_sha256(Path(weights)),
            "layers": list(layers),
            "input_px": input_px,
            "deviations": deviations,
        }

    @torch.inference_mode()
    def __call__(self, images: Images, masks: Masks) -> NDArray[np.float32]:
        """See `Encoder`; raises `ConfigError` where one of the layers gives no map."""
        tiles = torch.as_tensor(self.preprocessing(resized(images, self.input_px)), dtype=torch.float32)
        maps = layer_maps(self.network, self.modules, tiles.to(self.device))
        return torch.cat([self._pooled(features, masks) for features in maps], 1).float().cpu().numpy()

    def describe(self) -> dict[str, Any]:
        """See `Encoder`."""
        return dict(self.facts)

    def _pooled(self, features: torch.Tensor, masks: Masks) -> torch.Tensor:
        weight = torch.as_tensor(shrunk_masks(masks, features.shape[-1]), device=features.device)[:, None]
        share = weight / weight.sum((2, 3), keepdim=True)
        mean = (features * share).sum((2, 3))
        if not self.deviations:
            return mean
        variance = ((features - mean[..., None, None]).square() * share).sum((2, 3))
        return torch.cat([mean, variance.sqrt()], 1)


def named_layers(network: nn.Module, layers: Sequence[str]) -> list[nn.Module]:
    """The modules of `network` with these names; `ConfigError` names one that is not there."""
    modules = dict(network.named_modules())
    for layer in layers:
        if layer not in modules:
            names = ", ".join(name for name, _ in network.named_children())
            raise ConfigError(f"layers: {type(network).__name__} has no layer {layer!r}; it has {names}")
    return [modules[layer] for layer in layers]


class _AllGivenError(Exception):
    """Leaves a network's forward pass early."""


def layer_maps(network: nn.Module, modules: Sequence[nn.Module], images: torch.Tensor) -> list[torch.Tensor]:
    """What each of `modules` gives when `network` sees `images` (B, C, H, W): maps (B, channels, h, w).

    Raises:
        ConfigError: a module gives something else, or is not called.
    """
    given: dict[int, Any] = {}

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        given[id(module)] = output
        if len(given) == len(modules):
            raise _AllGivenError

    hooks = [module.register_forward_hook(keep) for module in modules]
    try:
        # The decoder, half of the work, need not run.
        with suppress(_AllGivenError):
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    found = (given.get(id(module)) for module in modules)
    maps = [output for output in found if isinstance(output, torch.Tensor) and output.ndim == images.ndim]
    if len(maps) < len(modules):
        raise ConfigError("layers: one of them gives no feature map (batch, channels, h, w); choose others")
    return maps


def resized(images: Images, side: int) -> torch.Tensor:
    """RGB 0..255 as float32 (B, 3, side, side), antialiased bilinear."""
    tensor = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    if tensor.shape[-2:] == (side, side):
        return tensor
    return functional.interpolate(tensor, (side, side), mode="bilinear", antialias=True, align_corners=False)


def shrunk_masks(masks: Masks, side: int) -> NDArray[np.float32]:
    """How much of each pixel of a coarser grid (B, side, side) is glomerulus; 1 throughout where a mask is empty."""
    tensor = torch.from_numpy(np.ascontiguousarray(masks)).float()[:, None]
    shares = functional.adaptive_avg_pool2d(tensor, (side, side))[:, 0].numpy()
    shares[~masks.any((1, 2))] = 1
    return shares
