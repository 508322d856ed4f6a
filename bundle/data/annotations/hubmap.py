"""HuBMAP run-length masks (`train.csv`: id, encoding) of whole slides, decoded without a whole-slide array."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bundle.data.annotations.masks import mask_outline
from bundle.data.annotations.model import Annotation
from bundle.data.annotations.outlines import annotation, glomerulus, shown
from bundle.errors import AnnotationError, reason_of
from bundle.geometry import Size

_CLASS = "glomerulus"
_SHOWN = 200
"""Characters of a list of ids in a message."""
_MAX_OBJECT_PX = 100_000_000
"""Box of one object, 2.5 mm wide at 0.25 um/px: its outline is found in dense pixels, which take 13 bytes each."""


def read_hubmap_csv(
    path: Path,
    class_map: Mapping[str, str] | None,
    slide_id: str | None,
    slide_size: Size | None,
    downsample: float,
    min_area_px: float,
) -> Annotation:
    """The glomeruli of one slide: its encoding lists pairs (start, length), 1-based, down the columns.

    Args:
        path: the CSV.
        class_map: see `classmap.label_of`; the objects' name is `glomerulus`.
        slide_id: the row's id; may be left out when there is one row.
        slide_size: size of the encoded mask, pixels.
        downsample: level-0 pixels per mask pixel.
        min_area_px: objects of fewer mask pixels are left out.

    Raises:
        AnnotationError: no such CSV or id, no size, or runs that do not fit the size.
        ConfigError: see `classmap.label_of`.
    """
    if slide_size is None:
        raise AnnotationError(f"{path}: run lengths need the slide's size; give `slide_size`")
    runs = _runs(_encoding(path, slide_id), slide_size, path)
    polygons = [
        mask_outline(mask, left, top, downsample) for mask, left, top in _masks(runs, path) if mask.sum() >= min_area_px
    ]
    return annotation(glomerulus(p, [_CLASS], path, class_map, id=str(i)) for i, p in enumerate(polygons, start=1))


def _encoding(path: Path, slide_id: str | None) -> str:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False).set_index("id")["encoding"]
    except (KeyError, ValueError, UnicodeError) as error:
        problem = shown(reason_of(error))
        raise AnnotationError(f"{path}: is no run-length CSV with the columns id and encoding ({problem})") from None
    if slide_id is None and len(table) == 1:
        return str(table.iloc[0])
    if slide_id not in table.index:
        ids = ", ".join(map(str, table.index[:10]))[:_SHOWN]
        raise AnnotationError(f"{path}: has no slide {slide_id!r}; give `slide_id` as one of {ids}")
    if isinstance(table[slide_id], pd.Series):
        raise AnnotationError(f"{path}: lists the slide {slide_id!r} more than once; keep one row")
    return str(table[slide_id])


def _runs(encoding: str, size: Size, path: Path) -> NDArray[np.int64]:
    """Runs within single columns, sorted, shape (n, 3): column, first row, row after the last."""
    try:
        start, length = np.array(encoding.split(), np.int64).reshape(-1, 2).T
    except (ValueError, OverflowError) as error:
        raise AnnotationError(f"{path}: the encoding is no list of pairs of numbers ({shown(str(error))})") from None
    first, stop = start - 1, start - 1 + length
    total = size.width * size.height
    # Each alone first: their sum could wrap around.
    if len(first) and (min(start.min(), length.min()) < 1 or max(start.max(), length.max(), stop.max()) > total):
        raise AnnotationError(f"{path}: runs leave a slide of {size.width} x {size.height}; check slide id and size")
    order = np.argsort(first)
    first, stop = first[order], stop[order]
    if (first[1:] < stop[:-1]).any():
        raise AnnotationError(f"{path}: runs overlap; the encoding is damaged")
    # A run that goes on at the top of the next column is cut there.
    columns = (stop - 1) // size.height - first // size.height + 1
    run = np.repeat(np.arange(len(first)), columns)
    column = first[run] // size.height + np.arange(len(run)) - np.repeat(np.cumsum(columns) - columns, columns)
    top = np.maximum(first[run] - column * size.height, 0)
    bottom = np.minimum(stop[run] - column * size.height, size.height)
    return np.column_stack([column, top, bottom])


def _masks(runs: NDArray[np.int64], path: Path) -> list[tuple[NDArray[np.bool_], int, int]]:
    """Each connected area as a mask of its bounding box, with that box's left and top."""
    if not len(runs):
        return []
    member = _components(runs)
    order = np.argsort(member, kind="stable")
    groups = np.split(runs[order], np.flatnonzero(np.diff(member[order])) + 1)
    return [_dense(group, path) for group in groups]


def _components(runs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the connected area (corners touch) that each run belongs to."""
    column, top, bottom = runs.T
    # One sortable position per pixel, with room between columns so that neighbours never wrap around.
    stride = int(bottom.max()) + 2
    begin, end = column * stride + top, column * stride + bottom
    # Runs of the next column that reach at least the row above the first pixel and at most the row below the last.
    low = np.searchsorted(end, begin + stride, side="left")
    high = np.searchsorted(begin, end + stride + 1, side="left")
    count = np.maximum(high - low, 0)
    left = np.repeat(np.arange(len(runs)), count)
    right = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + low[left]
    # Some writers split a run in two that touch.
    split = np.flatnonzero(end[:-1] == begin[1:])
    left, right = np.concatenate([left, split]), np.concatenate([right, split + 1])
    graph = coo_array((np.ones(len(left)), (left, right)), shape=(len(runs), len(runs)))
    return connected_components(graph, directed=False)[1]


def _dense(runs: NDArray[np.int64], path: Path) -> tuple[NDArray[np.bool_], int, int]:
    left, top = int(runs[:, 0].min()), int(runs[:, 1].min())
    height, width = int(runs[:, 2].max()) - top, int(runs[:, 0].max()) - left + 1
    if height * width > _MAX_OBJECT_PX:
        raise AnnotationError(f"{path}: an object of {width} x {height} px is no glomerulus; check the encoding")
    mask = np.zeros((height, width), bool)
    for column, first, stop in runs:
        mask[first - top : stop - top, column - left] = True
    return mask, left, top
