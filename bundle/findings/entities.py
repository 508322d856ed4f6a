"""Every glomerulus of a slide as one row: who it is, where it lies, what it measures; and its crop."""

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

import numpy as np
import shapely

from bundle.classes import CLASS_NAMES
from bundle.data.annotations import Glomerulus
from bundle.findings.entities_crop import Crop, Cropper
from bundle.findings.entities_source import AnnotatedSlide
from bundle.findings.morphometry import Compartments, Outline, Shape, compartments_of, shape_of
from bundle.findings.morphometry_image import UNSEEN, Appearance, ImageMorphometry
from bundle.outputs.glomeruli import PROBABILITY

TEXT_COLUMNS: Final = ("entity_id", "slide", "patient", "stain", "class")
PLACE_COLUMNS: Final = ("confidence", "centroid_x", "centroid_y", "mpp", "crop_coverage")
MORPHOMETRY: Final = tuple(f.name for kind in (Shape, Compartments, Appearance) for f in fields(kind))
"""Columns of measurements, in order; units are in the names."""
COLUMNS: Final = (*TEXT_COLUMNS, *PLACE_COLUMNS[:-1], "row", PLACE_COLUMNS[-1], *MORPHOMETRY)
"""All columns of the table of entities; `confidence` is the class's mean probability where the bundle segmented."""

_GRID_PX: Final = 0.01
_ID_LENGTH: Final = 20


@dataclass(frozen=True)
class Entities:
    """Makes the rows of a slide.

    Attributes:
        cropper: cuts the crops.
        appearance: measures them.
        tuft_names: objects of these names (lower case, mapped to `ignore` in the class map) are tufts.
    """

    cropper: Cropper = field(default_factory=Cropper)
    appearance: ImageMorphometry = field(default_factory=ImageMorphometry)
    tuft_names: tuple[str, ...] = ("tuft", "glomerular tuft")

    def __call__(self, slide: AnnotatedSlide) -> Iterator[tuple[dict[str, Any], Crop | None]]:
        """Row (all of `COLUMNS` but `row`) and crop of each glomerulus of a known class, in the annotation's order.

        The crop is None, and what needs pixels NaN, where the slide was not opened. A glomerulus drawn twice counts
        once, with a UserWarning.

        Raises:
            SlideReadError: the slide's pixels are damaged.
        """
        tufts = slide.named(frozenset(self.tuft_names))
        tree = shapely.STRtree(tufts)
        seen = set()
        for glomerulus in slide.annotation.glomeruli:
            if not 1 <= glomerulus.label <= len(CLASS_NAMES):
                continue
            row = self._row(slide, glomerulus, [tufts[i] for i in tree.query(glomerulus.polygon)])
            if row["entity_id"] in seen:
                warnings.warn(f"{slide.slide}: a glomerulus is drawn twice; it counts once", UserWarning, stacklevel=2)
                continue
            seen.add(row["entity_id"])
            yield self._with_crop(slide, glomerulus, row)

    def _row(self, slide: AnnotatedSlide, glomerulus: Glomerulus, tufts: list[Outline]) -> dict[str, Any]:
        offset = np.array(slide.offset)
        centre = glomerulus.polygon.centroid
        measurements = glomerulus.properties.get("measurements")
        return {
            "entity_id": entity_id(slide.slide, shapely.transform(glomerulus.polygon, lambda points: points + offset)),
            "slide": slide.slide,
            "patient": slide.patient,
            "stain": slide.stain,
            "class": CLASS_NAMES[glomerulus.label - 1],
            "confidence": measurements.get(PROBABILITY) if isinstance(measurements, dict) else None,
            "centroid_x": centre.x + slide.offset[0],
            "centroid_y": centre.y + slide.offset[1],
            "mpp": slide.mpp,
            **asdict(shape_of(glomerulus.polygon, slide.mpp)),
            **asdict(compartments_of(glomerulus.polygon, tufts, slide.mpp)),
        }

    def _with_crop(
        self, slide: AnnotatedSlide, glomerulus: Glomerulus, row: dict[str, Any]
    ) -> tuple[dict[str, Any], Crop | None]:
        if slide.image is None:
            return {**row, "crop_coverage": None, **asdict(UNSEEN)}, None
        crop = self.cropper(slide.image, glomerulus)
        seen = self.appearance(crop.image, crop.mask > 0, self.cropper.crop_mpp, slide.stain, slide.mpp)
        return {**row, "crop_coverage": crop.coverage, **asdict(seen)}, crop


def entity_id(slide: str, polygon: Outline) -> str:
    """20 hex digits that a glomerulus keeps in every run: SHA-256 of its slide's id and its outline.

    Args:
        slide: id of the slide.
        polygon: level-0 px of the whole slide; neither the first vertex nor the sense of rotation matters, and no
            digit below 0.01 px.
    """
    rounded = shapely.transform(polygon, lambda points: np.rint(points / _GRID_PX) + 0.0)  # + 0.0: no negative zero
    digest = hashlib.sha256(slide.encode() + b"\0" + shapely.to_wkb(shapely.normalize(rounded), byte_order=1))
    return digest.hexdigest()[:_ID_LENGTH]
