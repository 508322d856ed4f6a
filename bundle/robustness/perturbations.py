"""Changes that stains, scanners and storage make, without chance: a tile of a slide is changed like all the others.

Each is a function from uint8 RGB (3, h, w) to the same, at model resolution, before anything else is done with a tile.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import torch
from kornia.enhance import adjust_hue
from numpy.typing import NDArray

from bundle.errors import ConfigError
from bundle.slide import Slide
from bundle.stream.splitter import TileColours
from bundle.transforms.normalise import StainNormaliser, unchanged

UNPERTURBED: Final = "unperturbed"
WHITE: Final = 255.0


@dataclass(frozen=True)
class Intensity:
    """A section stained stronger, or cut thicker, by `factor`: the optical density of every pixel times it.

    By Beer and Lambert: level = 255 (level / 255) ** factor.
    """

    factor: float

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The changed tile."""
        levels = WHITE * (np.arange(256) / WHITE) ** self.factor
        return levels.round().astype(np.uint8)[rgb]


@dataclass(frozen=True)
class HueShift:
    """Every colour turned around the circle of hues by `turn`, a part of the full circle (kornia)."""

    turn: float

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The changed tile."""
        image = torch.from_numpy(np.ascontiguousarray(rgb)).float() / WHITE
        return (adjust_hue(image, self.turn * 2 * np.pi) * WHITE).round().clamp(0, 255).to(torch.uint8).numpy()


@dataclass(frozen=True)
class Blur:
    """Out of focus: a Gaussian of standard deviation `sigma_um`, at `mpp` µm per pixel."""

    sigma_um: float
    mpp: float

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The changed tile; it is mirrored at its edges."""
        image = np.ascontiguousarray(rgb.transpose(1, 2, 0))
        blurred = cv2.GaussianBlur(image, (0, 0), self.sigma_um / self.mpp)
        return np.asarray(blurred, np.uint8).transpose(2, 0, 1)


@dataclass(frozen=True)
class Jpeg:
    """Stored as JPEG of `quality` 1 to 100, by OpenCV."""

    quality: int

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The changed tile."""
        image = np.ascontiguousarray(rgb.transpose(1, 2, 0)[..., ::-1])  # OpenCV has blue first
        _, stored = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        seen = np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR), np.uint8)
        return seen[..., ::-1].transpose(2, 0, 1)


class PerturbedColours:
    """What `TileSplitter` does with the colours of a slide's tiles: one of several perturbations, chosen by its name.

    Stain normalisation comes after it and is fitted to the perturbed slide, as it would be to a slide of such colours.

    Attributes:
        active: name of the perturbation; `UNPERTURBED` at first.

    Args:
        perturbations: by name.
        normaliser: of the stains.

    Raises:
        ConfigError: a perturbation has the name `UNPERTURBED`.
    """

    def __init__(self, perturbations: Mapping[str, TileColours], normaliser: StainNormaliser) -> None:
        if UNPERTURBED in perturbations:
            raise ConfigError(f"perturbations: {UNPERTURBED} is always there; choose another name")
        self.perturbations: dict[str, TileColours] = {UNPERTURBED: unchanged, **perturbations}
        self.normaliser = normaliser
        self.active = UNPERTURBED

    def __call__(self, slide: Slide) -> TileColours:
        """The active perturbation of `slide`, then its normalisation.

        Raises:
            BundleError: see `StainNormaliser`.
        """
        return self.normaliser(slide, self.perturbations[self.active])
