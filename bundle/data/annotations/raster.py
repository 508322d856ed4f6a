"""Which pixel centres lie inside a polygon."""

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry


def covered_pixels(polygon: BaseGeometry, width: int, height: int) -> tuple[slice, slice, NDArray[np.bool_]] | None:
    """The part of a `height` x `width` image that `polygon` (Polygon or MultiPolygon, pixels of that image) covers.

    A pixel is covered when its centre is inside by the even-odd rule; of a centre on the border, the polygon to its
    right or below owns it, so that polygons that share a border share no pixel. The parity of the border crossings left
    of each centre is summed along the rows (polygon scan conversion), which costs vertices + pixels;
    `skimage.draw.polygon` follows the same rule at vertices x pixels.

    Returns:
        Row slice, column slice and boolean mask of that window; `None` when nothing of the image is in reach.
    """
    left, top, right, bottom = shapely.bounds(polygon)
    columns = _centres(left, right, width)
    rows = _centres(top, bottom, height)
    if columns.start >= columns.stop or rows.start >= rows.stop:
        return None
    inside = _parity(_edges(polygon), rows, columns)
    return rows, columns, inside


def _centres(low: float, high: float, size: int) -> slice:
    """The pixels of 0..size whose centres lie in [low, high]."""
    first, last = np.clip([np.ceil(low - 0.5), np.floor(high - 0.5) + 1], 0, size)
    return slice(int(first), int(last))


def _edges(polygon: BaseGeometry) -> NDArray[np.float64]:
    """All border segments of all rings, shape (n, 4): x0, y0, x1, y1."""
    points, ring = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(polygon)), return_index=True)
    same = ring[1:] == ring[:-1]
    return np.hstack([points[:-1][same], points[1:][same]])


def _parity(edges: NDArray[np.float64], rows: slice, columns: slice) -> NDArray[np.bool_]:
    height, width = rows.stop - rows.start, columns.stop - columns.start
    x0, y0, x1, y1 = edges.T
    # Half-open rows: a vertex at a row's centre counts for one of its two edges, never for both.
    first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), rows.start, rows.stop).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), rows.start, rows.stop).astype(np.int64)
    count = last - first
    edge = np.repeat(np.arange(len(edges)), count)
    row = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    crossing = x0[edge] + (row + 0.5 - y0[edge]) * (x1 - x0)[edge] / (y1 - y0)[edge]
    column = np.clip(np.ceil(crossing - 0.5), columns.start, columns.stop).astype(np.int64) - columns.start
    flips = np.bincount((row - rows.start) * (width + 1) + column, minlength=height * (width + 1))
    odd = (flips & 1).astype(np.bool_).reshape(height, width + 1)[:, :width]
    return np.logical_xor.accumulate(odd, axis=1)
