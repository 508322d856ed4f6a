"""Glomeruli as a DICOM Segmentation of one level of the slide: only the tiles that hold glomeruli are ever made.

highdicom wants all frames at once and describes each at length: measured 0.2 MB for each tile of 256 x 256 px that
holds a glomerulus; how large the slide is makes no difference.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from highdicom import UID, CoordinateSystemNames, PlanePositionSequence
from highdicom.seg import Segmentation, SegmentDescription
from highdicom.spatial import PixelToReferenceTransformer
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from bundle.classes import GLOMERULUS_CLASSES, IGNORE_INDEX
from bundle.data.annotations import Annotation
from bundle.dicom import concepts
from bundle.dicom.source import SourceLevel
from bundle.errors import OutputError

SegmentationType = Literal["BINARY", "LABELMAP"]

_SERIES_NUMBER = 9102
_TILE_PX = 256


def segmentation(
    glomeruli: Annotation,
    finest: SourceLevel,
    source: SourceLevel,
    terms: concepts.Terms,
    kind: SegmentationType = "BINARY",
) -> Segmentation:
    """The DICOM object of the classes' pixels; segment numbers are the values of mask.tif.

    Args:
        glomeruli: px of `finest`'s total pixel matrix.
        finest: the finest level of the slide.
        source: the level whose pixels are segmented; a pixel belongs to a glomerulus when its centre lies inside.
        terms: what the object says beside.
        kind: "BINARY", a bit for each pixel and class, as viewers know it; or "LABELMAP", a class for each pixel.

    Raises:
        OutputError: no pixel of `source` lies inside a glomerulus.
    """
    tiles = dict(_tiles(glomeruli, source, downsample=source.mpp[0] / finest.mpp[0]))
    if not tiles:
        raise OutputError(f"no pixel of {max(source.mpp):g} um lies inside a glomerulus; ask for a finer segmentation")
    corners, pixels = list(tiles), np.stack(list(tiles.values()))
    tiles.clear()  # or they would be held twice
    made = Segmentation(
        source_images=[source.header],
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=_segments(terms),
        series_instance_uid=UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=UID(),
        instance_number=1,
        transfer_syntax_uid=ExplicitVRLittleEndian if kind == "BINARY" else RLELossless,
        pixel_measures=source.header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence,
        plane_positions=_positions(corners, source),
        dimension_organization_type="TILED_SPARSE",
        series_description="Glomeruli: segmentation",
        **terms.equipment(),
    )
    # highdicom ends the matrix where the last tile given to it ends.
    made.TotalPixelMatrixColumns, made.TotalPixelMatrixRows = source.size.width, source.size.height
    made.PatientOrientation = None  # unknown; without it dciodvfy finds the General Image module incomplete
    made.TotalPixelMatrixOriginSequence = source.header.TotalPixelMatrixOriginSequence
    return made


def _tiles(
    glomeruli: Annotation, source: SourceLevel, downsample: float
) -> Iterator[tuple[tuple[int, int], NDArray[np.uint8]]]:
    """Top-left corner (column, row; px of `source`, from 0) and classes of each tile that holds any, row by row."""
    side = _TILE_PX * downsample
    corners = set()
    for glomerulus in glomeruli.glomeruli:
        left, top, right, bottom = (int(edge // side) for edge in glomerulus.polygon.bounds)
        corners |= {(row, column) for row in range(top, bottom + 1) for column in range(left, right + 1)}
    for row, column in sorted(corners):
        x, y = column * _TILE_PX, row * _TILE_PX
        if x < source.size.width and y < source.size.height:
            classes = glomeruli.rasterize(column * side, row * side, _TILE_PX, _TILE_PX, downsample)
            classes[classes == IGNORE_INDEX] = 0
            # A reduced level may end half a pixel before the slide does.
            classes[source.size.height - y :], classes[:, source.size.width - x :] = 0, 0
            if classes.any():
                yield (x, y), classes


def _positions(corners: list[tuple[int, int]], source: SourceLevel) -> list[PlanePositionSequence]:
    """Where the tiles lie in the matrix (px from 1) and on the glass (mm)."""
    on_glass = PixelToReferenceTransformer.for_image(source.header, for_total_pixel_matrix=True)(np.array(corners))
    return [
        PlanePositionSequence(CoordinateSystemNames.SLIDE, list(place), (x + 1, y + 1))
        for (x, y), place in zip(corners, on_glass, strict=True)
    ]


def _segments(terms: concepts.Terms) -> list[SegmentDescription]:
    return [
        SegmentDescription(
            segment_number=kind.index,
            segment_label=kind.name,
            segmented_property_category=concepts.property_category(kind),
            segmented_property_type=terms.property_type(kind),
            algorithm_type=terms.generation,
            algorithm_identification=terms.algorithm(),
            anatomic_regions=[concepts.KIDNEY],
            display_color=concepts.display_color(kind),
        )
        for kind in GLOMERULUS_CLASSES
    ]
