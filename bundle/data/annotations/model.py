"""What an annotation is once it is read: polygons with a class, and their rasterization."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from bundle.classes import BACKGROUND_INDEX, IGNORE_INDEX
from bundle.data.annotations.raster import covered_pixels


@dataclass(frozen=True)
class Glomerulus:
    """One annotated object.

    Attributes:
        polygon: valid outline with holes, level-0 pixels.
        label: mask value: 1 to 3, or 255 (ignore); 0 only for objects of `Annotation.background`.
        name: class name as in the file; empty when the file gives none.
        id: id as in the file; empty when the file gives none.
        properties: everything else that the file says about the object, kept for writing it back.
        drawn: the outline as drawn, where it was invalid (self-crossing) and `polygon` is the mended one.
        foreign: GeoJSON members outside of the specification, kept for writing them back.
    """

    polygon: Polygon | MultiPolygon
    label: int
    name: str = ""
    id: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)
    drawn: BaseGeometry | None = None
    foreign: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Annotation:
    """The annotated objects of one slide.

    Attributes:
        glomeruli: objects in the order of the file.
        complete: whether everything outside of the glomeruli is known to be background; if not, it is ignored.
        background: areas that the file says hold no glomerulus; they tell something only where `complete` is false.
    """

    glomeruli: tuple[Glomerulus, ...]
    complete: bool = True
    background: tuple[Glomerulus, ...] = ()

    def rasterize(self, x: float, y: float, width: int, height: int, downsample: float) -> NDArray[np.uint8]:
        """The label image of a window; a pixel belongs to a polygon when its centre lies inside.

        Where objects overlap the later one in the file wins, but any glomerulus wins over an ignored object.

        Args:
            x: left edge of the window, level-0 pixels.
            y: top edge of the window, level-0 pixels.
            width: columns of the output.
            height: rows of the output.
            downsample: level-0 pixels per output pixel.

        Returns:
            uint8 (height, width): 0 background, 1 to 3 the classes of `bundle.classes`, 255 ignore.
        """
        image = np.full((height, width), BACKGROUND_INDEX if self.complete else IGNORE_INDEX, np.uint8)
        near = self._near(x, y, width * downsample, height * downsample)
        layers = (
            [] if self.complete else [*self.background],
            [g for g in near if g.label == IGNORE_INDEX],
            [g for g in near if g.label != IGNORE_INDEX],
        )
        for layer in layers:
            for glomerulus in layer:
                _paint(image, glomerulus.polygon, glomerulus.label, x, y, downsample)
        return image

    def rasterize_instances(self, x: float, y: float, width: int, height: int, downsample: float) -> NDArray[np.int32]:
        """The window as `rasterize` sees it, with an object's number (place in `glomeruli` plus 1) for its class.

        Ignored objects are left out (0).
        """
        image = np.zeros((height, width), np.int32)
        number = {id(g): i for i, g in enumerate(self.glomeruli, start=1)}
        for glomerulus in self._near(x, y, width * downsample, height * downsample):
            if glomerulus.label != IGNORE_INDEX:
                _paint(image, glomerulus.polygon, number[id(glomerulus)], x, y, downsample)
        return image

    def shifted(self, dx: float, dy: float) -> "Annotation":
        """The annotation moved by (dx, dy) level-0 pixels."""
        return replace(
            self,
            glomeruli=tuple(_shifted(g, dx, dy) for g in self.glomeruli),
            background=tuple(_shifted(g, dx, dy) for g in self.background),
        )

    def within(self, x: float, y: float, width: float, height: float) -> "Annotation":
        """The annotation of a window (level-0 pixels): its objects, uncut, relative to the window's corner."""
        near = replace(self, glomeruli=tuple(self._near(x, y, width, height)))
        return near.shifted(-x, -y)

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree([g.polygon for g in self.glomeruli])

    def _near(self, x: float, y: float, width: float, height: float) -> Sequence[Glomerulus]:
        """The objects whose bounding box meets the window, in the order of the file."""
        indices = self._tree.query(shapely.box(x, y, x + width, y + height))
        return [self.glomeruli[i] for i in sorted(indices)]


def _paint(image: NDArray, polygon: BaseGeometry, value: int, x: float, y: float, downsample: float) -> None:
    height, width = image.shape
    in_window = shapely.transform(polygon, lambda points: (points - (x, y)) / downsample)
    covered = covered_pixels(in_window, width, height)
    if covered is not None:
        rows, columns, inside = covered
        image[rows, columns][inside] = value


def _shifted(glomerulus: Glomerulus, dx: float, dy: float) -> Glomerulus:
    def move(points: NDArray) -> NDArray:
        return points + np.array((dx, dy))

    drawn = None if glomerulus.drawn is None else shapely.transform(glomerulus.drawn, move)
    return replace(glomerulus, polygon=shapely.transform(glomerulus.polygon, move), drawn=drawn)
