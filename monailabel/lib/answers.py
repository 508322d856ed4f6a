"""From GeoJSON, as the bundle writes it, to what MONAI Label's clients and its writers of ASAP and DSA files take.

All of them are in level-0 pixels of what QuPath shows of the slide. Pure functions of plain values.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Points = list[list[float]]


def annotation_of(collection: Mapping[str, Any], location: Sequence[int], size: Sequence[int]) -> dict[str, Any]:
    """MONAI Label's annotation: an element for each class, with the outer rings of all its polygons.

    Args:
        collection: GeoJSON of classified polygons; the formats know no holes, which are left out.
        location: of the request.
        size: of the request.

    Returns:
        "location", "size", "labels" (colour [r, g, b] of each class) and "elements" ("label", "contours").
    """
    contours: dict[str, list[Points]] = {}
    colours: dict[str, list[int]] = {}
    for feature in collection["features"]:
        classification = feature["properties"]["classification"]
        name = classification["name"]
        colours[name] = list(classification["color"])
        contours.setdefault(name, []).extend(_outer_rings(feature["geometry"]))
    elements = [{"label": name, "contours": found} for name, found in contours.items()]
    return {"location": list(location), "size": list(size), "labels": colours, "elements": elements}


def wsi_answer(
    collection: Mapping[str, Any], model: str, description: str, request: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    """The JSON answer of `/infer/wsi`, as MONAI Label makes it, but that all polygons are in one annotation."""
    location, size = list(request.get("location") or (0, 0)), list(request.get("size") or (0, 0))
    latencies = {"total": round(seconds, 2)}
    return {
        "name": f"MONAILabel Annotations - {model} for {location + size}",
        "description": description,
        "model": model,
        "location": location,
        "size": size,
        "latencies": latencies,
        "annotations": [{"annotation": annotation_of(collection, location, size), "latencies": latencies}],
    }


def count_by_class(collection: Mapping[str, Any]) -> dict[str, int]:
    """Glomeruli of each class that occurs."""
    counts: dict[str, int] = {}
    for feature in collection["features"]:
        name = feature["properties"]["classification"]["name"]
        counts[name] = counts.get(name, 0) + 1
    return counts


def _outer_rings(geometry: Mapping[str, Any]) -> Iterator[Points]:
    polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    for polygon in polygons:
        # GeoJSON repeats the first point as the last; ASAP and DSA close the ring themselves.
        yield [[float(x), float(y)] for x, y in polygon[0][:-1]]
