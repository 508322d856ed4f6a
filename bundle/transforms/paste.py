"""Paste cut-out glomeruli into tissue at physical scale: the rare class without rare slides."""

from collections import defaultdict
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from numpy.typing import NDArray

from bundle.classes import BACKGROUND_INDEX, CLASS_NAMES, GLOBAL, IGNORE_INDEX, NORMAL, SEGMENTAL
from bundle.data.datalist import read_datalist
from bundle.transforms.cutouts import GLASS, Cutout, Pose, faded, pose, read_cutout, scarred, warped

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
        feather_um: largest width of the soft border outside the glomerulus, µm; the smallest is half of it.
        segmental: make segmentally sclerotic glomeruli too, from a normal and a globally sclerotic one.
        class_shares: how often each class is pasted, by name and relative to 1.
        fade: probability that a globally sclerotic glomerulus loses texture, as HE shows less of it than PAS.
        warp: strength of a random smooth bend, as a part of the crop's size.
        decoys: most pieces of the tile's own background pasted with the same borders and shapes, labelled background:
            without them the network may learn to see pasting instead of glomeruli.
        bare_prob: probability that a tile shows one glomerulus and no tissue around it, as collections of cut-out
            glomeruli do. Around the crop it is white, and its label there is ignored.

    Raises:
        BundleError: the datalist, an image or an annotation cannot be read, see `read_datalist` and `read_cutout`.
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
        segmental: bool = False,
        class_shares: Mapping[str, float] | None = None,
        fade: float = 0.0,
        warp: float = 0.0,
        decoys: int = 0,
        bare_prob: float = 0.0,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.mpp = mpp
        self.diameter_um = diameter_um
        self.max_count = max_count
        self.colour_match = colour_match
        self.feather_um = feather_um
        self.fade = fade
        self.warp = warp
        self.decoys = decoys
        self.bare_prob = bare_prob
        self.crops = [read_cutout(item) for item in read_datalist(datalist, "training")] if datalist else []
        self.by_class: dict[int, list[int]] = defaultdict(list)
        for number, crop in enumerate(self.crops):
            self.by_class[crop.label].append(number)
        self.classes = sorted(self.by_class)
        if segmental and {NORMAL.index, GLOBAL.index} <= set(self.classes):
            self.classes = sorted({*self.classes, SEGMENTAL.index})
        shares = np.array([(class_shares or {}).get(CLASS_NAMES[index - 1], 1.0) for index in self.classes])
        self.shares = shares / shares.sum() if len(shares) else shares

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The sample with glomeruli pasted; label values are the crops' classes."""
        sample = dict(data)
        self.randomize(None)
        image_key, label_key = self.keys
        if self.crops and self.bare_prob and self.R.rand() < self.bare_prob:
            image, label = self._bare(*np.shape(sample[image_key])[1:])
            sample[image_key], sample[label_key] = np.moveaxis(image, 2, 0), label[None]
            return sample
        if not self._do_transform or not self.crops:
            return sample
        image = np.ascontiguousarray(np.moveaxis(np.asarray(sample[image_key]), 0, 2))
        label = np.array(sample[label_key][0])
        untouched, taken = image, label != BACKGROUND_INDEX
        used: set[int] = set()
        for _ in range(self.R.randint(1, self.max_count + 1)):
            choice, crop = self._draw()
            if choice not in used:  # never two copies of one glomerulus in a tile
                used.add(choice)
                image, placed = self._paste(image, taken, crop)
                label = np.where(placed, crop.label, label).astype(label.dtype)
                taken = taken | placed
        for _ in range(self.R.randint(self.decoys + 1)):
            image, placed = self._paste_decoy(image, taken, untouched)
            taken = taken | placed
        sample[image_key], sample[label_key] = np.moveaxis(image, 2, 0), label[None]
        return sample

    def _bare(self, height: int, width: int) -> tuple[NDArray, NDArray]:
        """A tile (height, width, 3) that a crop lies in, white around it, and its label (height, width)."""
        _, crop = self._draw()
        centre = self.R.uniform(width / 4, 3 * width / 4), self.R.uniform(height / 4, 3 * height / 4)
        where = pose(crop.mask.shape, centre, self._scale(crop), self.R.choice([0, 90, 180, 270]), self.R.rand() < 0.5)
        shown = where.frame(crop.mask.shape, height, width)
        label = np.where(where.mask(crop, height, width), crop.label, BACKGROUND_INDEX)
        image = np.where(shown[..., None], where.colours(crop.rgb, height, width), 255).astype(np.uint8)
        return image, np.where(shown, label, IGNORE_INDEX).astype(np.uint8)

    def _scale(self, crop: Cutout) -> float:
        """Tile pixels per pixel of the crop, so that its glomerulus gets a diameter of its class."""
        low, high = self.diameter_um[CLASS_NAMES[crop.label - 1]]
        return float(self.R.uniform(low, high) / self.mpp / np.sqrt(4 * crop.mask.sum() / np.pi))

    def _draw(self) -> tuple[int, Cutout]:
        """The number of a crop, classes by their shares, and the crop, scarred, faded and bent as asked for."""
        label = int(self.R.choice(self.classes, p=self.shares))
        made = label == SEGMENTAL.index and not self.by_class.get(label)
        choice = int(self.R.choice(self.by_class[NORMAL.index if made else label]))
        crop = self.crops[choice]
        if made:
            crop = scarred(crop, self.crops[int(self.R.choice(self.by_class[GLOBAL.index]))], self.R)
        if label == GLOBAL.index and self.R.rand() < self.fade:
            crop = faded(crop, self.R)
        return choice, warped(crop, self.R, self.warp) if self.warp else crop

    def _paste(self, image: NDArray, taken: NDArray, crop: Cutout) -> tuple[NDArray, NDArray]:
        """Image with `crop` at the first random place of tissue that is not `taken`, and that place: maybe empty."""
        found = self._place(image, taken, crop)
        if found is None:
            return image, np.zeros_like(taken)
        where, placed = found
        colours = self._match(where.colours(crop.rgb, *taken.shape), placed, image)
        return self._blend(image, colours, placed, where.frame(crop.mask.shape, *taken.shape)), placed

    def _paste_decoy(self, image: NDArray, taken: NDArray, untouched: NDArray) -> tuple[NDArray, NDArray]:
        """Image with background from elsewhere in the tile in the shape of a glomerulus, and its place: maybe empty."""
        shape = self.crops[self.R.randint(len(self.crops))]
        found = self._place(image, taken, shape)
        if found is None:
            return image, np.zeros_like(taken)
        placed = found[1]
        height, width = taken.shape
        rows, columns = np.nonzero(placed)
        shift = np.array([self.R.randint(side) for side in (height, width)])
        turned = np.roll(untouched, shift, axis=(0, 1))
        source = np.roll(taken, shift, axis=(0, 1))
        if source[rows, columns].any():  # it would show a part of a glomerulus
            return image, np.zeros_like(taken)
        return self._blend(image, self._match(turned, placed, image), placed, np.ones_like(placed)), placed

    def _place(self, image: NDArray, taken: NDArray, crop: Cutout) -> tuple[Pose, NDArray] | None:
        """A pose of `crop` on free tissue and the mask of it, if one is found."""
        height, width = taken.shape
        scale = self._scale(crop)
        tissue = image.min(axis=2) < GLASS
        angle, flip = self.R.uniform(0, 360), self.R.rand() < 0.5
        for _ in range(TRIES):
            centre = self.R.uniform(0, width), self.R.uniform(0, height)
            where = pose(crop.mask.shape, centre, scale, angle, flip)
            placed = where.mask(crop, height, width)
            near = cv2.dilate(placed.astype(np.uint8), np.ones((5, 5))) > 0
            if placed.any() and not taken[near].any() and tissue[near].mean() > LEAST_TISSUE:
                return where, placed
        return None

    def _blend(self, image: NDArray, colours: NDArray, placed: NDArray, known: NDArray) -> NDArray:
        """`colours` where `placed`, fading outside it within what is `known` of them."""
        distance = cv2.distanceTransform((~placed).astype(np.uint8), cv2.DIST_L2, 3)
        feather_px = self.R.uniform(0.5, 1) * self.feather_um / self.mpp
        alpha = np.clip(1 - distance / max(feather_px, 1e-3), 0, 1)[..., None]
        alpha = alpha * (known | placed)[..., None]
        return (image * (1 - alpha) + colours * alpha).round().astype(np.uint8)

    def _match(self, colours: NDArray, placed: NDArray, image: NDArray) -> NDArray:
        """Move the mean colour of what is placed towards the tile's tissue."""
        tissue = image[image.min(axis=2) < GLASS].mean(0)
        shift = (tissue - colours[placed].mean(0)) * self.R.uniform(0, self.colour_match)
        return np.clip(colours + shift, 0, 255)
