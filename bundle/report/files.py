"""The outputs of inference that a report shows, and its own."""

import json
from pathlib import Path
from typing import Any

from bundle.errors import AnnotationError

GLOMERULI = "glomeruli.geojson"
SUMMARY = "summary.json"
REPORT = "report.html"
CORRECTED = "glomeruli_corrected.geojson"
REMEDY = "run inference on the slide again"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from an output of inference.

    Raises:
        AnnotationError: the file is missing or no JSON object.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AnnotationError(f"{path}: cannot be read ({error}); {REMEDY}") from error
    if not isinstance(document, dict):
        raise AnnotationError(f"{path}: holds no JSON object; {REMEDY}")
    return document
