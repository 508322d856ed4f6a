"""MONAI Label's local datastore for slides: a file beside a slide is no slide only because MONAI Label reads it."""

import os
from typing import Any

from monailabel.datastore.local import LocalDatastore

from .labels import LABELS, SLIDES


class SlideDatastore(LocalDatastore):
    """A folder of slides, and labels/final/ID.geojson (or ASAP or ImageScope XML) of those that are labelled.

    MONAI Label has one list of suffixes for images and labels, by which a GeoJSON or XML beside a slide would be taken
    for an image.
    """

    def __init__(self, folder: str, **options: Any) -> None:
        super().__init__(folder, extensions=[f"*.{suffix}" for suffix in (*SLIDES, *LABELS)], **options)

    def _list_files(self, path: str, patterns: Any) -> Any:
        of_images = os.path.realpath(path) == os.path.realpath(self._datastore.image_path())
        return super()._list_files(path, [f"*.{suffix}" for suffix in (SLIDES if of_images else LABELS)])
