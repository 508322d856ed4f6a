"""Which files of a folder are slides, which are labels, and the submitted ones as rows of a datalist."""

import re
from pathlib import Path
from typing import Any, Final

from .settings import Settings

SLIDES: Final = (
    *("svs", "tif", "tiff", "ndpi", "vms", "vmu", "scn", "mrxs", "svslide", "bif", "czi", "dcm", "qptiff"),
    *("png", "jpg", "jpeg"),
)
LABELS: Final = ("geojson", "xml", "json")
SUBMITTED: Final = "final"
PREDICTED: Final = "original"
"""MONAI Label's tags of labels."""


def labelled_rows(datastore: Any, settings: Settings) -> list[dict[str, Any]]:
    """The submitted labels as rows of a datalist, paths absolute.

    Patient, stain and mpp are those that the label was submitted with, of the slide's info, or of the settings; a slide
    whose name `patient_regex` does not match is a patient of its own. A label submitted with "complete": false leaves
    the rest of its slide unlabelled.

    Args:
        datastore: MONAI Label's.
        settings: of the server.
    """
    rows = []
    for image_id in sorted(datastore.get_labeled_images()):
        image = Path(datastore.get_image_uri(image_id))
        of_label = datastore.get_label_info(image_id, SUBMITTED)
        info = {**datastore.get_image_info(image_id), **of_label}
        row: dict[str, Any] = {
            "image": str(image),
            "label": datastore.get_label_uri(image_id, SUBMITTED),
            "patient": str(info.get("patient") or _patient(image.stem, settings.patient_regex)),
            "stain": str(info.get("stain") or settings.stain),
        }
        mpp = info.get("mpp") or settings.mpp
        if mpp is not None:
            row["mpp"] = float(mpp)
        if of_label.get("complete") is False:
            row["complete"] = False
        rows.append(row)
    return rows


def _patient(stem: str, pattern: str | None) -> str:
    match = re.search(pattern, stem) if pattern else None
    if match is None:
        return stem
    return match.group(1) if match.groups() else match.group()
