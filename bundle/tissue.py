"""Where a slide has tissue: a low-magnification mask that spares the network blank glass. Not a segmentation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import remove_small_objects

from bundle.geometry import Size
from bundle.grid import TileGrid, size_at
from bundle.slide import Slide

MAX_STRIP_PX = 16_000_000
"""Level-0 pixels decoded at once; a slide without coarse levels is read in strips of this size."""


@dataclass(frozen=True)
class TissueMask:
    """A mask of tissue.

    Attributes:
        mask: bool, shape (H, W), true on tissue.
        downsample: level-0 pixels per mask pixel.
    """

    mask: NDArray[np.bool_]
    downsample: float

    def tiles(self, grid: TileGrid) -> NDArray[np.bool_]:
        """Which tiles of `grid` hold tissue: bool, shape (rows, columns)."""
        # Summed areas: one look-up a tile, whatever the number of tiles.
        sums = np.pad(self.mask.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        scale = grid.downsample / self.downsample
        top, bottom = self._span(grid.ys, grid.tile_px, scale, self.mask.shape[0])
        left, right = self._span(grid.xs, grid.tile_px, scale, self.mask.shape[1])
        rows = sums[bottom] - sums[top]
        return (rows[:, right] - rows[:, left]) > 0

    def at(self, rows: slice, width: int, downsample: float) -> NDArray[np.bool_]:
        """The mask in `rows` of an image of `width` pixels and `downsample` level-0 pixels a pixel: bool (n, width)."""
        y = self._nearest(np.arange(rows.start, rows.stop), downsample, self.mask.shape[0])
        x = self._nearest(np.arange(width), downsample, self.mask.shape[1])
        return self.mask[np.ix_(y, x)]

    def _nearest(self, pixels: NDArray, downsample: float, limit: int) -> NDArray:
        return np.minimum((pixels + 0.5) * downsample / self.downsample, limit - 1).astype(int)

    @staticmethod
    def _span(starts: tuple[int, ...], tile_px: int, scale: float, limit: int) -> tuple[NDArray, NDArray]:
        first = np.asarray(starts) * scale
        low = np.clip(np.floor(first), 0, limit - 1).astype(int)
        high = np.clip(np.ceil(first + tile_px * scale), low + 1, limit).astype(int)
        return low, high


@dataclass(frozen=True)
class TissueFinder:
    """Finds tissue by its optical density against the glass; unscanned black is not tissue.

    It errs towards tissue: a glomerulus missed here is lost for good, a blank tile costs only time.

    Attributes:
        mpp: resolution of the mask, µm per pixel.
        min_density: least optical density (log10) of the darkest channel against glass.
        min_area_um2: smaller specks are dust, µm².
        max_hole_um2: smaller holes, such as lumina and Bowman's spaces, are filled, µm²; a large glomerulus has 70,000.
        margin_um: the mask grows by this much, µm.
        black: a pixel whose every channel is at most this value was not scanned.
    """

    mpp: float = 16.0
    min_density: float = 0.05
    min_area_um2: float = 5000.0
    max_hole_um2: float = 70_000.0
    margin_um: float = 32.0
    black: int = 8

    def __call__(self, slide: Slide) -> TissueMask:
        """The tissue mask of `slide`; all true when the slide's resolution is unknown (pixel tiles).

        Raises:
            SlideReadError: the pixel data is damaged.
        """
        if slide.mpp is None:
            return TissueMask(np.ones((1, 1), bool), float(max(slide.size.width, slide.size.height)))
        # A small region keeps enough pixels to tell tissue from glass.
        mpp = max(slide.mpp, min(self.mpp, slide.mpp * min(slide.size.width, slide.size.height) / 16))
        downsample = mpp / slide.mpp
        density = self._density(slide, size_at(slide.size, downsample), downsample)
        mask = ndimage.binary_opening(density > self.min_density) | (density > 3 * self.min_density)
        labels, count = ndimage.label(mask)
        areas_um2 = np.bincount(labels.ravel(), minlength=count + 1) * mpp**2
        areas_um2[0] = 0
        mask = (areas_um2 >= min(self.min_area_um2, areas_um2.max(initial=0)))[labels] & mask
        # Not remove_small_holes: it also fills the glass between tissue and the slide's edge.
        holes = ndimage.binary_fill_holes(mask) & ~mask
        mask = mask | (holes & ~remove_small_objects(holes, max_size=int(self.max_hole_um2 / mpp**2)))
        margin_px = round(self.margin_um / mpp)
        if margin_px:
            mask = ndimage.binary_dilation(mask, iterations=margin_px)
        return TissueMask(mask, downsample)

    def _density(self, slide: Slide, size: Size, downsample: float) -> NDArray[np.float32]:
        """Optical density of the darkest channel, shape (H, W) of `size`; 0 where nothing was scanned."""
        density = np.zeros((size.height, size.width), np.float32)
        unscanned = np.zeros(density.shape, bool)
        strip = max(1, int(MAX_STRIP_PX / (slide.size.width * downsample)))
        for top in range(0, size.height, strip):
            rows = slice(top, min(top + strip, size.height))
            rgb = slide.read_downsampled(0, top * downsample, size.width, rows.stop - top, downsample)
            density[rows] = np.log10(255 / np.maximum(rgb.min(axis=2), 1).astype(np.float32))
            unscanned[rows] = rgb.max(axis=2) <= self.black
        # A pixel at the scan's border is a mixture of black and glass, as dark as tissue.
        density[ndimage.binary_dilation(unscanned, np.ones((3, 3)))] = 0
        return density
