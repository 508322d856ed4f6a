"""Glomeruli cut out of images, and what is done to them before they are pasted elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bundle.classes import BACKGROUND_INDEX, IGNORE_INDEX, SEGMENTAL
from bundle.data.datalist import load_annotation
from bundle.errors import DatalistError
from bundle.slide import open_slide

GLASS = 225
"""Pixels whose darkest channel is brighter are glass or lumen."""

SCAR_SHARE = (0.3, 0.6)
"""Share of a glomerulus's area that a synthesised segmental scar covers: from 0.15 on, networks called real globally
sclerotic glomeruli segmental."""


@dataclass(frozen=True)
class Cutout:
    """A glomerulus: uint8 (H, W, 3), bool (H, W), class index."""

    rgb: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    label: int


@dataclass(frozen=True)
class Pose:
    """Where and how a cut-out is laid: affine `matrix` (2, 3) from its pixels to the tile's, and its `scale`."""

    matrix: NDArray
    scale: float

    def mask(self, cutout: Cutout, height: int, width: int) -> NDArray[np.bool_]:
        """The cut-out's glomerulus on the tile."""
        warped = cv2.warpAffine(cutout.mask.astype(np.uint8), self.matrix, (width, height), flags=cv2.INTER_LINEAR)
        return warped > 0

    def colours(self, rgb: NDArray, height: int, width: int) -> NDArray:
        """Pixels of the cut-out's size laid on the tile, its border repeated beyond it."""
        # Warping does not average what it shrinks.
        smooth = rgb if self.scale >= 0.5 else cv2.GaussianBlur(rgb, (0, 0), 0.4 / self.scale)
        return cv2.warpAffine(
            smooth, self.matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )

    def frame(self, shape: tuple[int, int], height: int, width: int) -> NDArray[np.bool_]:
        """Which pixels of the tile the whole cut-out of `shape` covers."""
        return cv2.warpAffine(np.ones(shape, np.uint8), self.matrix, (width, height)) > 0


def read_cutout(item: Mapping[str, Any]) -> Cutout:
    """The glomerulus of a datalist item.

    Raises:
        DatalistError: the item's annotation has none of a known class.
        BundleError: see `open_slide` and `load_annotation`.
    """
    with open_slide(item["image"], mpp=item.get("mpp")) as slide:
        image = slide.read(0, 0, 0, slide.size.width, slide.size.height)
        label = load_annotation(item, slide.size, slide.mpp).rasterize(0, 0, slide.size.width, slide.size.height, 1.0)
    values = label[(label != BACKGROUND_INDEX) & (label != IGNORE_INDEX)]
    if not len(values):
        raise DatalistError(f"{item['label']}: no glomerulus of a known class to paste; take the item out")
    index = int(np.bincount(values).argmax())
    return Cutout(image, label == index, index)


def pose(shape: tuple[int, int], centre: tuple[float, float], scale: float, angle: float, flip: bool) -> Pose:
    """Turn by `angle` (degrees) and scale a cut-out of `shape` about its middle and put that at `centre` (x, y)."""
    turn = np.deg2rad(angle)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    if flip:
        linear = linear @ np.diag([-1.0, 1.0])
    middle = np.array([shape[1] / 2, shape[0] / 2])
    return Pose(np.column_stack([linear, np.asarray(centre) - linear @ middle]), scale)


def warped(cutout: Cutout, random: np.random.RandomState, strength: float) -> Cutout:
    """The cut-out bent by a smooth random field of up to about `strength` of its size."""
    height, width = cutout.mask.shape
    coarse = random.uniform(-strength, strength, (4, 4, 2)).astype(np.float32) * max(height, width)
    shift = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x, y = columns + shift[..., 0], rows + shift[..., 1]
    rgb = cv2.remap(cutout.rgb, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.remap(cutout.mask.astype(np.uint8), x, y, cv2.INTER_NEAREST)
    return Cutout(np.asarray(rgb, np.uint8), mask > 0, cutout.label) if mask.any() else cutout


def faded(cutout: Cutout, random: np.random.RandomState) -> Cutout:
    """The cut-out with a random part of its texture taken away, up to 90 %: in HE a scar is smooth."""
    mean = cutout.rgb[cutout.mask].mean(0)
    share = np.where(cutout.mask, random.uniform(0.1, 1), 1).astype(np.float32)
    keep = cv2.GaussianBlur(share, (0, 0), 2.0)[..., None]
    return Cutout((mean + keep * (cutout.rgb - mean)).round().astype(np.uint8), cutout.mask, cutout.label)


def scarred(normal: Cutout, scar: Cutout, random: np.random.RandomState) -> Cutout:
    """`normal` with a segment of its tuft replaced by tissue of the globally sclerotic `scar`: synthetic.

    The segment is what a random, wavy chord cuts off, of `SCAR_SHARE` of the area; a segmental lesion involves part of
    the tuft (Haas et al. 2020, "Consensus definitions for glomerular lesions"). The whole glomerulus gets the class.
    """
    height, width = normal.mask.shape
    rows, columns = np.nonzero(normal.mask)
    angle = random.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:height, :width]
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    along = along + 0.06 * width * np.sin(across / width * random.uniform(4, 10) + angle)
    chord = np.quantile(along[rows, columns], 1 - random.uniform(*SCAR_SHARE))
    soft = cv2.GaussianBlur(((along > chord) & normal.mask).astype(np.float32), (0, 0), 0.02 * width)[..., None]
    tissue = cv2.resize(scar.rgb, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    kept = normal.mask & (normal.rgb.min(axis=2) < GLASS)
    shift = normal.rgb[kept if kept.any() else normal.mask].mean(0) - scar.rgb[scar.mask].mean(0)
    tissue = np.clip(tissue + random.uniform(0.3, 1) * shift, 0, 255)
    rgb = (normal.rgb * (1 - soft) + tissue * soft).round().astype(np.uint8)
    return Cutout(rgb, normal.mask, SEGMENTAL.index)
