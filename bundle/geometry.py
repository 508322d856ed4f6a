"""Value types of plane geometry. A name's suffix is its unit: `_px` pixels, `_um` micrometres.

Pixel coordinates are continuous: pixel (row i, column j) covers [j, j+1) x [i, i+1), its centre is (j+0.5, i+0.5).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Width and height of an image, pixels."""

    width: int
    height: int


@dataclass(frozen=True)
class Rect:
    """An axis-parallel rectangle: left, top, width and height, pixels."""

    x: int
    y: int
    width: int
    height: int

    @property
    def size(self) -> Size:
        """Width and height without the place."""
        return Size(self.width, self.height)
