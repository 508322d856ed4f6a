"""DICOM Segmentation, read back by highdicom and decoded by pydicom, against polygons filled by shapely."""

import shutil
import subprocess
from pathlib import Path

import highdicom
import numpy as np
import pytest
import shapely
from pydicom import dcmread

from bundle.classes import CLASS_NAMES, GLOBAL, IGNORE_INDEX, NORMAL, SEGMENTAL
from bundle.data.annotations import Annotation, Glomerulus
from bundle.dicom import SaveDicomd
from bundle.errors import OutputError
from bundle.slide import open_slide
from tests.dicom.dicom_slides import ORIGIN_MM, picture, write_dicom_slide

WIDTH, HEIGHT, MPP = 701, 503, 0.5


def glomerulus(label: int, x: float, y: float, radius: float) -> Glomerulus:
    return Glomerulus(shapely.Point(x, y).buffer(radius), label, "", f"{x} {y}")


GLOMERULI = Annotation(
    (
        glomerulus(NORMAL.index, 255, 256.5, 60),  # on the corner of four tiles
        glomerulus(SEGMENTAL.index, 690, 100, 50),  # cut by the slide's right edge
        glomerulus(GLOBAL.index, 60, 480, 40),  # and by its lower one
        glomerulus(IGNORE_INDEX, 500, 300, 50),
    )
)


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dicom_slide(tmp_path_factory.mktemp("slide"), picture(WIDTH, HEIGHT), MPP)


def save(slide_file: Path, folder: Path, glomeruli: Annotation = GLOMERULI, **options: object) -> Path:
    with open_slide(slide_file) as slide:
        SaveDicomd("glomeruli", folder, **options)({"image": slide, "glomeruli": glomeruli})
    return folder / "segmentation.dcm"


def truth(downsample: int, width: int, height: int) -> np.ndarray:
    """Classes of the pixels of a level, by shapely."""
    rows, columns = (np.mgrid[:height, :width] + 0.5) * downsample
    expected = np.zeros((height, width), np.uint8)
    for g in GLOMERULI.glomeruli:
        if g.label != IGNORE_INDEX:
            expected[shapely.contains_xy(g.polygon, columns, rows)] = g.label
    return expected


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
@pytest.mark.parametrize(("mpp", "downsample", "width", "height"), [(None, 1, 701, 503), (1.2, 2, 351, 252)])
def test_every_pixel_has_its_polygon_s_class(
    slide_file: Path, tmp_path: Path, kind: str, mpp: float | None, downsample: int, width: int, height: int
) -> None:
    path = save(slide_file, tmp_path, segmentation_mpp=mpp, segmentation_type=kind)
    made = highdicom.seg.segread(path)
    matrix = made.get_total_pixel_matrix(combine_segments=True)
    np.testing.assert_array_equal(matrix, truth(downsample, width, height))
    assert made.SegmentationType == kind
    assert [made.get_segment_description(i).segment_label for i in (1, 2, 3)] == list(CLASS_NAMES)


def test_pydicom_alone_decodes_the_same_pixels(slide_file: Path, tmp_path: Path) -> None:
    made = dcmread(save(slide_file, tmp_path))
    matrix = np.zeros((HEIGHT + 256, WIDTH + 256), np.uint8)
    for frame, item in zip(made.pixel_array, made.PerFrameFunctionalGroupsSequence, strict=True):
        place = item.PlanePositionSlideSequence[0]
        left, top = place.ColumnPositionInTotalImagePixelMatrix - 1, place.RowPositionInTotalImagePixelMatrix - 1
        segment = item.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        matrix[top : top + 256, left : left + 256][frame > 0] = segment
    np.testing.assert_array_equal(matrix[:HEIGHT, :WIDTH], truth(1, WIDTH, HEIGHT))
    assert not matrix[HEIGHT:].any()
    assert not matrix[:, WIDTH:].any()


@pytest.mark.parametrize(("mpp", "level"), [(None, 0), (1.0, 1), (2.0, 2)])
def test_it_lies_on_the_glass_where_its_level_does(
    slide_file: Path, tmp_path: Path, mpp: float | None, level: int
) -> None:
    made = dcmread(save(slide_file, tmp_path, segmentation_mpp=mpp))
    source = dcmread(slide_file.with_name(f"level_{level}.dcm"), stop_before_pixels=True)
    for keyword in ("TotalPixelMatrixColumns", "TotalPixelMatrixRows", "FrameOfReferenceUID", "ImageOrientationSlide"):
        assert made[keyword].value == source[keyword].value
    measures = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.PixelSpacing == pytest.approx([MPP / 1000 * 2**level] * 2)
    referenced = made.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert [item.ReferencedSOPInstanceUID for item in referenced] == [source.SOPInstanceUID]
    for item in made.PerFrameFunctionalGroupsSequence:
        place = item.PlanePositionSlideSequence[0]
        # This slide's columns run against y of the glass and its rows against x.
        right = (place.ColumnPositionInTotalImagePixelMatrix - 1) * measures.PixelSpacing[1]
        down = (place.RowPositionInTotalImagePixelMatrix - 1) * measures.PixelSpacing[0]
        assert place.XOffsetInSlideCoordinateSystem == pytest.approx(ORIGIN_MM[0] - down, abs=1e-6)
        assert place.YOffsetInSlideCoordinateSystem == pytest.approx(ORIGIN_MM[1] - right, abs=1e-6)


def test_only_tiles_that_hold_a_class_are_frames(slide_file: Path, tmp_path: Path) -> None:
    made = dcmread(save(slide_file, tmp_path))
    frames = truth(1, 768, 512).reshape(2, 256, 3, 256).swapaxes(1, 2).reshape(6, -1)
    assert made.NumberOfFrames == sum(len(set(np.unique(frame)) - {0}) for frame in frames) == 6
    assert made.DimensionOrganizationType == "TILED_SPARSE"


def test_glomeruli_smaller_than_a_pixel_ask_for_a_finer_level(slide_file: Path, tmp_path: Path) -> None:
    speck = Annotation((glomerulus(NORMAL.index, 100.0, 100.0, 0.4),))
    with pytest.raises(OutputError, match=r"no pixel of 2 um.*finer"):
        save(slide_file, tmp_path, speck, segmentation_mpp=2.0)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
@pytest.mark.parametrize("mpp", [None, 1.0])
def test_dciodvfy_finds_no_error(slide_file: Path, tmp_path: Path, mpp: float | None) -> None:
    path = save(slide_file, tmp_path, segmentation_mpp=mpp)
    told = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False).stderr
    assert told.splitlines()[0] == "Segmentation"
    assert [line for line in told.splitlines() if line.startswith("Error")] == []
