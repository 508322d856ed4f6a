"""Hard negatives painted into tiles: what is taken for a glomerulus, or hides one."""

from collections.abc import Hashable, Mapping
from typing import Any

import cv2
import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from numpy.typing import NDArray

from bundle.classes import BACKGROUND_INDEX
from bundle.transforms.cutouts import GLASS

ANGLES = 64
"""Corners of an irregular outline."""


class RandHardNegatived(RandomizableTransform, MapTransform):
    """Paint vessels, casts, infiltrates, fibrosis, folds, pen strokes and torn edges into uint8 tiles.

    All but pen and blood have the tile's own colours.

    Args:
        keys: (image, label): uint8 (3, H, W) and uint8 (1, H, W). Only a torn edge changes the label: glass is
            background.
        mpp: resolution of the tile, µm per pixel.
        prob: probability that a tile gets any.
        max_count: most of them in a tile.
    """

    def __init__(self, keys: KeysCollection, mpp: float, prob: float = 0.5, max_count: int = 3) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.mpp = mpp
        self.max_count = max_count
        self.painters = [self._vessel, self._cast, self._infiltrate, self._fibrosis, self._fold, self._pen, self._edge]
        self.shares = np.array([3, 3, 3, 3, 1, 1, 1]) / 15

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The sample with hard negatives off its glomeruli; folds, strokes and edges may cross them."""
        sample = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return sample
        image_key, label_key = self.keys
        image = np.moveaxis(np.asarray(sample[image_key]), 0, 2).astype(np.float32)
        label = np.array(sample[label_key][0])
        if not (image.min(axis=2) < GLASS).any():
            return sample
        for _ in range(self.R.randint(1, self.max_count + 1)):
            image, label = self.painters[self.R.choice(len(self.painters), p=self.shares)](image, label)
        sample[image_key] = np.moveaxis(image.clip(0, 255).round().astype(np.uint8), 2, 0)
        sample[label_key] = label[None]
        return sample

    def _vessel(self, image: NDArray, label: NDArray) -> tuple[NDArray, NDArray]:
        """A ring of muscle about a lumen of glass, of blood or protein, or of these shrunk away from the wall."""
        radius = np.exp(self.R.uniform(np.log(25), np.log(160))) / self.mpp
        outline = self._outline(label, radius)
        inner = _shrunk(outline, self.R.uniform(0.35, 0.85))
        whole, lumen = _fill(outline, label), _fill(inner, label)
        if (label[whole > 0] != BACKGROUND_INDEX).any():
            return image, label
        muscle = self._tissue_colour(image, self.R.uniform(20, 80))
        blood = self.R.uniform([150, 30, 40], [230, 120, 130])
        content = blood if self.R.rand() < 0.6 else self._tissue_colour(image, self.R.uniform(5, 90))
        content = content + self._grain(label, self.R.uniform(2, 20))
        image = _lay(image, whole, muscle + self._grain(label, 14))
        kind = self.R.rand()
        if kind < 0.35:
            return _lay(image, lumen, content), label
        image = _lay(image, lumen, self._glass(image))
        if kind < 0.7:
            image = _lay(image, _fill(_shrunk(inner, self.R.uniform(0.5, 0.9)), label), content)
        return image, label

    def _cast(self, image: NDArray, label: NDArray) -> tuple[NDArray, NDArray]:
        """A tubule full of smooth, strongly stained protein, smaller than a sclerosed glomerulus."""
        outline = self._outline(label, self.R.uniform(8, 25) / self.mpp)
        whole = _fill(outline, label)
        if (label[whole > 0] != BACKGROUND_INDEX).any():
            return image, label
        rim = self._tissue_colour(image, 50)
        image = _lay(image, whole, rim)
        inner = _fill(_shrunk(outline, self.R.uniform(0.6, 0.9)), label)
        return _lay(image, inner, self._tissue_colour(image, self.R.uniform(5, 90)) + self._grain(label, 3)), label

    def _infiltrate(self, image: NDArray, label: NDArray) -> tuple[NDArray, NDArray]:
        """A cloud of dark nuclei between the tubules, from a small nodule to all of the tile."""
        whole = _fill(self._outline(label, np.exp(self.R.uniform(np.log(40), np.log(400))) / self.mpp), label)
        whole = cv2.GaussianBlur(whole, (0, 0), self.R.uniform(4, 16) / self.mpp)
        whole = whole * (label == BACKGROUND_INDEX)
        seeds = (self.R.rand(*label.shape) < self.R.uniform(0.2, 0.8)).astype(np.float32)
        dots = cv2.GaussianBlur(seeds, (0, 0), max(3 / self.mpp, 0.3))
        nuclei = self.R.uniform([60, 40, 100], [110, 90, 160])
        return _lay(image, whole * dots, nuclei), label

    def _fibrosis(self, image: NDArray, label: NDArray) -> tuple[NDArray, NDArray]:
        """Pale, smooth scar tissue between the tubules, without a border: a sclerosed glomerulus has one."""
        radius = self.R.uniform(40, 200) / self.mpp
        whole = _fill(self._outline(label, radius), label)
        holes = cv2.resize(self.R.uniform(-1, 2, (8, 8)), label.shape[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)
        whole = cv2.GaussianBlur(whole * holes.astype(np.float32), (0, 0), self.R.uniform(10, 24) / self.mpp)
        whole = whole * (label == BACKGROUND_INDEX) * self.R.uniform(0.5, 1)
        streaks = cv2.GaussianBlur(self.R.normal(0, 1, label.shape).astype(np.float32), (0, 0), 4, sigmaY=0.7)
        texture = self.R.uniform(0, 80) * streaks[..., None] + self._grain(label, self.R.uniform(2, 12))
        return _lay(image, whole, self._tissue_colour(image, self.R.uniform(40, 90)) + texture), label

    def _fold(self, image: NDArray, label: NDArray) -> tuple[NDArray, NDArray]:
        """Tissue lying double: a band of twice the optical density."""
        band = self._band(label, self.R.uniform(20, 90) / self.mpp)[..., None]
        density = -np.log(np.clip(image / 255, 0.02, 1))
        return 255 * np.exp(-density * (1 + band * self.R.uniform(0.5, 1.2))), label

    def _pen(self, image: NDArray, label: NDArray) -> tuple[NDArray, NDArray]:
        """A stroke of a marker on the glass: black, green, blue or red, more or less opaque."""
        band = self._band(label, self.R.uniform(40, 250) / self.mpp)
        inks = np.array([[20, 20, 25], [20, 110, 60], [30, 50, 150], [170, 30, 40]], float)
        return _lay(image, band * self.R.uniform(0.4, 0.9), inks[self.R.randint(len(inks))]), label

    def _edge(self, image: NDArray, label: NDArray) -> tuple[NDArray, NDArray]:
        """Glass beyond a torn edge of the tissue."""
        height, width = label.shape
        angle, far = self.R.uniform(0, 2 * np.pi), self.R.uniform(0.15, 0.45)
        y, x = np.mgrid[:height, :width]
        along = (x - width / 2) * np.cos(angle) + (y - height / 2) * np.sin(angle)
        waves = cv2.resize(self.R.uniform(-1, 1, (6, 6)), (width, height), interpolation=cv2.INTER_CUBIC)
        glass = (along + 0.1 * width * waves > far * width).astype(np.float32)
        label = np.where((glass > 0) & (label != BACKGROUND_INDEX), BACKGROUND_INDEX, label).astype(label.dtype)
        return _lay(image, glass, self._glass(image)), label

    def _outline(self, label: NDArray, radius: float) -> NDArray:
        """An irregular oval about a random place, (ANGLES, 2), pixels."""
        height, width = label.shape
        angles = np.arange(ANGLES) * 2 * np.pi / ANGLES
        radii = radius * (
            1 + sum(self.R.uniform(0, 0.12) * np.sin(n * angles + self.R.uniform(0, 6)) for n in (2, 3, 5))
        )
        oval = np.column_stack([np.cos(angles) * radii, np.sin(angles) * radii * self.R.uniform(0.5, 1)])
        turn = self.R.uniform(0, np.pi)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        return oval @ rotation.T + np.array([self.R.uniform(0, width), self.R.uniform(0, height)])

    def _band(self, label: NDArray, width_px: float) -> NDArray:
        """A soft, bent band across the tile, 0 to 1."""
        height, width = label.shape
        ends = self.R.uniform(-0.2, 1.2, (3, 2)) * [width, height]
        steps = np.linspace(0, 1, 24)[:, None]
        curve = (1 - steps) ** 2 * ends[0] + 2 * steps * (1 - steps) * ends[1] + steps**2 * ends[2]
        band = np.zeros(label.shape, np.float32)
        cv2.polylines(band, [curve.round().astype(np.int32)], False, 1.0, max(1, round(width_px)))
        return cv2.GaussianBlur(band, (0, 0), 1.0)

    def _tissue_colour(self, image: NDArray, percentile: float) -> NDArray:
        """Colour of the tile's tissue whose brightness has this rank, 0 (darkest) to 100."""
        tissue = image[image.min(axis=2) < GLASS]
        if not len(tissue):
            return self._glass(image)
        brightness = tissue.sum(axis=1)
        near = np.abs(brightness - np.percentile(brightness, percentile))
        return tissue[np.argsort(near)[: max(1, len(near) // 20)]].mean(0)

    def _glass(self, image: NDArray) -> NDArray:
        return np.maximum(np.percentile(image, 99, axis=(0, 1)), 200) - self.R.uniform(0, 15)

    def _grain(self, label: NDArray, strength: float) -> NDArray:
        noise = cv2.GaussianBlur(self.R.normal(0, 1, label.shape).astype(np.float32), (0, 0), 0.8)
        return strength * noise[..., None]


def _shrunk(outline: NDArray, share: float) -> NDArray:
    middle = outline.mean(0)
    return middle + share * (outline - middle)


def _fill(outline: NDArray, label: NDArray) -> NDArray:
    """Soft mask of a polygon, (H, W), 0 to 1."""
    mask = np.zeros(label.shape, np.float32)
    cv2.fillPoly(mask, [outline.round().astype(np.int32)], 1.0)
    return cv2.GaussianBlur(mask, (0, 0), 0.7)


def _lay(image: NDArray, cover: NDArray, colour: NDArray) -> NDArray:
    return image * (1 - cover[..., None]) + colour * cover[..., None]
