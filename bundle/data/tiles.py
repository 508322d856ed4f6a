"""Training tiles drawn at random from slides and their annotations; nothing is cut to disk beforehand."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from monai.transforms import Randomizable, Transform
from numpy.typing import NDArray
from torch.utils.data import Dataset

from bundle.classes import BACKGROUND_INDEX, GLOMERULUS_CLASSES, IGNORE_INDEX
from bundle.data.annotations import Annotation
from bundle.data.datalist import load_annotation
from bundle.errors import ConfigError, DatalistError
from bundle.grid import Tiles
from bundle.slide import Slide, open_slide
from bundle.tissue import TissueFinder, TissueMask

Key = TypeVar("Key", int, str)


@dataclass(frozen=True)
class Target:
    """A place to draw a tile at: the centre of a glomerulus, or nowhere in particular on a slide's tissue.

    Attributes:
        item: index of the slide in the datalist.
        centre: (x, y) in level-0 pixels; `None` for a random place in tissue.
    """

    item: int
    centre: tuple[float, float] | None


class TileDataset(Dataset):
    """A map-style dataset of `length` random tiles an epoch, balanced over stain, class and patient.

    First a tile's stain is drawn, with a weight of (number of its items) ** (1 - `stain_balance`); then its class:
    background with `background_fraction`, else a glomerulus class with a weight of (number of its glomeruli) **
    (1 - `class_balance`); then evenly a patient, then evenly one of the patient's glomeruli.
    Tile `i` of epoch `e` depends on (`seed`, `e`, `i`) alone, so that workers and restarts change nothing.

    Args:
        data: datalist items, see `bundle.data.datalist.read_datalist`.
        tiles: size and resolution of the tiles; the overlap is not used.
        length: tiles an epoch.
        transform: MONAI dictionary transform of {"image": RGB uint8 (3, H, W), "label": uint8 (1, H, W), 0 to 3 or 255
            (ignore), "stain": its name}.
        background_fraction: share of tiles drawn anywhere in tissue.
        class_balance: 0 draws classes as frequent as they are, 1 draws each evenly.
        stain_balance: the same for stains.
        jitter: a glomerulus lies up to this part of a tile's side from the tile's centre.
        tissue: finds tissue for the background tiles.
        seed: seed of all draws.
        variants: cut and transform each place so many times, then show those again; each process keeps them in memory.
            For networks that learn faster than tiles can be cut. A slide's tissue is one place, so that it gives as
            many tiles without a glomerulus. `None` cuts each tile anew.

    Raises:
        ConfigError: `variants` is below 1.
        DatalistError: no item has an annotation, or none has anything to draw a tile at.
        SlideReadError, ConfigError: see `open_slide`.
        AnnotationError: see `bundle.data.datalist.load_annotation`.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        tiles: Tiles,
        length: int,
        transform: Transform | None = None,
        background_fraction: float = 0.25,
        class_balance: float = 0.5,
        stain_balance: float = 1.0,
        jitter: float = 0.4,
        tissue: TissueFinder | None = None,
        seed: int = 0,
        variants: int | None = None,
    ) -> None:
        if variants is not None and variants < 1:
            raise ConfigError(f"training tiles: variants must be 1 or more, or null, not {variants}")
        self.data = [item for item in data if item.get("label")]
        if not self.data:
            raise DatalistError("the training split has no annotated slide; give its items a `label`")
        self.tiles = tiles
        self.length = length
        self.transform = transform
        self.background_fraction = background_fraction
        self.class_balance = class_balance
        self.stain_balance = stain_balance
        self.jitter = jitter
        self.tissue = tissue or TissueFinder()
        self.seed = seed
        self.variants = variants
        self.epoch = 0
        self._kept: dict[tuple[Target, int], dict[str, Any]] = {}
        self.targets = _targets(self.data)
        if not self.targets:
            raise DatalistError(
                f"{self.data[0]['label']}: no annotation of the training split has a glomerulus of a known class, and "
                f"all are incomplete; nothing can be drawn"
            )
        self.items_by_stain = Counter(item["stain"] for item in self.data if item["stain"] in self.targets)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose tiles the next pass draws."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Tiles an epoch."""
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Tile `index` of the current epoch: what `transform` makes of "image", "label" and "stain".

        Raises:
            SlideReadError: the pixel data is damaged.
            ConfigError: the tiles are in micrometres, and the slide's µm per pixel is not known.
        """
        random = np.random.default_rng((self.seed, self.epoch, index))
        target = self._draw(random)
        if self.variants is None:
            return self._cut(target, random)
        variant = int(random.integers(self.variants))
        if (target, variant) not in self._kept:
            place = [] if target.centre is None else [round(length) for length in target.centre]
            self._kept[target, variant] = self._cut(
                target, np.random.default_rng((self.seed, variant, target.item, *place))
            )
        return dict(self._kept[target, variant])

    def _cut(self, target: Target, random: np.random.Generator) -> dict[str, Any]:
        item = self.data[target.item]
        slide = _open(item)
        downsample = self.tiles.downsample(slide.mpp)
        side = self.tiles.tile_px
        x, y = _corner(self._centre(target, side * downsample, random), slide, side * downsample)
        image = slide.read_downsampled(x, y, side, side, downsample).transpose(2, 0, 1)
        label = _annotation(item).rasterize(x, y, side, side, downsample)
        # A glomerulus that the item's region cuts is known beyond it, but the tile is white there.
        label[~_on_slide(slide, x, y, side, downsample)] = IGNORE_INDEX
        sample = {"image": image, "label": label[None], "stain": item["stain"]}
        if self.transform is None:
            return sample
        if isinstance(self.transform, Randomizable):
            self.transform.set_random_state(seed=int(random.integers(2**31)))
        return self.transform(sample)

    def _draw(self, random: np.random.Generator) -> Target:
        by_class = self.targets[_weighted(self.items_by_stain, 1 - self.stain_balance, random)]
        patients = by_class[self._draw_class(by_class, random)]
        names = sorted(patients)
        choice = patients[names[random.integers(len(names))]]
        return choice[random.integers(len(choice))]

    def _draw_class(self, by_class: Mapping[int, Mapping[str, list[Target]]], random: np.random.Generator) -> int:
        classes = sorted(set(by_class) - {BACKGROUND_INDEX})
        has_background = BACKGROUND_INDEX in by_class
        if not classes or (has_background and random.random() < self.background_fraction):
            return BACKGROUND_INDEX
        counts = {c: sum(map(len, by_class[c].values())) for c in classes}
        return _weighted(counts, 1 - self.class_balance, random)

    def _centre(self, target: Target, side: float, random: np.random.Generator) -> tuple[float, float]:
        """Centre (x, y) of a tile of `side` at `target`, all in level-0 pixels."""
        if target.centre is not None:
            shift = random.uniform(-self.jitter, self.jitter, 2) * side
            return target.centre[0] + shift[0], target.centre[1] + shift[1]
        tissue = _tissue(self.data[target.item], self.tissue)
        rows, columns = np.nonzero(tissue.mask)
        if not len(rows):
            return 0.0, 0.0
        place = random.integers(len(rows))
        x, y = columns[place] + random.random(), rows[place] + random.random()
        return x * tissue.downsample, y * tissue.downsample


def _on_slide(slide: Slide, x: float, y: float, side: int, downsample: float) -> NDArray[np.bool_]:
    """Which pixels (side, side) of a tile at (x, y), level-0 pixels, have their centre on the slide or its region."""
    middles = (np.arange(side) + 0.5) * downsample
    columns, rows = (
        (start + middles >= 0) & (start + middles < length)
        for start, length in ((x, slide.size.width), (y, slide.size.height))
    )
    return rows[:, None] & columns


def _corner(centre: tuple[float, float], slide: Slide, side: float) -> tuple[float, float]:
    """Top-left corner (x, y) of the tile, level-0 pixels: tiles stay inside a slide that holds them."""
    x, y = (
        float(np.clip(middle - side / 2, min(0, length - side), max(0, length - side)))
        for middle, length in zip(centre, (slide.size.width, slide.size.height), strict=True)
    )
    return x, y


def _weighted(counts: Mapping[Key, int], exponent: float, random: np.random.Generator) -> Key:
    """A key of `counts`, drawn with the weight count ** exponent."""
    keys = sorted(counts)
    weights = np.array([counts[key] for key in keys], float) ** exponent
    return keys[random.choice(len(keys), p=weights / weights.sum())]


def _targets(data: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, dict[str, list[Target]]]]:
    """Targets by stain, class and patient."""
    known = {c.index for c in GLOMERULUS_CLASSES}
    targets: dict[str, dict[int, dict[str, list[Target]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for index, item in enumerate(data):
        by_class = targets[item["stain"]]
        # Off the annotated glomeruli of a partly annotated slide nothing is known, so nothing is drawn there.
        if item.get("complete", True):
            by_class[BACKGROUND_INDEX][item["patient"]].append(Target(index, None))
        width, height = _open(item).size.width, _open(item).size.height
        for glomerulus in _annotation(item).glomeruli:
            centre = glomerulus.polygon.centroid
            # One that only reaches into the item's region is not drawn: its middle is not to be seen.
            if glomerulus.label in known and 0 <= centre.x < width and 0 <= centre.y < height:
                by_class[glomerulus.label][item["patient"]].append(Target(index, (centre.x, centre.y)))
    return {stain: {c: dict(p) for c, p in by_class.items() if p} for stain, by_class in targets.items() if by_class}


class _ItemKey:
    """A datalist item as a dictionary key, so that each worker opens a slide and reads its annotation once."""

    def __init__(self, item: Mapping[str, Any]) -> None:
        self.item = item
        self.text = repr(sorted(item.items(), key=lambda pair: pair[0]))

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ItemKey) and self.text == other.text


def _open(item: Mapping[str, Any]) -> Slide:
    return _open_cached(_ItemKey(item))


def _annotation(item: Mapping[str, Any]) -> Annotation:
    return _annotation_cached(_ItemKey(item))


def _tissue(item: Mapping[str, Any], finder: TissueFinder) -> TissueMask:
    return _tissue_cached(_ItemKey(item), finder)


@lru_cache(maxsize=64)
def _open_cached(key: _ItemKey) -> Slide:
    return open_slide(key.item["image"], mpp=key.item.get("mpp"), region=key.item.get("region"))


@lru_cache(maxsize=4096)
def _annotation_cached(key: _ItemKey) -> Annotation:
    slide = _open(key.item)
    return load_annotation(key.item, slide.size, slide.mpp)


@lru_cache(maxsize=256)
def _tissue_cached(key: _ItemKey, finder: TissueFinder) -> TissueMask:
    return finder(_open(key.item))
