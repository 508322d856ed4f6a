"""Aperio ImageScope XML: layers (`Annotation`) of regions, with negative regions as holes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from bundle.data.annotations.classmap import merged_class_map
from bundle.data.annotations.model import Annotation, Glomerulus
from bundle.data.annotations.outlines import annotation, glomerulus, mended, outline, ring, shown

_ELLIPSE = "2"
_ELLIPSE_POINTS = 64
_LINES = {"3", "4"}
"""Region types that outline nothing: arrow and ruler."""


def read_imagescope(root: Element, path: Path, class_map: Mapping[str, str] | None) -> Annotation:
    """The annotation in an ImageScope document; coordinates are level-0 pixels of the scan.

    An object's class is the first known one of: the region's text, the layer's name, the layer's attributes. A layer
    without any is called by its number or colour in the class map: `layer 2`, `#00ff00`. Negative regions
    (`NegativeROA="1"`) are cut out of the other regions of their layer.

    Raises:
        AnnotationError: a vertex is no number, or an outline cannot be mended.
        UnknownClassError: the names of an object are in no class map.
        ConfigError: see `classmap.label_of`.
    """
    return annotation(found for layer in root.iter("Annotation") for found in _read_layer(layer, path, class_map))


def _read_layer(layer: Element, path: Path, class_map: Mapping[str, str] | None) -> Iterator[Glomerulus | None]:
    regions = [r for r in layer.iter("Region") if r.get("Type") not in _LINES]
    holes = [_drawn(r, path) for r in regions if _is_negative(r)]
    cut = shapely.union_all([mended(hole, path) for hole in holes if hole is not None])
    names = _layer_names(layer, class_map)
    for region in regions:
        if not _is_negative(region):
            yield glomerulus(
                _without(_drawn(region, path), cut, path),
                [region.get("Text", ""), *names],
                path,
                class_map,
                id=region.get("Id", ""),
                properties={"imagescope": {"layer": layer.get("Id", ""), **region.attrib}},
            )


def _layer_names(layer: Element, class_map: Mapping[str, str] | None) -> list[str]:
    attributes = [a.get("Value") or a.get("Name") or "" for a in layer.iterfind("Attributes/Attribute")]
    known = merged_class_map(class_map)
    by_number = f"layer {layer.get('Id', '')}"
    colours = [_hex_colour(layer.get("LineColor", ""))]
    # Numbers and colours are names only to those who map them.
    implicit = [name for name in (by_number, *colours) if name.replace(" ", "_") in known]
    return [layer.get("Name", ""), *attributes, *implicit]


def _hex_colour(line_color: str) -> str:
    """ImageScope's decimal colour as #rrggbb; it is stored blue-green-red."""
    if not line_color.isdecimal():
        return ""
    value = int(line_color)
    return f"#{value & 255:02x}{value >> 8 & 255:02x}{value >> 16 & 255:02x}"


def _is_negative(region: Element) -> bool:
    return region.get("NegativeROA") == "1"


def _drawn(region: Element, path: Path) -> BaseGeometry | None:
    vertices = [(v.get("X"), v.get("Y")) for v in region.iterfind("Vertices/Vertex")]
    points = ring(vertices, path, f"region {shown(region.get('Id', ''))}")
    if region.get("Type") == _ELLIPSE and len(points) >= 2:
        points = _ellipse(points)
    return outline([[points]])


def _ellipse(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ellipse in the box of an ellipse region's vertices."""
    low, high = points.min(axis=0), points.max(axis=0)
    angle = np.linspace(0, 2 * np.pi, _ELLIPSE_POINTS, endpoint=False)
    return (low + high) / 2 + (high - low) / 2 * np.column_stack([np.cos(angle), np.sin(angle)])


def _without(drawn: BaseGeometry | None, holes: BaseGeometry, path: Path) -> BaseGeometry | None:
    if drawn is None or holes.is_empty:
        return drawn
    valid = mended(drawn, path)
    return valid.difference(holes) if valid is not None and valid.intersects(holes) else drawn
