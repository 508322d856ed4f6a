"""XML of ASAP (Automated Slide Analysis Platform, Radboud): annotations in groups, the group is the class."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from bundle.data.annotations.model import Annotation, Glomerulus
from bundle.data.annotations.outlines import annotation, glomerulus, outline, ring, shown

_AREAS = {"Polygon", "Spline", "Rectangle"}


def read_asap(root: Element, path: Path, class_map: Mapping[str, str] | None) -> Annotation:
    """The annotation in an ASAP document; coordinates are level-0 pixels of the file.

    ASAP counts from the corner of the whole scan, not of `openslide.bounds`: move the annotation of a slide that has
    bounds by `Annotation.shifted(-bounds.x, -bounds.y)`. A spline is read as the polygon of its points. Dots and
    measures are skipped with a warning.

    Raises:
        AnnotationError: a coordinate is no number, or an outline cannot be mended.
        UnknownClassError: a group is in no class map.
        ConfigError: see `classmap.label_of`.
    """
    return annotation(_read_object(element, path, class_map) for element in root.iterfind("Annotations/Annotation"))


def _read_object(element: Element, path: Path, class_map: Mapping[str, str] | None) -> Glomerulus | None:
    name, kind = element.get("Name", ""), element.get("Type", "Polygon")
    if kind not in _AREAS:
        warnings.warn(
            f"{path}: {name!r} is a {kind}, which outlines no area, and is skipped", UserWarning, stacklevel=2
        )
        return None
    corners = [(c.get("X"), c.get("Y")) for c in element.iterfind("Coordinates/Coordinate")]
    order = [(c.get("Order") or 0, 0) for c in element.iterfind("Coordinates/Coordinate")]
    what = f"annotation {shown(name)}"
    points = ring(corners, path, what)[np.argsort(ring(order, path, what)[:, 0], kind="stable")]
    return glomerulus(
        outline([[points]]),
        [element.get("PartOfGroup", "")],
        path,
        class_map,
        id=name,
        properties={"asap": {"Type": kind, "Color": element.get("Color", "")}},
    )
