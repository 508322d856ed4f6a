"""What QuPath demands of GeoJSON, read from its source, so that our files can be checked without it.

Of QuPath 0.5.1 to 0.8 (main, August 2026), package qupath.lib.io: `GsonTools.parseObjectsFromGeoJSON` (what it takes
for objects), `QuPathTypeAdapters.PathObjectTypeAdapter` and `MeasurementListTypeAdapter` (members of "properties"),
`GsonTools.PathClassTypeAdapter` (classes), `ROITypeAdapters` (geometries; JTS refuses rings that are open or of fewer
than four points; coordinates are rounded to 0.01 px). What QuPath would skip or change in silence counts too.
"""

import math
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import shapely
from shapely.geometry import shape

OBJECT_TYPES = frozenset({"annotation", "detection", "cell", "tile", "tmaCore", "root", "unknown"})
PRECISION_PX = 0.01


def problems(document: Any) -> list[str]:
    """What QuPath would refuse, skip or change in a GeoJSON document."""
    if not isinstance(document, dict) or document.get("type") != "FeatureCollection":
        return ["is no FeatureCollection"]
    features = document.get("features")
    if not isinstance(features, list):
        return ["its features are no list"]
    found = [f"feature {i}: {problem}" for i, feature in enumerate(features) for problem in _of_feature(feature)]
    ids = [feature["id"] for feature in features if isinstance(feature, dict) and "id" in feature]
    return found + ([] if len(ids) == len(set(ids)) else ["two features have one id"])


def _of_feature(feature: Any) -> Iterator[str]:
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        yield "is no Feature"
        return
    if "id" in feature and not _is_uuid(feature["id"]):
        yield "its id is no UUID and would be replaced"
    yield from _of_geometry(feature.get("geometry"))
    properties = feature.get("properties", {})
    if isinstance(properties, dict):
        yield from _of_properties(properties)
    else:
        yield "its properties are no object"


def _of_properties(properties: Mapping[str, Any]) -> Iterator[str]:
    if properties.get("objectType", "unknown") not in OBJECT_TYPES:
        yield "its objectType is unknown"
    if "name" in properties and not isinstance(properties["name"], str):
        yield "its name is no text"
    if "isLocked" in properties and not isinstance(properties["isLocked"], bool):
        yield "isLocked is no truth value"
    if "classification" in properties:
        yield from _of_class(properties["classification"])
    measurements = properties.get("measurements", {})
    if not isinstance(measurements, dict):
        yield "its measurements are no object"
    elif not all(_is_measurement(value) for value in measurements.values()):
        yield "a measurement is no number"


def _of_class(classification: Any) -> Iterator[str]:
    if classification is None or isinstance(classification, str):
        return
    if not isinstance(classification, dict):
        yield "its class is no object"
        return
    # Without a colour QuPath refuses the whole file: "Unable to parse PathClass".
    colour = classification.get("color")
    whole = isinstance(colour, list) and all(isinstance(v, int) and 0 <= v <= 255 for v in colour)
    if not whole or len(colour) not in (3, 4):
        yield "its class has no colour of three numbers"
    names = classification["names"] if "names" in classification else [classification.get("name")]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name.strip() for name in names):
        yield "its class has no name"
    elif any(character in name for name in names for character in "\n\r:"):
        yield "its class has a name that QuPath splits"


def _of_geometry(geometry: Any) -> Iterator[str]:
    if not isinstance(geometry, dict) or geometry.get("type") not in ("Polygon", "MultiPolygon"):
        yield "its geometry has no area"
        return
    coordinates = geometry.get("coordinates")
    polygons = [coordinates] if geometry["type"] == "Polygon" else coordinates
    try:
        rings = [[[float(v) for v in point] for point in ring] for polygon in polygons for ring in polygon]
    except (TypeError, ValueError):
        yield "its coordinates are no numbers"
        return
    if not rings or not all(len(point) in (2, 3) and all(map(math.isfinite, point)) for r in rings for point in r):
        yield "its coordinates are no points"
    elif any(len(ring) < 4 or ring[0] != ring[-1] for ring in rings):
        yield "a ring is open or has fewer than four points"
    else:
        yield from _of_shape(shape(geometry))


def _of_shape(polygon: shapely.Geometry) -> Iterator[str]:
    if not polygon.is_valid:
        yield f"its outline is invalid ({shapely.is_valid_reason(polygon)})"
    elif shapely.set_precision(polygon, PRECISION_PX).is_empty:
        yield "nothing of it is left at 0.01 px"


def _is_uuid(value: Any) -> bool:
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value.lower()
    except ValueError:
        return False


def _is_measurement(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
