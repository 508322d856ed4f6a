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
from scipy.special import expit, logit
from shapely.geometry import MultiPolygon, Polygon
from skimage.measure import find_contours
from skimage.morphology import convex_hull_image

from bundle.classes import CLASS_NAMES, NUM_CLASSES, class_of_index
from bundle.data.annotations import Annotation, Glomerulus
from bundle.geometry import Size
from bundle.stream.prediction import ClassMap

BLOCK_PX = 32
"""Objects are looked for in blocks of this side first, so that no array of labels covers the whole slide."""

AREA = "Area µm^2"
PROBABILITY = "Probability"
GLOMERULUS_PROBABILITY = "Glomerulus probability"
"""Names of the measurements, as QuPath writes its own."""


@dataclass(frozen=True)
class GlomerulusFinder:
    """Turns connected pixels of glomerulus into objects.

    Pixels that touch, by a side or a corner, are one object, so two glomeruli without a pixel between them are one.
    An object has the class that most of its pixels have. Holes are filled: a capillary lumen belongs to its glomerulus.
    The outline runs where the probability crosses the map's threshold, between the pixels.

    Attributes:
        min_area_um2: objects whose pixels cover less are dropped, µm²; without a known resolution none is for this.
        min_solidity: objects that fill less of their convex hull, 0 to 1, are dropped: a glomerulus is round, and what
            is mistaken for one (infiltrate, tubules side by side) mostly is not.
        min_probability: objects whose pixels' mean probability of any glomerulus is lower are dropped, 0 to 1: the
            network is less sure of what it only mistakes for one. As the network says it without a temperature.
        temperature: that the map's logits were divided by; the least probability is scaled alike.
        convex: give what is left the outline of its convex hull where no other object is: Bowman's capsule is
            convex, and urinary space that the network leaves out lies within it.
        simplify: outlines may move by this part of a model pixel; 0 keeps every vertex.
    """

    min_area_um2: float = 4000.0
    min_solidity: float = 0.0
    min_probability: float = 0.0
    temperature: float = 1.0
    convex: bool = False
    simplify: float = 0.1

    def __call__(self, prediction: ClassMap, size: Size, mpp: float | None) -> Annotation:
        """The glomeruli of a slide of `size` level-0 pixels at `mpp` µm each.

        `prediction.classes` is rewritten to agree: an object has one class, a dropped object is background.
        """
        found = []
        objects = _objects(prediction)
        # All are found before any grows: what one adds is not to be found as another.
        for window, inside in list(objects) if self.convex else objects:
            found.append(self._glomerulus(prediction, window, inside, size, mpp))
            prediction.release()
        return Annotation(tuple(g for g in found if g is not None))

    def _glomerulus(
        self, prediction: ClassMap, window: tuple[slice, slice], inside: NDArray, size: Size, mpp: float | None
    ) -> Glomerulus | None:
        classes = prediction.classes[window]
        area_um2 = inside.sum() * (prediction.downsample * mpp) ** 2 if mpp else np.inf
        polygon = self._outline(prediction, window, inside, size) if area_um2 >= self.min_area_um2 else None
        foreground = float(prediction.foreground[window][inside & (classes > 0)].mean() / 255)
        if (
            polygon is None
            or polygon.area < self.min_solidity * polygon.convex_hull.area
            or foreground < expit(logit(self.min_probability) / self.temperature)
        ):
            classes[inside] = 0
            return None
        votes = np.bincount(classes[inside], minlength=NUM_CLASSES)
        label = int(votes[1:].argmax()) + 1
        probability = float(prediction.confidence[window][inside & (classes == label)].mean() / 255)
        if self.convex:
            inside, polygon = self._filled(prediction, window, inside, size, polygon)
        classes[inside] = label
        measurements = {PROBABILITY: round(probability, 4), GLOMERULUS_PROBABILITY: round(foreground, 4)}
        if mpp:
            measurements[AREA] = round(polygon.area * mpp**2, 1)
        name = class_of_index(label).name
        properties = {"objectType": "annotation", "isLocked": False, "measurements": measurements}
        # The id depends on place and class alone, so that a second run writes the same file.
        identity = uuid.uuid5(uuid.NAMESPACE_OID, f"{name} {polygon.representative_point().wkt}")
        return Glomerulus(polygon, label, name, str(identity), properties)

    def _filled(
        self,
        prediction: ClassMap,
        window: tuple[slice, slice],
        inside: NDArray,
        size: Size,
        polygon: Polygon | MultiPolygon,
    ) -> tuple[NDArray[np.bool_], Polygon | MultiPolygon]:
        """The object with the dents of its outline filled, and its new outline."""
        hull = convex_hull_image(inside)
        taken = (prediction.classes[window] > 0) & ~inside
        if not (hull & taken).any():
            return hull, polygon.convex_hull
        filled = hull & ~taken
        return filled, self._outline(prediction, window, filled, size) or polygon

    def _outline(
        self, prediction: ClassMap, window: tuple[slice, slice], inside: NDArray, size: Size
    ) -> Polygon | MultiPolygon | None:
        """The object's outline where the probability crosses the threshold, level-0 pixels; `None` if nothing is left.

        Where the slide cuts the object the outline follows the slide's edge.
        """
        level = 255 * prediction.threshold
        # Neighbours' pixels are pushed below the level and the object's own above it: the outline parts exactly them.
        plane = prediction.foreground[window].astype(np.float32)
        plane = np.where(inside, np.maximum(plane, level + 0.5), np.minimum(plane, level - 0.5))
        # Repeated past the slide's edge, then closed out there: the cut below leaves the edge itself.
        plane = np.pad(np.pad(plane, 1, mode="edge"), 1, constant_values=level - 0.5)
        rings = [ring for ring in find_contours(plane, level) if len(ring) >= 4]
        origin = np.array([window[1].start, window[0].start]) - 2 + 0.5
        outline = shapely.union_all([Polygon(ring[:, ::-1] + origin) for ring in rings])
        if self.simplify:
            outline = outline.simplify(self.simplify)
        outline = shapely.transform(outline, lambda points: points * prediction.downsample)
        outline = shapely.make_valid(outline, method="structure", keep_collapsed=False)
        outline = outline.intersection(shapely.box(0, 0, size.width, size.height))
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


def _objects(prediction: ClassMap) -> Iterator[tuple[tuple[slice, slice], NDArray[np.bool_]]]:
    """Window and mask of each 8-connected object, holes filled, in a margin of one pixel where the image has it."""
    classes, blocks = prediction.classes, _has_objects(prediction)
    # A hole too large for one block is filled here, so that what lies in it is found as part of its object.
    _, groups = cv2.connectedComponents(_without_holes(blocks).astype(np.uint8), connectivity=8)
    for group, place in enumerate(ndimage.find_objects(groups), start=1):
        rows, columns = (slice(s.start * BLOCK_PX, s.stop * BLOCK_PX) for s in place)
        own = np.kron(groups[place] == group, np.ones((BLOCK_PX, BLOCK_PX), bool))
        pixels = classes[rows, columns] > 0
        filled = _without_holes(pixels & own[: pixels.shape[0], : pixels.shape[1]])
        count, labels, stats, _ = cv2.connectedComponentsWithStats(filled.astype(np.uint8), connectivity=8)
        for index in range(1, count):
            x, y, width, height = (int(v) for v in stats[index, :4])
            inside = np.s_[y : y + height, x : x + width]
            yield _with_margin(classes.shape, rows.start + y, columns.start + x, labels[inside] == index)


def _without_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask and all that it encloses: what scipy's `binary_fill_holes` gives, in a tenth of its time."""
    plane = np.pad(mask.astype(np.uint8), 1)
    outside = 2
    cv2.floodFill(plane, None, (0, 0), outside)
    return plane[1:-1, 1:-1] != outside


def _has_objects(prediction: ClassMap) -> NDArray[np.bool_]:
    """Which blocks of `BLOCK_PX` hold any object."""
    width, height = prediction.size.width, prediction.size.height
    blocks = np.zeros((-(-height // BLOCK_PX), -(-width // BLOCK_PX)), bool)
    for row, top in enumerate(range(0, height, BLOCK_PX)):
        occupied = prediction.classes[top : top + BLOCK_PX].any(axis=0)
        blocks[row] = np.logical_or.reduceat(occupied, np.arange(0, width, BLOCK_PX))
        prediction.release()
    return blocks


def _with_margin(
    shape: tuple[int, ...], top: int, left: int, inside: NDArray[np.bool_]
) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """The object's window one pixel wider, cut to the image, and its mask there."""
    bottom, right = top + inside.shape[0], left + inside.shape[1]
    window = (slice(max(top - 1, 0), min(bottom + 1, shape[0])), slice(max(left - 1, 0), min(right + 1, shape[1])))
    missing = [(top - window[0].start, window[0].stop - bottom), (left - window[1].start, window[1].stop - right)]
    return window, np.pad(inside, missing)


def count_by_class(annotation: Annotation) -> dict[str, int]:
    """Number of glomeruli of each class, every class named."""
    labels = [g.label for g in annotation.glomeruli]
    return {name: labels.count(index) for index, name in enumerate(CLASS_NAMES, start=1)}
