"""Urinary space widened inside glomeruli: the white crescent in Bowman's capsule that few slides show."""

from collections.abc import Hashable, Mapping
from typing import Any

import cv2
import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from numpy.typing import NDArray

from bundle.classes import BACKGROUND_INDEX, GLOBAL, IGNORE_INDEX
from bundle.transforms.cutouts import GLASS

LEAST_DIAMETER_UM = 80
"""Smaller pieces of a glomerulus, those that a tile's border cuts, are left as they are."""


class RandUrinarySpaced(RandomizableTransform, MapTransform):
    """Shrink the tuft of glomeruli of uint8 tiles within its capsule and leave blank space around it.

    The label stays: Bowman's capsule bounds a glomerulus, however much of it is space. Annotations of perfused or well
    fixed kidneys have much of it, those of frozen tissue hardly any. Globally sclerotic glomeruli have none.

    Args:
        keys: (image, label): uint8 (3, H, W) and uint8 (1, H, W).
        mpp: resolution of the tile, µm per pixel.
        prob: probability that a glomerulus is changed.
        tuft: range of the tuft's diameter as a part of the capsule's.
        capsule_um: largest width of the wall that stays as it is, µm.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mpp: float,
        prob: float = 0.5,
        tuft: tuple[float, float] = (0.65, 0.97),
        capsule_um: float = 8.0,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.mpp = mpp
        self.tuft = tuft
        self.capsule_um = capsule_um

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The sample with space in some of its glomeruli; the label is not touched."""
        sample = dict(data)
        image_key, label_key = self.keys
        label = np.asarray(sample[label_key])[0]
        open_ones = ~np.isin(label, [BACKGROUND_INDEX, GLOBAL.index, IGNORE_INDEX])
        count, pieces, stats, middles = cv2.connectedComponentsWithStats(open_ones.astype(np.uint8))
        image = np.ascontiguousarray(np.moveaxis(np.asarray(sample[image_key]), 0, 2))
        for number in range(1, count):
            self.randomize(None)
            wide = stats[number, cv2.CC_STAT_AREA] * self.mpp**2 >= np.pi / 4 * LEAST_DIAMETER_UM**2
            if self._do_transform and wide:
                image = self._opened(image, pieces == number, middles[number])
        sample[image_key] = np.moveaxis(image, 2, 0)
        return sample

    def _opened(self, image: NDArray, capsule: NDArray[np.bool_], middle: NDArray) -> NDArray:
        """Image whose glomerulus in `capsule` fills less of it, touching the wall at a random place or nowhere."""
        height, width = capsule.shape
        scale = self.R.uniform(*self.tuft)
        angle, reach = self.R.uniform(0, 2 * np.pi), self.R.uniform(0, 1)
        radius = np.sqrt(capsule.sum() / np.pi)
        shift = (1 - scale) * radius * reach * np.array([np.cos(angle), np.sin(angle)])
        matrix = np.column_stack([scale * np.eye(2), (1 - scale) * middle + shift])
        shrunk = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
        tuft = cv2.warpAffine(capsule.astype(np.float32), matrix, (width, height), flags=cv2.INTER_LINEAR)
        tuft = cv2.GaussianBlur(tuft, (0, 0), 0.6)
        depth = cv2.distanceTransform(capsule.astype(np.uint8), cv2.DIST_L2, 3) * self.mpp
        wall = max(self.R.uniform(0, self.capsule_um), 1e-3)
        space = np.clip(depth / wall - self.R.uniform(0, 1), 0, 1)[..., None]
        filled = tuft[..., None] * shrunk + (1 - tuft[..., None]) * self._blank(image)
        return (image * (1 - space) + filled * space).round().astype(np.uint8)

    def _blank(self, image: NDArray) -> NDArray:
        """Colour of the space: what is brightest in the tile, or about as bright as glass."""
        brightest = np.percentile(image.reshape(-1, 3), 99, axis=0)
        return np.clip(np.maximum(brightest, GLASS) - self.R.uniform(0, 25), 0, 255)
