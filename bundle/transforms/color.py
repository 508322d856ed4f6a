"""Colour augmentation: what scanners, stain batches and laboratories change."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from kornia.enhance import adjust_hue, adjust_saturation
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from skimage.color import hed_from_rgb, rgb_from_hed

DARKEST = 1e-3
"""Least transmitted light that is told from none: black has no optical density."""


class RandHueSaturationd(RandomizableTransform, MapTransform):
    """Shift the hue and scale the saturation of RGB images in [0, 1], shape (3, H, W), by kornia.

    Args:
        keys: images to change, all alike.
        prob: probability of a change.
        hue: largest shift, as a part of the full circle.
        saturation: largest relative change of the saturation.
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.5, hue: float = 0.05, saturation: float = 0.3) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.hue = hue
        self.saturation = saturation

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The changed sample."""
        sample = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return sample
        turn = float(self.R.uniform(-self.hue, self.hue)) * 2 * np.pi
        factor = float(1 + self.R.uniform(-self.saturation, self.saturation))
        for key in self.key_iterator(sample):
            image = torch.as_tensor(sample[key]).clamp(0, 1)
            sample[key] = adjust_saturation(adjust_hue(image, turn), factor)
        return sample


class RandStaind(RandomizableTransform, MapTransform):
    """Scale and shift the amounts of haematoxylin, eosin and DAB of RGB images in [0, 1], shape (3, H, W).

    Stain augmentation in optical-density space (Tellez et al. 2018, "Whole-slide mitosis detection in H&E") with the
    stain vectors of Ruifrok and Johnston (2001). Amounts may be negative: `skimage.color.rgb2hed` clips them at 0, and
    so turns the greens of a silver or trichrome stain into purple.

    Args:
        keys: images to change, all alike.
        prob: probability of a change.
        scale: largest relative change of a stain's amount.
        shift: largest shift of a stain's amount, optical density (log10).
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.5, scale: float = 0.2, shift: float = 0.12) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.scale = scale
        self.shift = shift

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The changed sample."""
        sample = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return sample
        scale = self.R.uniform(1 - self.scale, 1 + self.scale, 3)
        shift = self.R.uniform(-self.shift, self.shift, 3)
        for key in self.key_iterator(sample):
            density = -np.log10(np.clip(np.asarray(sample[key]), DARKEST, 1))
            stains = np.einsum("chw,cs->shw", density, hed_from_rgb)
            changed = stains * scale[:, None, None] + shift[:, None, None]
            rgb = 10 ** -np.einsum("shw,sc->chw", changed, rgb_from_hed)
            sample[key] = torch.as_tensor(rgb.clip(0, 1), dtype=torch.float32)
        return sample
