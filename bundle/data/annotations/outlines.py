"""From the points that a file lists to a valid polygon, or to the reason why there is none."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from bundle.classes import BACKGROUND_INDEX
from bundle.data.annotations.classmap import label_of
from bundle.data.annotations.model import Annotation, Glomerulus
from bundle.errors import AnnotationError

Rings = Sequence[NDArray[np.float64]]
"""The outer ring and the holes of one polygon, shape (points, 2) each: x, y."""

MIN_RING_POINTS = 3


def ring(points: Any, path: Path, what: str) -> NDArray[np.float64]:
    """Points of a file as floats, shape (n, 2); a third coordinate is dropped.

    Raises:
        AnnotationError: not a list of finite coordinate pairs; names `path` and the object, `what`.
    """
    try:
        array = np.array([(float(point[0]), float(point[1])) for point in points], np.float64).reshape(-1, 2)
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise AnnotationError(
            f"{path}: {what} has coordinates that are no numbers ({error}); repair the file"
        ) from None
    if not np.isfinite(array).all():
        raise AnnotationError(f"{path}: {what} has a coordinate that is not finite; repair or delete the object")
    return array


def outline(polygons: Iterable[Rings]) -> BaseGeometry | None:
    """The shape as drawn, a Polygon when it has one part and a MultiPolygon otherwise; it need not be valid.

    Parts and holes of fewer than three different points are left out; `None` when no part is left.
    """
    parts = []
    for rings in polygons:
        shell, *holes = rings
        if _is_ring(shell):
            parts.append(Polygon(shell, [hole for hole in holes if _is_ring(hole)]))
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


def glomerulus(
    drawn: BaseGeometry | None,
    names: Iterable[str],
    path: Path,
    class_map: Mapping[str, str] | None,
    *,
    id: str = "",
    properties: Mapping[str, Any] | None = None,
    foreign: Mapping[str, Any] | None = None,
) -> Glomerulus | None:
    """The object of a shape as drawn; a self-crossing shape is mended, one without area is skipped with a warning.

    Args:
        drawn: the shape, see `outline`.
        names: the class names that the file gives it, see `classmap.label_of`.
        path: the annotation file, for messages.
        class_map: see `classmap.label_of`.
        id: the file's id of the object.
        properties: kept for writing back.
        foreign: kept for writing back.

    Raises:
        UnknownClassError: no name is known.
    """
    name, label = label_of(names, class_map, path)
    polygon = drawn if drawn is None or drawn.is_valid else _mended(drawn)
    if polygon is None or polygon.is_empty:
        warnings.warn(f"{path}: object {id or name!r} has no area and is skipped", UserWarning, stacklevel=2)
        return None
    mended_from = None if polygon is drawn else drawn
    return Glomerulus(polygon, label, name, id, properties or {}, mended_from, foreign or {})


def annotation(objects: Iterable[Glomerulus | None]) -> Annotation:
    """The annotation of a file's objects: background set apart, skipped objects (`None`) left out."""
    found = [g for g in objects if g is not None]
    return Annotation(
        glomeruli=tuple(g for g in found if g.label != BACKGROUND_INDEX),
        background=tuple(g for g in found if g.label == BACKGROUND_INDEX),
    )


def _is_ring(points: NDArray[np.float64]) -> bool:
    return len(np.unique(points, axis=0)) >= MIN_RING_POINTS


def _mended(drawn: BaseGeometry) -> Polygon | MultiPolygon | None:
    # "structure" fills the loop that a hand draws twice; the default, "linework", would cut it out.
    valid = shapely.make_valid(drawn, method="structure", keep_collapsed=False)
    parts = [part for part in shapely.get_parts(valid) if isinstance(part, Polygon) and part.area > 0]
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)
