"""Dictionary transforms from a datalist item to an open slide and its label, and from a class map to glomeruli."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.engines import PrepareBatch
from monai.transforms import MapTransform

from bundle.data.datalist import load_annotation
from bundle.grid import Tiles, size_at
from bundle.slide import open_slide
from bundle.stream.prediction import class_probabilities, decide


class OpenSlided(MapTransform):
    """Replace a path by the open `Slide`; the item's "mpp" and "region" are heeded where present.

    Args:
        keys: the paths' keys.
        needs_mpp: whether a slide of unknown µm/px is an error.

    Raises:
        SlideReadError: the file cannot be read.
        UnknownResolutionError: it states no µm/px, none was given, and `needs_mpp`.
        ConfigError: "mpp" is no resolution, or "region" does not lie inside the slide.
    """

    def __init__(self, keys: KeysCollection, needs_mpp: bool = True) -> None:
        super().__init__(keys)
        self.needs_mpp = needs_mpp

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with open slides."""
        item = dict(data)
        for key in self.key_iterator(item):
            slide = open_slide(item[key], mpp=item.get("mpp"), region=item.get("region"))
            if self.needs_mpp:
                slide.require_mpp()
            item[key] = slide
        return item


class ReadSlided(MapTransform):
    """Replace an open slide by its pixels at `mpp`, uint8 RGB (3, H, W): for regions that fit in memory.

    Args:
        keys: the slide's key.
        mpp: µm per pixel of the result.
    """

    def __init__(self, keys: KeysCollection, mpp: float) -> None:
        super().__init__(keys)
        self.mpp = mpp

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with pixels; its "name" (the file's stem if it has none) and "mpp", the pixels' resolution.

        Raises:
            UnknownResolutionError: the slide's µm/px is not known.
            SlideReadError: its pixel data is damaged.
        """
        item = {key: value for key, value in data.items() if key != "region"}
        for key in self.key_iterator(item):
            slide = item[key]
            downsample = self.mpp / slide.require_mpp()
            size = size_at(slide.size, downsample)
            with slide:
                rgb = slide.read_downsampled(0, 0, size.width, size.height, downsample)
            item |= {key: rgb.transpose(2, 0, 1), "name": item.get("name") or slide.path.stem, "mpp": self.mpp}
        return item


class RasterizeLabeld(MapTransform):
    """Replace an annotation's path by class indices uint8 (H, W) of the whole slide at model resolution.

    Args:
        keys: the annotation's key.
        tiles: give the model resolution.
        slide_key: key of the open slide.
    """

    def __init__(self, keys: KeysCollection, tiles: Tiles, slide_key: str = "image") -> None:
        super().__init__(keys)
        self.tiles = tiles
        self.slide_key = slide_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with its label as an array, the `Annotation` itself and the label's "downsample".

        Raises:
            AnnotationError: the annotation cannot be read, or does not fit the slide.
            DatalistError: the item has none.
            ConfigError: `tiles` are in micrometres and the slide's µm/px is not known.
        """
        item: dict[Any, Any] = dict(data)
        slide = item[self.slide_key]
        downsample = self.tiles.downsample(slide.mpp)
        size = size_at(slide.size, downsample)
        for key in self.key_iterator(item):
            annotation = load_annotation({**item, "image": slide.path}, slide.size, slide.mpp)
            item[key] = annotation.rasterize(0, 0, size.width, size.height, downsample)
            item |= {"annotation": annotation, "downsample": downsample}
        return item


class CloseSlided(MapTransform):
    """Close the open slide: the last step of a slide's way."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item, its slides closed."""
        for key in self.key_iterator(dict(data)):
            data[key].close()
        return dict(data)


class ClassIndicesd(MapTransform):
    """Replace a `ClassMap` by its class indices, for metrics."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with plain arrays."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = item[key].classes
        return item


class DecideClassesd(MapTransform):
    """Replace logits (C, H, W) by class indices uint8 (1, H, W), by the rule of whole-slide inference (`decide`).

    Args:
        keys: the logits' key.
        threshold: least probability of a glomerulus, 0 to 1.
    """

    def __init__(self, keys: KeysCollection, threshold: float = 0.5) -> None:
        super().__init__(keys)
        self.threshold = threshold

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with class indices."""
        item = dict(data)
        for key in self.key_iterator(item):
            probabilities = class_probabilities(item[key][None].float())[0]
            item[key] = decide(probabilities, self.threshold).classes[None].to(torch.uint8)
        return item


class PrepareSlide(PrepareBatch):
    """MONAI `PrepareBatch` of one slide: (slide, label); only its tiles go to the device, in the inferer."""

    def __call__(self, batchdata: Any, device: Any = None, non_blocking: bool = False, **kwargs: Any) -> Any:
        """The slide and, where there is one, its label."""
        return batchdata["image"], batchdata.get("label")
