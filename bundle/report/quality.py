"""What on a slide may mislead: blur, folds, pen, few glomeruli. Warnings for a reader, no filter of the inference."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage
from shapely.geometry.base import BaseGeometry
from skimage.morphology import remove_small_objects

from bundle.data.annotations import Annotation, Glomerulus
from bundle.geometry import Size
from bundle.grid import size_at
from bundle.slide import Slide
from bundle.tissue import MAX_STRIP_PX, TissueFinder, TissueMask

Status = Literal["good", "warning", "unknown"]


@dataclass(frozen=True)
class Finding:
    """One check of a slide: its `name`, `status`, what was found (`text`) and how it was looked for (`definition`)."""

    name: str
    status: Status
    text: str
    definition: str


@dataclass(frozen=True)
class QualityCheck:
    """Looks for what spoils a count of glomeruli.

    Attributes:
        min_glomeruli: fewer are too few for a percentage; a biopsy of the Banff classification needs ten (Racusen et
            al., Kidney International 1999, 55:713).
        blur_mpp: resolution at which sharpness is measured, µm per pixel.
        blur_field_um: side of the fields whose sharpness is measured, µm.
        blur_fields: how many of them, spread evenly over the tissue.
        min_sharpness: least variance of the Laplacian of a sharp field's grey levels (Pech-Pacheco et al., ICPR 2000).
        max_blurred: largest share of blurred fields without a warning.
        coarse_mpp: resolution at which folds and pen are looked for, µm per pixel.
        fold_density: tissue this many times as dense as the slide's median is folded. Two layers are twice as dense, a
            little less in pixels that average over nuclei.
        min_fold_um2: smaller dense spots are no folds, µm².
        pen_hues: degrees of the colour circle, from, to: green and blue ink, which no common kidney stain has.
        pen_saturation: least saturation of ink, 0 to 1.
        min_pen_um2: smaller spots are no ink, µm².
        finder: finds the tissue in which blur and folds are looked for.
    """

    min_glomeruli: int = 10
    blur_mpp: float = 2.0
    blur_field_um: float = 256.0
    blur_fields: int = 100
    min_sharpness: float = 150.0
    max_blurred: float = 0.2
    coarse_mpp: float = 16.0
    fold_density: float = 1.7
    min_fold_um2: float = 20_000.0
    pen_hues: tuple[float, float] = (80.0, 225.0)
    pen_saturation: float = 0.35
    min_pen_um2: float = 50_000.0
    finder: TissueFinder = field(default_factory=lambda: TissueFinder(margin_um=0.0))

    def __call__(self, slide: Slide, polygons: Sequence[BaseGeometry]) -> tuple[Finding, ...]:
        """The findings on a slide whose glomeruli are `polygons`, level-0 pixels.

        Raises:
            SlideReadError: the slide's pixels are damaged.
        """
        few = self._few(len(polygons))
        if slide.mpp is None:
            reason = "not assessed: the slide states no resolution"
            return (few, *(Finding(name, "unknown", reason, "") for name in ("Blur", "Folds", "Pen")))
        tissue = self.finder(slide)
        rgb, mpp = self._coarse(slide, slide.mpp)
        return (
            few,
            self._blur(slide, slide.mpp, tissue),
            self._folds(rgb, mpp, tissue, polygons, slide.mpp),
            self._pen(rgb, mpp),
        )

    def _few(self, count: int) -> Finding:
        definition = f"Fewer than {self.min_glomeruli} glomeruli were found, too few for a percentage."
        status: Status = "warning" if count < self.min_glomeruli else "good"
        return Finding("Number of glomeruli", status, f"{count} found", definition)

    def _blur(self, slide: Slide, slide_mpp: float, tissue: TissueMask) -> Finding:
        definition = (
            f"{self.blur_field_um:g} µm fields of tissue at {self.blur_mpp:g} µm per pixel are blurred where the "
            f"variance of the Laplacian of their grey levels is below {self.min_sharpness:g}; more than "
            f"{100 * self.max_blurred:g} % of them is a warning. Tissue without structure counts as blurred."
        )
        mpp = max(self.blur_mpp, slide_mpp)
        corners = self._fields(tissue, self.blur_field_um / slide_mpp)
        if not corners or mpp > 1.5 * self.blur_mpp:
            reason = "the slide is too coarse" if corners else "no field is full of tissue"
            return Finding("Blur", "unknown", f"not assessed: {reason}", definition)
        side = max(8, round(self.blur_field_um / mpp))
        blurred = sum(sharpness(slide.read_region(x, y, side, side, mpp)) < self.min_sharpness for x, y in corners)
        status: Status = "warning" if blurred > self.max_blurred * len(corners) else "good"
        return Finding("Blur", status, f"{blurred} of {len(corners)} fields blurred", definition)

    def _fields(self, tissue: TissueMask, side_px: float) -> list[tuple[float, float]]:
        """Corners, level-0 pixels, of up to `blur_fields` fields of `side_px` level-0 pixels that tissue fills."""
        side = max(1, round(side_px / tissue.downsample))
        rows, columns = (length // side for length in tissue.mask.shape)
        blocks = tissue.mask[: rows * side, : columns * side].reshape(rows, side, columns, side)
        filled = np.argwhere(blocks.all(axis=(1, 3))) * side * tissue.downsample
        if not len(filled):
            return []
        chosen = np.unique(np.linspace(0, len(filled) - 1, self.blur_fields).astype(int))
        return [(float(filled[i, 1]), float(filled[i, 0])) for i in chosen]

    def _coarse(self, slide: Slide, slide_mpp: float) -> tuple[NDArray[np.uint8], float]:
        """The whole slide at `coarse_mpp`, RGB (H, W, 3), read in strips; and its µm per pixel."""
        downsample = max(1.0, self.coarse_mpp / slide_mpp)
        size = size_at(slide.size, downsample)
        strip = max(1, int(MAX_STRIP_PX / (slide.size.width * downsample)))
        tops = range(0, size.height, strip)
        strips = [
            slide.read_downsampled(0, top * downsample, size.width, min(strip, size.height - top), downsample)
            for top in tops
        ]
        return np.vstack(strips), downsample * slide_mpp

    def _folds(
        self, rgb: NDArray, mpp: float, tissue: TissueMask, polygons: Sequence[BaseGeometry], slide_mpp: float
    ) -> Finding:
        definition = (
            f"Tissue outside of the glomeruli whose optical density is at least {self.fold_density:g} times the "
            f"slide's median, in pieces of at least {self.min_fold_um2:,.0f} µm², at {self.coarse_mpp:g} µm per pixel. "
            "Clotted blood looks the same."
        )
        height, width = rgb.shape[:2]
        inside = tissue.at(slice(0, height), width, mpp / slide_mpp) & ~_near_unscanned(rgb)
        inside &= ~_covered(polygons, Size(width, height), mpp / slide_mpp)
        if not inside.any():
            return Finding("Folds", "unknown", "not assessed: no tissue", definition)
        density = np.log10(256 / (rgb.astype(np.float32) + 1)).mean(axis=2)
        dense = ndimage.binary_opening(inside & (density >= self.fold_density * np.median(density[inside])))
        area_um2 = _large(dense, self.min_fold_um2 / mpp**2).sum() * mpp**2
        return _area_finding("Folds", area_um2, "of dense tissue, perhaps folded", definition)

    def _pen(self, rgb: NDArray, mpp: float) -> Finding:
        definition = (
            f"Spots of at least {self.min_pen_um2:,.0f} µm² with a hue of {self.pen_hues[0]:g} to "
            f"{self.pen_hues[1]:g} degrees (green to blue) and a saturation of at least {self.pen_saturation:g}. "
            "Red and black ink are not looked for; a green or blue counterstain looks the same."
        )
        hue, saturation, _ = cv2.split(cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2HSV))
        ink = (hue >= self.pen_hues[0]) & (hue <= self.pen_hues[1]) & (saturation >= self.pen_saturation)
        ink &= ~_near_unscanned(rgb)
        return _area_finding("Pen", _large(ink, self.min_pen_um2 / mpp**2).sum() * mpp**2, "of ink", definition)


def sharpness(rgb: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian (4 neighbours) of the grey levels of RGB pixels (H, W, 3)."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


def _area_finding(name: str, area_um2: float, what: str, definition: str) -> Finding:
    if not area_um2:
        return Finding(name, "good", "none found", definition)
    return Finding(name, "warning", f"{area_um2 / 1e6:.2f} mm² {what}", definition)


def _large(mask: NDArray[np.bool_], min_px: float) -> NDArray[np.bool_]:
    return remove_small_objects(mask, max_size=max(0, int(np.ceil(min_px)) - 1), connectivity=2)


def _near_unscanned(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Black that was not scanned, and its border, whose pixels are a mixture."""
    return ndimage.binary_dilation(rgb.max(axis=2) <= TissueFinder.black, iterations=2)


def _covered(polygons: Sequence[BaseGeometry], size: Size, downsample: float) -> NDArray[np.bool_]:
    """Which pixels the glomeruli cover, one pixel's margin included."""
    glomeruli = tuple(Glomerulus(shapely.make_valid(polygon), 1) for polygon in polygons)
    mask = Annotation(glomeruli).rasterize(0, 0, size.width, size.height, downsample) > 0
    return ndimage.binary_dilation(mask)
