"""A phantom slide: pixels and exact truth of any window."""

import uuid
from collections import OrderedDict
from functools import cached_property

import numpy as np
from shapely.geometry import Polygon

from bundle.classes import BACKGROUND_INDEX, class_of_index
from bundle.data.annotations import Annotation, Glomerulus
from bundle.phantom.layout import ARTERY, Layout, Structure, lay_out
from bundle.phantom.paint import BLOCK_PX, ORACLE_RGB, Painter
from bundle.phantom.spec import PhantomSpec

_VERTEX_GRID = 64
"""Vertices lie on 1/64 pixel: a shift by whole pixels is then exact in floating point."""


class Phantom:
    """The slide that a spec describes. Windows are in level-0 pixels of the slide; outside of it too."""

    def __init__(self, spec: PhantomSpec) -> None:
        self.spec = spec
        self._layout = lay_out(spec)
        self._painter = Painter(spec, self._layout)
        self._blocks: OrderedDict[tuple[int, int], np.ndarray | None] = OrderedDict()
        # Two rows of blocks: a shifted slide's row of tiles touches two, and each is painted once.
        self._kept_blocks = 2 * (spec.size.width // BLOCK_PX + 2)

    @property
    def layout(self) -> Layout:
        """Tissue, glomeruli and arteries in micrometres of the world."""
        return self._layout

    @property
    def glomeruli(self) -> tuple[Glomerulus, ...]:
        """The exact truth: the glomeruli that meet the slide, uncut, polygons in its level-0 pixels."""
        return self.annotation.glomeruli

    @cached_property
    def annotation(self) -> Annotation:
        """`glomeruli` as a complete annotation."""
        width, height = self.spec.size.width, self.spec.size.height
        found = (self._glomerulus(i, s) for i, s in enumerate(self._layout.structures) if s.label != ARTERY)
        return Annotation(tuple(g for g in found if _meets(g.polygon, width, height)))

    def truth(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Labels of a window, uint8 (height, width): a pixel belongs to a polygon when its centre lies inside."""
        return self.annotation.rasterize(x, y, width, height, 1.0)

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Colours of a window, uint8 (height, width, 3)."""
        rgb = np.empty((height, width, 3), np.uint8)
        rgb[:] = self._painter.glass_rgb
        left, top = x + self.spec.origin[0], y + self.spec.origin[1]
        for row in range(top // BLOCK_PX, -(-(top + height) // BLOCK_PX)):
            for column in range(left // BLOCK_PX, -(-(left + width) // BLOCK_PX)):
                block = self._block(column, row)
                if block is not None:
                    _paste(rgb, block, column * BLOCK_PX - left, row * BLOCK_PX - top)
        if self.spec.oracle:
            self._paint_truth(rgb, x, y)
        return rgb

    def _block(self, column: int, row: int) -> np.ndarray | None:
        key = column, row
        if key not in self._blocks:
            self._blocks[key] = self._painter.block(column, row)
            if len(self._blocks) > self._kept_blocks:
                self._blocks.popitem(last=False)
        return self._blocks[key]

    def _paint_truth(self, rgb: np.ndarray, x: int, y: int) -> None:
        truth = self.truth(x, y, rgb.shape[1], rgb.shape[0])
        for label in np.unique(truth):
            if label != BACKGROUND_INDEX:
                rgb[truth == label] = ORACLE_RGB[int(label)]

    def _glomerulus(self, index: int, structure: Structure) -> Glomerulus:
        x, y = (np.round(v / self.spec.mpp * _VERTEX_GRID) / _VERTEX_GRID for v in structure.vertices_um())
        polygon = Polygon(np.stack([x - self.spec.origin[0], y - self.spec.origin[1]], axis=1))
        name = class_of_index(structure.label).name
        id = uuid.uuid5(uuid.NAMESPACE_OID, f"phantom {self.spec.seed} {index}")
        measurements = {"sclerosed": round(structure.sclerosed, 3)}
        return Glomerulus(polygon, structure.label, name, str(id), {"measurements": measurements})


def _meets(polygon: Polygon, width: int, height: int) -> bool:
    left, top, right, bottom = polygon.bounds
    return right > 0 and bottom > 0 and left < width and top < height


def _paste(rgb: np.ndarray, block: np.ndarray, left: int, top: int) -> None:
    """Put a block at (left, top), cut to the picture."""
    height, width = rgb.shape[:2]
    rows = slice(max(0, top), min(height, top + len(block)))
    columns = slice(max(0, left), min(width, left + block.shape[1]))
    rgb[rows, columns] = block[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
