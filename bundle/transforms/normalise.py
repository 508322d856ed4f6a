"""Stain normalisation at inference: a slide's two stains are given the colours and strengths of a reference's.

Macenko et al., "A method for normalizing histology slides for quantitative analysis", ISBI 2009. A slide's stains are
estimated once, from places spread over its tissue, never tile by tile: a tile of one stain, such as a scar, would be
stretched until it looked like any other, two tiles that overlap would show one glomerulus in two colours, and the edge
between them would show in the result.
"""

import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bundle.errors import ConfigError
from bundle.slide import Slide, open_slide
from bundle.stream.splitter import TileColours
from bundle.tissue import TissueFinder

logger = logging.getLogger(__name__)

METHODS: Final = ("none", "macenko")
LIGHT: Final = 240.0
"""Grey level of glass, as torchstain has it: optical density = -ln((level + 1) / LIGHT)."""
BLACK: Final = TissueFinder.black
"""A pixel whose every channel is at most this was not scanned."""
LEAST_PIXELS: Final = 1000
LEAST_ANGLE: Final = np.radians(5.0)
"""Stains whose colours differ by less are not told apart."""
FIELDS: Final = 64
FIELD_PX: Final = 64
WIDTH_PX: Final = 2000
"""Longer side at which a slide of unknown resolution is looked at."""


@dataclass(frozen=True)
class Stains:
    """The two stains of a slide, the one that takes more red out of the light (haematoxylin) first.

    Attributes:
        vectors: (2, 3) optical density of each in red, green and blue, of length 1.
        strengths: (2,) amount that 99 % of the tissue's pixels stay below.
    """

    vectors: NDArray[np.float64]
    strengths: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.vectors.shape != (2, 3) or self.strengths.shape != (2,) or not (self.strengths > 0).all():
            raise ConfigError(
                "stain reference: give `vectors`, two of red, green and blue, and `strengths`, two numbers above 0; "
                "scripts/stain_reference.py makes them of a slide"
            )

    @property
    def angle(self) -> float:
        """Between the two stains' colours, radians."""
        first, second = self.vectors / np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return float(np.arccos(np.clip(first @ second, -1, 1)))


class StainNormaliser:
    """From a slide to what is done with its tiles; `TileSplitter` asks it.

    Args:
        method: "macenko", by torchstain; "none" leaves tiles as they are.
        reference: "vectors" and "strengths" of the stains that all slides get, see `Stains`.
        mpp: resolution at which a slide's stains are looked at, µm per pixel.

    Raises:
        ConfigError: another method, or no usable reference.
    """

    def __init__(
        self, method: str | None = "none", reference: Mapping[str, Sequence[Any]] | None = None, mpp: float = 4.0
    ) -> None:
        self.method = method or "none"
        if self.method not in METHODS:
            raise ConfigError(f"stain_normalisation: must be one of {', '.join(METHODS)}, not {method}")
        if self.method != "none" and reference is None:
            raise ConfigError("stain_normalisation: needs a reference; scripts/stain_reference.py makes one of a slide")
        self.reference = None if reference is None else Stains(**{k: np.array(v) for k, v in reference.items()})
        self.mpp = mpp
        self._last: tuple[Hashable, TileColours] | None = None

    def __call__(self, slide: Slide, look: TileColours | None = None) -> TileColours:
        """What gives tiles of `slide` the reference's colours.

        A region of a slide is normalised as the whole file is. Where the stains cannot be told apart, or there is too
        little tissue, tiles stay as they are and a warning says so.

        Args:
            slide: an open slide.
            look: changes the slide's colours before they are estimated and normalised, uint8 (3, h, w) to the same.

        Raises:
            ConfigError: torchstain is not installed.
            SlideReadError: the slide's pixel data is damaged.
        """
        look = look or unchanged
        if self.method == "none":
            return look
        key = (slide.path, slide.mpp, look)
        if self._last is None or self._last[0] != key:  # crops of one slide come one after the other
            self._last = (key, self._of(slide, look))
        return self._last[1]

    def _of(self, slide: Slide, look: TileColours) -> TileColours:
        stains = estimate_stains(tissue_pixels(slide, self.mpp, look))
        if stains is None:
            logger.warning("%s: its stains cannot be told apart; its colours stay as they are", slide.path)
            return look
        assert self.reference is not None
        recolour = recolouring(stains, self.reference)
        return lambda rgb: recolour(look(rgb))


def unchanged(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A `TileColours` that does nothing."""
    return rgb


def tissue_pixels(slide: Slide, mpp: float = 4.0, look: TileColours = unchanged) -> NDArray[np.uint8]:
    """RGB (n, 3) of up to `FIELDS` places of `FIELD_PX` squared, spread evenly over the tissue of the whole file.

    As many in a large slide as in a small one: a whole slide without coarse levels would have to be decoded for it.

    Args:
        slide: an open slide, or a region of one.
        mpp: µm per pixel at which it is looked at, where its own is known.
        look: see `StainNormaliser`.

    Raises:
        SlideReadError: its pixel data is damaged.
    """
    with open_slide(slide.path, mpp=slide.mpp) as whole:
        tissue = TissueFinder()(whole)
        downsample = mpp / whole.mpp if whole.mpp else max(1.0, max(whole.size.width, whole.size.height) / WIDTH_PX)
        places = np.argwhere(tissue.mask)
        if not len(places):
            return np.zeros((0, 3), np.uint8)
        chosen = places[np.unique(np.linspace(0, len(places) - 1, FIELDS).round().astype(int))]
        half = FIELD_PX / 2 * downsample
        corners = (chosen[:, ::-1] + 0.5) * tissue.downsample - half
        fields = [whole.read_downsampled(x, y, FIELD_PX, FIELD_PX, downsample) for x, y in corners]
    seen = np.concatenate([look(field.transpose(2, 0, 1)).reshape(3, -1).T for field in fields])
    scanned = np.concatenate([field.reshape(-1, 3) for field in fields]).max(axis=1) > BLACK
    return seen[scanned]


def estimate_stains(pixels: NDArray[np.uint8]) -> Stains | None:
    """The two stains of RGB `pixels` (n, 3) by torchstain's Macenko; `None` where they cannot be told apart.

    Raises:
        ConfigError: torchstain is not installed.
    """
    try:
        from torchstain.numpy.normalizers import NumpyMacenkoNormalizer
    except ImportError as error:
        raise ConfigError("stain_normalisation: torchstain is not installed; pip install torchstain") from error

    coloured = (-np.log((pixels.astype(float) + 1) / LIGHT) >= 0.15).all(axis=1)  # what Macenko's method looks at
    if coloured.sum() < LEAST_PIXELS:
        return None
    normaliser = NumpyMacenkoNormalizer()
    normaliser.fit(pixels[:, None], Io=LIGHT)
    vectors, strengths = normaliser.HERef.T, normaliser.maxCRef
    if not (np.isfinite(vectors).all() and (strengths > 0).all()):
        return None
    stains = Stains(vectors, strengths)
    return stains if stains.angle >= LEAST_ANGLE else None


def recolouring(source: Stains, target: Stains) -> TileColours:
    """What turns tiles of the stains `source` into tiles of `target`.

    A pixel's optical density is taken apart into amounts of the two stains, by least squares, and put together again
    with the target's. What neither stain explains stays (Macenko's method would lose it): with source = target every
    tile stays as it is. Pixels that were not scanned stay black.
    """
    unmix = np.linalg.pinv(source.vectors.T)  # (2, 3)
    residual = np.eye(3) - source.vectors.T @ unmix
    matrix = target.vectors.T @ np.diag(target.strengths / source.strengths) @ unmix + residual
    densities = -np.log((np.arange(256) + 1) / LIGHT)

    def recolour(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        levels = LIGHT * np.exp(-np.einsum("ij,jhw->ihw", matrix, densities[rgb])) - 1
        found = levels.round().clip(0, 255).astype(np.uint8)
        return np.where(rgb.max(axis=0) > BLACK, found, rgb)

    return recolour
