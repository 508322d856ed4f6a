"""JSON of labelme and its kin: an object with `shapes`, each with a `label` and `points`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.data.annotations.model import Annotation, Glomerulus
from bundle.data.annotations.outlines import annotation, glomerulus, outline, ring, shown
from bundle.errors import AnnotationError

_CIRCLE_POINTS = 64


def read_labelme(document: Mapping[str, Any], path: Path, class_map: Mapping[str, str] | None) -> Annotation:
    """The annotation in a labelme document; shapes are polygons, rectangles (2 points) or circles (centre, rim).

    Raises:
        AnnotationError: a shape is malformed or of another kind, or an outline cannot be mended.
        UnknownClassError: a label is in no class map.
        ConfigError: see `classmap.label_of`.
    """
    return annotation(_read_shape(shape, i, path, class_map) for i, shape in enumerate(document["shapes"]))


def _read_shape(shape: Any, index: int, path: Path, class_map: Mapping[str, str] | None) -> Glomerulus | None:
    if not isinstance(shape, dict) or "points" not in shape:
        raise AnnotationError(f"{path}: shape {index} has no points; repair the file")
    kind = shape.get("shape_type") or "polygon"
    points = ring(shape["points"], path, f"shape {index}")
    if kind in ("rectangle", "circle") and len(points) == 2:
        points = _rectangle(points) if kind == "rectangle" else _circle(points)
    elif kind != "polygon":
        raise AnnotationError(f"{path}: shape {index} is a {shown(kind)}; redraw it as a polygon, rectangle or circle")
    properties = {key: value for key, value in shape.items() if key not in ("label", "points")}
    name = str(shape.get("label") or "")
    return glomerulus(outline([[points]]), [name], path, class_map, id=str(index), properties=properties)


def _rectangle(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    (x0, y0), (x1, y1) = corners
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def _circle(points: NDArray[np.float64]) -> NDArray[np.float64]:
    centre, rim = points
    angle = np.linspace(0, 2 * np.pi, _CIRCLE_POINTS, endpoint=False)
    return centre + np.linalg.norm(rim - centre) * np.column_stack([np.cos(angle), np.sin(angle)])
