"""What a reader changed in a report, applied to glomeruli.geojson and written beside it.

The page does the same in the browser (assets/corrections.js); both must write the same document.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.atomic import write_text
from bundle.classes import CLASS_NAMES, GLOMERULUS_CLASSES
from bundle.errors import AnnotationError
from bundle.report.files import CORRECTED, GLOMERULI, REMEDY, read_json

MODEL_CLASS = "Class by the model"
"""QuPath shows it among an object's metadata."""


@dataclass(frozen=True)
class Corrections:
    """Changes by id of the glomerulus.

    Attributes:
        reclassified: its new class.
        deleted: those that are no glomeruli.
    """

    reclassified: Mapping[str, str]
    deleted: frozenset[str]


def parse_corrections(document: Any) -> Corrections:
    """From JSON: `{"reclassified": {id: class}, "deleted": [id]}`.

    Raises:
        AnnotationError: it is anything else.
    """
    reclassified = document.get("reclassified") if isinstance(document, dict) else None
    deleted = document.get("deleted") if isinstance(document, dict) else None
    if not isinstance(reclassified, dict) or not isinstance(deleted, list):
        raise AnnotationError("corrections must have `reclassified` and `deleted`; reload the page")
    if not all(isinstance(id, str) for id in deleted):
        raise AnnotationError("corrections: `deleted` must be a list of ids; reload the page")
    unknown = [name for name in reclassified.values() if name not in CLASS_NAMES]
    if unknown:
        raise AnnotationError(f"corrections: no class is named {unknown[0]!r}; known are {', '.join(CLASS_NAMES)}")
    return Corrections(reclassified, frozenset(deleted))


def correct(collection: Mapping[str, Any], corrections: Corrections) -> dict[str, Any]:
    """The collection with the corrections: other classes and colours, deleted objects left out.

    A reclassified object keeps the model's class in its metadata; the collection lists what was done.

    Raises:
        AnnotationError: a correction is of an object that the collection does not have.
    """
    known = {feature["id"] for feature in collection["features"]}
    missing = (corrections.reclassified.keys() | corrections.deleted) - known
    if missing:
        raise AnnotationError(f"no glomerulus has the id {min(missing)!r}; make the report again")
    colours = {c.name: list(c.rgb) for c in GLOMERULUS_CLASSES}
    corrected = copy.deepcopy(dict(collection))
    corrected["features"] = [f for f in corrected["features"] if f["id"] not in corrections.deleted]
    changed = {}
    for feature in corrected["features"]:
        name, properties = corrections.reclassified.get(feature["id"]), feature["properties"]
        before = properties["classification"]["name"]
        if name is not None and name != before:
            properties["classification"] = {"name": name, "color": colours[name]}
            properties["metadata"] = {**properties.get("metadata", {}), MODEL_CLASS: before}
            changed[feature["id"]] = {"from": before, "to": name}
    corrected["corrections"] = {"reclassified": changed, "deleted": sorted(corrections.deleted)}
    return corrected


def save_corrections(folder: Path, corrections: Corrections) -> Path:
    """Write glomeruli_corrected.geojson beside glomeruli.geojson, which stays as it is; give its path.

    Raises:
        AnnotationError: the corrections do not fit the file.
        OutputError: it cannot be written.
    """
    source = folder / GLOMERULI
    try:
        corrected = correct(read_json(source), corrections)
    except (KeyError, TypeError, AttributeError) as error:
        raise AnnotationError(f"{source}: is not as inference writes it ({error!r}); {REMEDY}") from error
    write_text(folder / CORRECTED, json.dumps(corrected))
    return folder / CORRECTED
