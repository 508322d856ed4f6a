"""Resample a rectangle of a level. Pure functions over a `read` of that level's pixels."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from bundle.geometry import Size
from bundle.readers.base import Pixels

READ_SIDE_PX = 8192
"""Longest side, level px, decoded in one go: bounds memory, and keeps Pillow's float32 box exact to 1/1000 px."""

_WHOLE_PX = 1e-3
"""Distance from whole pixels at which nothing is resampled; Pillow's own box is no more exact (float32)."""

_TIE_PX = 1e-6
"""A centre on the frame's edge belongs inside, whichever way the tile's corner was rounded."""

ReadLevel = Callable[[int, int, int, int], Pixels]
"""(x, y, width, height) in px of one level -> RGB pixels (height, width, 3)."""


@dataclass(frozen=True)
class PixelGrid:
    """`width` x `height` output px over a plane: the first one's corner is (x, y), each covers scale_x x scale_y."""

    x: float
    y: float
    width: int
    height: int
    scale_x: float
    scale_y: float

    def part(self, left: int, top: int, right: int, bottom: int) -> "PixelGrid":
        """The output px [left, right) x [top, bottom) of this grid."""
        x, y = self.x + left * self.scale_x, self.y + top * self.scale_y
        return replace(self, x=x, y=y, width=right - left, height=bottom - top)


@dataclass(frozen=True)
class _Span:
    """Source px along one axis: `start` and `length`; [low, high), counted from `start`, is wanted of them."""

    start: int
    length: int
    low: float
    high: float
    untouched: bool


def centres_inside(start: float, length: int, scale: float, size: int) -> tuple[int, int]:
    """First and one past the last of `length` px, each `scale` wide, whose centres lie in [0, size)."""
    first, last = (math.ceil((edge - start) / scale - 0.5 - _TIE_PX) for edge in (0, size))
    return max(first, 0), min(last, length)


def resample(read: ReadLevel, size: Size, grid: PixelGrid) -> Pixels:
    """The pixels of `grid`, in px of a level of `size`; antialiased bilinear (Pillow), the level's edge repeated.

    White beyond the edge would bleed into the outermost pixels. Grids whose pixels lie outside show the nearest edge.
    """
    limit_x, limit_y = READ_SIDE_PX / grid.scale_x, READ_SIDE_PX / grid.scale_y
    if (grid.width > 1 and grid.width > limit_x) or (grid.height > 1 and grid.height > limit_y):
        return _resample_halves(read, size, grid)
    columns = _span(grid.x, grid.x + grid.width * grid.scale_x, grid.width)
    rows = _span(grid.y, grid.y + grid.height * grid.scale_y, grid.height)
    source = _read_extended(read, size, columns, rows)
    if columns.untouched and rows.untouched:
        return source
    box = (columns.low, rows.low, columns.high, rows.high)
    # In float: of RGB Pillow rounds after each axis, and then tiles differ by up to 2 grey levels from one large read.
    channels = [
        np.asarray(channel.convert("F").resize((grid.width, grid.height), Image.Resampling.BILINEAR, box=box))
        for channel in Image.fromarray(source).split()
    ]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def _resample_halves(read: ReadLevel, size: Size, grid: PixelGrid) -> Pixels:
    if grid.width > 1 and (grid.height == 1 or grid.width * grid.scale_x >= grid.height * grid.scale_y):
        half, axis = grid.width // 2, 1
        parts = (grid.part(0, 0, half, grid.height), grid.part(half, 0, grid.width, grid.height))
    else:
        half, axis = grid.height // 2, 0
        parts = (grid.part(0, 0, grid.width, half), grid.part(0, half, grid.width, grid.height))
    return np.concatenate([resample(read, size, part) for part in parts], axis=axis)


def _span(low: float, high: float, output_length: int) -> _Span:
    first = round(low)
    if round(high) - first == output_length and max(abs(low - first), abs(high - round(high))) < _WHOLE_PX:
        return _Span(first, output_length, 0.0, float(output_length), True)
    # Pillow's bilinear filter reaches one output px beyond the box, at least one source px.
    margin = math.ceil(max(1.0, (high - low) / output_length)) + 1
    start, end = math.floor(low) - margin, math.ceil(high) + margin
    return _Span(start, end - start, low - start, high - start, False)


def _read_extended(read: ReadLevel, size: Size, columns: _Span, rows: _Span) -> Pixels:
    left, right = max(columns.start, 0), min(columns.start + columns.length, size.width)
    top, bottom = max(rows.start, 0), min(rows.start + rows.length, size.height)
    pixels = read(left, top, right - left, bottom - top)
    beyond_rows = (top - rows.start, rows.start + rows.length - bottom)
    beyond_columns = (left - columns.start, columns.start + columns.length - right)
    if not any(beyond_rows + beyond_columns):
        return pixels
    return np.pad(pixels, (beyond_rows, beyond_columns, (0, 0)), mode="edge")
