"""Paste cut-out glomeruli into tissue at physical scale: the rare class without rare slides."""

from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from numpy.typing import NDArray

from bundle.classes import BACKGROUND_INDEX, CLASS_NAMES, IGNORE_INDEX
from bundle.data.datalist import load_annotation, read_datalist
from bundle.errors import DatalistError
from bundle.slide import open_slide

GLASS = 225
"""Pixels whose darkest channel is brighter are glass or lumen."""

LEAST_TISSUE = 0.5
"""Least part of a pasted glomerulus that lies on tissue rather than on glass; lumina are as bright as glass."""

TRIES = 10
"""Places tried for one glomerulus before it is given up."""


class RandPasteGlomerulid(RandomizableTransform, MapTransform):
    """Paste glomeruli from `crops` onto background of uint8 tiles, rotated, scaled in µm and feathered at the border.

    Args:
        keys: (image, label): uint8 (3, H, W) and uint8 (1, H, W).
        datalist: its training split has an annotated glomerulus an item, images of a few hundred pixels; None pastes
            nothing.
        mpp: resolution of the tile, µm per pixel.
        diameter_um: range of equivalent diameters by class name, µm; a crop's own scale is not trusted.
        prob: probability that a tile gets any.
        max_count: most glomeruli pasted into a tile.
        colour_match: how far at most a crop's colours move to the tile's (Reinhard et al. 2001), 0 to 1.
        feather_um: width of the soft border outside the glomerulus, µm.
    """

    def __init__(
        self,
        keys: KeysCollection,
        datalist: Path | str | None,
        mpp: float,
        diameter_um: Mapping[str, tuple[float, float]],
        prob: float = 0.5,
        max_count: int = 3,
        colour_match: float = 1.0,
        feather_um: float = 16.0,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.mpp = mpp
        self.diameter_um = diameter_um
        self.max_count = max_count
        self.colour_match = colour_match
        self.feather_px = feather_um / mpp
        self.crops = [_read_crop(item) for item in read_datalist(datalist, "training")] if datalist else []
        self.by_class: dict[int, list[int]] = defaultdict(list)
        for number, crop in enumerate(self.crops):
            self.by_class[crop.label].append(number)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The sample with glomeruli pasted; label values are the crops' classes."""
        sample = dict(data)
        self.randomize(None)
        if not self._do_transform or not self.crops:
            return sample
        image_key, label_key = self.keys
        image = np.ascontiguousarray(np.moveaxis(np.asarray(sample[image_key]), 0, 2))
        label = np.array(sample[label_key][0])
        used: set[int] = set()
        for _ in range(self.R.randint(1, self.max_count + 1)):
            classes = sorted(self.by_class)
            choice = int(self.R.choice(self.by_class[classes[self.R.randint(len(classes))]]))
            if choice not in used:  # never two copies of one glomerulus in a tile
                used.add(choice)
                image, label = self._paste(image, label, self.crops[choice])
        sample[image_key], sample[label_key] = np.moveaxis(image, 2, 0), label[None]
        return sample

    def _paste(self, image: NDArray, label: NDArray, crop: "_Crop") -> tuple[NDArray, NDArray]:
        """Image and label with `crop` at the first random place of tissue that holds no glomerulus, if there is one."""
        height, width = label.shape
        mask = crop.mask.astype(np.uint8)
        low, high = self.diameter_um[CLASS_NAMES[crop.label - 1]]
        scale = self.R.uniform(low, high) / self.mpp / np.sqrt(4 * mask.sum() / np.pi)
        tissue = image.min(axis=2) < GLASS
        angle, flip = self.R.uniform(0, 360), self.R.rand() < 0.5
        for _ in range(TRIES):
            centre = self.R.uniform(0, width), self.R.uniform(0, height)
            matrix = _similarity(mask.shape, centre, scale, angle, flip)
            placed = cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_LINEAR) > 0
            near = cv2.dilate(placed.astype(np.uint8), np.ones((5, 5))) > 0
            if placed.any() and not label[near].any() and tissue[near].mean() > LEAST_TISSUE:
                break
        else:
            return image, label
        # Warping does not average what it shrinks.
        rgb = crop.rgb if scale >= 0.5 else cv2.GaussianBlur(crop.rgb, (0, 0), 0.4 / scale)
        warped = cv2.warpAffine(rgb, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        colours = self._match(warped, placed, image)
        distance = cv2.distanceTransform((~placed).astype(np.uint8), cv2.DIST_L2, 3)
        alpha = np.clip(1 - distance / max(self.feather_px, 1e-3), 0, 1)[..., None]
        inside = cv2.warpAffine(np.ones(mask.shape, np.uint8), matrix, (width, height)) > 0
        alpha = alpha * (inside | placed)[..., None]
        blended = (image * (1 - alpha) + colours * alpha).round().astype(np.uint8)
        return blended, np.where(placed, crop.label, label).astype(np.uint8)

    def _match(self, colours: NDArray, placed: NDArray, image: NDArray) -> NDArray:
        """Move the crop's mean colour towards the tile's tissue."""
        tissue = image[image.min(axis=2) < GLASS].mean(0)
        shift = (tissue - colours[placed].mean(0)) * self.R.uniform(0, self.colour_match)
        return np.clip(colours + shift, 0, 255)


@dataclass(frozen=True)
class _Crop:
    """A cut-out glomerulus: uint8 (H, W, 3), bool (H, W), class index."""

    rgb: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    label: int


def _read_crop(item: Mapping[str, Any]) -> _Crop:
    with open_slide(item["image"], mpp=item.get("mpp")) as slide:
        image = slide.read(0, 0, 0, slide.size.width, slide.size.height)
        label = load_annotation(item, slide.size, slide.mpp).rasterize(0, 0, slide.size.width, slide.size.height, 1.0)
    values = label[(label != BACKGROUND_INDEX) & (label != IGNORE_INDEX)]
    if not len(values):
        raise DatalistError(f"{item['label']}: no glomerulus of a known class to paste; take the item out")
    index = int(np.bincount(values).argmax())
    return _Crop(image, label == index, index)


def _similarity(shape: tuple[int, int], centre: tuple[float, float], scale: float, angle: float, flip: bool) -> NDArray:
    """Affine matrix that turns and scales a crop of `shape` about its middle and puts that at `centre` (x, y)."""
    turn = np.deg2rad(angle)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    if flip:
        linear = linear @ np.diag([-1.0, 1.0])
    middle = np.array([shape[1] / 2, shape[0] / 2])
    return np.column_stack([linear, np.asarray(centre) - linear @ middle])
