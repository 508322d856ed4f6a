"""GeoJSON as QuPath and HuBMAP write it: read, and written back without loss."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from bundle.atomic import write_text
from bundle.classes import GLOMERULUS_CLASSES
from bundle.data.annotations.model import Annotation, Glomerulus
from bundle.data.annotations.outlines import Rings, annotation, glomerulus, outline, ring, shown
from bundle.errors import AnnotationError

_FEATURE_MEMBERS = {"type", "id", "geometry", "properties"}
_GEOMETRY_MEMBERS = {"type", "coordinates", "geometries"}
_OTHER_RGB = (128, 128, 128)
"""Colour of objects of no class: QuPath's own grey."""


def read_features(features: Sequence[Any], path: Path, class_map: Mapping[str, str] | None) -> Annotation:
    """The annotation in a list of GeoJSON features.

    Polygon, MultiPolygon and the polygons of a GeometryCollection are read; points and lines are skipped with a
    warning, since they outline nothing.

    Raises:
        AnnotationError: a feature is malformed, or an outline cannot be mended.
        UnknownClassError: a class name is in no class map.
        ConfigError: see `classmap.label_of`.
    """
    return annotation(_read_feature(f, i, path, class_map) for i, f in enumerate(features))


def write_geojson(annotation: Annotation, path: Path | str) -> None:
    """Write a QuPath FeatureCollection; `read_annotation` of it gives `annotation` back, given the same class map.

    Shapes are written as they were drawn, also those that reading had to mend. Coordinates are level-0 pixels.

    Raises:
        OutputError: `path` cannot be written.
    """
    objects = (*annotation.glomeruli, *annotation.background)
    collection = {"type": "FeatureCollection", "features": [_feature(g) for g in objects]}
    write_text(Path(path), json.dumps(collection))


def _read_feature(feature: Any, index: int, path: Path, class_map: Mapping[str, str] | None) -> Glomerulus | None:
    geometry = feature.get("geometry") if isinstance(feature, dict) else None
    if not isinstance(geometry, dict) or not isinstance(feature.get("properties") or {}, dict):
        raise AnnotationError(f"{path}: feature {index} has no geometry or properties; export it again as GeoJSON")
    id = str(feature.get("id", ""))
    what = f"feature {index} (id {shown(id)})"
    polygons = list(_polygons(geometry, path, what))
    if not polygons:
        kind = geometry.get("type")
        warnings.warn(f"{path}: {what} is a {kind}, which outlines no area, and is skipped", UserWarning, stacklevel=2)
        return None
    properties = feature.get("properties") or {}
    name = _class_name(properties.get("classification"))
    foreign = {key: value for key, value in feature.items() if key not in _FEATURE_MEMBERS}
    extra = {key: value for key, value in geometry.items() if key not in _GEOMETRY_MEMBERS}
    if extra:
        foreign["geometry"] = extra
    found = glomerulus(outline(polygons), [name], path, class_map, id=id, properties=properties, foreign=foreign)
    if found is None:
        return None
    default = _default_properties(found)
    kept = {key: value for key, value in properties.items() if key not in default or value != default[key]}
    return Glomerulus(found.polygon, found.label, found.name, id, kept, found.drawn, foreign)


def _polygons(geometry: Any, path: Path, what: str) -> Iterator[Rings]:
    if not isinstance(geometry, dict):
        raise AnnotationError(f"{path}: {what} holds a geometry that is none; export it again as GeoJSON")
    kind, coordinates = geometry.get("type"), geometry.get("coordinates") or []
    if kind == "GeometryCollection":
        for member in _list(geometry.get("geometries") or [], path, what):
            yield from _polygons(member, path, what)
    elif kind in ("Polygon", "MultiPolygon"):
        for polygon in [coordinates] if kind == "Polygon" else _list(coordinates, path, what):
            rings = [ring(points, path, what) for points in _list(polygon, path, what)]
            yield rings or [ring([], path, what)]


def _list(value: Any, path: Path, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise AnnotationError(f"{path}: {what} has {shown(value)} for a list of points; repair the file")
    return value


def _class_name(classification: Any) -> str:
    """The class of a QuPath object: `name`, or `names` for a derived class ("Glomerulus: Sclerotic")."""
    if isinstance(classification, str):
        return classification
    if not isinstance(classification, dict):
        return ""
    return str(classification.get("name") or ": ".join(map(str, classification.get("names") or [])))


def _feature(glomerulus: Glomerulus) -> dict[str, Any]:
    properties = {**_default_properties(glomerulus), **glomerulus.properties}
    if _class_name(properties.get("classification")) != glomerulus.name:
        properties["classification"] = _default_properties(glomerulus).get("classification")
    foreign = dict(glomerulus.foreign)
    drawn = glomerulus.polygon if glomerulus.drawn is None else glomerulus.drawn
    feature = {
        "type": "Feature",
        "id": glomerulus.id,
        "geometry": {**_geometry(drawn), **foreign.pop("geometry", {})},
        "properties": properties,
        **foreign,
    }
    return feature if glomerulus.id else {key: value for key, value in feature.items() if key != "id"}


def _geometry(shape: BaseGeometry) -> dict[str, Any]:
    return dict(mapping(shape))


def _default_properties(glomerulus: Glomerulus) -> dict[str, Any]:
    """What QuPath needs to show the object in its class's colour; left out of `Glomerulus.properties`."""
    if not glomerulus.name:
        return {"objectType": "annotation"}
    rgb = {c.index: c.rgb for c in GLOMERULUS_CLASSES}.get(glomerulus.label, _OTHER_RGB)
    return {"objectType": "annotation", "classification": {"name": glomerulus.name, "color": list(rgb)}}
