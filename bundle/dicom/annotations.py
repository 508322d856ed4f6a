"""Glomeruli as DICOM Microscopy Bulk Simple Annotations: outlines, one group a class, area and certainty each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from highdicom import UID
from highdicom.ann import AnnotationGroup, Measurements, MicroscopyBulkSimpleAnnotations
from numpy.typing import NDArray

from bundle.classes import GLOMERULUS_CLASSES, GlomerulusClass
from bundle.data.annotations import Annotation, Glomerulus
from bundle.dicom import concepts
from bundle.dicom.source import SourceLevel
from bundle.outputs.glomeruli import PROBABILITY

_SERIES_NUMBER = 9101


@dataclass(frozen=True)
class _Outline:
    """One ring without holes, (n, 2) level-0 px, not closed; area in um2, certainty in %, NaN where unknown."""

    points: NDArray[np.float32]
    area_um2: float
    certainty: float


def bulk_annotations(
    glomeruli: Annotation,
    source: SourceLevel,
    terms: concepts.Terms,
) -> MicroscopyBulkSimpleAnnotations:
    """The DICOM object of the outlines.

    An annotation in DICOM is one ring: holes are left out, and a glomerulus of several parts is several annotations.

    Args:
        glomeruli: at least one that is not ignored; px of `source`'s total pixel matrix.
        source: the finest level of the slide.
        terms: what the object says beside.
    """
    groups: list[AnnotationGroup] = []
    for glomerulus_class in GLOMERULUS_CLASSES:
        outlines = list(_outlines(glomeruli.glomeruli, glomerulus_class, source))
        if outlines:
            groups.append(_group(len(groups) + 1, glomerulus_class, outlines, terms))
    return MicroscopyBulkSimpleAnnotations(
        source_images=[source.header],
        annotation_coordinate_type="2D",
        annotation_groups=groups,
        series_instance_uid=UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=UID(),
        instance_number=1,
        series_description="Glomeruli: outlines",
        **terms.equipment(),
    )


def _outlines(glomeruli: Sequence[Glomerulus], kind: GlomerulusClass, source: SourceLevel) -> Iterator[_Outline]:
    for glomerulus in glomeruli:
        if glomerulus.label == kind.index:
            for part in shapely.get_parts(glomerulus.polygon):
                # Written closed in GeoJSON, open in DICOM.
                points = shapely.get_coordinates(part.exterior)[:-1].astype(np.float32)
                area = shapely.Polygon(part.exterior).area * source.mpp[0] * source.mpp[1]
                yield _Outline(points, area, _certainty(glomerulus))


def _certainty(glomerulus: Glomerulus) -> float:
    """Per cent; NaN for an outline that a person drew."""
    measured = glomerulus.properties.get("measurements")
    value = measured.get(PROBABILITY) if isinstance(measured, Mapping) else None
    return 100 * value if isinstance(value, int | float) else np.nan


def _group(
    number: int,
    kind: GlomerulusClass,
    outlines: Sequence[_Outline],
    terms: concepts.Terms,
) -> AnnotationGroup:
    measured = [
        (concepts.AREA, concepts.SQUARE_MICROMETRE, np.array([o.area_um2 for o in outlines])),
        (concepts.CERTAINTY, concepts.PERCENT, np.array([o.certainty for o in outlines])),
    ]
    return AnnotationGroup(
        number=number,
        uid=UID(),
        label=kind.name,
        annotated_property_category=concepts.property_category(kind),
        annotated_property_type=terms.property_type(kind),
        graphic_type="POLYGON",
        graphic_data=[o.points for o in outlines],
        algorithm_type=terms.generation,
        algorithm_identification=terms.algorithm(),
        measurements=[Measurements(n, v, u) for n, u, v in measured if not np.isnan(v).all()],
        anatomic_regions=[concepts.KIDNEY],
        display_color=concepts.display_color(kind),
    )
