"""The glomeruli that a report lists: read from glomeruli.geojson, as it is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shapely.errors import ShapelyError
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from bundle.classes import CLASS_NAMES
from bundle.errors import AnnotationError
from bundle.outputs.glomeruli import AREA, PROBABILITY
from bundle.report.files import REMEDY


@dataclass(frozen=True)
class Entry:
    """A glomerulus of the report.

    Attributes:
        id: of its feature.
        name: its class.
        polygon: level-0 pixels.
        probability: mean of its class, 0 to 1, or `None`.
        area_um2: µm², or `None`.
    """

    id: str
    name: str
    polygon: BaseGeometry
    probability: float | None
    area_um2: float | None

    @property
    def diameter_um(self) -> float | None:
        """Of the circle of the same area, µm."""
        return None if self.area_um2 is None else 2 * math.sqrt(self.area_um2 / math.pi)


def read_entries(collection: Mapping[str, Any], path: Path) -> tuple[Entry, ...]:
    """The features of a collection that inference wrote, in their order.

    Args:
        collection: the document.
        path: its file, for messages.

    Raises:
        AnnotationError: it was not written by inference: an object has no id, no outline or another class, or two have
            one id.
    """
    try:
        entries = tuple(_entry(feature) for feature in collection["features"])
    except (KeyError, TypeError, ValueError, AttributeError, ShapelyError) as error:
        raise AnnotationError(f"{path}: is not as inference writes it ({error!r}); {REMEDY}") from error
    if len({entry.id for entry in entries}) != len(entries):
        raise AnnotationError(f"{path}: two objects have one id; {REMEDY}")
    return entries


def _entry(feature: Mapping[str, Any]) -> Entry:
    properties = feature["properties"]
    name = properties["classification"]["name"]
    if name not in CLASS_NAMES:
        raise ValueError(f"class {name!r}")
    measurements = properties.get("measurements", {})
    polygon = shape(feature["geometry"])
    if polygon.is_empty or polygon.geom_type not in ("Polygon", "MultiPolygon"):
        raise ValueError(f"{polygon.geom_type} without area")
    return Entry(str(feature["id"]), name, polygon, measurements.get(PROBABILITY), measurements.get(AREA))
