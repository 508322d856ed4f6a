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
_SHOWN = 120
_MAX_CROSSINGS = 50_000
"""Mending takes 4 s and 0.3 GB for a ring of 1,000 random points with 120,000 crossings, and grows with its square."""
_ROUNDING_PX = 1e-6
_SAMPLED_PAIRS = 4_000_000
_NEIGHBOURS = 8
"""Edges whose boxes an edge meets without a crossing: itself, those before and after, and theirs."""
_MAX_COORDINATE_PX = 1e9
"""Beyond, areas and intersections lose their pixels to rounding, and at 1e308 polygons come out as lines."""


def ring(points: Any, path: Path, what: str) -> NDArray[np.float64]:
    """Points of a file as floats, shape (n, 2); a third coordinate is dropped.

    Raises:
        AnnotationError: not a list of coordinate pairs below 1e9; names `path` and the object, `what`.
    """
    try:
        array = np.array([(float(point[0]), float(point[1])) for point in points], np.float64).reshape(-1, 2)
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise AnnotationError(
            f"{path}: {what} has coordinates that are no numbers ({shown(str(error))}); repair the file"
        ) from None
    if not (np.abs(array) < _MAX_COORDINATE_PX).all():  # False for NaN too
        raise AnnotationError(f"{path}: {what} has a coordinate that lies on no slide; repair or delete the object")
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
        UnknownClassError, ConfigError: see `classmap.label_of`.
        AnnotationError: the shape cannot be mended, see `mended`.
    """
    name, label = label_of(names, class_map, path)
    is_sound = drawn is None or (isinstance(drawn, Polygon | MultiPolygon) and drawn.is_valid)
    polygon = drawn if drawn is None or is_sound else mended(drawn, path)
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


def shown(value: object) -> str:
    """A value from a file as it stands in a message, cut short: there may be megabytes where a number belongs."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _is_ring(points: NDArray[np.float64]) -> bool:
    return len(np.unique(points, axis=0)) >= MIN_RING_POINTS


def mended(drawn: BaseGeometry, path: Path) -> Polygon | MultiPolygon | None:
    """The valid shape of a self-crossing one; None when it has no area.

    Raises:
        AnnotationError: a scribble with so many crossings that mending would take hours; names `path`.
    """
    if drawn.is_valid and isinstance(drawn, Polygon | MultiPolygon):
        return drawn
    crossings = _crossings(drawn)
    if crossings > _MAX_CROSSINGS:
        raise AnnotationError(
            f"{path}: an outline crosses itself too often (about {crossings:.0f} times); redraw or delete it"
        )
    # "structure" fills the loop that a hand draws twice; the default, "linework", would cut it out.
    valid = shapely.make_valid(drawn, method="structure", keep_collapsed=False)
    if not valid.is_valid:  # by the last digit of a crossing's place
        valid = shapely.set_precision(valid, _ROUNDING_PX)
    parts = [part for part in shapely.get_parts(valid) if isinstance(part, Polygon) and part.area > 0]
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


def _crossings(drawn: BaseGeometry) -> float:
    """About how often the edges of a shape cross each other, estimated from a sample of them."""
    points, ring = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(drawn)), return_index=True)
    same = ring[1:] == ring[:-1]
    edges = shapely.linestrings(np.stack([points[:-1][same], points[1:][same]], axis=1))
    if len(edges) ** 2 <= _MAX_CROSSINGS:
        return 0.0
    count = int(np.clip(_SAMPLED_PAIRS // len(edges), 20, len(edges)))
    sample = np.random.default_rng(0).choice(len(edges), count, replace=False)
    # By their boxes: exact enough, and a thousand times faster.
    met = shapely.STRtree(edges).query(edges[sample]).shape[1] / count
    return max(0.0, met - _NEIGHBOURS) * len(edges) / 2
