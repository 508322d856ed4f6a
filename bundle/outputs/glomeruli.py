"""From class probabilities to glomeruli: one outline and one class each, in level-0 pixels."""

import uuid
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import shapely
from monai.config import KeysCollection
from monai.transforms import MapTransform
from numpy.typing import NDArray
from scipy import ndimage
from shapely.geometry import MultiPolygon, Polygon
from skimage.measure import find_contours

from bundle.classes import CLASS_NAMES, NUM_CLASSES, class_of_index
from bundle.data.annotations import Annotation, Glomerulus
from bundle.geometry import Size
from bundle.stream.prediction import ClassMap

HALF = 127.5
"""Probability 1/2 in a plane of 0 to 255: outlines run where it is crossed, between the pixels."""

AREA = "Area µm^2"
PROBABILITY = "Probability"
"""Names of the measurements, as QuPath writes its own."""


@dataclass(frozen=True)
class GlomerulusFinder:
    """Turns connected pixels of glomerulus into objects.

    An object has the class that most of its pixels have. Holes are filled: a capillary lumen belongs to its glomerulus.

    Attributes:
        min_area_um2: smaller objects are dropped, µm²; without a known resolution nothing is dropped.
        simplify: outlines may move by this part of a model pixel; 0 keeps every vertex.
    """

    min_area_um2: float = 2000.0
    simplify: float = 0.1

    def __call__(self, prediction: ClassMap, size: Size, mpp: float | None) -> Annotation:
        """The glomeruli of a slide of `size` level-0 pixels at `mpp` µm each.

        `prediction.classes` is rewritten to agree: an object has one class, a dropped object is background.
        """
        found = (self._glomerulus(prediction, *component, size, mpp) for component in _components(prediction.classes))
        return Annotation(tuple(g for g in found if g is not None))

    def _glomerulus(
        self, prediction: ClassMap, window: tuple[slice, slice], inside: NDArray, size: Size, mpp: float | None
    ) -> Glomerulus | None:
        classes = prediction.classes[window]
        votes = np.bincount(classes[inside], minlength=NUM_CLASSES)
        label = int(votes[1:].argmax()) + 1
        filled = ndimage.binary_fill_holes(inside)
        area_um2 = filled.sum() * (prediction.downsample * mpp) ** 2 if mpp else np.inf
        polygon = self._outline(prediction, window, filled, size) if area_um2 >= self.min_area_um2 else None
        if polygon is None:
            classes[inside] = 0
            return None
        probability = float(prediction.confidence[window][inside & (classes == label)].mean() / 255)
        foreground = float(prediction.foreground[window][inside].mean() / 255)
        classes[filled] = label
        measurements = {PROBABILITY: round(probability, 4), "Glomerulus probability": round(foreground, 4)}
        if mpp:
            measurements[AREA] = round(polygon.area * mpp**2, 1)
        name = class_of_index(label).name
        properties = {"objectType": "annotation", "isLocked": False, "measurements": measurements}
        # The id depends on place and class alone, so that a second run writes the same file.
        identity = uuid.uuid5(uuid.NAMESPACE_OID, f"{name} {polygon.representative_point().wkt}")
        return Glomerulus(polygon, label, name, str(identity), properties)

    def _outline(
        self, prediction: ClassMap, window: tuple[slice, slice], filled: NDArray, size: Size
    ) -> Polygon | MultiPolygon | None:
        """The object's outline where the probability crosses 1/2, level-0 pixels; `None` if nothing is left."""
        # Neighbours' pixels are pushed below 1/2 and the object's own above it: the outline then parts exactly them.
        plane = prediction.foreground[window].astype(np.float32)
        plane = np.where(filled, np.maximum(plane, HALF + 0.5), np.minimum(plane, HALF - 0.5))
        rings = [ring for ring in find_contours(np.pad(plane, 1), HALF) if len(ring) >= 4]
        origin = np.array([window[1].start, window[0].start]) - 1 + 0.5
        outline = shapely.union_all([Polygon(ring[:, ::-1] + origin) for ring in rings])
        if self.simplify:
            outline = outline.simplify(self.simplify)
        outline = shapely.transform(outline, lambda points: points * prediction.downsample)
        outline = shapely.make_valid(outline).intersection(shapely.box(0, 0, size.width, size.height))
        parts = [part for part in shapely.get_parts(outline) if isinstance(part, Polygon) and part.area > 0]
        if not parts:
            return None
        return parts[0] if len(parts) == 1 else MultiPolygon(parts)


class FindGlomerulid(MapTransform):
    """Dictionary transform: from the `ClassMap` under `keys` to the slide's `Annotation` under `output_key`."""

    def __init__(
        self,
        keys: KeysCollection,
        finder: GlomerulusFinder,
        slide_key: str = "image",
        output_key: str = "glomeruli",
    ) -> None:
        super().__init__(keys)
        self.finder = finder
        self.slide_key = slide_key
        self.output_key = output_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with its glomeruli."""
        item = dict(data)
        slide = item[self.slide_key]
        for key in self.key_iterator(item):
            item[self.output_key] = self.finder(item[key], slide.size, slide.mpp)
        return item


def _components(classes: NDArray[np.uint8]) -> Iterator[tuple[tuple[slice, slice], NDArray[np.bool_]]]:
    """Window and mask of each 8-connected object, one pixel of margin included where the image has it."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((classes > 0).astype(np.uint8), connectivity=8)
    height, width = classes.shape
    for index in range(1, count):
        x, y, w, h = (int(v) for v in stats[index, :4])
        window = (slice(max(y - 1, 0), min(y + h + 1, height)), slice(max(x - 1, 0), min(x + w + 1, width)))
        yield window, labels[window] == index


def count_by_class(annotation: Annotation) -> dict[str, int]:
    """Number of glomeruli of each class, every class named."""
    labels = [g.label for g in annotation.glomeruli]
    return {name: labels.count(index) for index, name in enumerate(CLASS_NAMES, start=1)}
