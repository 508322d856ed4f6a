"""One stain made to look like others: stains bind to the same structures, in other colours."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

import cv2
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from numpy.typing import NDArray
from skimage.color import rgb_from_hed, rgb_from_hpx

from bundle.classes import BACKGROUND_INDEX

DARKEST: Final = 0.02
"""Least transmitted light that is told from none; scanners' blacks are about this bright."""

SOURCES: Final[dict[str, NDArray]] = {"PAS": rgb_from_hpx[:2], "HE": rgb_from_hed[:2]}
"""Stain vectors (Ruifrok and Johnston 2001): nuclei, and all else that takes colour."""

LOOKS: Final[dict[str, tuple[tuple[float, float, float], ...]]] = {
    # RGB densities of nuclei, of the palely and of the strongly stained of the rest
    "HE": ((0.85, 0.90, 0.42), (0.16, 0.62, 0.32), (0.16, 0.62, 0.32)),
    "PAS": ((0.80, 0.80, 0.38), (0.10, 0.40, 0.18), (0.22, 0.95, 0.45)),
    "PAMS": ((0.75, 0.65, 0.40), (0.30, 0.33, 0.18), (1.50, 1.60, 1.55)),
    "Masson": ((0.70, 0.85, 0.65), (0.12, 0.70, 0.45), (0.90, 0.50, 0.20)),
    "Sirius red": ((0.25, 0.35, 0.55), (0.08, 0.18, 0.48), (0.12, 0.75, 0.65)),
}
"""Estimated by eye from textbook pictures; each draw varies them widely."""

MEAN_STRENGTH: Final = -0.7
"""Logarithm: what `LOOKS` has is the density of the strongest twentieth of a stain, and that of thick sections."""


class RandRestaind(RandomizableTransform, MapTransform):
    """Give RGB tiles in [0, 1] another stain's colours, and glomeruli another contrast to what surrounds them.

    In optical density (Beer and Lambert) a tile of PAS or HE is unmixed into nuclei and the rest; the rest is split at
    a random amount into what takes little (cytoplasm) and what takes more (basement membranes, mesangium, scars). Each
    of the three gets a new colour and strength, near one of `LOOKS`. What a stain does not show cannot be made up: this
    is augmentation, not virtual staining.

    Args:
        keys: (image, label): float (3, H, W) and (1, H, W).
        prob: probability of a change.
        looks: names of `LOOKS` to draw from.
        spread: standard deviation of the logarithm of each strength, and a fifth of it of each colour's channels.
        contrast: standard deviation of the logarithm by which nuclei, pale and strong stain in a glomerulus differ from
            elsewhere; as many round places without a glomerulus are changed alike, so that the change tells nothing.
        glass: darkest that blank glass gets.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.5,
        looks: Sequence[str] = tuple(LOOKS),
        spread: float = 0.35,
        contrast: float = 0.3,
        glass: float = 0.8,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.looks = [np.array(LOOKS[name]) for name in looks]
        self.spread = spread
        self.contrast = contrast
        self.glass = glass

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The changed sample; one whose "stain" is not in `SOURCES` stays as it is."""
        sample = dict(data)
        self.randomize(None)
        if not self._do_transform or sample.get("stain") not in SOURCES:
            return sample
        image_key, label_key = self.keys
        amounts = self._amounts(np.asarray(sample[image_key], np.float32), SOURCES[sample["stain"]])
        if self.contrast:
            places = self._places(np.asarray(sample[label_key])[0])
            changes = self.R.normal(0, self.contrast, 3)[:, None, None] * places
            amounts = amounts * np.exp(changes).astype(np.float32)
        densities = np.einsum("mhw,mc->chw", amounts, self._look())
        blank = self.R.uniform(self.glass, 1) * self.R.uniform(0.95, 1, 3)
        rgb = blank[:, None, None] * 10**-densities
        sample[image_key] = torch.as_tensor(rgb.clip(0, 1), dtype=torch.float32)
        return sample

    def _amounts(self, rgb: NDArray[np.float32], source: NDArray) -> NDArray[np.float32]:
        """Nuclei, pale and strong stain, (3, H, W), each about 0 to 1 in tissue."""
        blank = np.clip(np.percentile(rgb, 99, axis=(1, 2), keepdims=True), 0.5, 1)
        density = -np.log10(np.clip(rgb / blank, DARKEST, 1))
        stains = np.einsum("chw,cs->shw", density, np.linalg.pinv(source)).clip(0)
        nuclei, rest = stains / np.maximum(np.percentile(stains, 95, axis=(1, 2), keepdims=True), 0.05)
        threshold = np.quantile(rest, self.R.uniform(0.4, 0.8))
        pale, strong = np.minimum(rest, threshold), np.maximum(rest - threshold, 0)
        return np.stack([nuclei, pale / max(threshold, 0.05), strong / max(1 - threshold, 0.2)]).astype(np.float32)

    def _places(self, label: NDArray) -> NDArray[np.float32]:
        """Soft mask (H, W) of the glomeruli and of as many round places, at least one, where none is."""
        glomeruli = (label != BACKGROUND_INDEX).astype(np.uint8)
        count = cv2.connectedComponents(glomeruli)[0] - 1
        decoys = np.zeros(label.shape, np.uint8)
        for _ in range(max(1, count)):
            centre = [int(self.R.randint(side)) for side in label.shape[::-1]]
            axes = [int(self.R.uniform(0.06, 0.25) * min(label.shape)) for _ in range(2)]
            cv2.ellipse(decoys, centre, axes, self.R.uniform(0, 180), 0, 360, 1, cv2.FILLED)
        places = np.where(glomeruli, 1, decoys * (cv2.dilate(glomeruli, np.ones((5, 5))) == 0))
        return np.asarray(cv2.GaussianBlur(places.astype(np.float32), (0, 0), 1.5), np.float32)

    def _look(self) -> NDArray:
        """RGB densities (3 amounts, 3 channels) near one of the looks."""
        look = self.looks[self.R.randint(len(self.looks))]
        strengths = np.exp(MEAN_STRENGTH + self.R.normal(0, self.spread, (3, 1)) + self.R.normal(0, self.spread / 2))
        return look * strengths * np.exp(self.R.normal(0, self.spread / 5, (3, 3)))
