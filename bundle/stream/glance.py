"""Glance, then focus: a first look at coarse resolution says where the second one, at full resolution, is worth it."""

from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage

from bundle.errors import ConfigError
from bundle.slide import Slide
from bundle.stream.inferer import SlideInferer
from bundle.stream.prediction import ROWS
from bundle.tissue import TissueMask


class Glance:
    """Where a network suspects glomeruli at coarse resolution; takes the place of a `TissueFinder` in `TileSplitter`.

    What it misses is lost for good, so its threshold is low and its margin wide; the two-stage idea is that of H2G-Net
    (Pedersen et al., Frontiers in Medicine 2022, arXiv 2112.03455).

    Args:
        inferer: of the first look, with tiles at a coarser resolution than the second; its merger's threshold does not
            matter.
        network: maps (B, 3, h, w) tiles to (B, C, h, w) logits.
        min_probability: a pixel with at least this probability of any glomerulus is suspect, 0 to 1.
        margin_um: suspect places grow by this much, µm.

    Raises:
        ConfigError: `min_probability` is no probability above 0, or `margin_um` is below 0.
    """

    def __init__(
        self,
        inferer: SlideInferer,
        network: Callable[..., torch.Tensor],
        min_probability: float = 0.1,
        margin_um: float = 100.0,
    ) -> None:
        if not 0 < min_probability <= 1 or margin_um < 0:
            raise ConfigError(
                f"glance: min_probability must lie in 0 to 1 and margin_um be 0 or more, not {min_probability} and "
                f"{margin_um}"
            )
        self.inferer = inferer
        self.network = network
        self.min_probability = min_probability
        self.margin_um = margin_um

    def __call__(self, slide: Slide) -> TissueMask:
        """Suspect places of `slide`, at the first look's resolution.

        Raises:
            UnknownResolutionError: its um per pixel is not known, and the tiles are in pixels.
            BundleError: see `SlideInferer`.
        """
        found = self.inferer(slide, self.network)
        suspect = np.zeros(found.foreground.shape, bool)
        for top in range(0, found.size.height, ROWS):
            rows = slice(top, top + ROWS)
            suspect[rows] = found.foreground[rows] >= 255 * self.min_probability
            found.release()
        margin_px = self.margin_um / (slide.require_mpp() * found.downsample)
        if margin_px >= 1 and suspect.any():
            suspect = ndimage.distance_transform_cdt(~suspect, "chessboard") <= margin_px
        return TissueMask(suspect, found.downsample)
